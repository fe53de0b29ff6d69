"""Attempts that go wrong on purpose: the harness must notice each.

They do so where an attack has left a file that says how; the originals hold none.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fuzzing.attacks import MARKER
from tests.fuzzing.base import RIGHT, Attack, Result, Target, unequal
from tests.fuzzing.documents import Bait
from videomae.config import UserError

BAIT = Path("bait.txt")


def raise_key_error() -> None:
    """A traceback."""
    raise KeyError("planted")


def run_out_of_memory() -> None:
    """What Python raises where there is no memory."""
    raise MemoryError


def crash() -> None:
    """A process that ends by a signal."""
    os.kill(os.getpid(), signal.SIGSEGV)


def end() -> None:
    """A process that ends without a word."""
    os._exit(0)


def hold(megabytes: int) -> None:
    """A process that holds memory."""
    held = bytearray(megabytes * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])


def call() -> None:
    """A process that calls the listener."""
    host, port = BAIT.read_text().split()[0].split(":")
    socket.create_connection((host, int(port))).close()


def look_outside() -> None:
    """A process that opens a file outside of its folder."""
    Path(BAIT.read_text().split()[1]).read_bytes()


def run_code() -> None:
    """What code in a file would leave."""
    Path(MARKER).touch()


def refuse_without_a_name() -> None:
    """A refusal that does not say what is refused."""
    raise UserError("something is wrong")


def steer() -> None:
    """Words that steer the terminal."""
    print("\x1b[2J", file=sys.stderr)


WAYS: dict[str, Callable[[], None]] = {
    "traceback": raise_key_error,
    "no memory": run_out_of_memory,
    "crash": crash,
    "silence": end,
    "memory": lambda: hold(1300),
    "endless memory": lambda: hold(8000),
    "call": call,
    "outside": look_outside,
    "code": run_code,
    "no name": refuse_without_a_name,
    "escape": steer,
    "value": lambda: None,
}


def attempt(way: Callable[[], None]) -> Result:
    """Go wrong in one way, where the bait is."""
    if BAIT.exists():
        way()
    return Result(RIGHT, BAIT.exists())


def lay(bait: Bait) -> None:
    """Say where the listener and the file outside are."""
    BAIT.write_text(f"{bait.address} {bait.outside}")


def _target(name: str, way: Callable[[], None]) -> Target:
    return Target(
        "planted",
        name,
        lambda: Path("original").touch(),
        lambda: attempt(way),
        attacks=(Attack("bait", lay, forged=name != "value"),),
        differs=unequal,
    )


PLANTED = tuple(_target(name, way) for name, way in WAYS.items())
