"""Ctrl-C while a command starts or works, before and after a training's own handling of signals."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

IMPORTING = "<frozen importlib._bootstrap>"
"""File name of the code that runs while a module is being imported."""


@contextmanager
def ending_imports(said: Callable[[], str]) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C while the block runs, but end the process at an import.

    Libraries swallow what is raised while they import others, and go on with half of them: torch
    does with NumPy. Where Ctrl-C is ignored, or is handled otherwise, nothing changes.

    Args:
        said: returns what is printed to stderr where the process ends; its status is 130.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == IMPORTING:
                print(said(), file=sys.stderr, flush=True)
                os._exit(128 + number)
            frame = frame.f_back
        raise KeyboardInterrupt

    ordinary = (signal.SIG_DFL, signal.default_int_handler)  # the first: see videomae.__init__
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) not in ordinary:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
