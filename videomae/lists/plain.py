"""Lines of a clip list that are plain: they are told and taken apart all at once, by Arrow.

A line is plain if nothing stands before its path, one blank or tab before each number, nothing
after the last one, and if its digits are ASCII. What any other line means, or why it means nothing,
videomae.lists.clips.parse_line says; it says the same of plain ones.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import ListFormat
from videomae.lists.targets import TARGETS

BLANK = (
    r"\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}"
    r"\x{3000}"
)
"""What str.split takes for blanks."""
PATH = rf"^[^{BLANK}](?:.*[^{BLANK}])?"
NAMED = rf"^(?:[^{BLANK}].*)?[!-,./:-~][0-9]*"
"""A path whose last word is no number: digits end it, but something else is before them."""
NUMBER, POSITIVE = r"[ \t]-?[0-9]{1,18}", r"[ \t][1-9][0-9]{0,17}"
TARGET = "target"
OFFICIAL = r"[ \t]0[ \t]-1"
PLAIN: dict[ListFormat, list[tuple[str, tuple[str, ...]]]] = {
    ListFormat.video: [(PATH, ())],
    ListFormat.video_label: [(PATH + NUMBER, ("label",))],
    ListFormat.video_start_total: [(PATH + OFFICIAL, ("", ""))],
    ListFormat.frames_start_total: [
        (rf"{PATH}[ \t][0-9]{{1,18}}{POSITIVE}", ("start", "total")),
    ],
    ListFormat.frames_total_label: [(PATH + POSITIVE + NUMBER, ("total", "label"))],
    ListFormat.auto: [
        (NAMED, ()),
        (NAMED + NUMBER, ("label",)),
        (NAMED + OFFICIAL, ("", "")),
    ],
    **{form: [(rf"{PATH}[ \t](?:{target})", (TARGET,))] for form, target in TARGETS.items()},
}
"""Of each format the forms of a plain line, which exclude each other, and what their numbers are;
"" is of no use, and a target stays a text."""


class PlainLines(NamedTuple):
    """Plain lines of one form."""

    places: NDArray[np.int64]
    """Among all lines."""
    paths: Any
    """Arrow array of large_string."""
    numbers: dict[str, NDArray[np.int64]]
    """By the fields of Clip."""
    targets: Any = None
    """Arrow array of large_string; None: these lines have none."""


def plain_lines(lines: Any, form: ListFormat) -> tuple[list[PlainLines], NDArray[np.int64]]:
    """The plain lines, and the places of all others that are neither blank nor comments.

    Args:
        lines: Arrow array of large_string.
    """
    filled = _array(pc.binary_length(lines)) > 0
    (places,) = np.nonzero(filled & ~_array(pc.starts_with(lines, "# ")))
    found = []
    for pattern, names in PLAIN[form]:
        left = lines.take(pa.array(places))
        fits = _array(pc.match_substring_regex(left, pattern + "$"))
        if fits.any():
            found.append(_taken_apart(left.filter(pa.array(fits)), places[fits], names))
        places = places[~fits]
    filled = _array(pc.match_substring_regex(lines.take(pa.array(places)), rf"[^{BLANK}]"))
    return found, places[filled]


def _taken_apart(lines: Any, places: NDArray[np.int64], names: tuple[str, ...]) -> PlainLines:
    """Path and numbers of lines of one form."""
    if not names:
        return PlainLines(places, lines, {})
    count = len(names)
    words = pc.ascii_split_whitespace(lines, max_splits=count, reverse=True).flatten()

    def column(number: int) -> Any:
        return words.take(pa.array(np.arange(number, len(words), count + 1)))

    if names == (TARGET,):
        return PlainLines(places, column(0), {}, column(1))
    numbers = {
        name: _array(column(number).cast(pa.int64()))
        for number, name in enumerate(names, start=1)
        if name
    }
    return PlainLines(places, column(0), numbers)


def _array(column: Any) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)
