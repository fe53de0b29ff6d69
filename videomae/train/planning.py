"""Planning before a run begins: batch arithmetic, the micro-batch, and choices of earlier runs."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from videomae.config import AUTO, TrainConfig
from videomae.data.dataset import view_shape
from videomae.data.loader import piece_size
from videomae.data.mix import block_of, group_of
from videomae.data.workers import most_memory
from videomae.lists.formats import Clip
from videomae.run.arithmetic import has_bf16, uses_bf16
from videomae.run.console import Facts
from videomae.run.directory import CHOICES
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.run.sidefiles import mended_object
from videomae.train.choices import Choices, is_choices
from videomae.train.memory import agreed_batch
from videomae.train.schedule import Plan
from videomae.train.stage import TrainingStage
from videomae.video.opening import check_decoder

logger = logging.getLogger(__name__)

Config = TypeVar("Config", bound=TrainConfig)


def plan_run(run: Run, config: TrainConfig, clips: Sequence[Clip]) -> Plan:
    """Compute the batch arithmetic and print it, with a note if the list is not the published one.

    With run.device_batch=auto it only checks for errors, and `settle_batch` prints the plan later.

    Raises:
        ConfigError: the list is shorter than a global batch, or the processes do not divide it.
    """
    size, processes = config.run.device_batch, run.processes
    if isinstance(size, str):
        return _plan(config, clips, processes, _group(config))
    plan = _plan(config, clips, processes, size)
    rows = [
        *plan.describe(config.optim),
        ("decoder", check_decoder(config.data.decoder), f"data.decoder={config.data.decoder}"),
        *_device_rows(config, processes),
        _memory_row(config, plan, processes),
    ]
    logger.info(Facts(f"{config.name}: {config.model.name} on {processes.device}", rows))
    published = config.data.num_train
    if published not in (None, len(clips)):
        logger.info(
            f"the training list holds {len(clips):,} videos, the published one {published:,} "
            "(data.num_train): the steps are not those of the recipe"
        )
    return plan


def settle_batch(run: Run, config: Config, plan: Plan, stage: TrainingStage) -> tuple[Config, Plan]:
    """Replace run.device_batch=auto by a number; return the new config and its plan.

    A resumed run keeps its number; a new run takes what the memory allows. Every process must call
    it.

    Raises:
        ConfigError: one video does not fit into the memory.
    """
    if config.run.device_batch != AUTO:
        return config, plan
    group, processes = _group(config), run.processes
    earlier = processes.from_main(_earlier_batch(stage.checkpoint))
    found = earlier or agreed_batch(stage.objective, stage.dataset, run, group)
    size = _plan(config, stage.clips, processes, max(found, group)).micro_batch
    logger.info(
        f"run.device_batch=auto: {size} videos at once, "
        + ("as before" if earlier else f"memory for {found}")
    )
    config = replace(config, run=replace(config.run, device_batch=size))
    return config, plan_run(run, config, stage.clips)


def choices_of(checkpoint: Path | None, processes: Processes) -> Choices:
    """Read the choices of the run that wrote the checkpoint; empty except on the main process."""
    if checkpoint is None or not processes.is_main:
        return Choices()
    found = mended_object(checkpoint.parent.parent / CHOICES, is_choices)
    return Choices(dict(found or {}))


def _plan(config: TrainConfig, clips: Sequence[Clip], processes: Processes, size: int) -> Plan:
    return Plan.of(
        config.optim,
        num_clips=len(clips),
        repeats=config.data.repeats,
        world=processes.world,
        device_batch=size,
        group=_group(config),
    )


def _group(config: TrainConfig) -> int:
    """Return the number of videos that a micro-batch must not split."""
    return group_of(block_of(config.augment, config.optim.global_batch))


def _earlier_batch(checkpoint: Path | None) -> int | None:
    """Read run.device_batch from config.yaml of the run that wrote the checkpoint, if possible."""
    if checkpoint is None:
        return None
    try:
        found = OmegaConf.load(checkpoint.parent.parent / "config.yaml")
        size = OmegaConf.select(found, "run.device_batch")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return None
    return size if type(size) is int and size > 0 else None


def _device_rows(config: TrainConfig, processes: Processes) -> list[tuple[str, str, str]]:
    """Return the plan's rows on precision and slow copies: name, value and reason."""
    device, asked = processes.device, config.run.precision
    name = "bf16" if uses_bf16(device, asked) else "float32"
    why = f"run.precision={asked.name}"
    if device.type == "cuda" and not has_bf16(device):
        why += f"; {torch.cuda.get_device_name(device)} does not compute in bf16"
    rows = [("precision", name, why)]
    if device.type == "cuda" and not processes.pins:
        rows.append(("copies to the GPU", "slow", "this process cannot pin memory (ulimit -l)"))
    return rows


def _memory_row(config: TrainConfig, plan: Plan, processes: Processes) -> tuple[str, str, str]:
    """Return the plan's row on the memory that decoding this process's batches may take."""
    data, workers = config.data, processes.num_workers(config.run.workers)
    videos = piece_size(plan.micro_batch)
    batch = videos * data.repeats * math.prod(view_shape(data))
    most = most_memory(max(1, workers), batch, data.max_clip_bytes)
    clip = data.max_clip_bytes / 1e9
    why = f"{workers} decoding process(es) of {clip:.3g} (data.max_clip_bytes), batches and 0.3"
    return "memory for data", f"{most / 1e9:.1f} GB at most", why
