"""Stage contamination over measured videos: test videos are found by picture, file and name; the
page, the recall, kills, and forgetting."""

import json
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import composed, run_command
from tests.curate import scenes
from tests.curate.footage import render
from tests.curate.tables import write_info
from tests.curate.test_engine import killed_once
from videomae.config import ConfigError
from videomae.curate.edited_copies import COPIED_S, EDITS, beginning, edited, edits, encode
from videomae.curate.recall import of_copies
from videomae.curate.shards import Shards
from videomae.curate.stages import run_stages
from videomae.lists.formats import ClipListError
from videomae.lists.prepared import Prepared, PreparedList
from videomae.run.files import sha256

FPS = scenes.FPS
WRITTEN = (
    *("clips.parquet", "stages/contamination.parquet", "contamination.json"),
    *("contamination.html", "tests/pairs.parquet", "tests/videos.parquet", "rules_used.yaml"),
)
GIVEN = ("contamination_recall=1", "rules.contaminated=true")


def run(out: Path, *overrides: str) -> None:
    out.mkdir(exist_ok=True)
    run_stages(composed("curate", f"out={out}", "engine.workers=1", *overrides), out)


def made(root: Path) -> tuple[Path, Path]:
    """Raw videos, some of which show test videos, and the test list."""
    raw, tests = root / "raw", root / "tests"

    def video(path: Path, frames: Iterator[Any]) -> Path:
        return render(path, frames, FPS)

    for seed in range(3):
        video(tests / f"v/test{seed}.mp4", scenes.panned(seed))
    video(tests / "v/camera.mp4", scenes.camera(5, 0))
    video(tests / "v/abcdefghijk_000012_000022.mp4", scenes.panned(6, seconds=1.2))
    (tests / "v/broken.mp4").write_bytes(b"no video")
    names = ["test0", "test1", "test2", "camera", "abcdefghijk_000012_000022", "broken", "missing"]
    lines = [f"v/{name}.mp4 {number % 2}" for number, name in enumerate(names)]
    (tests / "test.txt").write_text("\n".join(lines))
    mirrored = (frame[:, ::-1] for frame in scenes.panned(0, seconds=3, start_s=1))
    video(raw / "mirrored.mp4", mirrored)
    video(raw / "cut to 9 16.mp4", (frame[:, 109:211] for frame in scenes.panned(1)))
    video(raw / "another time.mp4", scenes.camera(5, 1))
    write_info(video(raw / "named.mp4", scenes.panned(8)), id="abcdefghijk")
    video(raw / "other.mp4", scenes.panned(9))
    (raw / "same.mp4").write_bytes((tests / "v/test2.mp4").read_bytes())
    return raw, tests / "test.txt"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Raw videos, a test list, and the output directory of all stages."""
    folder = tmp_path_factory.mktemp("contamination")
    raw, tests = made(folder)
    (folder / "salt").write_text("salt")
    run(folder / "out", f"source={raw}", f"salt={folder / 'salt'}", f"tests={tests}", *GIVEN)
    return raw, tests, folder / "out"


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the table by the names of the videos."""
    found = pq.read_table(out / "clips.parquet").to_pylist()
    return {row["source_path"].removesuffix(".mp4"): row for row in found}


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "contamination.json").read_text())
    return found


@pytest.mark.long
def test_clips_that_show_a_test_video_are_found_and_dropped(
    corpus: tuple[Path, Path, Path],
) -> None:
    out = corpus[2]
    found = rows(out)
    shown = {name: row["contaminates"] for name, row in found.items()}
    assert shown == {
        "mirrored": ["v/test0.mp4"],
        "cut to 9 16": ["v/test1.mp4"],
        "same": ["v/test2.mp4"],
        "named": ["v/abcdefghijk_000012_000022.mp4"],
        "another time": [],
        "other": [],
    }
    for name, row in found.items():
        assert row["keep"] is (not shown[name])
        assert row["reasons"] == (["contaminates"] if shown[name] else [])
    pairs = {row["test"]: row for row in pq.read_table(out / "tests/pairs.parquet").to_pylist()}
    assert {test: row["reason"] for test, row in pairs.items()} == {
        "v/test0.mp4": "picture",
        "v/test1.mp4": "picture",
        "v/test2.mp4": "file",
        "v/abcdefghijk_000012_000022.mp4": "id",
    }
    assert pairs["v/test0.mp4"]["mirrored"]
    assert pairs["v/test0.mp4"]["offset_s"] == pytest.approx(1, abs=0.11)
    assert pairs["v/test0.mp4"]["agreement"] > 0.72
    assert summary(out)["clips_that_show_a_test_video"] == 4


