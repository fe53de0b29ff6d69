"""The files of measured videos, from which stage measure goes on after it was stopped.

    measured/KEY.arrow           the clips of one video, written by the process that measured it
    measured/shard-NAME.parquet  those of many videos, put together from the files above

KEY is a hash of the video's content, of the version of the measurement, of its observers and of its
settings. A file
appears under its name when it is complete, so that what exists is done.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.curate.observers import OBSERVERS, side_columns
from videomae.curate.table import MEASURED, write_table
from videomae.run.files import remove_temporaries, replacing

MEASURED_FOLDER = "measured"
VERSION = 1
"""Version of the measurement: what other versions measured is measured again."""
KEY = "key"
"""Column of the files of measured videos with the key of each clip's video."""
KEYS = b"keys"
"""Key of a shard's metadata below which the keys of its videos stand."""


def schema() -> Any:
    """Return the Arrow schema of the files of measured videos."""
    return pa.schema({KEY: pa.string(), **MEASURED, **side_columns()})


def key_of(source_sha256: str, settings: dict[str, object]) -> str:
    """Return the key of a video's measurement with these settings."""
    observers = [each.__name__ for each in OBSERVERS]
    said = json.dumps([source_sha256, VERSION, observers, settings], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:40]


def write_measured(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the clips of one video, atomically."""
    table = pa.Table.from_pylist([{KEY: file.stem, **row} for row in rows], schema=schema())
    with (
        replacing(file) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


class Shards:
    """The files of measured videos below an output directory."""

    def __init__(self, out: Path) -> None:
        self.folder = out / MEASURED_FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)

    def file(self, key: str) -> Path:
        """Return the file of one measured video."""
        return self.folder / f"{key}.arrow"

    def clean_up(self) -> None:
        """Remove temporary files of killed processes, and files that a shard holds already."""
        remove_temporaries(self.folder, ["*.arrow", "*.parquet"])
        for key in self.in_shards():
            self.file(key).unlink(missing_ok=True)

    def in_shards(self) -> set[str]:
        """Return the keys of the videos in shards."""
        keys: set[str] = set()
        for file in self.shards():
            keys.update(_keys(file))
        return keys

    def loose(self) -> set[str]:
        """Return the keys of the videos that have a file of their own."""
        return {file.stem for file in self.folder.glob("[!.]*.arrow")}

    def shards(self) -> list[Path]:
        """Return the files of the shards."""
        return sorted(self.folder.glob("shard-*.parquet"))

    def compact(self, keys: Iterable[str]) -> None:
        """Put videos that have files of their own together into a shard."""
        ordered = sorted(keys)
        if not ordered:
            return
        tables = [_read_loose(self.file(key)) for key in ordered]
        self._write_shard(pa.concat_tables(tables), ordered)
        for key in ordered:
            self.file(key).unlink()

    def _write_shard(self, table: Any, keys: Sequence[str]) -> None:
        name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:40]
        known = {KEYS: json.dumps(list(keys)).encode()}
        write_table(self.folder / f"shard-{name}.parquet", table.replace_schema_metadata(known))

    def read(self, keys: Set[str], columns: Sequence[str] = tuple(MEASURED)) -> Any:
        """Return the clips of some videos, sorted by clip_id, each once."""
        wanted = pa.array(sorted(keys), pa.string())
        kinds = schema()
        empty = pa.schema([kinds.field(KEY), *(kinds.field(name) for name in columns)])
        parts = [empty.empty_table()]
        for table in self._tables([KEY, *columns]):
            parts.append(table.filter(pc.is_in(table[KEY], value_set=wanted)))
        return pa.concat_tables(parts).drop_columns([KEY]).sort_by("clip_id")

    def side(self, clips: Set[str], columns: Sequence[str]) -> Any:
        """Return clip_id and columns of the side files, such as thumbnail, of some clips.

        Each clip has one row, sorted by clip_id. What is null, or of a clip that is not there, is
        left out.
        """
        wanted = pa.array(sorted(clips), pa.string())
        kinds = schema()
        names = ["clip_id", *columns]
        parts = [pa.schema([kinds.field(name) for name in names]).empty_table()]
        seen: set[str] = set()
        for table in self._tables(names):
            rows = table.filter(pc.is_in(table["clip_id"], value_set=wanted))
            known = pa.array(sorted(seen), pa.string())
            rows = rows.filter(pc.invert(pc.is_in(rows["clip_id"], value_set=known))).drop_null()
            seen.update(rows["clip_id"].to_pylist())
            parts.append(rows)
        return pa.concat_tables(parts).sort_by("clip_id")

    def _tables(self, columns: list[str]) -> Iterator[Any]:
        for file in self.shards():
            yield pq.read_table(file, columns=columns).replace_schema_metadata(None)
        for key in sorted(self.loose() - self.in_shards()):
            yield _read_loose(self.file(key)).select(columns)

    def replace_side(self, new: Any, column: str) -> None:
        """Replace a column of the side files, such as thumbnail, in some clips.

        Args:
            new: clip_id and the column.
        """
        self.compact(self.loose() - self.in_shards())
        for file in self.shards():
            table = pq.read_table(file)
            places = pc.index_in(table["clip_id"], value_set=new["clip_id"].combine_chunks())
            if places.null_count == len(places):
                continue
            values = pc.coalesce(new[column].take(places), table[column])
            if not values.equals(table[column]):
                number = table.schema.get_field_index(column)
                write_table(file, table.set_column(number, table.schema.field(column), values))

    def forget(self, sources: Set[str], clips: Set[str]) -> None:
        """Remove all clips of source files, and single clips, with what the side files hold."""
        self.compact(self.loose() - self.in_shards())
        gone_sources, gone_clips = (
            pa.array(sorted(each), pa.string()) for each in (sources, clips)
        )
        for file in self.shards():
            table = pq.read_table(file)
            of_source = pc.is_in(table["source_sha256"], value_set=gone_sources)
            is_gone = pc.or_(of_source, pc.is_in(table["clip_id"], value_set=gone_clips))
            if not pc.any(is_gone).as_py():
                continue
            forgotten = set(table.filter(of_source)[KEY].to_pylist())
            keys = [key for key in _keys(file) if key not in forgotten]
            file.unlink()
            if keys:
                self._write_shard(table.filter(pc.invert(is_gone)), keys)


def _keys(file: Path) -> list[str]:
    """Return the keys of the videos in a shard."""
    found: list[str] = json.loads(pq.read_schema(file).metadata[KEYS])
    return found


def _read_loose(file: Path) -> Any:
    with pa.OSFile(str(file), "rb") as source:
        return pa.ipc.open_file(source).read_all()
