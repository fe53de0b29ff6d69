"""Tombstones: the videos and clips that must not be used any more, as JSON lines.

Each line of tombstones.jsonl has path, source_sha256, clip_id (null: every clip of the video), date
and reason. data.tombstones takes the file.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from videomae.run.files import whole_json_lines, write_text

TOMBSTONES = "tombstones.jsonl"
PLAN = "forgetting.json"
"""File of what a forgetting removes, which is there while one is under way."""


@dataclass(frozen=True)
class Tombstone:
    """A video, or one clip of it, that is forgotten."""

    path: str | None
    """Path of the video, as the lists have it."""
    source_sha256: str | None
    clip_id: str | None
    """Id of the forgotten clip; None: all clips of the video are forgotten."""
    date: str
    reason: str

    def line(self) -> str:
        """Return the tombstone as a line of JSON."""
        return json.dumps(self.__dict__, ensure_ascii=False) + "\n"


class CorpusTombstones:
    """All tombstones of an output directory."""

    def __init__(self, stones: Sequence[Tombstone]) -> None:
        self.stones = list(stones)
        whole = [stone for stone in stones if stone.clip_id is None]
        self.paths = {stone.path for stone in whole if stone.source_sha256 is None}
        self.sources = {each.source_sha256 for each in whole if each.source_sha256 is not None}
        self.clips = {each.clip_id for each in stones if each.clip_id is not None}

    @classmethod
    def read(cls, out: Path) -> "CorpusTombstones":
        """Read the tombstones of an output directory; none if there is no file."""
        stones = []
        for row in whole_json_lines(out / TOMBSTONES):
            names = ("path", "source_sha256", "clip_id", "date", "reason")
            given = (row.get(name) for name in names)
            path, source, clip, date, reason = (
                value if isinstance(value, str) else None for value in given
            )
            stones.append(Tombstone(path, source, clip, date or "", reason or ""))
        return cls(stones)

    def hold(self, path: str, source_sha256: str | None) -> bool:
        """Return whether a whole video is forgotten: its content, or a path without content."""
        if source_sha256 is not None and source_sha256 in self.sources:
            return True
        return path in self.paths

    def write(self, out: Path, more: Iterable[Tombstone]) -> None:
        """Write the file with further tombstones, each once."""
        known = {(each.path, each.source_sha256, each.clip_id) for each in self.stones}
        added = [
            each for each in more if (each.path, each.source_sha256, each.clip_id) not in known
        ]
        lines = [each.line() for each in (*self.stones, *added)]
        write_text(out / TOMBSTONES, "".join(lines))
