"""Being asked to stop: noted at once, acted on when the step is done."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
REQUEUES = signal.SIGUSR2
"""Announces the end of a job of submitit's; its own handler puts the job back into the queue."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGUSR1, with which batch systems announce the end of a job,
    while the block runs; SIGUSR2 where somebody handles it; a second SIGINT interrupts at once.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    requeues = [REQUEUES] if callable(signal.getsignal(REQUEUES)) else []
    before = {number: signal.signal(number, note) for number in (*STOPPING, *requeues)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred_interrupts(received: list[int]) -> Iterator[None]:
    """SIGINT is only noted while the block runs, even a second one."""
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
