"""Seeded mutations of weights in their containers: safetensors headers, torch's archives, Arrow."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tests.fuzzing.documents import (
    Bait,
    dumped,
    hostile_value,
    mutate_json,
    mutate_json_lines,
    mutate_lines,
    mutate_pickle,
    mutate_value,
)
from tests.fuzzing.mutations import mutate_bytes

Mutate = Callable[[bytes, random.Random, Bait], tuple[bytes, str]]


def mutate_safetensors(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """A safetensors file with another header, whose length it says truly; or with other bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(content, rng)
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.get("__metadata__", {})
    inner = [key for key, value in metadata.items() if value.startswith("{")]
    if inner and rng.random() < 0.5:
        key = rng.choice(inner)
        document, what = mutate_value(json.loads(metadata[key]), rng, bait)
        metadata[key] = dumped(document).decode()
        what = f"metadata {key}: {what}"
    else:
        header, what = mutate_value(header, rng, bait)
    text = dumped(header)
    return len(text).to_bytes(8, "little") + text + data, what


def rezipped(
    content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A zip archive with other contents of its entries."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), change(name, data), compression)
    return written.getvalue()


def mutate_torch(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """A file of torch.save with another pickle in it, in a whole archive; or with other bytes."""
    kind = rng.random()
    if kind < 0.4:
        return mutate_bytes(content, rng)
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return mutate_pickle(content, rng, bait)
    said: list[str] = []

    def change(name: str, data: bytes) -> bytes:
        if name.endswith("data.pkl"):
            data, what = mutate_pickle(data, rng, bait)
            said.append(what)
        return data

    return rezipped(content, change), f"pickle: {', '.join(said)}"


def mutate_arrow(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """An Arrow file with other numbers in its columns; or with other bytes."""
    if rng.random() < 0.5:
        return mutate_bytes(content, rng)
    table = pa.ipc.open_file(content).read_all()
    rows = table.to_pylist()
    what = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        row, name = rng.choice(rows), rng.choice(table.column_names)
        value = hostile_value(rng, bait)
        if rng.random() < 0.3:
            value = rng.choice(rows)[name]
        before, row[name] = row[name], value
        try:
            pa.Table.from_pylist(rows, table.schema)
        except (pa.ArrowException, OverflowError, TypeError, ValueError, RecursionError):
            row[name] = before
        else:
            what.append(f"{name}={str(value)[:30]!r}")
    if rng.random() < 0.2:
        rng.shuffle(rows)
        what.append("shuffled")
    sink = io.BytesIO()
    kinds = {"lz4": 0.05, "zstd": 0.05}
    compression = next((name for name, share in kinds.items() if rng.random() < share), None)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(pa.Table.from_pylist(rows, table.schema))
    return sink.getvalue(), ", ".join(what) or "written anew"


def _bytes_only(content: bytes, rng: random.Random, _: Bait) -> tuple[bytes, str]:
    return mutate_bytes(content, rng)


BY_SUFFIX: dict[str, Mutate] = {
    ".json": mutate_json,
    ".jsonl": mutate_json_lines,
    ".safetensors": mutate_safetensors,
    ".pth": mutate_torch,
    ".pt": mutate_torch,
    ".bin": mutate_torch,
    ".metadata": mutate_pickle,
    ".arrow": mutate_arrow,
    ".txt": mutate_lines,
    ".csv": mutate_lines,
    ".yaml": mutate_lines,
}


def mutate_file(path: Path, content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """The content of a file after mutations that fit its kind, and what they were."""
    suffix = path.suffix or path.name
    try:
        return BY_SUFFIX.get(suffix, _bytes_only)(content, rng, bait)
    except (ValueError, UnicodeError):  # no document of its kind, such as one that was empty
        return mutate_bytes(content, rng)
