"""A run that hangs says where, and ends, so that its launcher can start it again."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2


class Watchdog:
    """Between `alive` and the next, or `rest`, no more than timeout_s may pass.

    Else every thread's stack goes to stderr, and the process ends with status 1: a collective that
    another process never entered can be left in no other way.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def alive(self) -> None:
        """Count anew."""
        faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=STDERR)

    def rest(self) -> None:
        """Count no longer."""
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def watchdog(timeout_s: float) -> Iterator[Watchdog]:
    """One that rests when the block ends."""
    dog = Watchdog(timeout_s)
    dog.alive()
    try:
        yield dog
    finally:
        dog.rest()
