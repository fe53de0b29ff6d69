"""One optimiser step over all micro-batches and processes; nothing in it waits for the device."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from videomae.config import ConfigError, Precision
from videomae.run.arithmetic import autocast
from videomae.run.parallel import Fetched, Processes, send
from videomae.train.objective import Inputs
from videomae.train.sharding import gradients_exchanged, whole_tensor


@dataclass(frozen=True)
class StepSettings:
    """Settings of one optimiser step."""

    step: int
    """Number of the step, from 1."""
    seed: int
    """Seed of dropout and drop path, together with step, micro-batch and rank."""
    lr: float
    """Learning rate of parameter groups whose lr_scale is 1."""
    accumulation: int = 1
    """Number of micro-batches of each process."""
    clip_grad: float | None = None
    """Largest norm of the gradient, to which it is clipped; None: it is not clipped."""
    precision: Precision = Precision.auto


class Notices(NamedTuple):
    """Numbers that each process adds to a step's sums over all processes."""

    num_bad: float = 0.0
    """Number of videos newly found unreadable."""
    num_short: float = 0.0
    """Number of videos shorter than the clip."""
    num_forgotten: float = 0.0
    """Number of videos that tombstones name."""
    stopping: float = 0.0
    """1 if this process must stop, else 0."""
    save_due: float = 0.0
    """1 if this process's clock asks for a checkpoint, else 0."""
    waited_s: tuple[float, ...] = ()
    """Seconds that each process, by rank, waited for data; before the sum only its own entry."""


@dataclass(frozen=True)
class StepReport:
    """Results of one step over all processes."""

    loss: float | None
    """Mean error over the global batch; None where no video of it could be read."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    skipped: bool
    """Whether the update was skipped."""
    notices: Notices
    """Sum of the notices of all processes."""


class PendingStep:
    """Results of a step that the device may still be computing."""

    def __init__(self, loss: Tensor, grad_norm: Tensor, skipped: Tensor, notices: Tensor) -> None:
        numbers = torch.stack([loss, grad_norm, skipped]).double()
        self._copy = Fetched(torch.cat([numbers, notices]))

    def wait(self) -> StepReport:
        """Wait for this step, but not for work that was enqueued after it; return its results."""
        loss, grad_norm, skipped, *told = self._copy.wait().tolist()
        single = len(Notices._fields) - 1
        notices = Notices._make([*told[:single], tuple(told[single:])])
        # An update is skipped for a gradient that is not finite, or for a batch without a video.
        unread = bool(skipped) and math.isfinite(grad_norm)
        return StepReport(None if unread else loss, grad_norm, bool(skipped), notices)


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.AdamW,
    micro_batches: Iterable[Inputs],
    processes: Processes,
    settings: StepSettings,
    notices: Callable[[], Notices] = Notices,
) -> PendingStep:
    """Make one optimiser update from all micro-batches of all processes.

    The gradient is that of the mean error over the global batch, however its errors are spread over
    micro-batches. Weights and moments stay unchanged if the gradient is not finite or no video of
    the batch could be read.

    Args:
        objective: the objective as `DistributedModel.replicate` returns it.
        micro_batches: consumed one by one, so that the next is decoded while one is computed.
        notices: called after the last micro-batch.

    Raises:
        ConfigError: the objective returns something else than a sum.
    """
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * group["lr_scale"]

    device, num_errors = processes.device, 0.0
    errors = torch.zeros((), device=device)
    for number, inputs in enumerate(micro_batches, start=1):
        torch.manual_seed(_seed([settings.seed, settings.step, number - 1, processes.rank]))
        with gradients_exchanged(objective, now=number == settings.accumulation):
            with autocast(device, settings.precision):
                error = objective(*inputs.to(device).tensors)
            _check_sum(error)
            error.backward()
        errors += error.detach()
        num_errors += inputs.num_errors

    *single, waited_s = notices()
    counts = send(torch.tensor([num_errors, *single, *waited_s], dtype=torch.float64), device)
    total_error, total, *_ = sums = processes.sum(torch.cat([errors.double()[None], counts]))
    loss = (total_error / total).float()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    # The gradients so far are of the sums of errors, averaged over the processes.
    torch._foreach_mul_(gradients, (processes.world / total.clamp(min=1)).float())
    grad_norm = whole_tensor(get_total_norm(gradients))
    if settings.clip_grad is not None:
        clip_grads_with_norm_(parameters, settings.clip_grad, grad_norm)
    skipped = (~torch.isfinite(grad_norm) | (total == 0)).float()
    optimizer.found_inf = skipped  # type: ignore[attr-defined]  # fused AdamW reads it
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return PendingStep(loss, grad_norm, skipped, sums[2:])


def _seed(key: Sequence[int]) -> int:
    """Return one 64-bit seed that depends on all numbers of `key`."""
    return int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0])


def _check_sum(error: object) -> None:
    """Check that an objective, which may be the user's own, returns one number with a gradient.

    Raises:
        ConfigError: it does not.
    """
    what = type(error).__name__
    if isinstance(error, Tensor):
        if not error.ndim and error.requires_grad:
            return
        what = f"a tensor of shape {tuple(error.shape)}"
        what += "" if error.requires_grad else " without a gradient"
    raise ConfigError(
        f"forward of optim.objective returns {what}, and must return the sum of the errors of a "
        "micro-batch, a tensor of shape () that depends on the model"
    )
