"""Fast parsing of plain lines of a clip list, all at once with Arrow.

A line is plain if nothing stands before its path, one blank or tab before each number, and nothing
after the last number, and if its digits are ASCII. videomae.lists.formats.parse_line parses all
other lines, and reports malformed ones; it gives the same results for plain lines.
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
"""Characters that str.split treats as whitespace, for a regular expression."""
PATH = rf"^[^{BLANK}](?:.*[^{BLANK}])?"
NAMED = rf"^(?:[^{BLANK}].*)?[!-,./:-~][0-9]*"
"""Pattern of a path whose last word is not a number, though it may end in digits."""
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
"""Patterns of plain lines for each list format, at most one of which matches a line, with the names
of their numbers; "" is a number that is not used, and a target stays a text."""


class PlainLines(NamedTuple):
    """Parsed plain lines that match one pattern."""

    places: NDArray[np.int64]
    """Indices of the lines in the list, (lines,) int64."""
    paths: Any
    """Paths of the lines, an Arrow array of large_string."""
    numbers: dict[str, NDArray[np.int64]]
    """Numbers of the lines, (lines,) int64 each, by the names of the fields of Clip."""
    targets: Any = None
    """Texts of the lines' targets, an Arrow array of large_string; None: the lines have none."""


def plain_lines(lines: Any, form: ListFormat) -> tuple[list[PlainLines], NDArray[np.int64]]:
    """Return the parsed plain lines, and the indices of others that are not blank or comments.

    Args:
        lines: lines of a clip list, an Arrow array of large_string.
        form: format of the list.
    """
    filled = _array(pc.binary_length(lines)) > 0
    (places,) = np.nonzero(filled & ~_array(pc.starts_with(lines, "# ")))
    found = []
    for pattern, names in PLAIN.get(form, ()):
        left = lines.take(pa.array(places))
        fits = _array(pc.match_substring_regex(left, pattern + "$"))
        if fits.any():
            found.append(_taken_apart(left.filter(pa.array(fits)), places[fits], names))
        places = places[~fits]
    filled = _array(pc.match_substring_regex(lines.take(pa.array(places)), rf"[^{BLANK}]"))
    return found, places[filled]


def _taken_apart(lines: Any, places: NDArray[np.int64], names: tuple[str, ...]) -> PlainLines:
    """Return paths and numbers of lines that match one pattern."""
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
