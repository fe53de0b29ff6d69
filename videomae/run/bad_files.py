"""Videos that cannot be read, and bad_files.jsonl, which names each once."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videomae.run.directory import BAD_FILES

logger = logging.getLogger(__name__)

TRAIN, TEST = "train", "test"
"""The lists that they are from."""


class BadFile(NamedTuple):
    """A video that could not be read."""

    video: int
    """The index of its clip in the list, from 0."""
    path: str
    line: int
    error: str
    source: str = "data"
    """The section of the config that its list stands in."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells files apart; a list may name one more than once."""
        return self.source, self.path


def add_bad_files(directory: Path, files: Sequence[BadFile], which: str) -> None:
    """Append to bad_files.jsonl, once per file, and say so.

    Args:
        which: TRAIN or TEST, the list they are from.
    """
    files = list({file.key: file for file in reversed(files)}.values())[::-1]
    with (directory / BAD_FILES).open("a") as out:
        out.writelines(bad_row(file, which) for file in files)
    for file in files:
        of = f" of {file.source}" if file.source != "data" else ""
        logger.info(f"cannot be read: line {file.line} of the {which} list{of}: {file.error}")


def bad_row(file: BadFile, which: str) -> str:
    row = {"path": file.path, "line": file.line, "error": file.error, "list": which}
    if file.source != "data":
        row["source"] = file.source
    return json.dumps(row) + "\n"
