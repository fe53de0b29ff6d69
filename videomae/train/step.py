"""One optimiser step, in which nothing waits for the device."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from videomae.config import Precision
from videomae.run.arithmetic import autocast
from videomae.run.parallel import Fetched, Processes, send
from videomae.train.objective import Inputs
from videomae.train.sharding import gradients_exchanged


class StepStats(NamedTuple):
    """What a step found out, over all processes."""

    loss: float
    """Mean error over the global batch; NaN where no video of it could be read."""
    grad_norm: float
    """Before clipping."""
    skipped: bool
    """Whether the update was left out."""
    signals: tuple[float, ...]
    """What each process put in, added up: see `train_step`."""


class Underway:
    """The numbers of a step that the device may still be working on."""

    def __init__(self, loss: Tensor, grad_norm: Tensor, skipped: Tensor, signals: Tensor) -> None:
        numbers = torch.stack([loss, grad_norm, skipped]).double()
        self._copy = Fetched(torch.cat([numbers, signals]))

    def wait(self) -> StepStats:
        """Wait for this step, though not for what has been asked of the device after it."""
        loss, grad_norm, skipped, *signals = self._copy.wait().tolist()
        return StepStats(loss, grad_norm, bool(skipped), tuple(signals))


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.AdamW,
    micro_batches: Iterable[Inputs],
    processes: Processes,
    *,
    accumulation: int,
    lr: float,
    clip_grad: float | None,
    precision: Precision,
    noise_seed: Sequence[int],
    signals: Callable[[], Sequence[float]],
) -> Underway:
    """One update from all micro-batches of all processes.

    The gradient is that of the mean error over the whole global batch, however many errors each
    part of it has. A gradient that is not finite, or a batch without a readable video, leaves
    weights and moments as they were.

    Args:
        objective: as `DistributedModel.replicate` returned it.
        micro_batches: taken one by one, so that the next is decoded while one is computed.
        accumulation: how many there are.
        lr: where a group's lr_scale is 1.
        noise_seed: seeds dropout and drop path of each micro-batch.
        signals: called after the last; numbers to add up over the processes along with the rest.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]

    device, num_errors = processes.device, 0.0
    errors = torch.zeros((), device=device)
    for number, inputs in enumerate(micro_batches, start=1):
        torch.manual_seed(_seed([*noise_seed, number - 1, processes.rank]))
        with gradients_exchanged(objective, now=number == accumulation):
            with autocast(device, precision):
                error = objective(*inputs.to(device).tensors)
            error.backward()
        errors += error.detach()
        num_errors += inputs.num_errors

    counts = send(torch.tensor([num_errors, *signals()], dtype=torch.float64), device)
    total_error, total, *_ = sums = processes.sum(torch.cat([errors.double()[None], counts]))
    loss = (total_error / total).float()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    # What each process has is its sum of errors, averaged over the processes.
    torch._foreach_mul_(gradients, (processes.world / total.clamp(min=1)).float())
    grad_norm = get_total_norm(gradients)
    if isinstance(grad_norm, DTensor):
        grad_norm = grad_norm.full_tensor()
    if clip_grad is not None:
        clip_grads_with_norm_(parameters, clip_grad, grad_norm)
    skipped = (~torch.isfinite(grad_norm) | (total == 0)).float()
    optimizer.found_inf = skipped  # type: ignore[attr-defined]  # fused AdamW reads it
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Underway(loss, grad_norm, skipped, sums[2:])


def _seed(key: Sequence[int]) -> int:
    """One number from several."""
    return int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0])
