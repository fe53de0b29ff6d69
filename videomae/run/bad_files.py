"""Unreadable videos, and bad_files.jsonl, which lists each of them once."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videomae.run.directory import BAD_FILES
from videomae.run.files import append_text, write_text

logger = logging.getLogger(__name__)

TRAIN, TEST = "train", "test"
"""Values of "list" in bad_files.jsonl: the list that an unreadable video is from."""


class BadFile(NamedTuple):
    """A video that could not be read."""

    video: int
    """Index of the video's clip in the list, from 0."""
    path: str
    line: int
    error: str
    source: str = "data"
    """Section of the config that the video's list stands in."""
    span: tuple[int, int | None] | None = None
    """Range of the file's frames that the clip is; None: all of them."""

    @property
    def key(self) -> tuple[object, ...]:
        """Source, path and range, which identify the video; a list may name one more than once."""
        return self.source, self.path, self.span


def add_bad_files(directory: Path, files: Sequence[BadFile], which: str) -> None:
    """Append unreadable videos to bad_files.jsonl, each file once, and log them.

    Args:
        which: TRAIN or TEST, the list that they are from.
    """
    files = list({file.key: file for file in reversed(files)}.values())[::-1]
    if files:
        append_text(directory / BAD_FILES, "".join(bad_row(file, which) for file in files))
    for file in files:
        of = f" of {file.source}" if file.source != "data" else ""
        logger.info(f"cannot be read: line {file.line} of the {which} list{of}: {file.error}")


def replace_bad_files(directory: Path, rows: Sequence[str]) -> None:
    """Write bad_files.jsonl anew, from lines as `bad_row` returns them; none: remove it."""
    if rows:
        write_text(directory / BAD_FILES, "".join(rows))
    else:
        (directory / BAD_FILES).unlink(missing_ok=True)


def bad_row(file: BadFile, which: str) -> str:
    """Return the line of bad_files.jsonl that names an unreadable video."""
    row: dict[str, object] = {
        "path": file.path,
        "line": file.line,
        "error": file.error,
        "list": which,
    }
    if file.source != "data":
        row["source"] = file.source
    if file.span is not None:
        row |= {"start_frame": file.span[0], "end_frame": file.span[1]}
    return json.dumps(row) + "\n"
