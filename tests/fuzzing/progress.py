"""Files from which a scan and a pack go on, when they were killed, or come from somebody else."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.conftest import composed, write_list, write_video
from tests.fuzzing.base import BAD, RIGHT, Result, Target, digest, unequal
from tests.fuzzing.decoding import DATA
from tests.fuzzing.packs import SETTINGS
from tests.fuzzing.weights import make_own
from videomae.config import PackConfig, ScanConfig
from videomae.extract import extract
from videomae.lists.clips import read_clips
from videomae.pack import pack
from videomae.scan import scan
from videomae.video.inspection import inspect
from videomae.video.interface import DecodeError
from videomae.video.packing import Packing
from videomae.video.packs import Pack
from videomae.video.transcode import write as transcode
from videomae.weights.weights import Kind

COUNT = 4


class StopError(Exception):
    """Stands for a kill."""


def make_sources() -> None:
    """Undamaged videos and a list of them."""
    sys.argv = ["x"]
    for number in range(COUNT):
        write_video(Path("videos") / f"{number}.mp4", seed=number)
    write_list(Path("list.txt"), [f"{number}.mp4" for number in range(COUNT)])


def in_this_process(answer: Callable[..., Any]) -> Any:
    """A stand-in of programs.run_all for videos that are known to be whole."""

    def run(_: object, requests: Iterable[Any], *__: object) -> Iterator[tuple[Any, Any]]:
        for key, request in requests:
            yield key, asdict(answer(*request))

    return run


def scan_it() -> Result:
    """Scan, or go on with it; facts: the undamaged videos."""
    sys.argv = ["x"]
    with patch("videomae.video.inspecting.run_all", in_this_process(inspect)):
        scan(ScanConfig(list="list.txt", root="videos", out="scan", workers=1))
    return Result(RIGHT, Path("scan/clean.txt").read_text())


def make_scan() -> None:
    """A scan whose progress knows the videos at the place where a copy is used."""
    make_sources()
    scan_it()
    place, path = Path.cwd(), Path("scan/progress.jsonl")
    used = place.parents[2] / "attempt" / "root"
    path.write_text(path.read_text().replace(str(place), str(used)))


def pack_it() -> Result:
    """Pack, or go on with it; facts: a hash of frames of every video."""
    sys.argv = ["x"]
    with patch("videomae.video.transcoding.run_all", in_this_process(transcode)):
        pack(PackConfig(list="list.txt", root="videos", out="pack", workers=1, **SETTINGS))
    whole = Pack(Path("pack"))
    if damage := whole.damage(thorough=True):  # what check=true says; reading finds it, too
        return Result(BAD, said=f"pack: {'; '.join(damage)}")
    facts = {}
    for clip in read_clips("list.txt", DATA, labelled=False):
        try:
            facts[clip.path] = digest(whole.open(clip).read([0, 3, 7]).tobytes())
        except DecodeError as error:
            return Result(BAD, said=f"pack: {error}")
    return Result(RIGHT, facts)


def make_pack() -> None:
    """A pack that was killed before its last shard was written."""
    make_sources()
    with patch.object(Packing, "finish", side_effect=StopError), suppress(StopError):
        pack_it()
    assert Path("pack/progress.jsonl").exists()
    assert list(Path("pack").glob("shard-*"))
    assert list(Path("pack/staging").iterdir())


def extract_it() -> Result:
    """Extract features, or go on with it; facts: a hash of the features of each video."""
    sys.argv = ["x"]
    extract(
        composed(
            "extract",
            "run=debug",
            "weights=weights",
            "list=list.txt",
            "root=videos",
            "output_dir=out",
        )
    )
    rows = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    assert {f"{number}.mp4" for number in range(COUNT)} <= {row["path"] for row in rows}
    whole = {f"{number}.mp4": f"out/{number}.mp4.safetensors" for number in range(COUNT)}
    return Result(RIGHT, {path: digest(Path(file).read_bytes()) for path, file in whole.items()})


def make_features() -> None:
    """Features of some videos, and a manifest."""
    make_sources()
    make_own(Kind.pretrain)
    extract_it()
    manifest = Path("out/manifest.jsonl")
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))


TARGETS = (
    Target(
        "progress",
        "extract",
        make_features,
        extract_it,
        ("out/manifest.jsonl", "out/*.json"),
        named=("out",),
        differs=unequal,
    ),
    Target(
        "progress",
        "scan",
        make_scan,
        scan_it,
        ("scan/progress.jsonl", "scan/progress.jsonl", "scan/clean.txt"),
        named=("scan",),
    ),
    Target(
        "progress",
        "pack",
        make_pack,
        pack_it,
        ("pack/progress.jsonl", "pack/staging/*", "pack/shard-*"),
        named=("pack",),
        differs=unequal,
    ),
)
