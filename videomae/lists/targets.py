"""The last field of a line whose video has several classes, or numbers, checked and taken apart.

A list keeps it as a text, for a line may hold any number of classes. Whole lists are checked by
Arrow, a million lines at a time.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import CLASS, MULTILABEL, REGRESSION, ConfigError, DataConfig, ListFormat

if TYPE_CHECKING:  # it brings torch, which processes that decode for scan and curate do without
    from videomae.lists.columns import Columns

NOTHING = "-"
"""In place of classes: the video is of none."""
LABELS = r"-|[0-9]{1,9}(?:,[0-9]{1,9})*"
NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?"
TARGETS = {
    ListFormat.video_labels: LABELS,
    ListFormat.video_values: f"{NUMBER}(?:,{NUMBER})*",
}
"""Regular expression of the target that ends a line, by format."""
FORMATS = {MULTILABEL: ListFormat.video_labels, REGRESSION: ListFormat.video_values}
"""The format that a data.target needs."""
MEANT = {
    ListFormat.video_labels: "numbers of classes with commas between, or - for none",
    ListFormat.video_values: "numbers with commas between",
}
"""Words for the target that ends a line, by format, for messages."""
MOST = 1e30
"""Larger numbers are no measurements, and their squares no numbers."""
ROWS = 1 << 20
"""Lines that are checked at once."""


class WrongTarget(NamedTuple):
    """The first target of a list that cannot be."""

    place: int
    """Place of its clip in the list."""
    reason: str
    """Reason why it cannot be, as it follows the target in a message."""


def labels_of(target: str) -> list[int]:
    """The numbers of the classes of a line of video_labels."""
    return [] if target == NOTHING else [int(number) for number in target.split(",")]


def values_of(target: str) -> list[float]:
    """The numbers of a line of video_values."""
    return [float(number) for number in target.split(",")]


def check_format(data: DataConfig) -> None:
    """Check that the lines of a list hold what data.target learns.

    Raises:
        ConfigError: naming the format that does.
    """
    needed, given = FORMATS.get(data.target), data.list_format
    if needed is not None and given is not needed:
        raise ConfigError(
            f"data.target={data.target} needs data.list_format={needed.name}, which is never "
            f"guessed: each line ends in {MEANT[needed]}; got data.list_format={given.name}"
        )
    if data.target == CLASS and given in TARGETS:
        fits = next(target for target, form in FORMATS.items() if form is given)
        raise ConfigError(
            f"one class of each video is needed here, which lists of data.list_format={given.name} "
            f"do not give: they are for finetune and evaluate with data.target={fits}"
        )


def wrong_target(targets: "Columns | None", data: DataConfig) -> WrongTarget | None:
    """Return the first target that data.target cannot learn; None: it can learn all of them.

    Args:
        targets: of a list, each of the form that its format has.
        data: gives what is learned, and the number of classes.
    """
    if targets is None or data.target == CLASS:
        return None
    if data.target == MULTILABEL:
        return _wrong_labels(targets, data.classes)
    return _wrong_values(targets) if data.target == REGRESSION else None


def _wrong_labels(targets: "Columns", classes: int | None) -> WrongTarget | None:
    some = False
    for first, counts, words in _taken_apart(targets):
        numbers = _classes(words)
        some |= bool((numbers >= 0).any())
        if classes is not None and (numbers >= classes).any():
            place = first + _row(counts, numbers >= classes)
            return WrongTarget(
                place, f"lies outside the {classes} classes 0..{classes - 1} of data.classes"
            )
    return None if some else WrongTarget(0, "and all other lines name no class: nothing to learn")


def _wrong_values(targets: "Columns") -> WrongTarget | None:
    wanted = 0
    for first, counts, words in _taken_apart(targets):
        wanted = wanted or int(counts[0])
        if (counts != wanted).any():
            place = int(np.argmax(counts != wanted))
            return WrongTarget(
                first + place, f"are {counts[place]} numbers, the first line has {wanted}"
            )
        large = np.abs(_numbers(words)) > MOST
        if large.any():
            return WrongTarget(first + _row(counts, large), f"holds a number beyond {MOST:g}")
    return None


def all_values(targets: "Columns") -> NDArray[np.float64]:
    """The numbers of a whole list of video_values: (clips, values)."""
    parts = [_numbers(words).reshape(len(n), -1) for _, n, words in _taken_apart(targets)]
    return np.concatenate(parts)


def all_labels(targets: "Columns", classes: int) -> NDArray[np.bool_]:
    """Which classes each clip of a list of video_labels has: (clips, classes)."""
    found = np.zeros((len(targets), classes), bool)
    for first, counts, words in _taken_apart(targets):
        rows, numbers = first + np.repeat(np.arange(len(counts)), counts), _classes(words)
        named = numbers >= 0
        found[rows[named], numbers[named]] = True
    return found


def _taken_apart(targets: "Columns") -> Iterator[tuple[int, NDArray[np.int64], Any]]:
    """Place of the first line, how many words each line has, and all their words, in Arrow."""
    texts = targets.texts()
    for first in range(0, len(texts), ROWS):
        lists = pc.split_pattern(texts.slice(first, ROWS), ",")
        yield first, pc.list_value_length(lists).to_numpy().astype(np.int64), lists.flatten()


def _classes(words: Any) -> NDArray[np.int64]:
    """Numbers of classes; -1 where there is none."""
    words = pc.if_else(pc.equal(words, NOTHING), "-1", words)
    numbers: NDArray[np.int64] = pc.cast(words, pa.int64()).to_numpy()
    return numbers


def _numbers(words: Any) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = pc.cast(words, pa.float64()).to_numpy()
    return numbers


def _row(counts: NDArray[np.int64], wrong: NDArray[np.bool_]) -> int:
    """The line of the first wrong word."""
    return int(np.searchsorted(np.cumsum(counts), np.argmax(wrong), side="right"))
