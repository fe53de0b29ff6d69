"""Reading of a run's files other than its checkpoint; damaged ones are renamed and kept.

A run resumes from its checkpoint alone: no damage of the other files may stop it.
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
"""A test whether a JSON object of a side file is one that a run writes there."""
DAMAGED = ".damaged"
VALIDATION = "val_"
"""How the names of metrics on data.val_list begin."""
LARGEST = 2**53
"""Largest count that is accepted in a side file."""


class Rows(NamedTuple):
    """The readable objects of a file of JSON lines, and its damage."""

    good: list[Row]
    first_bad: int
    """Number of the first line that cannot be read, from 1; 0: all can be read."""
    num_bad: int
    """Number of lines that cannot be read."""
    cut: bool
    """Whether the last line is incomplete, as a killed process leaves it."""


def is_any(_: Row) -> bool:
    """Accept any JSON object."""
    return True


def is_count(value: object) -> bool:
    """Return whether a value is a whole number from 0 to LARGEST."""
    return type(value) is int and 0 <= value <= LARGEST


def is_metrics(row: Row) -> bool:
    """Return whether an object holds the numbers of a step; None stands for one that is not
    finite."""
    values = row.values()
    return is_count(row.get("step")) and all(x is None or is_number(x) for x in values)


def is_number(value: object) -> bool:
    """Return whether a value is a float, or a whole number that a float can hold exactly."""
    return type(value) is float or (type(value) is int and abs(value) <= LARGEST)


def has_step(row: Row) -> bool:
    """Return whether an object names the step at which it was logged."""
    return is_count(row.get("step"))


def is_warning(row: Row) -> bool:
    """Return whether an object is what a learning guard said, as in warnings.jsonl."""
    words = (row.get("guard"), row.get("text"), row.get("setting"))
    return has_step(row) and all(isinstance(word, str) for word in words)


def is_bad_file(row: Row) -> bool:
    """Return whether an object describes an unreadable video, as in bad_files.jsonl."""
    words = [row.get(key) for key in ("path", "error", "list")] + [row.get("source", "data")]
    return is_count(row.get("line")) and all(isinstance(word, str) for word in words)


def names_a_video(row: Row) -> bool:
    """Return whether an object names a video by its path."""
    return isinstance(row.get("path"), str) and isinstance(row.get("file", ""), str)


def is_best(found: Row) -> bool:
    """Return whether an object describes the best evaluation of a fine-tuning, as in best.json."""
    values = [value for name, value in found.items() if name.startswith(VALIDATION)]
    return is_count(found.get("step")) and len(values) == 1 and is_number(values[0])


def is_environment(found: Row) -> bool:
    """Return whether an object can be the content of environment.json."""
    before = found.get("before", [])
    return isinstance(before, list) and all(isinstance(entry, dict) for entry in before)


def parse_rows(path: Path, check: Check = is_any) -> Rows:
    """Return the objects of a file of JSON lines, and its damage; no objects if there is no file.

    Args:
        check: test that an undamaged object passes.

    Raises:
        OSError: the file cannot be read.
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
    """Return the undamaged objects of a file of JSON lines; none if it cannot be read."""
    try:
        return parse_rows(path, check).good
    except OSError:
        return []


def mended_rows(path: Path, check: Check) -> list[Row]:
    """Return the undamaged objects of a file of JSON lines.

    A damaged file is renamed, and a new one is written with the undamaged objects.
    """
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
    """Return the object of a JSON file; None if there is none. A damaged file is renamed."""
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
    """Rename a damaged file, without overwriting another one, and return its new path."""
    names = (f"{path.name}{DAMAGED}{number if number > 1 else ''}" for number in count(1))
    other = next(place for place in map(path.with_name, names) if not os.path.lexists(place))
    path.rename(other)
    return other