def test_test_videos_that_cannot_be_read_are_named(corpus: tuple[Path, Path, Path]) -> None:
    out = corpus[2]
    table = pq.read_table(out / "tests/videos.parquet").to_pylist()
    errors = {row["name"]: row["error"] for row in table if row["error"]}
    assert errors.keys() == {"v/broken.mp4", "v/missing.mp4"}
    assert "No such file" in errors["v/missing.mp4"]
    assert summary(out)["test_videos_with_a_problem"] == 2


def test_the_page_has_the_pairs_side_by_side_and_the_recall(
    corpus: tuple[Path, Path, Path],
) -> None:
    page = (corpus[2] / "contamination.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * 4
    assert "the same file" in page
    assert "the clip begins at 1.0 s of the test video; mirrored" in page
    assert 'src="http' not in page
    for edit in EDITS:
        assert f"<td>{edit}</td>" in page


def test_the_recall_is_that_of_the_edits(corpus: tuple[Path, Path, Path]) -> None:
    recall = summary(corpus[2])["recall"]
    assert recall["test_videos"] == 1
    assert list(recall["edits"]) == list(EDITS)
    assert {each["of"] for each in recall["edits"].values()} == {1}
    assert recall["all"]["of"] == 11
    assert recall["all"]["found"] >= 9
    assert recall["all"]["low"] < recall["all"]["recall"] <= recall["all"]["high"]


def test_copies_are_made_once(
    corpus: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tests, out = corpus
    before = {name: (out / name).read_bytes() for name in WRITTEN}
    monkeypatch.setattr("videomae.curate.recall.PROGRAM", ("false",))
    monkeypatch.setattr("videomae.curate.engine.PROGRAM", "no.such.program")
    run(out, f"tests={tests}", "stage=contamination", *GIVEN)
    run(out, f"tests={tests}", "stage=select", *GIVEN)
    assert {name: (out / name).read_bytes() for name in WRITTEN} == before


def test_edits_change_the_picture_as_their_names_say(tmp_path: Path) -> None:
    frames = beginning(render(tmp_path / "v.mp4", scenes.panned(0, seconds=12), FPS), 2**31)
    assert frames[-1][0] == pytest.approx(COPIED_S)
    before = [picture.copy() for _, picture in frames]
    copies = {name: list(edited(frames, edit)) for name, edit in edits("seed").items()}
    assert all((picture == one).all() for (_, picture), one in zip(frames, before, strict=True))
    assert list(copies) == list(EDITS)
    height, width = frames[0][1].shape[:2]
    shapes = {name: copy[0][1].shape[:2] for name, copy in copies.items()}
    assert shapes["cropped 10 %"] == (
        height - 2 * round(height * 0.05),
        width - 2 * round(width * 0.05),
    )
    assert shapes["9:16"][1] / shapes["9:16"][0] == pytest.approx(9 / 16, abs=0.02)
    assert shapes["blur bars"] == (640, 360)
    assert 0.39 * width <= shapes["scaled"][1] <= 0.7 * width
    assert (copies["mirrored"][3][1] == frames[3][1][:, ::-1]).all()
    assert len(copies["trimmed"]) == pytest.approx(0.6 * len(frames), abs=2)
    assert copies["speed"][-1][0] != pytest.approx(COPIED_S, abs=1)
    for name in ("text overlay", "watermark", "brightness"):
        assert shapes[name] == (height, width)
        assert (copies[name][0][1] != frames[0][1]).any()


def test_the_recall_of_copies_has_wilsons_interval() -> None:
    every, none, nothing = of_copies(24, 24), of_copies(0, 10), of_copies(0, 0)
    assert [every[key] for key in ("recall", "low", "high")] == [1.0, 0.862, 1.0]
    assert [none[key] for key in ("recall", "low", "high")] == [0.0, 0.0, 0.2775]
    assert nothing["recall"] is nothing["low"] is nothing["high"] is None


@pytest.mark.long
def test_a_prepared_directory_gives_its_test_lists_and_its_root(
    corpus: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    raw, tests, _ = corpus
    lists = []
    for split, name in ((1, "test0"), (2, "test1")):
        file = tmp_path / f"prepared/split{split}/test.txt"
        file.parent.mkdir(parents=True)
        file.write_text(f"v/{name}.mp4 0\n")
        lists.append(PreparedList(split, "test", 1, None, ""))
    prepared = Prepared("ucf101", str(tests.parent), 1, "video_label", None, 0, lists, {}, {})
    (tmp_path / "prepared/prepared.json").write_text(prepared.as_json())
    out = tmp_path / "out"
    given = (f"source={raw}", "contamination_recall=0")
    run(out, *given, f"tests={tmp_path / 'prepared'}")
    shown = [test for row in rows(out).values() for test in row["contaminates"]]
    assert sorted(shown) == ["v/test0.mp4", "v/test1.mp4"]
    assert summary(out)["recall"] is None
    run(out, f"tests={tmp_path / 'prepared/split2/test.txt'}", "contamination_recall=0")
    shown = [test for row in rows(out).values() for test in row["contaminates"]]
    assert shown == ["v/test1.mp4"]


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (None, ConfigError, "neither a test list nor a prepared directory"),
        ("", ClipListError, "lists no clip"),
        ("a.mp4 0\nb.mp4 1\n", ConfigError, r"no test video can be read \(a.mp4: .*tests_root"),
        (b"\xff\xfe\x00", ClipListError, "cannot be read"),
        ("folder", ConfigError, "a folder without prepared.json"),
    ],
)
def test_wrong_test_lists_are_named(
    corpus: tuple[Path, Path, Path],
    tmp_path: Path,
    content: str | bytes | None,
    error: type[Exception],
    said: str,
) -> None:
    file = tmp_path / "list.txt"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=said):
        run(corpus[2], f"tests={file}", "stage=contamination")


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tests=\[\] names no test list"):
        composed("curate", "tests=[]")
    with pytest.raises(ConfigError, match="tests must be paths"):
        composed("curate", "tests=[3]")
    with pytest.raises(ConfigError, match="run stage=measure first"):
        run(tmp_path / "out", "stage=contamination", "tests=list.txt")


