"""The largest micro-batch that fits into the device's memory: run.device_batch=auto.

The memory of a pass over some videos, and over twice as many, is measured. From the two follow the
memory per video and the fixed memory.
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
"""Largest micro-batch on a GPU, in views: more are hardly faster (an H200: 4 %, 64 to 128)."""
MOST_VIDEOS_ON_CPU = 16
"""Largest micro-batch on a CPU, in videos."""
MOMENTS = 8
"""Bytes of AdamW's moments for each parameter."""
SPARE, SPARE_SHARE = 1 << 30, 0.06
"""Memory to leave free, in bytes and as a share of the device's: for fragmentation, communication
buffers and the next micro-batch."""


class MemoryNeed(NamedTuple):
    """Memory of one forward and backward pass, in bytes."""

    fixed: float
    """Bytes that do not depend on the number of videos."""
    per_video: float
    """Bytes for each video of the micro-batch."""

    def fits(self, available: float) -> int:
        """Return the largest number of videos whose pass fits into `available` bytes."""
        return max(0, int((available - self.fixed) / max(1.0, self.per_video)))


def measure_memory(
    objective: nn.Module, clips: TrainingClips, group: int, precision: Precision, device: Any
) -> MemoryNeed:
    """Measure the memory of a pass over `group` videos and over twice as many.

    Every process of a sharded model must call it. Gradients and random states stay unchanged.
    """
    wanted: Objective = objective  # type: ignore[assignment]  # the module is an Objective

    def through(videos: int) -> None:
        inputs = wanted.inputs(blank(clips, videos), 1, 0).to(device)
        with autocast(device, precision):
            error = objective(*inputs.tensors)
        error.backward()

    with _as_in_training(wanted.model, device):
        # The first pass includes memory that libraries allocate once.
        _, one, two = (
            peak_bytes(partial(through, videos), wanted.model, device)
            for videos in (group, group, 2 * group)
        )
    per_video = max(0, two - one) / group
    return MemoryNeed(one - per_video * group, per_video)


def peak_bytes(function: Callable[[], None], model: nn.Module, device: torch.device) -> int:
    """Measure the peak memory that a call allocates, in bytes.

    A CPU has no count of it: there the tensors saved for the backward pass are added up.
    """
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
    """Return the bytes that a pass may take on this process's device, besides AdamW's moments."""
    device = processes.device
    moments = MOMENTS * sum(own_part(parameter).numel() for parameter in model.parameters())
    if device.type == "cuda":
        unused, total = torch.cuda.mem_get_info(device)
        free = unused + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free - moments - max(SPARE, SPARE_SHARE * total)
    free = int(free_memory() / processes.local_world)
    return free - moments - SPARE_SHARE * free


def free_memory() -> float:
    """Return the free bytes of the machine's main memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        words = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        return 1024.0 * int(words["MemAvailable"][0])
    except (OSError, KeyError, ValueError):
        return float(4 << 30)  # enough for MOST_VIDEOS_ON_CPU of a small model


def agreed_batch(objective: nn.Module, clips: TrainingClips, run: Run, group: int) -> int:
    """Return the micro-batch, in videos, that fits on the devices of all processes.

    Args:
        group: number of videos that a micro-batch must not split; the result is a multiple of it.

    Raises:
        ConfigError: one group does not fit into the memory of some device.
    """
    model, processes, device = objective.model, run.processes, run.device
    assert isinstance(model, nn.Module)
    try:
        need = measure_memory(objective, clips, group, run.settings.precision, device)
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
    """Set training mode without compiled blocks, which would be compiled for these sizes only.

    Mode, compiled code and random states are restored afterwards.
    """
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
