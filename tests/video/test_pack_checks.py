"""Packs that are damaged or made up: refused by name, whatever their manifest and index say."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from videomae.lists.formats import Clip
from videomae.video.interface import DecodeError
from videomae.video.pack_checks import SCHEMA
from videomae.video.packs import Pack, PackError

ROWS, LENGTH, SHARD = 12, 400, "shard-000000.tar"
Manifest = dict[str, Any]


def table(**changes: list[Any]) -> pa.Table:
    """An index of twelve videos, one after another in one shard."""
    numbers = range(ROWS)
    columns: dict[str, list[Any]] = {
        "source": [f"v/{number:05}.mp4" for number in numbers],
        "shard": [0] * ROWS,
        "offset": [512 + 1024 * number for number in numbers],
        "length": [LENGTH] * ROWS,
        "crc32": list(numbers),
        "num_frames": [30] * ROWS,
        "fps": [25.0] * ROWS,
        "width": [64] * ROWS,
        "height": [48] * ROWS,
        "label": [None] * ROWS,
    }
    return pa.table(columns | changes, schema=SCHEMA)


def write(root: Path, index: pa.Table, *, compression: str | None = None) -> Path:
    """A pack with that index, whose hash fits."""
    root.mkdir(exist_ok=True)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(root / "index.arrow"), index.schema, options=options) as writer:
        writer.write_table(index)
    (root / SHARD).write_bytes(bytes(1024 * ROWS + 1024))
    entry = {"name": SHARD, "bytes": 1024 * ROWS + 1024, "sha256": "", "num_videos": ROWS}
    encoding = {"short_side": 64, "stride": 4, "keyint": 16, "crf": 23.0, "preset": "fast"}
    settings = {"list_sha256": "", "encoding": encoding, "shard_mb": 1.0}
    manifest = {"version": 1, "settings": settings, "shards": [entry]}
    (root / "manifest.json").write_text(json.dumps(manifest))
    rehash(root)
    return root


def rehash(root: Path) -> None:
    """Let the manifest say what the index is now."""
    content = (root / "index.arrow").read_bytes()
    entry = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["index"] = {"name": "index.arrow"} | entry
    (root / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "pack", table())


def flips(content: bytes, count: int, seed: int) -> list[bytes]:
    """The content with one bit turned, in as many ways."""
    rng, changed = np.random.default_rng(seed), []
    for place, bit in zip(
        rng.integers(0, len(content), count), rng.integers(0, 8, count), strict=True
    ):
        changed.append(bytearray(content))
        changed[-1][place] ^= 1 << bit
    return [bytes(each) for each in changed]


def test_a_whole_pack_is_read(root: Path) -> None:
    pack = Pack(root)
    assert len(pack) == ROWS
    assert pack.holds(Clip("v/00007.mp4", 1))
    with pytest.raises(DecodeError, match="are not those of"):
        pack.open(Clip("v/00007.mp4", 1))


def test_an_empty_pack_is_read(tmp_path: Path) -> None:
    assert len(Pack(write(tmp_path / "empty", table().slice(0, 0)))) == 0


def test_a_flipped_bit_in_the_index_is_noticed(root: Path) -> None:
    for content in flips((root / "index.arrow").read_bytes(), 400, seed=0):
        (root / "index.arrow").write_bytes(content)
        with pytest.raises(PackError, match=r"index\.arrow holds other bytes than were written"):
            Pack(root)


def test_no_index_whose_hash_fits_ends_the_process(root: Path) -> None:
    """In a process of its own: what is read, is read to its end."""
    program = """
import sys
from pathlib import Path
from tests.video.test_pack_checks import flips, rehash
from videomae.video.packs import Pack, PackError
root = Path(sys.argv[1])
refused = 0
for content in flips((root / "index.arrow").read_bytes(), 400, seed=1):
    (root / "index.arrow").write_bytes(content)
    rehash(root)
    try:
        pack = Pack(root)
        assert all(len(column.to_pylist()) == 12 for column in pack.columns.values())
    except PackError:
        refused += 1
