"""A trace of a few steps: what the processor and the device did when, and what waited for what."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from videomae.run.files import replacing

SETTLING, TRACED = 4, 3
"""Steps before those that are traced, the last of which warms the profiler up; and those."""
NAME = "trace.json"


@contextmanager
def traced(
    directory: Path | None, device: torch.device, steps: int
) -> Iterator[Callable[[], None]]:
    """What to call after each step. After SETTLING + TRACED of them, or at the end of the block,
    trace.json is written: for https://ui.perfetto.dev or chrome://tracing.

    Args:
        directory: where to; None: there is no trace.
        steps: that there will be. Of few, the last ones are traced.
    """
    if directory is None or steps == 0:
        yield lambda: None
        return
    directory.mkdir(parents=True, exist_ok=True)

    def write(profiler: profile) -> None:
        with replacing(directory / NAME) as temporary:
            profiler.export_chrome_trace(str(temporary))

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    before = min(SETTLING, max(0, steps - TRACED))
    warm_up = min(1, before)
    when = schedule(wait=before - warm_up, warmup=warm_up, active=min(TRACED, steps), repeat=1)
    with profile(activities=activities, schedule=when, on_trace_ready=write) as profiler:
        yield profiler.step
