"""Fingerprints of many clips, held in a temporary file: only those that are asked for are read."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import TracebackType

from videomae.curate.fingerprint import Fingerprint
from videomae.curate.shards import Shards

FINGERPRINT = "fingerprint"
"""Column of the side files with a clip's fingerprint."""


class Spool(Mapping[str, Fingerprint]):
    """The fingerprints of some clips by id, in order of the ids; a context manager.

    The side files are compressed, so that one of their clips cannot be read without others. Here
    they lie uncompressed in a file without a name, which ends with the process.

    Args:
        shards: where the fingerprints come from; clips that have none are left out.
        clips: ids of the clips.
        folder: where the temporary file is made.
    """

    def __init__(self, shards: Shards, clips: Set[str], folder: Path) -> None:
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self.places: dict[str, tuple[int, int]] = {}
        end = 0
        for table in shards.side_parts(clips, [FINGERPRINT]):
            found = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
            for clip, content in found:
                self.file.write(content)
                self.places[clip] = end, len(content)
                end += len(content)
        self.file.flush()
        self.places = dict(sorted(self.places.items()))

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()

    def __getitem__(self, clip: str) -> Fingerprint:
        start, length = self.places[clip]
        return Fingerprint.from_bytes(os.pread(self.file.fileno(), length, start))

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
