"""How many videos a device takes at once: run.device_batch=auto.

What one pass over some videos needs and what one over twice as many needs say what a video needs,
and what is needed whatever their number.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from videomae.config import ConfigError, Precision
from videomae.data.dataset import TrainingClips
from videomae.model.layers import Block
from videomae.run.arithmetic import autocast
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.train.objective import Objective
from videomae.train.sharding import own_part
from videomae.train.trial import blank

MOST_VIEWS = 128
"""Of a micro-batch on a GPU: more make no step faster (an estimate: 2 % from 64 to 128)."""
MOST_VIDEOS_ON_CPU = 16
MOMENTS = 8
"""Bytes that AdamW will keep for each parameter."""
SPARE, SPARE_SHARE = 1 << 30, 0.06
"""Memory that is left free, in bytes and as a share of what the device has: pieces between
allocations, buffers of the exchange, the next micro-batch."""


class Need(NamedTuple):
    """Memory that a pass takes, in bytes."""

    fixed: float
    """However many videos."""
    per_video: float

    def fits(self, available: float) -> int:
        """The most videos."""
        return max(0, int((available - self.fixed) / max(1.0, self.per_video)))


def need_of(
    objective: nn.Module, clips: TrainingClips, group: int, precision: Precision, device: Any
) -> Need:
    """What training takes, measured on `group` videos and on twice as many. Every process of a
    sharded model must call it. Gradients and random numbers are left as they were."""
    wanted: Objective = objective  # type: ignore[assignment]  # a module that is one

    def through(videos: int) -> None:
        inputs = wanted.inputs(blank(clips, videos), 1, 0).to(device)
        with autocast(device, precision):
            error = objective(*inputs.tensors)
        error.backward()

    with _as_in_training(wanted.model, device):
        # In the first pass libraries take memory of theirs.
        _, one, two = (
            peak_bytes(partial(through, videos), wanted.model, device)
            for videos in (group, group, 2 * group)
        )
    per_video = max(0, two - one) / group
    return Need(one - per_video * group, per_video)


def peak_bytes(function: Callable[[], None], model: nn.Module, device: torch.device) -> int:
    """Memory that a call takes beside what is taken already. On CPUs, where nobody counts it, that
    which is kept for the backward pass."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    own = {own_part(value).untyped_storage().data_ptr() for value in model.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = own_part(tensor).untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(kept.values())


def available_bytes(model: nn.Module, processes: Processes) -> float:
    """Memory that training may take on this process's device, moments of AdamW set aside."""
    device = processes.device
    moments = MOMENTS * sum(own_part(parameter).numel() for parameter in model.parameters())
    if device.type == "cuda":
        unused, total = torch.cuda.mem_get_info(device)
        free = unused + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free - moments - max(SPARE, SPARE_SHARE * total)
    free = int(free_memory() / processes.local_world)
    return free - moments - SPARE_SHARE * free


def free_memory() -> float:
    """Bytes of the machine's memory that programs may still take."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        words = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        return 1024.0 * int(words["MemAvailable"][0])
    except (OSError, KeyError, ValueError):
        return float(4 << 30)  # enough for MOST_VIDEOS_ON_CPU of a small model


def agreed_batch(objective: nn.Module, clips: TrainingClips, run: Run, group: int) -> int:
    """Videos that every process's device takes at once: what the one with the least room takes.

    Args:
        group: of videos that a micro-batch must not part; the number is a multiple of it.

    Raises:
        ConfigError: some device has no room for one group.
    """
    model, processes, device = objective.model, run.processes, run.device
    assert isinstance(model, nn.Module)
    try:
        need = need_of(objective, clips, group, run.settings.precision, device)
        fits, gigabytes = need.fits(available_bytes(model, processes)), need.per_video / 1e9
    except torch.OutOfMemoryError:
        fits, gigabytes = 0, 0.0
    finally:
        model.zero_grad(set_to_none=True)
    found = processes.gather((fits, gigabytes))
    fits, gigabytes = min(found)
    if fits < group:
        what = "one video" if group == 1 else f"the {group} videos that are mixed with one another"
        sizes = f" ({gigabytes:.2f} GB each)" if gigabytes else ""
        more = "augment.mix_block=1, " if group > 1 else ""
        raise ConfigError(
            f"{device} has too little memory for {what}{sizes}: try run.recompute=selective or "
            f"full, {more}more processes with run.sharding=fsdp, or a smaller model"
        )
    most = MOST_VIDEOS_ON_CPU
    if device.type == "cuda":
        most = MOST_VIEWS // clips.data.repeats
    return max(group, min(fits, most) // group * group)


@contextmanager
def _as_in_training(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Training mode, without compiled code, which would be made for these sizes alone."""
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    compiled = [block.compiled for block in blocks]
    was = model.training
    model.train()
    for block in blocks:
        block.compiled = None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        model.train(was)
        for block, code in zip(blocks, compiled, strict=True):
            block.compiled = code
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
