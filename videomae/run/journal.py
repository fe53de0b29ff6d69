"""Record of what a long job over many files has done: its progress on the console, and its resume.

Scans, packs and computed features use it, each with results of its own.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from videomae.run.console import Bar, progress_bar
from videomae.run.files import naming, regular, whole_json_lines

logger = logging.getLogger(__name__)

SETTINGS = "settings"
"""Key of the line that holds the settings of the job that wrote the lines after it."""

UNIT = "videos"
"""Unit of the speed of a job over many files."""


class OtherJobError(Exception):
    """Error: a record is of a job with other settings.

    Args:
        settings: those of that job; None: the record does not say them.
    """

    def __init__(self, settings: dict[str, Any] | None) -> None:
        super().__init__("the record is of a job with other settings")
        self.settings = settings


class Journal:
    """Record of a long job, a file of JSON lines that is only appended to. A context manager.

    Its first line holds the job's settings, and each other line the result for a file. A line that
    a killed process left incomplete is removed, and every line is synced to disk, so that a crash
    of the machine loses none. Damaged lines are skipped: what they held is done again.

    Args:
        path: the file.
        settings: settings that the results depend on.
        alone: whether one process may write at a time, and all lines must be of one job; False:
            lines tell by themselves whether they count.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, alone: bool = False) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.alone = alone
        self.entries: list[dict[str, Any]] = []  # the results of earlier calls

    def __enter__(self) -> "Journal":
        """Open the file, and read what earlier calls have done.

        Raises:
            BlockingIOError: another process writes there (if `alone`).
            OtherJobError: the file is of another job (if `alone`).
            OSError: the file cannot be read or written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file: IO[str] = regular(self.path).open("a", encoding="utf-8")
        try:
            if self.alone:
                self._lock()
            lines = whole_json_lines(self.path)
            begun = [line[SETTINGS] for line in lines if SETTINGS in line]
            begun = [settings for settings in begun if isinstance(settings, dict)]
            empty = self.path.stat().st_size == 0
            if self.alone and not empty and not any(map(self._fits, begun[:1])):
                raise OtherJobError(begun[0] if begun else None)
            if not any(map(self._fits, begun[-1:])):
                self.note({SETTINGS: self.settings})
        except BaseException:
            self.file.close()
            raise
        self.entries = [line for line in lines if SETTINGS not in line]
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _fits(self, settings: Mapping[str, Any]) -> bool:
        return all(settings.get(key) == value for key, value in self.settings.items())

    def _lock(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # some cluster file systems have no locks

    @contextmanager
    def bar(self, description: str, total: int, done: int) -> Iterator[Bar]:
        """Draw the progress in videos while the block runs, with their speed and the time left.

        Args:
            done: number that earlier calls have done, which is said.
        """
        if done:
            logger.info(f"{done:,} of {total:,} videos are done already: {self.path}")
        with progress_bar(description, total=total, done=done, unit=UNIT) as bar:
            yield bar

    def note(self, entry: Mapping[str, Any]) -> None:
        """Append a result, and sync it to disk.

        Raises:
            OSError: the system refuses; the error names the file.
        """
        with naming(self.path):
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
