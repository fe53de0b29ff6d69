"""A watchdog that ends a process that hangs, so that its launcher can restart it."""

import faulthandler
import os
import time
from threading import Event, Lock, Thread

from videomae.run.worker_pool import POLL_S, Watch

STDERR = 2
LEAST_S = 30.0
STEPS = 5
"""Time limit of a step once the run is asked to end, in times of the longest step so far; at least
LEAST_S seconds."""


class Watchdog:
    """Ends the process if more than timeout_s passes after a call of `alive`. Use as a context.

    The next call of `alive` or `rest` must come in time, else every thread's stack is printed to
    stderr and the process ends with status 1: there is no other way out of a collective operation
    that another process never entered. Time in which the process was stopped (Ctrl-Z, Slurm's
    suspension) does not count.
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
        """Report that a step begins: the time limit counts from now."""
        with self._lock:
            now = time.monotonic()
            if self._since is not None:
                self._longest = max(self._longest or 0.0, now - self._since)
            self._since = now

    def rest(self) -> None:
        """Suspend the time limit until the next call of `alive`."""
        with self._lock:
            self._since = None

    def hurry(self) -> None:
        """Lower the time limit to a few times the longest step so far. Any thread may call this.

        torchrun sends SIGTERM when another process has died, for which this one may be waiting.
        Before the end of the first step the limit is not changed.
        """
        with self._lock:
            if self._longest is not None:
                self.timeout_s = min(self.timeout_s, max(LEAST_S, STEPS * self._longest))

    def _watch(self) -> None:
        watch = Watch()
        while not self._over.wait(POLL_S):
            with self._lock:
                stopped_s = watch.stopped_s()
                if self._since is None:
                    continue
                self._since += stopped_s
                waited = time.monotonic() - self._since
                if waited <= self.timeout_s:
                    continue
            most = f"{self.timeout_s:.0f} s at most (run.stall_timeout_s; less where another died)"
            said = f"no step for {waited:.0f} s, {most}: the process ends, from here:\n"
            os.write(STDERR, said.encode())
            faulthandler.dump_traceback(STDERR)
            os._exit(1)
