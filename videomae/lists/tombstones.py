"""Tombstones: the names of videos that must not be used any more.

A file of JSON lines names each by any of `path` (as the list has it), `source_sha256` and
`clip_id`; a date and a reason may stand beside them. A text file of paths, one a line, is taken
too. A file whose first line begins with { is of the first kind.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import UserError
from videomae.lists.formats import MOST_SHOWN, short
from videomae.lists.text_files import NotTextError, text_lines
from videomae.run.files import parse_json

PATH, *IDENTITIES = NAMES = ("path", "source_sha256", "clip_id")
"""Names by which a tombstone may know a video: its path, and what a column of the list says."""


class TombstoneError(UserError):
    """Error: a file of tombstones cannot be read, or a line of it names no video."""


class Tombstones:
    """The tombstones of one file, and which of them have met a video.

    Args:
        rows: for each tombstone the names that it gives.
        setting: the setting that named their file.
    """

    def __init__(self, rows: list[dict[str, str]], setting: str) -> None:
        self.setting = setting
        self.names = {
            name: pa.array([row.get(name) for row in rows], pa.large_string()) for name in NAMES
        }
        self.matched: NDArray[np.bool_] = np.zeros(len(rows), bool)
        self.known: set[str] = set()
        """Names that the videos have, and by which they were looked for."""

    def __len__(self) -> int:
        return len(self.matched)

    def gives(self, name: str) -> bool:
        """Return whether any tombstone gives such a name."""
        return self.names[name].null_count < len(self)

    def match(self, name: str, values: Any) -> NDArray[np.bool_]:
        """Return which of these videos are named, and remember which tombstones they meet.

        Args:
            name: one of NAMES.
            values: Arrow array of large_string, a name of each video, or null.
        """
        stones = self.names[name]
        self.known.add(name)
        found = pc.is_in(values, value_set=stones.drop_null()).to_numpy(zero_copy_only=False)
        if found.any():
            met = pc.is_in(stones, value_set=values.filter(pa.array(found)))
            self.matched |= met.to_numpy(zero_copy_only=False)
        return found

    def unmatched(self) -> dict[str, bool]:
        """Return the tombstones that met no video, in words.

        Returns:
            whether each gives only names that the videos do not have, so that it cannot meet any.
        """
        found = {}
        left = pa.array(~self.matched)
        columns = [self.names[name].filter(left).to_pylist() for name in NAMES]
        for values in zip(*columns, strict=True):
            given = {n: value for n, value in zip(NAMES, values, strict=True) if value is not None}
            words = " ".join(f"{name}={value[:MOST_SHOWN]}" for name, value in given.items())
            found[words] = not self.known & given.keys()
        return found


def read_tombstones(path: Path, key: str) -> Tombstones:
    """Return the tombstones of a file.

    Args:
        key: the setting that named it.

    Raises:
        TombstoneError: the file cannot be read, or a line of it names no video.
    """
    rows: list[dict[str, str]] = []
    as_json: bool | None = None
    try:
        for number, line in enumerate(text_lines(path), start=1):
            if not line.strip() or line.startswith("# "):
                continue
            if as_json is None:
                as_json = line.startswith("{")
            rows.append(_names_of(line, f"{path}:{number}") if as_json else {PATH: line.strip()})
    except (OSError, NotTextError) as error:
        raise TombstoneError(
            f"{key}={path} cannot be read ({error}): give JSON lines, or a text file of paths"
        ) from error
    return Tombstones(rows, key)


def _names_of(line: str, place: str) -> dict[str, str]:
    """Return the names that a line of JSON gives."""
    try:
        row = parse_json(line)
    except ValueError as error:
        raise TombstoneError(f"{place}: {short(line)} is no JSON ({error})") from error
    given = {name: row[name] for name in NAMES if name in row} if isinstance(row, dict) else {}
    given = {name: value for name, value in given.items() if value is not None}
    if not given or not all(isinstance(value, str) and value for value in given.values()):
        raise TombstoneError(
            f"{place}: {short(line)} names no video: give a text for any of {', '.join(NAMES)}"
        )
    return given
