"""Profiling of a few training steps with torch.profiler: a trace of CPU and device activity."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from videomae.run.files import replacing

SETTLING, TRACED = 4, 3
"""Number of steps before the traced ones, of which the last warms up the profiler; traced steps."""
NAME = "trace.json"
"""File name of the trace."""


@contextmanager
def traced(
    directory: Path | None, device: torch.device, steps: int
) -> Iterator[Callable[[], None]]:
    """Give the block a function to call after each step, and write trace.json.

    The file is written after SETTLING + TRACED steps or at the end of the block. View it in
    https://ui.perfetto.dev or chrome://tracing.

    Args:
        directory: where to write the trace; None: there is no trace.
        steps: number of steps in the block; if they are few, the last ones are traced.
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
