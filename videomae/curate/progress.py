"""Progress of loops over fingerprints, whose end is known before they begin."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from videomae.run.console import progress_bar

T = TypeVar("T")


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield items, and show how many of `total` are done, and the time left."""
    with progress_bar(what, total=total) as bar:
        for item in items:
            yield item
            bar.advance()
