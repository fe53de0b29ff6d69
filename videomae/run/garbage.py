"""Python's garbage collection, which is off while a command starts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection(*, on: bool) -> Iterator[None]:
    """Turn garbage collection on or off while a block runs, and back as it was.

    Composing settings and importing torch make many objects, nearly all of which stay: searching
    them for garbage again and again is a seventh of their time.
    """
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        yield
    finally:
        (gc.enable if before else gc.disable)()
