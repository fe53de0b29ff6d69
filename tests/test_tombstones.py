"""Tombstones: what they name, and that no video that one names is opened by any command."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import write_list
from tests.counting import OPENED
from tests.test_commands import call
from tests.train import (
    CLASSES,
    NUM_VIDEOS,
    assert_same_run,
    finetuning,
    json_lines,
    metrics,
    pretraining,
    train,
    weights,
)
from videomae.config import ClipConfig, ConfigError, DataConfig
from videomae.data.checks import read_list
from videomae.data.forgetting import warn_of_unmatched
from videomae.finetune import finetune
from videomae.lists.clips import ClipList
from videomae.lists.tombstones import TombstoneError
from videomae.pretrain import pretrain
from videomae.video.opening import pack_at

DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32))
FORGOTTEN = ("2.mp4", "5.mp4", "9.mp4")
COUNTING = "data.decoder=tests.counting:CountingVideo"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the counting decoder writes."""
    path = tmp_path / "opened.txt"
    path.touch()
    monkeypatch.setenv(OPENED, str(path))
    return path


@pytest.fixture
def stones(tmp_path: Path) -> Path:
    return write_list(tmp_path / "stones.jsonl", [json.dumps({"path": n}) for n in FORGOTTEN])


@pytest.fixture
def folder(videos: Path, tmp_path: Path) -> Path:
    """The videos without those that are to be forgotten, as if they had been deleted."""
    root = tmp_path / "videos"
    root.mkdir()
    for number in range(NUM_VIDEOS):
        if f"{number}.mp4" not in FORGOTTEN:
            shutil.copy(videos / f"{number}.mp4", root)
    return root


def names(path: Path) -> Counter[str]:
    return Counter(path.read_text().split())


# What tombstones name


def marked(listed: Path, stones: Path, root: Path) -> list[int]:
    """Lines of a list that tombstones name."""
    data = DataConfig(clip=DATA.clip, root=str(root), tombstones=str(stones))
    clips = read_list(
        str(listed), data, labelled=False, key="data.train_list", keeps_forgotten=True
    )
    return [clip.line for clip in clips if clip.forgotten]


def test_paths_are_named_in_json_or_text(videos: Path, tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.txt", ["0.mp4", "# x", "1.mp4", "2.mp4", "1.mp4"])
    as_json = [json.dumps({"path": "1.mp4", "date": "2026-01-01", "reason": "asked"})]
    for name, lines in (("a.jsonl", as_json), ("a.txt", ["# by mail", "", "1.mp4", "9.mp4"])):
        assert marked(listed, write_list(tmp_path / name, lines), videos) == [3, 5]


def test_rows_are_named_by_what_their_columns_say(videos: Path, tmp_path: Path) -> None:
    columns = {
        "path": ["0.mp4", "0.mp4", "1.mp4", "2.mp4"],
        "start_frame": [0, 5, 0, 0],
        "clip_id": ["a", "b", None, "d"],
        "source_sha256": ["s", "s", "t", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    for rows, expected in (
        ([{"clip_id": "b"}], [2]),
        ([{"source_sha256": "s"}], [1, 2]),
        ([{"source_sha256": "t"}, {"clip_id": "d"}, {"path": "3.mp4"}], [3, 4]),
        ([{"clip_id": "x", "path": "2.mp4"}], [4]),
    ):
        stones = write_list(tmp_path / "s.jsonl", [json.dumps(row) for row in rows])
        assert marked(tmp_path / "list.parquet", stones, videos) == expected


def test_tombstones_that_no_list_matches_are_named(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"path": name} for name in ("0.mp4", "1.mp4", "3.mp4", "gone.mp4")]
    rows += [{"clip_id": "x"}, {"path": "deep/y", "clip_id": "y"}, {"path": "z"}]
    stones = write_list(tmp_path / "s.jsonl", [json.dumps(row) for row in rows])
    data = DataConfig(clip=DATA.clip, root=str(videos), tombstones=str(stones))
    with caplog.at_level("INFO", logger="videomae"):
        train_list, test_list = (
            read_list(
                str(write_list(tmp_path / f"{key}.txt", names)),
                *(data,),
                labelled=False,
                key=f"data.{key}_list",
                keeps_forgotten=key == "train",
            )
            for key, names in (
                ("train", ["0.mp4", "2.mp4", "1.mp4"]),
                ("test", ["3.mp4", "1.mp4", "4.mp4"]),
            )
        )
        assert "WARNING" not in caplog.text
        warn_of_unmatched({"data.train_list": train_list, "data.test_list": test_list})
    holds = f"forgotten lines: 2 of 3; data.tombstones ({stones}) holds 7 tombstones"
    assert f"data.train_list: {holds}" in caplog.text
    assert f"data.test_list: {holds}" in caplog.text
    assert (
        "WARNING: of 7 tombstones in data.tombstones, those that match no line of data.train_list "
        "or data.test_list: 4 (path=gone.mp4, clip_id=x, path=deep/y clip_id=y and 1 more); 1 of "
        "them give only source_sha256 or clip_id, which no list and no pack has"
    ) in caplog.text
    assert test_list.num_shared(train_list) == 0


def test_tombstones_that_a_list_matches_are_not_warned_of(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stones = write_list(tmp_path / "s.txt", ["0.mp4"])
    data = DataConfig(clip=DATA.clip, root=str(videos), tombstones=str(stones))
    listed = write_list(tmp_path / "list.txt", ["0.mp4", "1.mp4"])
    clips = read_list(str(listed), data, labelled=False, key="data.train_list")
    caplog.clear()  # it has said how many are forgotten
    with caplog.at_level("INFO", logger="videomae"):
        warn_of_unmatched({"data.train_list": clips, "data.val_list": ClipList.of([])})
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"path": "a"}', "b.mp4"], "s.jsonl:2: 'b.mp4' is no JSON"),
        (['{"file": "a"}'], 's.jsonl:1: \'{"file": "a"}\' names no video: give a text for any'),
        (['{"path": 3}'], "names no video"),
        (['{"path": ""}'], "names no video"),
        (['{"path": "a"}', "[]"], "s.jsonl:2: '[]' names no video"),
    ],
)
def test_lines_that_name_nothing_are_refused(
    videos: Path, tmp_path: Path, lines: list[str], said: str
) -> None:
    listed = write_list(tmp_path / "list.txt", ["0.mp4"])
    with pytest.raises(TombstoneError) as error:
        marked(listed, write_list(tmp_path / "s.jsonl", lines), videos)
    assert said in str(error.value)


