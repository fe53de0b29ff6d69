"""One optimiser step, in which nothing waits for the device."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from videomae.config import Precision
from videomae.train.objective import Inputs
from videomae.train.parallel import Processes, autocast


class StepStats(NamedTuple):
    """What a step found out, summed over all processes, still on the device."""

    loss: Tensor
    """() mean error over the global batch; 0 where no video of it could be read."""
    grad_norm: Tensor
    """() before clipping."""
    skipped: Tensor
    """() 1 where the update was left out, else 0."""
    signals: Tensor
    """What each process put in, added up: see `train_step`."""


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.AdamW,
    micro_batches: Sequence[Inputs],
    processes: Processes,
    *,
    lr: float,
    clip_grad: float | None,
    precision: Precision,
    noise_seed: Sequence[int],
    signals: Sequence[float],
) -> StepStats:
    """One update from all micro-batches of all processes.

    The gradient is that of the mean error over the whole global batch, however many errors each
    part of it has. A gradient that is not finite, or a batch without a readable video, leaves
    weights and moments as they were.

    Args:
        objective: as `processes.replicate` returned it.
        lr: where a group's lr_scale is 1.
        noise_seed: seeds dropout and drop path of each micro-batch.
        signals: numbers to add up over the processes along with the rest.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]

    counts = torch.tensor(
        [sum(part.num_errors for part in micro_batches), *signals], dtype=torch.float64
    )
    total, *_ = shared = processes.sum(counts.to(processes.device, non_blocking=True))
    share = processes.world / total.clamp(min=1).float()  # undoes the average over the processes

    errors = torch.zeros((), device=processes.device)
    for number, inputs in enumerate(micro_batches):
        torch.manual_seed(_seed([*noise_seed, number, processes.rank]))
        with _synchronising(objective, last=number == len(micro_batches) - 1):
            with autocast(processes.device, precision):
                error = objective(*inputs.to(processes.device).tensors)
            (error * share).backward()
        errors += error.detach()
    loss = processes.sum(errors) / total.clamp(min=1).float()

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_grad is not None:
        clip_grads_with_norm_(parameters, clip_grad, grad_norm)
    skipped = (~torch.isfinite(grad_norm) | (total == 0)).float()
    optimizer.found_inf = skipped  # type: ignore[attr-defined]  # fused AdamW reads it
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepStats(loss, grad_norm, skipped, shared[1:])


def _synchronising(objective: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Gradients travel between processes once a step, with its last micro-batch."""
    if isinstance(objective, DistributedDataParallel) and not last:
        return objective.no_sync()
    return nullcontext()


def _seed(key: Sequence[int]) -> int:
    """One number from several."""
    return int(np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0])
