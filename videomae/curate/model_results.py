"""The results of the stages that need a model, clip by clip, from which they go on when stopped.

    results/STAGE/shard-NAME.parquet   key, clip_id, source_sha256, error, versions, and the columns

A file has some dozens of clips and appears under its name when it is complete. The key is a hash of
the stage's settings and of its model's files.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.curate.table import write_table
from videomae.run.files import remove_temporaries

RESULTS = "results"
EMBEDDINGS = "embeddings.parquet"
"""File of the features of clips by clip_id, which stage embed writes."""
FLUSH_S = 60.0
"""Seconds after which finished clips are written, even if they are few."""
COMMON = {
    "key": pa.string(),
    "clip_id": pa.string(),
    "source_sha256": pa.string(),
    "error": pa.string(),
    "versions": pa.string(),
}
"""Columns of all results: key of the settings, the clip, and why there is no result, if so."""


def key_of(settings: Mapping[str, Any]) -> str:
    """Return the key of results that these settings determine."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:40]


class ModelResults:
    """The results of one stage below an output directory.

    Args:
        columns: names and Arrow types of its columns.
        size: number of clips of a file.
    """

    def __init__(self, out: Path, stage: str, columns: Mapping[str, Any], size: int) -> None:
        self.folder = out / RESULTS / stage
        self.schema = pa.schema({**COMMON, **columns})
        self.columns = list(columns)
        self.size = size
        self.waiting: list[dict[str, Any]] = []
        self.wrote = time.monotonic()
        remove_temporaries(self.folder, ["*.parquet"])

    def done(self, keys: Set[str]) -> set[str]:
        """Return the ids of the clips that have a result, or an error, under one of some keys."""
        found = self._read(["key", "clip_id"], keys)
        return set(found["clip_id"].to_pylist())

    def add(self, row: dict[str, Any]) -> None:
        """Take the row of a clip; it is written with others."""
        self.waiting.append(row)
        if len(self.waiting) >= self.size or time.monotonic() - self.wrote > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are waiting."""
        self.wrote = time.monotonic()
        if not self.waiting:
            return
        rows, self.waiting = sorted(self.waiting, key=lambda row: str(row["clip_id"])), []
        self._write(pa.Table.from_pylist(rows, schema=self.schema))

    def _write(self, table: Any) -> None:
        names = zip(table["key"].to_pylist(), table["clip_id"].to_pylist(), strict=True)
        name = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:40]
        write_table(self.folder / f"shard-{name}.parquet", table)

    def read(self, keys: Set[str], clips: Set[str]) -> Any:
        """Return the results of some clips without errors, sorted by clip_id, each once."""
        table = self._read(["key", "clip_id", "error", "versions", *self.columns], keys)
        known = pa.array(sorted(clips), pa.string())
        good = pc.and_(pc.is_null(table["error"]), pc.is_in(table["clip_id"], value_set=known))
        return table.filter(good).drop_columns(["key", "error"]).sort_by("clip_id")

    def errors(self, keys: Set[str], clips: Set[str]) -> dict[str, str]:
        """Return the reason by clip_id of each of some clips that have no result."""
        table = self._read(["key", "clip_id", "error"], keys)
        rows = table.filter(pc.is_valid(table["error"])).to_pylist()
        return {row["clip_id"]: row["error"] for row in rows if row["clip_id"] in clips}

    def _read(self, columns: list[str], keys: Set[str]) -> Any:
        wanted = pa.array(sorted(keys), pa.string())
        schema = pa.schema([self.schema.field(name) for name in columns])
        parts = [schema.empty_table()]
        for file in sorted(self.folder.glob("shard-*.parquet")):
            table = pq.read_table(file, columns=columns).cast(schema)
            parts.append(table.filter(pc.is_in(table["key"], value_set=wanted)))
        return pa.concat_tables(parts)


def forget_results(out: Path, clips: Set[str], sources: Set[str]) -> None:
    """Remove all results of clips and of all clips of source files, and temporary files."""
    gone = {"clip_id": clips, "source_sha256": sources}
    for folder in (out / RESULTS).glob("*"):
        remove_temporaries(folder, ["*.parquet"])
    for file in sorted((out / RESULTS).glob("*/shard-*.parquet")):
        table = pq.read_table(file)
        left = table
        for name, values in gone.items():
            known = pa.array(sorted(values), pa.string())
            left = left.filter(pc.invert(pc.is_in(left[name], value_set=known)))
        if left.num_rows == 0:
            file.unlink()
        elif left.num_rows < table.num_rows:
            write_table(file, left)
