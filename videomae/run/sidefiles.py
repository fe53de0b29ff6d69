"""The files beside a run's checkpoint, read as far as they can be and set aside where damaged.

A run goes on from its checkpoint alone: none of the other files may keep it from that.
"""

import json
import logging
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from videomae.run.files import MOST_LINE, json_object, read_json, regular, write_text

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Check = Callable[[Row], bool]
"""Whether an object of a side file is what a run writes there."""
DAMAGED = ".damaged"
VALIDATION = "val_"
"""How the names of metrics on data.val_list begin."""
LARGEST = 2**53
"""No number of a side file that counts is larger."""


class Rows(NamedTuple):
    """What a file of JSON lines holds."""

    good: list[Row]
    first_bad: int
    """The number of the first line that cannot be read, from 1; 0: all can."""
    num_bad: int
    """How many cannot."""
    cut: bool
    """Whether the last line was cut off while it was written, as a kill leaves it."""


def is_any(_: Row) -> bool:
    """Any object will do."""
    return True


def is_count(value: object) -> bool:
    """A whole number that is not negative."""
    return type(value) is int and 0 <= value <= LARGEST


def is_metrics(row: Row) -> bool:
    """A step's numbers, by name; None: not finite."""
    values = row.values()
    return is_count(row.get("step")) and all(x is None or is_number(x) for x in values)


def is_number(value: object) -> bool:
    """A number that a float can be."""
    return type(value) is float or (type(value) is int and abs(value) <= LARGEST)


def has_step(row: Row) -> bool:
    """Something that was logged at a step."""
    return is_count(row.get("step"))


def is_bad_file(row: Row) -> bool:
    """An unreadable video, and why it is."""
    words = [row.get(key) for key in ("path", "error", "list")] + [row.get("source", "data")]
    return is_count(row.get("line")) and all(isinstance(word, str) for word in words)


def names_a_video(row: Row) -> bool:
    """What was done with a video, by its path."""
    return isinstance(row.get("path"), str) and isinstance(row.get("file", ""), str)


def is_best(found: Row) -> bool:
    """The best evaluation of a fine-tuning."""
    values = [value for name, value in found.items() if name.startswith(VALIDATION)]
    return is_count(found.get("step")) and len(values) == 1 and is_number(values[0])


def is_environment(found: Row) -> bool:
    """What a run ran on, and before."""
    before = found.get("before", [])
    return isinstance(before, list) and all(isinstance(entry, dict) for entry in before)


def parse_rows(path: Path, check: Check = is_any) -> Rows:
    """The objects of a file of JSON lines; none where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return Rows([], 0, 0, cut=False)
    good, first_bad, num_bad, cut = list[Row](), 0, 0, False
    with regular(path).open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            row = json_object(line) if len(line) > 1 else None
            if row is not None and check(row):
                good.append(row)
                continue
            while len(line) > MOST_LINE and not line.endswith(b"\n"):  # its rest
                line = file.readline(MOST_LINE + 1)
            cut = row is None and not line.endswith(b"\n")
            if not cut:
                first_bad, num_bad = first_bad or number, num_bad + 1
    return Rows(good, first_bad, num_bad, cut)


def read_rows(path: Path, check: Check = is_any) -> list[Row]:
    """The objects of a file of JSON lines, less what is damaged."""
    try:
        return parse_rows(path, check).good
    except OSError:
        return []


def mended_rows(path: Path, check: Check) -> list[Row]:
    """The objects of a file of JSON lines, which is set aside where a line is damaged."""
    try:
        rows = parse_rows(path, check)
    except OSError:
        rows = Rows([], 1, 1, cut=False)
    if rows.num_bad:
        kept = set_aside(path)
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows.good))
        logger.warning(
            f"{path} is damaged in {rows.num_bad} lines, the first is line {rows.first_bad}: it is "
            f"kept as {kept.name}; {len(rows.good)} lines of it can be read, and the run goes on"
        )
    return rows.good


def mended_object(path: Path, check: Check) -> Row | None:
    """The object of a JSON file, which is set aside where it is damaged; None: there is none."""
    try:
        found = read_json(path, MOST_LINE)
        if isinstance(found, dict) and check(found):
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    logger.warning(f"{path} is damaged: it is kept as {set_aside(path).name}, and the run goes on")
    return None


def set_aside(path: Path) -> Path:
    """Give a damaged file another name, which is returned; no earlier one is overwritten."""
    names = (f"{path.name}{DAMAGED}{number if number > 1 else ''}" for number in count(1))
    other = next(place for place in map(path.with_name, names) if not os.path.lexists(place))
    path.rename(other)
    return other
