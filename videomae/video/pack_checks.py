"""Checks of a pack's manifest and index, before any of their values is used.

Packs are copied over networks and received from others. Every number is compared with what it
counts, and the index is hashed before it is parsed, as a flipped bit in it can crash the process.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.lists.tombstones import IDENTITIES
from videomae.run.files import inside, read_json, replacing, sha256

SCHEMA = pa.schema(
    [
        ("source", pa.large_string()),  # the path in the list; of frame folders: and start, total
        ("shard", pa.int32()),  # its place in the manifest's shards
        ("offset", pa.int64()),  # of the MP4 file in the shard, in bytes
        ("length", pa.int64()),  # of the MP4 file, in bytes
        ("crc32", pa.uint32()),  # of the MP4 file
        ("num_frames", pa.int32()),
        ("fps", pa.float32()),  # of the source
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.int32()),  # of the first line that names it; null: none
    ]
)
RANGES = pa.schema(
    [
        ("start_frame", pa.int64()),  # first frame of the source that was packed; 0: its beginning
        ("end_frame", pa.int64()),  # the frame after the last; null: its end
    ]
)
"""The columns that the index of a pack of a Parquet list has besides."""
VERSIONS = (1, 2)
"""Versions of packs that are read: 1 has the columns of SCHEMA, 2 others too."""
MAY_BE_NULL = ("fps", "label", "end_frame", *IDENTITIES)
FRAME_BYTES = 5
"""Bytes of a frame in an MP4 file, at least: four of them are its length."""
ROW_BYTES = sum(field.type.bit_width // 8 for field in SCHEMA if field.name != "source")
TO_END = -1
"""Number that stands for null in the order of the ranges of one source."""
LARGEST, MOST_STRIDE = 2**62, 2**16
Columns = Mapping[str, pa.Array]


def schema_of(*, ranges: bool, identities: Sequence[str] = ()) -> pa.Schema:
    """Return the columns of an index.

    Args:
        ranges: whether the pack is of a Parquet list.
        identities: those of IDENTITIES that it has, as the list has them.
    """
    own = [pa.field(name, pa.large_string()) for name in identities]
    return pa.schema([*SCHEMA, *(RANGES if ranges else ()), *own])


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest, and check the types and ranges of the values that are used.

    Raises:
        ValueError: a value is wrong; the message names the first one.
        OSError: the manifest cannot be read.
    """
    manifest = _object(read_json(path), path.name)
    if type(manifest.get("version")) is not int or manifest["version"] not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise ValueError(f"it is of version {_short(manifest.get('version'))}, not {known}")
    encoding = _object(_object(manifest.get("settings"), "settings").get("encoding"), "encoding")
    for name in ("stride", "keyint"):
        _check_count(encoding.get(name), name, 1, MOST_STRIDE)
    shards = manifest.get("shards")
    if not isinstance(shards, list):
        raise ValueError(f"its shards are {_short(shards)}")
    for shard in shards:
        _check_file(_object(shard, "a shard"), r"shard-\d{6,9}\.tar")
    _check_file(_object(manifest.get("index"), "index"), r"index\.arrow")
    return manifest


