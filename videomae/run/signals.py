"""Signals that ask a run to stop: they are noted, and the run stops after the current step."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from videomae.run.parallel import UNDER_TORCHRUN

logger = logging.getLogger(__name__)

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_S = 2.0
"""Seconds within which torchrun repeats a Ctrl-C that its processes already got from the
terminal."""
REQUEUES = signal.SIGUSR2
"""Signal before the end of a submitit job; submitit's handler puts the job back into the queue."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect the signals that ask a run to stop, while the block runs.

    They are SIGINT, SIGTERM and SIGUSR1, with which batch systems announce the end of a job, and
    SIGUSR2 if a handler for it is installed. A second SIGINT raises KeyboardInterrupt.
    """
    received: list[int] = []
    first = 0.0

    def note(number: int, _: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        echo = UNDER_TORCHRUN in os.environ and now - first < ECHO_S
        if number == signal.SIGINT and received and not echo:
            raise KeyboardInterrupt
        first = first if received else now
        received.append(number)

    requeues = [REQUEUES] if callable(signal.getsignal(REQUEUES)) else []
    before = {number: signal.signal(number, note) for number in (*STOPPING, *requeues)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def at_once(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` in a thread with the number of each signal that comes, while the block runs.

    Python's own handlers run in the main thread, which may be waiting for a device or another
    process. Only signals that have a Python handler count.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def listen() -> None:
        while number := receiver.recv(1)[0]:
            act(number)

    thread = Thread(target=listen, name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.send(b"\0")  # no signal: the end
        thread.join()
        receiver.close()
        sender.close()


def stop_notice(world: int) -> Callable[[int], None]:
    """Return a function that logs how a run ends when the first signal asks it to.

    Args:
        world: number of processes of the run.
    """
    told = list[int]()

    def tell(number: int) -> None:
        if told or number not in STOPPING:
            return
        told.append(number)
        steps = "this step" if world == 1 else "this step and perhaps the next one"
        by_hand = number == signal.SIGINT
        logger.info(
            f"{'Ctrl-C' if by_hand else signal.Signals(number).name}: the run finishes {steps}, "
            "then writes a checkpoint and ends"
            + ("; Ctrl-C again ends it without the checkpoint" if by_hand else "")
        )

    return tell


@contextmanager
def deferred_interrupts(received: list[int]) -> Iterator[None]:
    """Collect every SIGINT, even a second one, while the block runs; none interrupts it."""
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
