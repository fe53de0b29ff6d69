"""A run that hangs says where, and ends, so that its launcher can start it again."""

import faulthandler
import os
import time
from threading import Event, Lock, Thread

from videomae.run.programs import POLL_S, Watch

STDERR = 2
LEAST_S = 30.0
STEPS = 5
"""A process that is told to end has so many of its longest steps for one, but LEAST_S at least."""


class Watchdog:
    """Between `alive` and the next, or `rest`, no more than timeout_s may pass. Use as a context.

    Else every thread's stack goes to stderr, and the process ends with status 1: a collective that
    another process never entered can be left in no other way. Time in which the process was stopped
    (Ctrl-Z, Slurm's suspension) does not count.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._lock = Lock()
        self._over = Event()
        self._since: float | None = None
        self._longest: float | None = None

    def __enter__(self) -> "Watchdog":
        self.alive()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        self._over.set()
        self._thread.join()

    def alive(self) -> None:
        """Count anew."""
        with self._lock:
            now = time.monotonic()
            if self._since is not None:
                self._longest = max(self._longest or 0.0, now - self._since)
            self._since = now

    def rest(self) -> None:
        """Count no longer."""
        with self._lock:
            self._since = None

    def hurry(self) -> None:
        """Wait for steps no longer than they have ever needed. Any thread may call it.

        torchrun sends SIGTERM where another process has died, and this one may be waiting for that.
        Until a first step is done nobody knows what steps need.
        """
        with self._lock:
            if self._longest is not None:
                self.timeout_s = min(self.timeout_s, max(LEAST_S, STEPS * self._longest))

    def _watch(self) -> None:
        watch = Watch()
        while not self._over.wait(POLL_S):
            with self._lock:
                asleep = watch.asleep()
                if self._since is None:
                    continue
                self._since += asleep
                waited = time.monotonic() - self._since
                if waited <= self.timeout_s:
                    continue
            most = f"{self.timeout_s:.0f} s at most (run.stall_timeout_s; less where another died)"
            said = f"no step for {waited:.0f} s, {most}: the process ends, from here:\n"
            os.write(STDERR, said.encode())
            faulthandler.dump_traceback(STDERR)
            os._exit(1)