@pytest.mark.soak
def test_forgetting_a_clip_and_a_test_video(tmp_path: Path) -> None:
    raw, tests = made(tmp_path)
    out = tmp_path / "out"
    given = (f"source={raw}", f"tests={tests}", *GIVEN)
    run(out, *given)
    clip = rows(out)["mirrored"]["clip_id"]
    copied = {file.name.partition("-")[0] for file in (out / "tests/copies").iterdir()}
    same, test1 = sha256(raw / "same.mp4"), sha256(tests.parent / "v/test1.mp4")
    (other,) = copied
    (tmp_path / "deletions.txt").write_text(f"mirrored.mp4\n{same}\nv/test1.mp4\n{other}")
    run(out, f"forget={tmp_path / 'deletions.txt'}")
    for file in out.rglob("*"):
        if file.is_file() and file.name != "tombstones.jsonl":
            text = file.read_bytes().decode(errors="replace")
            if file.suffix == ".parquet":
                text = str(pq.read_table(file).to_pylist())
            for name in (clip, same, test1, other, "mirrored.mp4", "test1.mp4", "test2.mp4"):
                assert name not in text, (name, file)
    assert not list((out / "tests/copies").iterdir())
    assert Shards(out / "tests").side({clip}, ["fingerprint"]).num_rows == 0
    run(out, *given)
    names = set(pq.read_table(out / "tests/videos.parquet")["name"].to_pylist())
    assert names.isdisjoint({"v/test1.mp4", "v/test2.mp4"})
    assert rows(out)["cut to 9 16"]["contaminates"] == []


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="kills processes that /proc lists")
@pytest.mark.long
@pytest.mark.soak
def test_kills_leave_the_files_of_an_undisturbed_run(
    corpus: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    raw, tests, straight = corpus
    salt = raw.parent / "salt"
    given = [f"source={raw}", f"salt={salt}", f"tests={tests}", *GIVEN, "engine.shard=2"]
    run(straight, f"tests={tests}", "stage=contamination", *GIVEN)
    run(straight, f"tests={tests}", "stage=select", *GIVEN)
    rng = random.Random(0)
    command = [sys.executable, "-m", "videomae.curate", *given, "out=killed"]
    for after_s in (3, 6, 9, 12):
        assert killed_once(command, tmp_path, rng, after_s) in (None, 0)
    done = run_command("curate", *given, "out=killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in WRITTEN:
        assert (tmp_path / "killed" / name).read_bytes() == (straight / name).read_bytes(), name


@pytest.mark.long
def test_without_problems_nothing_is_said_of_any(
    corpus: tuple[Path, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw, tests, _ = corpus
    (tmp_path / "few.txt").write_text("v/test0.mp4\n")
    given = (f"source={raw}", f"tests=[{tmp_path / 'few.txt'}]", f"tests_root={tests.parent}")
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "out", *given, "contamination_recall=0")
    assert "test videos could not" not in caplog.text
    assert rows(tmp_path / "out")["mirrored"]["contaminates"] == ["v/test0.mp4"]


def test_edited_copies_are_the_same_every_time(tmp_path: Path) -> None:
    """Else the recall would be another one after a run that was stopped."""
    frames = [
        (number / FPS, frame[..., ::-1]) for number, frame in enumerate(scenes.panned(0, seconds=6))
    ]
    for name in ("cropped 10 %", "mirrored", "scaled"):
        copy, found = edits("x")[name], set()
        for number in range(6):
            encode(tmp_path / f"{number}.mp4", edited(frames, copy), copy.crf)
            found.add(sha256(tmp_path / f"{number}.mp4"))
        assert len(found) == 1, name
