"""Measure the time that a device takes for a call, without the time the host takes to launch it."""

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 10
"""Number of calls timed together, as a single call may be shorter than its launch."""
ROUNDS = 5
"""Number of timed rounds, of which the median is taken."""


def device_seconds(
    function: Callable[[], object], device: torch.device, repeats: int = REPEATS
) -> float:
    """Measure how many seconds one call takes on the device.

    On CUDA the calls are captured as a graph, which is replayed between two events. A function
    that cannot be captured is called `repeats` times between the events.

    Raises:
        RuntimeError: the device does not support the call.
    """
    if device.type != "cuda":
        return min(_host_seconds(function, times) for times in (1, 5, 5))
    with torch.cuda.device(device):
        try:
            replay = _recorded(function, repeats)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return _event_seconds(lambda: [function() for _ in range(repeats)]) / repeats
        return _event_seconds(replay) / repeats


def can_record(device: torch.device) -> str | None:
    """Check that the device can capture and replay a graph; return the problem, or None."""
    if device.type != "cuda":
        return f"{device.type} has no graphs"
    try:
        with torch.cuda.device(device):
            x, total = torch.ones(64, device=device), torch.zeros(64, device=device)
            replay = _recorded(lambda: total.add_(x), 2)
            total.zero_()
            replay()
            found = total.sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None if found == 128 else f"a replayed graph gave {found:g} in place of 128"


def _host_seconds(function: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def _recorded(function: Callable[[], object], times: int) -> Callable[[], object]:
    """Capture `times` calls as one CUDA graph; return the function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries initialise themselves before the capture
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            function()
    return graph.replay


def _event_seconds(function: Callable[[], object]) -> float:
    """Return the median seconds of ROUNDS calls by CUDA events, after one that is not timed."""
    function()
    pairs = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3
