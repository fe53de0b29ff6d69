"""When checkpoints are due: every so many steps, and every so many minutes."""

import time
from collections.abc import Callable

from videomae.config import RunConfig

S_PER_MIN = 60


class SaveTimes:
    """The minutes are those of the main process's clock, which the others hear of.

    Its word travels among the numbers that a step adds up over the processes anyway, and is read
    with them, one step late: so nothing waits, and all save after the same step.

    Args:
        is_main: whether this process's clock is the one that counts.
        clock: seconds.
    """

    def __init__(
        self, run: RunConfig, *, is_main: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.every = run.checkpoint_every
        minutes = run.checkpoint_every_min
        self.seconds = None if minutes is None or not is_main else S_PER_MIN * minutes
        self.clock = clock
        self._heard = False
        self._last = clock()

    def asks(self) -> bool:
        """Whether this process's clock asks for a checkpoint."""
        return self.seconds is not None and self.clock() - self._last >= self.seconds

    def hears(self, asked: bool) -> None:
        """Whether a clock had asked for one, by the numbers of a step."""
        self._heard |= asked

    def due(self, step: int) -> bool:
        """Whether one is written after this step."""
        return self._heard or (self.every is not None and step % self.every == 0)

    def saved(self) -> None:
        """One was written; the minutes begin anew."""
        self._heard, self._last = False, self.clock()
