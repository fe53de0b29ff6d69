"""How long a device takes for something, however long the host takes to ask for it."""

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 10
"""Calls that are timed together: one alone may be shorter than what asking for it takes."""
ROUNDS = 5
"""Of which the median counts."""


def device_seconds(
    function: Callable[[], object], device: torch.device, repeats: int = REPEATS
) -> float:
    """Seconds that one call takes.

    On CUDA it is the device's own time: the calls are recorded as a graph, which is replayed
    between two events. What cannot be recorded is asked for call by call between the events.

    Raises:
        RuntimeError: the device cannot do it.
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
    """Why the device cannot record and replay a graph; None: it can, and gives the same."""
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
    """So many calls as one, which replays what they asked of the device."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries set themselves up outside of what is recorded
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            function()
    return graph.replay


def _event_seconds(function: Callable[[], object]) -> float:
    """Between two events on the device, the median of some rounds after one that is not timed."""
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