def test_a_list_of_which_nothing_is_left_is_refused(videos: Path, tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.txt", ["0.mp4"])
    with pytest.raises(ConfigError, match=r"names all videos of data\.train_list="):
        marked(listed, write_list(tmp_path / "s.txt", ["0.mp4"]), videos)


# Training


def test_a_forgotten_video_is_not_opened_and_the_others_learn_as_before(
    videos: Path, tmp_path: Path, opened: Path, stones: Path
) -> None:
    given = (COUNTING, f"data.tombstones={stones}", "run.workers=2", "run.log_every=1")
    run = train(pretraining(videos, tmp_path / "run", *given))
    assert not names(opened).keys() & set(FORGOTTEN)
    rows = metrics(run)
    assert sum(row["num_forgotten"] for row in rows) > 0
    assert rows[-1]["num_bad"] == 0
    # As if the same videos could not be read, but that is counted otherwise
    broken = tmp_path / "broken"
    broken.mkdir()
    for number in range(NUM_VIDEOS):
        name = f"{number}.mp4"
        (broken / name).write_bytes(b"" if name in FORGOTTEN else (videos / name).read_bytes())
    other = train(pretraining(broken, tmp_path / "other", "data.max_bad_fraction=1"))
    ours, theirs = weights(run), weights(other)
    assert all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize("forgotten", [[0], [NUM_VIDEOS - 1], list(range(NUM_VIDEOS - 8))])
def test_the_pictures_at_the_end_of_a_run_are_of_videos_that_are_left(
    videos: Path, opened: Path, tmp_path: Path, forgotten: list[int]
) -> None:
    gone = [f"{number}.mp4" for number in forgotten]
    stones = write_list(tmp_path / "s.jsonl", [json.dumps({"path": name}) for name in gone])
    settings = (f"data.tombstones={stones}", COUNTING, "max_steps=1")
    pretrain(pretraining(videos, tmp_path / "run", *settings))
    assert (tmp_path / "run/figures/attention.png").is_file()
    assert names(opened)
    assert not set(names(opened)) & set(gone)


def test_a_run_goes_on_with_a_list_that_gained_tombstones(
    videos: Path, folder: Path, tmp_path: Path, opened: Path, stones: Path
) -> None:
    listed = write_list(tmp_path / "train.txt", [f"{number}.mp4" for number in range(NUM_VIDEOS)])
    whole = {"train_list": listed}
    train(pretraining(videos, tmp_path / "run", max_steps=3, **whole))
    more = (COUNTING, f"data.tombstones={stones}")
    train(pretraining(folder, tmp_path / "run", *more, resume="auto", **whole))
    assert names(opened)
    assert not names(opened).keys() & set(FORGOTTEN)
    assert metrics(tmp_path / "run")[-1]["num_bad"] == 0
    # Resumed once more it is the same: a tombstone is no part of the order
    train(pretraining(folder, tmp_path / "again", *more, max_steps=3, **whole))
    train(pretraining(folder, tmp_path / "again", *more, resume="auto", **whole))
    straight = train(pretraining(folder, tmp_path / "straight", *more, **whole))
    assert_same_run(tmp_path / "again", straight)


def test_a_test_list_is_evaluated_without_them(
    folder: Path, tmp_path: Path, opened: Path, stones: Path
) -> None:
    listed = write_list(tmp_path / "l.txt", [f"{n}.mp4 {n % CLASSES}" for n in range(NUM_VIDEOS)])
    given = (COUNTING, f"data.tombstones={stones}", f"data.test_list={listed}")
    run = tmp_path / "run"
    finetune(finetuning(folder, run, *given, train_list=listed))  # with its pictures
    results = json.loads((run / "results.json").read_text())
    assert (results["num_videos"], results["num_unreadable"]) == (NUM_VIDEOS - 3, 0)
    assert results["num_forgotten"] == 3
    rows = json_lines(run / "predictions.jsonl")
    assert not {row["video"] for row in rows} & set(FORGOTTEN)
    assert [row["line"] for row in rows] == [1, 2, 4, 5, 7, 8, 9, 11]
    assert not names(opened).keys() & set(FORGOTTEN)
    assert (run / "figures/training_clips.png").exists()


def test_what_is_forgotten_is_said_once_by_all_that_is_said(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stones = write_list(tmp_path / "stones.txt", ["2.mp4", "9.mp4", "gone.mp4"])
    lines = [f"{n}.mp4 {n % CLASSES}" for n in range(NUM_VIDEOS)]
    test_list = write_list(tmp_path / "test.txt", lines[8:])
    given = (f"data.tombstones={stones}", f"data.test_list={test_list}")
    train_list = write_list(tmp_path / "train.txt", lines[:8])
    run = train(finetuning(videos, tmp_path / "run", *given, train_list=train_list))
    said = capsys.readouterr()
    told = said.out + said.err
    assert told.count("match no line") == 1
    assert "data.train_list or data.test_list: 1 (path=gone.mp4)" in " ".join(told.split())
    assert "data.train_list: 7 videos of 3 classes" in told
    assert "2 videos, 1 forgotten, 0 unreadable" in told
    assert call("report", f"runs={run}", f"out={tmp_path / 'page'}") == 0
    said = capsys.readouterr()
    assert "tombstones" not in said.out + said.err
    (page,) = (tmp_path / "page").glob("*.html")
    assert "1 forgotten, left out" in page.read_text()


# The other commands


def test_scan_pack_extract_and_doctor_leave_them_out(
    folder: Path, tmp_path: Path, stones: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_list(tmp_path / "list.txt", [f"{number}.mp4" for number in range(NUM_VIDEOS)])
    given = (f"list={listed}", f"root={folder}", f"tombstones={stones}")
    assert call("scan", *given, f"out={tmp_path / 'scan'}") == 0
    assert pq.read_table(tmp_path / "scan/scan.parquet")["ok"].to_pylist() == [True] * 8
    clean = (tmp_path / "scan/clean.txt").read_text().split()
    assert clean == [f"{n}.mp4" for n in range(NUM_VIDEOS) if f"{n}.mp4" not in FORGOTTEN]
    assert call("pack", *given, f"out={tmp_path / 'pack'}", "workers=1") == 0
    assert (tmp_path / "pack/list.txt").read_text().split() == clean
    assert (tmp_path / "pack/bad_files.jsonl").read_text() == ""
    run = train(pretraining(folder, tmp_path / "run", f"data.tombstones={stones}", max_steps=1))
    assert call("extract", *given, f"weights={run}", f"output_dir={tmp_path / 'features'}") == 0
    rows = json_lines(tmp_path / "features/manifest.jsonl")
    assert [row["path"] for row in rows] == clean
    capsys.readouterr()
    call("doctor", *given, "first=11")
    said = capsys.readouterr()
    assert "line 2" in said.out + said.err
    assert "line 3: " not in said.out + said.err


def test_of_a_pack_that_was_written_earlier_they_are_not_read(
    videos: Path, tmp_path: Path, stones: Path
) -> None:
    paths = [f"{number}.mp4" for number in range(4)]
    ids: dict[str, Any] = {"path": paths, "clip_id": ["a", "b", "c", "d"]}
    pq.write_table(pa.table(ids), tmp_path / "list.parquet")
    out = tmp_path / "pack"
    given = (f"list={tmp_path / 'list.parquet'}", f"root={videos}", f"out={out}", "workers=1")
    assert call("pack", *given) == 0
    pack_at.cache_clear()
    plain = write_list(tmp_path / "plain.txt", paths)
    by_id = write_list(tmp_path / "ids.jsonl", [json.dumps({"clip_id": "b"})])
    assert marked(plain, by_id, out) == [2]  # the pack's index knows whose it is
    assert marked(out / "list.parquet", stones, out) == [3]
    # The same command does not take the pack for one without them
    assert call("pack", *given, f"tombstones={stones}") == 2
