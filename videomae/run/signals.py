"""Being asked to stop: noted at once, acted on when the step is done."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from videomae.run.parallel import UNDER_TORCHRUN

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_S = 2.0
"""Within which torchrun passes on a Ctrl-C that its processes have from the terminal already."""
REQUEUES = signal.SIGUSR2
"""Announces the end of a job of submitit's; its own handler puts the job back into the queue."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGUSR1, with which batch systems announce the end of a job,
    while the block runs; SIGUSR2 where somebody handles it; a second SIGINT interrupts at once.
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
def at_once(handled: int, act: Callable[[], None]) -> Iterator[None]:
    """Call `act`, in a thread, whenever a signal comes that Python handles: the main thread, which
    may be waiting for a device or another process, handles none before that ends.
    """
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)

    def listen() -> None:
        while number := ears.recv(1)[0]:
            if number == handled:
                act()

    thread = Thread(target=listen, name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        mouth.send(b"\0")  # no signal: the end
        thread.join()
        ears.close()
        mouth.close()


@contextmanager
def deferred_interrupts(received: list[int]) -> Iterator[None]:
    """SIGINT is only noted while the block runs, even a second one."""
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
