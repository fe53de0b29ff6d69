"""The timer that decides when a checkpoint is due, by steps and by minutes."""

import time
from collections.abc import Callable

from videomae.config import RunConfig

S_PER_MIN = 60


class CheckpointTimer:
    """Decides when checkpoints are due: every so many steps, and every so many minutes.

    Only the main process's clock counts. Its request is one of the numbers that each step sums over
    the processes, and is read one step late: so nothing waits, and all save after the same step.

    Args:
        is_main: whether this process's clock is the one that counts.
        clock: returns the time in seconds.
    """

    def __init__(
        self, run: RunConfig, *, is_main: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.every = run.checkpoint_every
        minutes = run.checkpoint_every_min
        self.seconds = None if minutes is None or not is_main else S_PER_MIN * minutes
        self.clock = clock
        self._requested = False
        self._last = clock()

    def expired(self) -> bool:
        """Tell whether the minutes are over by this process's clock, if that is the main one."""
        return self.seconds is not None and self.clock() - self._last >= self.seconds

    def request(self, asked: bool) -> None:
        """Note whether the summed numbers of a step ask for a checkpoint."""
        self._requested |= asked

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint must be written after this step."""
        return self._requested or (self.every is not None and step % self.every == 0)

    def restart(self) -> None:
        """Start the minutes anew, after a checkpoint was written."""
        self._requested, self._last = False, self.clock()