def _object(value: object, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{name} is {_short(value)} in the manifest")


def _check_count(value: object, name: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {_short(value)} in the manifest")


def _check_file(entry: Mapping[str, Any], pattern: str) -> None:
    if not re.fullmatch(pattern, str(entry.get("name"))):
        raise ValueError(f"it names {_short(entry.get('name'))} as one of its files")
    _check_count(entry.get("bytes"), "bytes", 0, LARGEST)
    if not isinstance(entry.get("sha256"), str):
        raise ValueError(f"it has no hash of {entry['name']}")


def _short(value: object) -> str:
    """Return an untrusted value as short text for an error message."""
    return "missing" if value is None else repr(value)[:60]


def write_index(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write the index of a pack, whose rows are in the order of their keys."""
    columns = {field.name: [row[field.name] for row in rows] for field in schema}
    with replacing(path) as temporary:
        table = pa.table(columns, schema=schema)
        with pa.ipc.new_file(str(temporary), schema) as writer:
            writer.write_table(table, max_chunksize=max(1, len(table)))


def read_index(root: Path, manifest: Mapping[str, Any]) -> Columns:
    """Read the columns of a pack's index, memory-mapped, and check them.

    Raises:
        ValueError, pyarrow.ArrowException: the index is damaged; the message names the first row.
        OSError: the index cannot be read.
    """
    entry = manifest["index"]
    path = inside(root, entry["name"])
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {entry['bytes']}")
    if sha256(path) != entry["sha256"]:
        raise ValueError(f"{path.name} holds other bytes than were written")
    content = pa.memory_map(str(path)).read_buffer()
    check_plain(memoryview(content))
    reader = pa.ipc.open_file(content)
    ranges = manifest["version"] > 1
    identities = [name for name in IDENTITIES if ranges and name in reader.schema.names]
    schema = schema_of(ranges=ranges, identities=identities)
    if not reader.schema.equals(schema):
        raise ValueError(f"{path.name} has other columns than a pack's")
    index = reader.read_all()
    if index.num_rows * ROW_BYTES > content.size:
        raise ValueError(f"{path.name} promises {index.num_rows} rows in {content.size} bytes")
    index.validate(full=True)
    columns = {field.name: index.column(field.name).combine_chunks() for field in schema}
    check_rows(columns, [shard["bytes"] for shard in manifest["shards"]])
    return columns


def check_plain(content: memoryview) -> None:
    """Check that an Arrow file has no compression and no dictionaries, by its flatbuffers.

    pyarrow would unpack both to any size before they can be checked.

    Raises:
        ValueError: the file has one of them, or is no Arrow file.
    """
    try:
        length = len(content)
        footer = _follow(content, length - 10 - _number(content, "<i", length - 10))
        if (place := _field(content, footer, 2)) and _number(
            content, "<I", _follow(content, place)
        ):
            raise ValueError("it holds dictionaries")
        place = _field(content, footer, 3)
        blocks = _follow(content, place) if place else length
        for block in range(_number(content, "<I", blocks) if place else 0):
            start = _number(content, "<q", blocks + 4 + 24 * block)
            message = _follow(content, start + (8 if _number(content, "<i", start) == -1 else 4))
            batch = _follow(content, _field(content, message, 2))
            if _field(content, batch, 3):
                raise ValueError("it is compressed")
    except struct.error as error:
        raise ValueError(f"it is no Arrow file: {error}") from error


def _number(content: memoryview, kind: str, place: int) -> int:
    if place < 0:  # struct would count from the end
        raise ValueError("it is no Arrow file")
    return int(struct.unpack_from(kind, content, place)[0])


def _follow(content: memoryview, place: int) -> int:
    """Follow the offset at `place` of a flatbuffer; return the position it leads to."""
    return place + _number(content, "<I", place)


def _field(content: memoryview, table: int, number: int) -> int:
    """Return the position of a field in a flatbuffer's table; 0: the field is absent."""
    names = table - _number(content, "<i", table)
    if 6 + 2 * number > _number(content, "<H", names):
        return 0
    offset = _number(content, "<H", names + 4 + 2 * number)
    return table + offset if offset else 0


def check_rows(columns: Columns, shard_bytes: Sequence[int]) -> None:
    """Check every row of an index: the video's place in its shard, its size, and the sort order.

    Raises:
        ValueError: a row is wrong; the message names the first one.
    """
    for name, column in columns.items():
        if name not in MAY_BE_NULL and column.null_count:
            raise ValueError(f"{column.null_count} videos of the index have no {name}")
    numbers = {
        name: columns[name].to_numpy(zero_copy_only=False).astype(np.int64)
        for name in ("shard", "offset", "length", "num_frames", "width", "height")
    }
    shard, offset, length = numbers["shard"], numbers["offset"], numbers["length"]
    _refuse("shard", (shard < 0) | (shard >= len(shard_bytes)), columns)
    room = np.array(shard_bytes, dtype=np.int64)[shard]
    _refuse("offset", (offset < 0) | (offset > room), columns)
    _refuse("length", (length < 1) | (length > room - offset), columns)
    frames = numbers["num_frames"]
    _refuse("num_frames", (frames < 1) | (frames > length // FRAME_BYTES), columns)
    for name in ("width", "height"):
        _refuse(name, numbers[name] < 1, columns)
    sources = columns["source"]
    falls = pc.less(sources[1:], sources[:-1]).to_numpy(zero_copy_only=False)
    equal = pc.equal(sources[1:], sources[:-1]).to_numpy(zero_copy_only=False)
    if "start_frame" in columns:
        start = columns["start_frame"].to_numpy()
        end = pc.fill_null(columns["end_frame"], TO_END).to_numpy()
        _refuse("start_frame", (start < 0) | (start > LARGEST), columns)
        _refuse("end_frame", (end != TO_END) & (end <= start), columns)
        later = (start[1:] > start[:-1]) | ((start[1:] == start[:-1]) & (end[1:] > end[:-1]))
        equal &= ~later
    _refuse("source", np.append(False, falls | equal), columns)


def _refuse(name: str, wrong: NDArray[np.bool_], columns: Columns) -> None:
    """Raise ValueError if any row of a column is wrong; the message names the first one."""
    if wrong.any():
        row = int(wrong.argmax())
        source, value = columns["source"][row].as_py(), columns[name][row].as_py()
        raise ValueError(f"{name} of {source[:200]!r}, row {row} of the index, is {_short(value)}")
