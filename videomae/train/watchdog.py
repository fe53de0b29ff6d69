"""A run that hangs says where, and ends, so that its launcher can start it again."""

import faulthandler
import time
from threading import Lock

STDERR = 2
LEAST_S = 30.0
STEPS = 5
"""A process that is told to end has so many of its longest steps for one, but LEAST_S at least."""


class Watchdog:
    """Between `alive` and the next, or `rest`, no more than timeout_s may pass. Use as a context.

    Else every thread's stack goes to stderr, and the process ends with status 1: a collective that
    another process never entered can be left in no other way.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._lock = Lock()
        self._since: float | None = None
        self._longest: float | None = None

    def __enter__(self) -> "Watchdog":
        self.alive()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def alive(self) -> None:
        """Count anew."""
        with self._lock:
            now = time.monotonic()
            if self._since is not None:
                self._longest = max(self._longest or 0.0, now - self._since)
            self._since = now
            self._count()

    def rest(self) -> None:
        """Count no longer."""
        with self._lock:
            self._since = None
            faulthandler.cancel_dump_traceback_later()

    def hurry(self) -> None:
        """Wait for steps no longer than they have ever needed. Any thread may call it.

        torchrun sends SIGTERM where another process has died, and this one may be waiting for that.
        Until a first step is done nobody knows what steps need.
        """
        with self._lock:
            if self._longest is not None:
                self.timeout_s = min(self.timeout_s, max(LEAST_S, STEPS * self._longest))
                if self._since is not None:
                    self._count()

    def _count(self) -> None:
        faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=STDERR)
