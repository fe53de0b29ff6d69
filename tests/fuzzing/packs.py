"""Packs: their index, their manifest and their shards, opened and read as a root."""

import json
import random
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.conftest import write_list, write_video
from tests.fuzzing.base import REFUSED, RIGHT, Attack, Change, Result, Target, mutate_one
from tests.fuzzing.decoding import DATA, read_list, through_loaders
from tests.fuzzing.documents import Bait
from tests.fuzzing.sizes import json_attacks
from videomae.config import PackConfig
from videomae.data.checks import check_videos
from videomae.pack import pack
from videomae.run.files import sha256
from videomae.video.opening import pack_at
from videomae.video.pack_checks import SCHEMA
from videomae.video.packs import check_pack

PACK = Path("pack")
FILES = ("pack/index.arrow", "pack/manifest.json", "pack/shard-*.tar", "pack/list.txt")
SETTINGS = {"short_side": 32, "stride": 2, "keyint": 4, "preset": "ultrafast", "shard_mb": 0.01}


def make() -> None:
    """A pack of five videos in several shards."""
    sys.argv = ["pack"]
    for number in range(5):
        write_video(Path("source") / f"{number}.mp4", seed=number, frames=9 + number)
    write_list(Path("list.txt"), [f"{number}.mp4" for number in range(5)])
    pack(PackConfig(list="list.txt", root="source", out="pack", workers=1, **SETTINGS))
    assert len(list(PACK.glob("shard-*"))) > 1


def use() -> Result:
    """Read all that a pack holds, as a root of the list that lies in it."""
    data = replace(DATA, root="pack")
    clips = read_list("pack/list.txt", data)
    check_videos(clips, data, "data.train_list")
    found = pack_at(PACK)
    if found is None:
        return Result(REFUSED, said="pack is no pack")
    result = through_loaders(clips, data)
    paths = [clip.path for clip in clips]
    facts = {name: dict(zip(paths, read, strict=True)) for name, read in result.facts.items()}
    return Result(result.outcome, facts, result.said)


def check() -> Result:
    """What check=true says of a pack."""
    check_pack(PACK)
    return Result(RIGHT, "whole")


def differs(facts: Any, expected: Any) -> str | None:
    """Whether a video of a pack has other pixels than it had when it was packed."""
    for use_, read in facts.items():
        for path, pixels in read.items():
            if pixels is not None and pixels != expected[use_].get(path):
                return f"{path} has other pixels ({use_})"
    return None


def refit(*, shards: bool) -> None:
    """Make manifest and index fit the files, as whoever forges a pack would."""
    path = PACK / "manifest.json"
    manifest = json.loads(path.read_text())
    if shards:
        table = pa.ipc.open_file((PACK / "index.arrow").read_bytes()).read_all()
        rows = table.to_pylist()
        for row in rows:
            content = (PACK / manifest["shards"][row["shard"]]["name"]).read_bytes()
            row["crc32"] = zlib.crc32(content[row["offset"] :][: row["length"]])
        write_index(rows)
    for entry in (*manifest["shards"], manifest["index"]):
        file = PACK / entry["name"]
        entry |= {"bytes": file.stat().st_size, "sha256": sha256(file)}
    path.write_text(json.dumps(manifest))


def write_index(rows: list[dict[str, Any]]) -> None:
    """Write an index of these rows."""
    with pa.ipc.new_file(str(PACK / "index.arrow"), SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def mutate(rng: random.Random, bait: Bait) -> Change:
    """Mutate one file; every second time checksums are made to fit."""
    change = mutate_one((rng.choice(FILES),), rng, bait)
    (name,) = change.files
    regular = Path(name).is_file() and not Path(name).is_symlink()
    forged = rng.random() < 0.5 and regular and name.endswith((".arrow", ".tar"))
    if forged:
        refit(shards=name.endswith(".tar"))
    listed = name.endswith("list.txt")
    return Change(change.what + (", forged" if forged else ""), change.files, forged or listed)


def set_rows(change: dict[str, Any], _: Bait) -> None:
    """An index whose rows all say so."""
    rows = pa.ipc.open_file((PACK / "index.arrow").read_bytes()).read_all().to_pylist()
    write_index([row | change for row in rows])
    refit(shards=False)


def name_shards(name: Callable[[Bait], str], bait: Bait) -> None:
    """A manifest whose shards are called so."""
    path = PACK / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["shards"]:
        entry["name"] = name(bait)
    path.write_text(json.dumps(manifest))


ROWS: dict[str, dict[str, Any]] = {
    "length": {"length": 2**62},
    "offset": {"offset": 2**62},
    "before": {"offset": -1},
    "shard": {"shard": 2**31 - 1},
    "last shard": {"shard": -1},
    "frames": {"num_frames": 2**31 - 1},
    "no frames": {"num_frames": 0},
    "size": {"width": 2**31 - 1, "height": 2**31 - 1},
    "source": {"source": "../../x.mp4"},
    "empty": {"length": 0},
}
NAMES: dict[str, Callable[[Bait], str]] = {
    "outside": lambda bait: bait.outside,
    "up": lambda bait: "../" * 12 + bait.outside.lstrip("/"),
    "address": lambda bait: f"http://{bait.address}/shard-000000.tar",
    "line": lambda _: "shard-000000.tar\n../x",
}
ATTACKS = (
    *(Attack(f"rows {name}", partial(set_rows, change)) for name, change in ROWS.items()),
    *(Attack(f"shards {name}", partial(name_shards, of)) for name, of in NAMES.items()),
    *json_attacks("pack/manifest.json"),
)
TARGETS = (
    Target(
        "packs",
        "read",
        make,
        use,
        named=("pack",),
        mutate=mutate,
        attacks=ATTACKS,
        differs=differs,
    ),
    Target("packs", "checked", make, check, named=("pack",), mutate=mutate, attacks=ATTACKS),
)
