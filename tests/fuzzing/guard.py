"""An attempt in a process of its own: how it ended, how long it took and how much memory."""

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.004
PAGE = resource.getpagesize()


@dataclass(frozen=True)
class End:
    """How a process ended."""

    status: int
    """Its exit status; of a signal, less than 0."""
    seconds: float
    peak_mb: float
    """The most memory that it or a process of its own has held, in MB."""
    stopped: str = ""
    """Why it was killed, if it was: out of time or memory."""


def guarded(work: Callable[[], None], timeout_s: float, most_mb: float) -> End:
    """Fork a process for some work, and watch it until it ends.

    What it leaves running is killed. The work must not return before all that it says is written.

    Args:
        timeout_s: it is killed after that.
        most_mb: it is killed when it or a process of its own holds more.
    """
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            work()
            code = 0
        finally:
            os._exit(code)
    peak, stopped = 0.0, ""
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        peak = max([peak, *map(resident_mb, family(child))])
        if peak > most_mb:
            stopped = f"more than {most_mb:.0f} MB"
        elif time.monotonic() - began > timeout_s:
            stopped = f"not done in {timeout_s:g} s"
        if stopped:
            _, status, usage = end(child)
            break
        time.sleep(POLL_S)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    seconds = time.monotonic() - began
    peak = max(peak, usage.ru_maxrss / 1024)
    return End(os.waitstatus_to_exitcode(status), seconds, peak, stopped)


def end(child: int) -> tuple[int, int, resource.struct_rusage]:
    """Kill a process and its group, and wait for it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.wait4(child, 0)


def family(process: int) -> list[int]:
    """A process and those that it or they have started."""
    found = [process]
    for one in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


def resident_mb(process: int) -> float:
    """Memory that a process holds, with what it shares."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / 2**20
    except OSError:
        return 0.0
