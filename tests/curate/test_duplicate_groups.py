"""Stage duplicates over measured videos: copies are found, groups keep a clip, kills leave no
trace."""

import logging
import random
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest

from tests.conftest import composed, run_command
from tests.curate import scenes
from tests.curate.footage import render
from tests.curate.test_engine import killed_once
from videomae.config import ConfigError
from videomae.curate import observers, shards
from videomae.curate.fingerprint import Fingerprint
from videomae.curate.shards import Shards
from videomae.curate.stages import run_stages

FPS = scenes.FPS
WRITTEN = ("clips.parquet", "stages/duplicates.parquet", "rules_used.yaml")


def scaled(frames: Iterator[scenes.Frame], width: int, height: int) -> Iterator[Any]:
    return (cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames)


def raw_corpus(root: Path) -> Path:
    """Videos with copies of each kind, and two times of one static camera."""

    def made(name: str, frames: Iterator[Any], fps: int = FPS) -> None:
        render(root / f"{name}.mp4", frames, fps)

    for seed in range(3):
        made(f"scene{seed}", scenes.panned(seed))
    made("0 smaller", scaled(scenes.panned(0), 160, 90))
    made("0 mirrored", (frame[:, ::-1] for frame in scenes.panned(0)))
    made("0 cut to 9 16", (frame[:, 110:210] for frame in scenes.panned(0)))
    made("0 trimmed", scenes.panned(0, seconds=2.6, start_s=0.8))
    made("1 cropped", (frame[8:-8, 16:-16] for frame in scenes.panned(1)))
    made("1 darker", (frame // 4 * 3 for frame in scenes.panned(1)))
    made("1 faster", scenes.panned(1), 12)
    for moment in (0, 1):
        made(f"camera {moment}", scenes.camera(5, moment))
    made("one frame", scenes.panned(7, seconds=0.1))
    (root / "same.mp4").write_bytes((root / "scene2.mp4").read_bytes())
    (root / "broken.mp4").write_bytes(b"no video")
    return root


def run(out: Path, *overrides: str) -> None:
    out.mkdir(exist_ok=True)
    run_stages(composed("curate", f"out={out}", "engine.workers=1", *overrides), out)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the table by the names of the videos."""
    found = pq.read_table(out / "clips.parquet").to_pylist()
    return {row["source_path"].removesuffix(".mp4"): row for row in found}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Raw videos, and the output directory of all stages over them."""
    folder = tmp_path_factory.mktemp("duplicates")
    raw, out = raw_corpus(folder / "raw"), folder / "out"
    run(out, f"source={raw}", "rules.duplicates=true")
    return raw, out


@pytest.mark.long
def test_copies_of_each_kind_are_found_and_the_best_is_kept(corpus: tuple[Path, Path]) -> None:
    found = rows(corpus[1])
    for number in "01":
        group = [name for name in found if name.startswith((f"scene{number}", f"{number} "))]
        assert len({found[name]["duplicate_group"] for name in group}) == 1
        kept = [name for name in group if found[name]["duplicate_of"] is None]
        assert len(kept) == 1
        assert found[kept[0]]["width_px"] == 320
        assert [name for name in group if found[name]["keep"]] == kept
        assert {tuple(found[name]["reasons"]) for name in {*group} - {*kept}} == {("duplicate",)}
        assert all(0 <= found[name]["duplicate_distance"] <= 48 for name in group)
    for name in ("scene2" if "scene2" in found else "same", "camera 0", "camera 1", "one frame"):
        row = found[name]
        assert (row["duplicate_group"], row["duplicate_of"]) == (row["clip_id"], None)
        assert row["keep"]
    broken = found["broken"]
    assert broken["duplicate_group"] is None
    assert broken["reasons"] == ["error"]


def test_a_copy_stays_when_its_better_one_is_dropped(corpus: tuple[Path, Path]) -> None:
    _, out = corpus
    before = (out / "stages/duplicates.parquet").read_bytes()
    run(out, "stage=select", "rules.duplicates=true", "+rules.limits.width_px.at_most=200")
    found = rows(out)
    assert [name for name, row in found.items() if row["keep"]] == ["0 cut to 9 16"]
    assert found["0 smaller"]["reasons"] == ["duplicate"]  # it has fewer pixels
    assert found["scene0"]["reasons"] == ["width_px_max", "duplicate"]
    run(out, "stage=select", "rules.duplicates=true")
    assert (out / "stages/duplicates.parquet").read_bytes() == before


def test_what_has_not_changed_is_not_compared_again(
    corpus: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    _, out = corpus
    before = (out / "stages/duplicates.parquet").read_bytes()
    with caplog.at_level(logging.INFO):
        run(out, "stage=duplicates")
    assert "not compared again" in caplog.text
    (out / "stages/duplicates.parquet").unlink()
    run(out, "stage=duplicates")
    assert (out / "stages/duplicates.parquet").read_bytes() == before


def test_duplicates_before_measure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run stage=measure first"):
        run(tmp_path / "out", "stage=duplicates")


def test_a_corpus_without_fingerprints_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "broken.mp4").write_bytes(b"no video")
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "out", f"source={raw}", "rules.duplicates=true")
    assert "no clip has a fingerprint" in caplog.text
    assert rows(tmp_path / "out")["broken"]["reasons"] == ["error"]


def test_fingerprints_are_those_of_the_frames(corpus: tuple[Path, Path]) -> None:
    _, out = corpus
    clip = rows(out)["scene0"]["clip_id"]
    (row,) = Shards(out).side({clip}, ["fingerprint"]).to_pylist()
    found = Fingerprint.from_bytes(row["fingerprint"])
    assert (found.width, found.height) == (256, 144)
    assert found.duration_s == 4


def test_forgetting_takes_a_clip_out_of_its_group(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name, edit in {"a": 1, "b": -1, "c": 1}.items():
        frames = scenes.panned(0, seconds=3, start_s=0.4 * (name == "c"))
        render(raw / f"{name}.mp4", (frame[:, ::edit] for frame in frames), FPS)
    render(raw / "alone.mp4", scenes.panned(1, seconds=3), FPS)
    run(out, f"source={raw}")
    before = rows(out)
    assert len({before[name]["duplicate_group"] for name in "abc"}) == 1
    first = min("abc", key=lambda name: before[name]["clip_id"])
    (tmp_path / "deletions.txt").write_text(f"{first}.mp4")
    run(out, f"forget={tmp_path / 'deletions.txt'}")
    after = rows(out)
    left = sorted({*"abc"} - {first}, key=lambda name: after[name]["clip_id"])
    gone = before[first]["clip_id"]
    assert {after[name]["duplicate_group"] for name in left} == {after[left[0]]["clip_id"]}
    assert sum(after[name]["duplicate_of"] is None for name in left) == 1
    assert after["alone"] == before["alone"]
    for file in out.rglob("*.parquet"):
        assert gone not in str(pq.read_table(file).to_pylist()), file
    assert not Shards(out).side({gone}, ["fingerprint"]).num_rows


def test_what_was_measured_without_fingerprints_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in "ab":
        render(raw / f"{name}.mp4", scenes.panned(0, seconds=2), FPS)
    given = (f"source={raw}", "engine.shard=1")
    with monkeypatch.context() as earlier:
        fewer = tuple(each for each in observers.OBSERVERS if "fingerprint" not in each.columns)
        for module in (observers, shards):
            earlier.setattr(module, "OBSERVERS", fewer)
        earlier.setattr("videomae.curate.engine.PROGRAM", "tests.curate.earlier")
        run(out, *given, "stage=sources")
        run(out, *given, "stage=measure")
    files = {file.name for file in (out / "measured").iterdir()}
    with caplog.at_level(logging.INFO):
        run(out, *given, "stage=measure")
    assert "1 videos were measured by another version" in caplog.text
    assert files.isdisjoint(file.name for file in (out / "measured").iterdir())
    ids = {row["clip_id"] for row in rows(out).values()}
    assert Shards(out).side(ids, ["fingerprint"]).num_rows == 1
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(out, *given, "stage=measure")
    assert "another version" not in caplog.text
    assert "1 of 1 videos are measured already" in caplog.text


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="kills processes that /proc lists")
@pytest.mark.long
@pytest.mark.soak
def test_kills_leave_the_files_of_an_undisturbed_run(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, straight = corpus
    given = [f"source={raw}", "rules.duplicates=true", "engine.shard=4"]
    run(straight, "stage=select", "rules.duplicates=true")
    rng = random.Random(0)
    command = [sys.executable, "-m", "videomae.curate", *given, "out=killed"]
    for _ in range(3):
        assert killed_once(command, tmp_path, rng, rng.uniform(2, 6)) in (None, 0)
    done = run_command("curate", *given, "out=killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in WRITTEN:
        assert (tmp_path / "killed" / name).read_bytes() == (straight / name).read_bytes()


def test_two_scenes_of_one_video_that_are_copies(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    twice = chain(scenes.panned(0), scenes.still(9, 2), scenes.panned(0))
    render(raw / "twice.mp4", twice, FPS)
    run(out, f"source={raw}", "scenes=all", "rules.duplicates=true", "cuts.min_frames=5")
    found = pq.read_table(out / "clips.parquet").to_pylist()
    assert sum(row["duplicate_of"] is not None for row in found) == 1
