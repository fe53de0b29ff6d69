"""Trial of one step in the GPU's memory, before a run begins and before it replaces another."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from videomae.config import ConfigError, Recompute, RunConfig, Sharding
from videomae.data.dataset import TrainingClips
from videomae.data.loader import Batch
from videomae.data.mix import block_of, group_of
from videomae.run.arithmetic import autocast, has_bf16, uses_bf16
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.train.objective import Objective
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel, gradients_exchanged
from videomae.train.stage import TrainingStage

LIMITED = ("cuda",)
"""Kinds of devices on which a trial step is made."""


def check_memory(run: Run, plan: Plan, stage: TrainingStage) -> None:
    """Compute one micro-batch forward and backward, with memory set aside for AdamW's moments.

    All processes must call it. Weights, gradients and random states stay unchanged.

    Raises:
        ConfigError: a step does not fit into the memory; the message lists settings that help.
    """
    processes, clips, distributed = run.processes, stage.dataset, stage.distributed
    if processes.device.type not in LIMITED:
        return
    batch = blank(clips, plan.micro_batch)
    try:
        _compute(stage.objective, distributed, batch, run)
    except torch.OutOfMemoryError as error:
        group = group_of(block_of(clips.augment, plan.global_batch))
        advice = "; ".join(remedies(plan, run.settings, distributed.sharding, processes, group))
        raise ConfigError(
            f"{processes.device} has too little memory for a step with {plan.micro_batch} videos "
            f"({plan.micro_batch * plan.repeats} views) at once, which was tried before the run "
            f"begins. What helps: {advice}. torch says: {str(error).splitlines()[0]}"
        ) from error
    finally:
        for parameter in distributed.model.parameters():
            parameter.grad = None


def blank(clips: TrainingClips, videos: int) -> Batch:
    """Make a micro-batch of `videos` black videos, with the shapes and masks of a real one."""
    views, drawn = videos * clips.data.repeats, []
    if clips.masking is not None:
        drawn = [clips.masking.draw(np.random.default_rng(0)) for _ in range(views)]
    masks: list[Tensor] = [encoder for encoder, _ in drawn]
    decoders = [decoder for _, decoder in drawn if decoder is not None]
    none = torch.zeros(views, dtype=torch.int64)
    return Batch(
        clip=torch.zeros(views, *clips.shape[1:], dtype=torch.uint8),
        video=none,
        label=clips.no_target.repeat(views, *[1] * clips.no_target.ndim),
        valid=torch.ones(views, dtype=torch.bool),
        mask=torch.stack(masks) if masks else None,
        decoder_mask=torch.stack(decoders) if decoders else None,
        num_short=0,
        bad=[],
        erase=none[:, None].repeat(1, 4) if clips.augment.erase_prob else None,
    )


def _compute(
    objective: nn.Module,
    distributed: DistributedModel[Any],
    batch: Batch,
    run: Run,
) -> None:
    """Run a forward and a backward pass of one micro-batch, with memory held for the moments."""
    chosen: Objective = objective  # type: ignore[assignment]  # the module is an Objective
    device = run.device
    parameters = list(distributed.model.parameters())
    moments = [torch.empty_like(each) for each in parameters for _ in range(2)]
    inputs = chosen.inputs(batch, 1, 0).to(device)
    training = distributed.model.training
    objective.train()
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        gradients_exchanged(objective, now=True),
    ):
        with autocast(device, run.settings.precision):
            errors = objective(*inputs.tensors)
        errors.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    distributed.model.train(training)
    del moments


def remedies(
    plan: Plan, run: RunConfig, sharding: Sharding, processes: Processes, group: int
) -> list[str]:
    """List settings that reduce a step's memory; those that leave the results alone come first.

    Args:
        sharding: the kind of sharding in use.
        group: number of videos that a micro-batch must not split.
    """
    found = []
    if plan.micro_batch > group:
        half = max(group, plan.micro_batch // 2)
        found.append(f"run.device_batch={half} (the rest is accumulated, and learns the same)")
    if run.recompute is not Recompute.full:
        found.append("run.recompute=full (slower by a third)")
    if sharding is Sharding.none:
        found.append("several GPUs with run.sharding=fsdp")
    elif sharding is Sharding.ddp:
        found.append("run.sharding=fsdp")
    else:
        found.append("more GPUs, or more of them in run.shards")
    if not uses_bf16(processes.device, run.precision) and has_bf16(processes.device):
        found.append("run.precision=bf16")
    if plan.micro_batch == group > 1:
        found.append("augment.mix_block=1 (one video at once in place of a mixed group)")
    if plan.micro_batch == group and plan.repeats > 1:
        found.append("a smaller data.repeats, which changes the recipe")
    return [*found, "a smaller model="]
