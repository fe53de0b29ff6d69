"""The files of measured videos, from which stage measure goes on after it was stopped.

    measured/KEY.arrow           the clips of one video, written by the process that measured it
    measured/shard-NAME.parquet  those of many videos, put together from the files above

KEY is a hash of the video's content, of the version of the measurement, of its observers and of its
settings. A file
appears under its name when it is complete, so that what exists is done.
"""

import hashlib
import json
import shutil
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
RAY = "ray"
"""Folder below MEASURED_FOLDER that shows the nodes of a Ray cluster that they share it."""
VERSION = 1
"""Version of the measurement: what other versions measured is measured again."""
KEY = "key"
"""Column of the files of measured videos with the key of each clip's video."""
KEYS = b"keys"
"""Key of a shard's metadata below which the keys of its videos stand."""
KIND = b"kind"
"""Key of a file's metadata below which stands how it was measured, see kind()."""


def kind() -> str:
    """Return the version of the measurement with its observers and their columns, as text."""
    observers = [[each.__name__, *sorted(each.columns)] for each in OBSERVERS]
    return json.dumps([VERSION, observers])


def schema() -> Any:
    """Return the Arrow schema of the files of measured videos."""
    columns = {KEY: pa.string(), **MEASURED, **side_columns()}
    return pa.schema(columns, metadata={KIND: kind().encode()})


def key_of(source_sha256: str, settings: dict[str, object]) -> str:
    """Return the key of a video's measurement with these settings."""
    said = json.dumps([source_sha256, kind(), settings], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:40]


def write_measured(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the clips of one video, atomically."""
    _write_loose(
        file, pa.Table.from_pylist([{KEY: file.stem, **row} for row in rows], schema=schema())
    )


def _write_loose(file: Path, table: Any) -> None:
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

    def clean_up(self) -> int:
        """Remove temporary files of killed processes, files that a shard holds already, and files
        of another version or with other columns, which nothing reads any more.

        Returns:
            the number of videos that those of the last kind were of.
        """
        remove_temporaries(self.folder, ["*.arrow", "*.parquet"])
        shutil.rmtree(self.folder / RAY, ignore_errors=True)
        outdated: set[str] = set()
        for file in (*self.folder.glob("*.arrow"), *self.shards()):
            table = _outdated(file)
            if table is not None:
                outdated.update(table["source_sha256"].to_pylist())
                file.unlink()
        for key in self.in_shards():
            self.file(key).unlink(missing_ok=True)
        return len(outdated)

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
        known = {KEYS: json.dumps(list(keys)).encode(), KIND: kind().encode()}
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
        kinds = schema()
        empty = pa.schema([kinds.field(name) for name in ("clip_id", *columns)]).empty_table()
        return pa.concat_tables([empty, *self.side_parts(clips, columns)]).sort_by("clip_id")

    def side_parts(self, clips: Set[str], columns: Sequence[str]) -> Iterator[Any]:
        """Yield what side() returns file by file, in any order, so that little is held at once."""
        left = set(clips)
        for table in self._tables(["clip_id", *columns], clips):
            table = table.drop_null()
            places = []
            for place, clip in enumerate(table["clip_id"].to_pylist()):
                if clip in left:
                    left.remove(clip)
                    places.append(place)
            yield table.take(pa.array(places, pa.int64()))

    def _tables(self, columns: list[str], clips: Set[str] | None = None) -> Iterator[Any]:
        """Yield columns of all files; of those alone that hold some clips, where these are given.

        Few clips lie in few of the files, and of the others only the ids are read.
        """
        loose = self.loose()
        loose -= self.in_shards() if loose else set()
        for file in [*self.shards(), *map(self.file, sorted(loose))]:
            if clips is not None:
                held = _read_columns(file, ["clip_id"])["clip_id"].to_pylist()
                if clips.isdisjoint(held):
                    continue
            yield _read_columns(file, columns)

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

    def forget(
        self, sources: Set[str], clips: Set[str], looked_at: Set[Path] = frozenset()
    ) -> None:
        """Remove all clips of source files, and single clips, with what the side files hold.

        A shard is gone when another one without the clips has taken its place.

        Args:
            looked_at: shards that are known to hold none of them.
        """
        self.clean_up()
        gone = _Gone(sources, clips)
        for key in self.loose():
            file = self.file(key)
            if not gone.is_in(file):
                continue
            table, forgotten = gone.without(_read_loose(file))
            if forgotten:
                file.unlink()
            else:
                _write_loose(file, table)
        for file in self.shards():
            if file in looked_at or not gone.is_in(file):
                continue
            table, forgotten = gone.without(pq.read_table(file))
            keys = [key for key in _keys(file) if key not in forgotten]
            if keys:
                self._write_shard(table, keys)
            if forgotten:
                file.unlink()


class _Gone:
    """Source files and clips that are forgotten."""

    def __init__(self, sources: Set[str], clips: Set[str]) -> None:
        self.sources, self.clips = (
            pa.array(sorted(each), pa.string()) for each in (sources, clips)
        )

    def is_in(self, file: Path) -> bool:
        """Return whether a file of measured videos holds one of them."""
        table = _read_columns(file, ["source_sha256", "clip_id"])
        return bool(pc.any(pc.or_(*self._found(table)), min_count=0).as_py())

    def without(self, table: Any) -> tuple[Any, set[str]]:
        """Return a table without them, and the keys of the videos that are forgotten as a whole."""
        of_source, is_clip = self._found(table)
        keys = set(table.filter(of_source)[KEY].to_pylist())
        return table.filter(pc.invert(pc.or_(of_source, is_clip))), keys

    def _found(self, table: Any) -> tuple[Any, Any]:
        of_source = pc.is_in(table["source_sha256"], value_set=self.sources)
        return of_source, pc.is_in(table["clip_id"], value_set=self.clips)


def _outdated(file: Path) -> Any:
    """Return the sources in a file of measured videos if it is not of the present kind, or else
    None."""
    if file.suffix == ".arrow":
        table = _read_loose(file)
        known = table.schema.metadata
    else:
        known = pq.read_schema(file).metadata
        table = None
    if (known or {}).get(KIND) == kind().encode():
        return None
    return pq.read_table(file, columns=["source_sha256"]) if table is None else table


def _keys(file: Path) -> list[str]:
    """Return the keys of the videos in a shard."""
    found: list[str] = json.loads(pq.read_schema(file).metadata[KEYS])
    return found


def _read_columns(file: Path, columns: list[str]) -> Any:
    """Return columns of a shard, or of the file of one measured video."""
    if file.suffix == ".arrow":
        return _read_loose(file).select(columns)
    return pq.read_table(file, columns=columns).replace_schema_metadata(None)


def _read_loose(file: Path) -> Any:
    with pa.OSFile(str(file), "rb") as source:
        return pa.ipc.open_file(source).read_all()