print(refused)
"""
    command = [sys.executable, "-c", program, str(root)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shard", -1),
        ("shard", 1),
        ("offset", -512),
        ("offset", 2**62),
        ("length", 0),
        ("length", -1),
        ("length", 2**63 - 1),
        ("num_frames", 0),
        ("num_frames", -5),
        ("num_frames", LENGTH // 5 + 1),
        ("width", 0),
        ("height", -1),
        ("source", "v/00000.mp4"),
        ("source", "a"),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_row(
    tmp_path: Path, name: str, value: Any
) -> None:
    column = table()[name].to_pylist()
    column[7] = value
    root = write(tmp_path / "pack", table(**{name: column}))
    with pytest.raises(PackError, match=rf"{root} .*{name} of .*row 7 of the index, is"):
        Pack(root)


@pytest.mark.parametrize("name", [n for n in SCHEMA.names if n not in ("fps", "label")])
def test_a_number_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    column = table()[name].to_pylist()
    column[7] = None
    with pytest.raises(PackError, match=f"1 videos of the index have no {name}"):
        Pack(write(tmp_path / "pack", table(**{name: column})))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_index_is_refused(tmp_path: Path, compression: str) -> None:
    with pytest.raises(PackError, match="it is compressed"):
        Pack(write(tmp_path / "pack", table(), compression=compression))


def test_an_index_of_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="other columns than a pack's"):
        Pack(write(tmp_path / "pack", table().drop_columns(["crc32"])))
    text = table()["source"].cast(pa.string()).dictionary_encode()
    index = table().set_column(0, "source", text)
    with pytest.raises(PackError, match="it holds dictionaries"):
        Pack(write(tmp_path / "coded", index))


def put(*keys: str | int, value: object) -> Callable[[Manifest], None]:
    """Put a value into a manifest."""

    def change(manifest: Manifest) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize("value", [None, -1, 10**30, 1.5, "x", [], [1], {}, True], ids=repr)
@pytest.mark.parametrize(
    "keys",
    [
        ("version",),
        ("settings",),
        ("settings", "encoding"),
        ("settings", "encoding", "stride"),
        ("settings", "encoding", "keyint"),
        ("shards",),
        ("shards", 0),
        ("shards", 0, "name"),
        ("shards", 0, "bytes"),
        ("index",),
        ("index", "name"),
        ("index", "bytes"),
        ("index", "sha256"),
    ],
    ids=lambda keys: ".".join(map(str, keys)),
)
def test_a_manifest_of_other_types_is_refused(
    root: Path, keys: tuple[str | int, ...], value: object
) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    put(*keys, value=value)(manifest)
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackError, match=f"{root} cannot be read as a pack"):
        Pack(root)


@pytest.mark.parametrize(
    "name", ["../shard-000000.tar", "/etc/passwd", "shard-000000.tar\0", "shard-0.tar", "x/../y"]
)
def test_a_shard_that_lies_elsewhere_is_refused(root: Path, name: str) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    put("shards", 0, "name", value=name)(manifest)
    (root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackError, match="as one of its files"):
        Pack(root)


@pytest.mark.parametrize("stride", [0, -4, 2**40])
def test_strides_that_cannot_be_are_refused(root: Path, stride: int) -> None:
    for name in ("stride", "keyint"):
        manifest = json.loads((root / "manifest.json").read_text())
        put("settings", "encoding", name, value=stride)(manifest)
        (root / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(PackError, match=f"{name} is {stride} in the manifest|stride is"):
            Pack(root)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 10**5, b'{"version": 1e999}'], ids=len
)
def test_a_manifest_that_is_no_json_object_is_refused(root: Path, content: bytes) -> None:
    (root / "manifest.json").write_bytes(content)
    with pytest.raises(PackError, match="cannot be read as a pack"):
        Pack(root)


def test_a_shard_that_is_shorter_or_no_file_is_a_bad_video(root: Path) -> None:
    """However much of it the manifest and the index promise."""
    manifest = json.loads((root / "manifest.json").read_text())
    put("shards", 0, "bytes", value=2**41)(manifest)
    length = table()["length"].to_pylist()
    length[3] = 2**30
    write(root, table(length=length))
    (root / "manifest.json").write_text(json.dumps(manifest))
    rehash(root)
    pack = Pack(root)
    (root / SHARD).write_bytes(b"short")
    with pytest.raises(DecodeError, match="are not those of"):
        pack.open(Clip("v/00003.mp4", 1))
    (root / SHARD).unlink()
    os.mkfifo(root / SHARD)
    with pytest.raises(DecodeError, match="is no regular file"):
        Pack(root).open(Clip("v/00003.mp4", 1))
