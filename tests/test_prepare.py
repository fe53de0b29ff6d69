"""Official annotation files and videos to clip lists, and runs on what was prepared."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests import miniatures
from tests.conftest import ROOT, composed, write_list, write_video
from tests.miniatures import FRAMES, Miniature, write_clip, write_frames, write_lines
from tests.test_commands import call
from tests.test_scan import STAND_IN
from tests.train import FINETUNE, json_lines
from videomae.config import ConfigError, DataConfig
from videomae.lists.annotations import ucf101_group
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip, ClipListError
from videomae.lists.names import class_names
from videomae.lists.prepared import with_prepared
from videomae.lists.published import PUBLISHED
from videomae.run.given import given_of
from videomae.video import inspecting

DATA = composed("finetune", *FINETUNE, "data.classes=null").data


def prepared(mini: Miniature, out: Path, *overrides: str) -> Path:
    """The directory that the command writes."""
    assert call("prepare", *mini.overrides, f"out={out}", *overrides) == 0
    return out


def data_of(out: Path, split: int | None = None) -> DataConfig:
    """The data of a run on it."""
    return with_prepared(
        replace(DATA, prepared=str(out), split=None if split is None else str(split))
    )


def clips_of(out: Path, split: int | None, part: str) -> list[Clip]:
    """The clips of one list."""
    folder = out if split is None else out / f"split{split}"
    return read_clips(folder / f"{part}.txt", data_of(out, split), labelled=True)


def problems(out: Path) -> dict[str, list[str]]:
    """What problems.jsonl names, by kind."""
    found: dict[str, list[str]] = {}
    for row in json_lines(out / "problems.jsonl"):
        found.setdefault(row["kind"], []).append(row["what"])
    return found


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


MINIATURES: dict[str, Callable[[Path], Miniature]] = {
    "ucf101": miniatures.ucf101,
    "hmdb51": miniatures.hmdb51,
    "k400": miniatures.kinetics,
    "k600_is_cc": partial(miniatures.kinetics, dataset="k600", is_cc=True),
    "k710": miniatures.k710,
    "k710_no_map": partial(miniatures.k710, label_map=False),
    "ssv2": miniatures.ssv2,
    "ssv2_newer": partial(miniatures.ssv2, newer=True),
    "ssv2_frames": partial(miniatures.ssv2, frames=True),
    "folders": miniatures.folders,
    "csv": miniatures.csv,
}


@pytest.mark.parametrize("name", MINIATURES)
def test_every_data_set_as_its_authors_release_it(name: str, tmp_path: Path) -> None:
    mini = MINIATURES[name](tmp_path)
    out = prepared(mini, tmp_path / "out")
    assert problems(out) == {}
    facts = json.loads((out / "prepared.json").read_text())
    assert {(each["split"], each["part"]): each["videos"] for each in facts["lists"]} == mini.counts
    seen: dict[str, int] = {}
    for (split, part), count in mini.counts.items():
        data = data_of(out, split)
        assert class_names(data) == list(mini.classes)
        clips = clips_of(out, split, part)
        assert len({clip.path for clip in clips}) == len(clips) == count
        for clip in clips:
            path = Path(str(data.root)) / clip.path
            assert path.is_dir() if clip.total else path.is_file()
            assert seen.setdefault(clip.path, clip.label) == clip.label
        if part != "train":
            assert data.test_list == str(
                out / (f"split{split}/{part}.txt" if split else f"{part}.txt")
            )
            assert data.val_list is None
    assert set(seen.values()) == set(range(len(mini.classes)))


def test_labels_are_those_of_the_official_numbering(tmp_path: Path) -> None:
    out = prepared(miniatures.ucf101(tmp_path / "u"), tmp_path / "ucf101")
    clip = next(clip for clip in clips_of(out, 2, "test") if "Handstand" in clip.path)
    assert (clip.path, clip.label) == ("HandstandPushups/v_HandStandPushups_g03_c01.avi", 1)
    out = prepared(miniatures.hmdb51(tmp_path / "h"), tmp_path / "hmdb51")
    first = clips_of(out, 1, "test")[0]
    name = "Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_00.avi"
    assert (first.path, first.label) == (f"brush_hair/{name}", 0)
    out = prepared(miniatures.kinetics(tmp_path / "k"), tmp_path / "k400")
    labels = {clip.path.split("/")[0]: clip.label for clip in clips_of(out, None, "val")}
    assert labels["massaging_person's_head"] == 1
    assert labels["playing_bass_guitar"] == 3
    out = prepared(miniatures.ssv2(tmp_path / "s"), tmp_path / "ssv2")
    assert {clip.path: clip.label for clip in clips_of(out, None, "val")} == {
        "102.webm": 0,
        "112.webm": 1,
        "122.webm": 2,
    }
    out = prepared(miniatures.k710(tmp_path / "m"), tmp_path / "k710")
    assert [clip.path.split("/")[0] for clip in clips_of(out, None, "val")] == ["k400"] * 3 + [
        "k700"
    ] * 3


@pytest.mark.parametrize(
    "folder",
    ["UCF-101/{0}", ".", "handstandpushups", "deep/er/{0}"],
)
def test_videos_are_found_wherever_they_lie(folder: str, tmp_path: Path) -> None:
    mini = miniatures.ucf101(tmp_path / "mini", splits=1)
    for video in sorted(mini.videos.rglob("*Hand*.avi")):
        place = tmp_path / "moved" / folder.format("HandstandPushups")
        place.mkdir(parents=True, exist_ok=True)
        video.rename(place / video.name.replace("HandStand", "Handstand"))
    for name in ("ApplyEyeMakeup", "YoYo"):
        shutil.move(mini.videos / name, tmp_path / "moved" / name)
    moved = Miniature("ucf101", tmp_path / "moved", mini.annotations, mini.classes, mini.counts)
    out = prepared(moved, tmp_path / "out")
    assert problems(out) == {}
    assert len(clips_of(out, 1, "train")) == mini.counts[1, "train"]


def test_a_video_in_another_classs_folder_is_missing_not_taken(tmp_path: Path) -> None:
    mini = miniatures.ucf101(tmp_path, splits=1)
    (mini.videos / "YoYo/v_YoYo_g08_c01.avi").rename(
        mini.videos / "ApplyEyeMakeup/v_YoYo_g08_c01.avi"
    )
    out = prepared(mini, tmp_path / "out")
    assert problems(out) == {
        "missing": ["YoYo/v_YoYo_g08_c01.avi"],
        "extra": ["ApplyEyeMakeup/v_YoYo_g08_c01.avi"],
    }


def test_what_is_missing_extra_empty_and_twice_is_left_out_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = miniatures.ucf101(tmp_path, splits=1)
    assert mini.annotations is not None
    for video in (mini.videos / "YoYo").glob("*.avi"):
        if ucf101_group(video.name) > "g02":
            video.unlink()  # all training videos of a class
    (mini.videos / "ApplyEyeMakeup/v_ApplyEyeMakeup_g05_c01.avi").write_bytes(b"")
    write_clip(mini.videos / "ApplyEyeMakeup/holiday.mp4")
    train = mini.annotations / "trainlist01.txt"
    train.write_text(train.read_text() + "ApplyEyeMakeup/v_ApplyEyeMakeup_g06_c01.avi 1\n")
    out = prepared(mini, tmp_path / "out")
    assert problems(out) == {
        "empty": ["ApplyEyeMakeup/v_ApplyEyeMakeup_g05_c01.avi"],
        "missing": [f"YoYo/v_YoYo_g{group:02}_c01.avi" for group in range(3, 9)],
        "duplicate": ["ApplyEyeMakeup/v_ApplyEyeMakeup_g06_c01.avi"],
        "class_without_videos": ["YoYo"],
        "extra": ["ApplyEyeMakeup/holiday.mp4"],
    }
    assert len(clips_of(out, 1, "train")) == 6 * 3 - 1 - 6
    words = said(capsys)
    assert "6 missing, such as YoYo/v_YoYo_g03_c01.avi" in words
    assert "split 1 train 11 published: 9,537 (-9,526)" in words
    assert "classes 3 published: 101 (-98)" in words


def test_the_prepared_number_of_classes_wins_over_that_of_an_exp(tmp_path: Path) -> None:
    out = prepared(miniatures.ucf101(tmp_path / "mini"), tmp_path / "out")
    given = (f"data.prepared={out}", "data.split=1")
    data = composed("finetune", "+exp=ucf101_vitb_v1", *given).data
    assert data.classes == 101
    used = with_prepared(data, given_of(given, "ucf101_vitb_v1"))
    assert (used.classes, len(class_names(used))) == (3, 3)
    own = with_prepared(data, given_of([*given, "data.classes=101"], "ucf101_vitb_v1"))
    with pytest.raises(ClipListError, match=r"names 3 different .* data\.classes is 101"):
        class_names(own)


def test_a_class_without_videos_names_every_list_that_lacks_it(tmp_path: Path) -> None:
    mini = miniatures.ucf101(tmp_path)
    for video in (mini.videos / "YoYo").glob("*.avi"):
        if ucf101_group(video.name) > "g02":
            video.unlink()  # g01 and g02 are tested on in split 1, and train the other two
    shutil.rmtree(mini.videos / "ApplyEyeMakeup")
    out = prepared(mini, tmp_path / "out")
    rows = json_lines(out / "problems.jsonl")
    where = {row["what"]: row["where"] for row in rows if row["kind"] == "class_without_videos"}
    assert where == {
        "ApplyEyeMakeup": "all lists",
        "YoYo": "train of split 1, test of split 2, test of split 3",
    }


@pytest.mark.parametrize("there", [True, False])
def test_a_video_in_train_and_test_is_an_error_and_no_list_is_written(
    there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = miniatures.ucf101(tmp_path, splits=1)
    assert mini.annotations is not None
    test = mini.annotations / "testlist01.txt"
    test.write_text(test.read_text() + "YoYo/v_YoYo_g08_c01.avi\n")
    if not there:
        (mini.videos / "YoYo/v_YoYo_g08_c01.avi").unlink()
    out = tmp_path / "out"
    assert call("prepare", *mini.overrides, f"out={out}") == 2
    words = said(capsys)
    assert "error: 1 video(s) in two of train, val and test" in words
    assert "YoYo/v_YoYo_g08_c01.avi" in words
    assert [path.name for path in out.rglob("*")] == ["problems.jsonl"]
    assert problems(out)["in_two_parts"] == ["YoYo/v_YoYo_g08_c01.avi"]


def edit(name: str, old: str, new: str) -> Callable[[Miniature], object]:
    """Spoils an annotation file."""

    def spoil(mini: Miniature) -> None:
        assert mini.annotations is not None
        file = mini.annotations / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return spoil


def replaced(name: str, text: str) -> Callable[[Miniature], object]:
    return lambda mini: write_lines(mini.annotations / name, [text])


def remove(name: str) -> Callable[[Miniature], object]:
    return lambda mini: (mini.annotations / name).unlink()


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("ucf101", remove("classInd.txt"), "must hold one classInd.txt, it holds none"),
        ("ucf101", remove("testlist02.txt"), "must hold one testlist02.txt, it holds none"),
        ("ucf101", edit("classInd.txt", "2 Hand", "3 Hand"), "classInd.txt:2: expected '2 CLASS'"),
        ("ucf101", edit("trainlist01.txt", ".avi 1", ".avi 2"), "numbers 'ApplyEyeMakeup' 1"),
        ("ucf101", edit("trainlist01.txt", "Apply", "Ably"), "'AblyEyeMakeup' is no class of"),
        ("ucf101", edit("testlist01.txt", ".avi", ".txt"), "testlist01.txt:1: expected 'CLASS/v_"),
        ("hmdb51", edit("clap_test_split2.txt", " 0 ", " 3 "), "expected 'video.avi 0|1|2'"),
        ("hmdb51", remove("clap_test_split3.txt"), "lacks clap_test_split3.txt"),
        ("k400", edit("train.csv", "youtube_id", "id"), "expected the columns label,youtube_id"),
        ("k400", edit("val.csv", '"abseiling"', "sailing"), "'sailing' is no class of train.csv"),
        ("k400", edit("val.csv", ",14,", ",soon,"), "must be seconds, got 'soon'"),
        ("k710", edit("val.csv", "2.mp4 2", "2.mp42"), "expected 'path label'"),
        ("k710", edit("val.csv", "2.mp4 2", "2.mp4 3"), "label 3 lies outside the 3 classes"),
        ("ssv2", edit("something-something-v2-labels.json", '"1"', '"7"'), "numbered 0 to 2"),
        ("ssv2", edit("something-something-v2-train.json", "Putting [", "Using ["), "is no class"),
        ("ssv2", edit("something-something-v2-train.json", '"id"', "id"), "is no JSON"),
        ("ssv2", replaced("something-something-v2-train.json", "[" * 100_000), "is no JSON"),
        (
            "ssv2",
            replaced("something-something-v2-labels.json", '{"a": "²"}'),
            "expected an object",
        ),
        ("k400", edit("val.csv", ",14,", ",inf,"), "must be seconds, got 'inf'"),
        ("k400", edit("val.csv", '"abseiling"', '"abseiling'), "close its quotes"),
        ("k710", edit("val.csv", "2.mp4 2", f"2.mp4 {10**20}"), "expected 'path label'"),
        ("ucf101", replaced("classInd.txt", "² YoYo"), "classInd.txt:1: expected '1 CLASS'"),
    ],
)
def test_annotations_that_make_no_sense_are_refused_by_file_and_line(
    name: str,
    spoil: Callable[[Miniature], object],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mini = MINIATURES[name](tmp_path)
    spoil(mini)
    assert call("prepare", *mini.overrides, f"out={tmp_path / 'out'}") == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_videos_of_another_data_set_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = miniatures.ucf101(tmp_path / "a"), miniatures.ssv2(tmp_path / "b")
    arguments = (f"annotations={ours.annotations}", "dataset=ucf101", f"out={tmp_path / 'out'}")
    assert call("prepare", *arguments, f"videos={theirs.videos}") == 2
    assert "none of the 24 annotated videos can be listed" in capsys.readouterr().err
    (tmp_path / "void").mkdir()
    assert call("prepare", *arguments, f"videos={tmp_path / 'void'}") == 2
    words = said(capsys)
    assert "holds no video: no file below it ends in .mp4" in words
    assert "no folder of extracted frames" in words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "dataset is not set"),
        (("dataset=ucf101", "videos=/no", "out=x"), "annotations is not set"),
        (("dataset=ucf101", "val_fraction=0.1"), "is for dataset=folders and dataset=csv"),
        (("dataset=hmdb51", "val_groups=1"), "is for dataset=ucf101"),
        (("dataset=folders", "annotations=x"), "dataset=folders has none"),
        (("dataset=csv", "val_fraction=0.5", "test_fraction=0.5"), "leave no training videos"),
        (("dataset=folders", "workers=0"), "workers must be at least 1"),
        (("dataset=folders", "timeout_s=0"), "timeout_s must be more than 0"),
    ],
)
def test_settings_that_cannot_work(
    overrides: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *overrides) == 2
    assert words in capsys.readouterr().err


def test_lists_are_replaced_only_when_asked_and_then_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = miniatures.ucf101(tmp_path)
    out = prepared(mini, tmp_path / "out", "val_groups=2")
    assert (out / "split3/val.txt").exists()
    assert call("prepare", *mini.overrides, f"out={out}") == 2
    assert "overwrite=true replaces them" in capsys.readouterr().err
    prepared(mini, out, "overwrite=true")
    assert not (out / "split3/val.txt").exists()
    assert len(clips_of(out, 3, "train")) == mini.counts[3, "train"]


def test_strict_refuses_other_counts_than_the_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = miniatures.ssv2(tmp_path)
    out = tmp_path / "out"
    assert call("prepare", *mini.overrides, f"out={out}", "strict=true") == 2
    assert "train: 6 videos, published are 168,913 (strict=true)" in capsys.readouterr().err
    assert not (out / "train.txt").exists()


def test_a_validation_split_of_ucf101_takes_whole_groups_of_every_class(tmp_path: Path) -> None:
    mini = miniatures.ucf101(tmp_path)
    out = prepared(mini, tmp_path / "out", "val_groups=2", "seed=1")
    chosen = set()
    for split in (1, 2, 3):
        parts = {part: clips_of(out, split, part) for part in ("train", "val", "test")}
        groups = {part: {ucf101_group(c.path) for c in clips} for part, clips in parts.items()}
        assert [len(groups[part]) for part in parts] == [4, 2, 2]
        assert not groups["train"] & groups["val"]
        assert {clip.label for clip in parts["val"]} == {0, 1, 2}
        chosen.add(frozenset(groups["val"]))
        data = data_of(out, split)
        assert str(data.val_list).endswith(f"split{split}/val.txt")
        assert str(data.test_list).endswith(f"split{split}/test.txt")
    others = [
        prepared(mini, tmp_path / f"{seed}", "val_groups=2", f"seed={seed}") for seed in (1, 2)
    ]
    lists = [(path / "split1/val.txt").read_text() for path in (out, *others)]
    assert lists[0] == lists[1] != lists[2]


def test_your_own_videos_are_divided_by_class(tmp_path: Path) -> None:
    mini = miniatures.folders(tmp_path, per_class=10)
    out = prepared(mini, tmp_path / "out", "val_fraction=0.2", "test_fraction=0.1")
    parts = {part: clips_of(out, None, part) for part in ("train", "val", "test")}
    for label in range(3):
        counts = [sum(clip.label == label for clip in clips) for clips in parts.values()]
        assert counts == [7, 2, 1]
    assert len({clip.path for clips in parts.values() for clip in clips}) == 30


@pytest.mark.parametrize("dataset", ["folders", "csv"])
def test_your_own_recordings_stay_whole(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips of one recording in train and test would make the result a matter of memory."""
    names = [f"{name}/v_{name}_g{g}_c{c}.mp4" for name in "ab" for g in range(5) for c in range(4)]
    names += [f"once/v_once_g0_c{c}.mp4" for c in range(10)]
    given = own(tmp_path, *names)
    if dataset == "csv":
        (tmp_path / "own.csv").write_text("".join(f"{path},{path[0]}\n" for path in names))
        given[0:1] = ["dataset=csv", f"annotations={tmp_path / 'own.csv'}"]
    assert call("prepare", *given, "val_fraction=0.2", "test_fraction=0.2") == 0
    parts = {part: lines(tmp_path / "out", part) for part in ("train", "val", "test")}
    assert [len(rows) for rows in parts.values()] == [30, 10, 10]
    of = {part: {row.rpartition("_c")[0] for row in rows} for part, rows in parts.items()}
    several = {part: {each for each in found if "once" not in each} for part, found in of.items()}
    assert [len(found) for found in several.values()] == [6, 2, 2]
    assert len(set.union(*several.values())) == 10
    assert all("once/v_once_g0" in found for found in of.values())
    said = capsys.readouterr().err
    assert "test: 10 videos, in whole recordings, of which the names in train tell 11" in said
    assert "says less of unseen footage: 1" in said


def test_recordings_may_be_folders_inside_the_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{name}/day{day}/{letter}.mp4" for name in "ab" for day in "xyz" for letter in "klm"]
    assert call("prepare", *own(tmp_path, *names), "test_fraction=0.3") == 0
    train, test = (
        {row.rpartition("/")[0] for row in lines(tmp_path / "out", part)}
        for part in ("train", "test")
    )
    assert not train & test
    assert "tell 3" in capsys.readouterr().err  # a day of both classes is one


def test_names_that_tell_no_recordings_are_chosen_as_ever_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{name}/{letter}{letter}.mp4" for name in "ab" for letter in "klmnopqrst"]
    given = ("val_fraction=0.1", "test_fraction=0.2", "seed=3")
    assert call("prepare", *own(tmp_path, *names), *given) == 0
    assert lines(tmp_path / "out", "test") == [
        "a/ll.mp4 0",
        "a/mm.mp4 0",
        "b/mm.mp4 1",
        "b/nn.mp4 1",
    ]
    assert lines(tmp_path / "out", "val") == ["a/kk.mp4 0", "b/tt.mp4 1"]
    assert (
        "test: 4 videos, one by one, as their names tell no recordings" in capsys.readouterr().err
    )


def test_classes_of_one_video_stay_in_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *own(tmp_path, "a/kk.mp4", "b/ll.mp4"), "val_fraction=0.5") == 0
    assert "val: no video, as no class has a second one" in capsys.readouterr().err


def test_own_folders_may_be_divided_already(tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("val", "a"), ("test", "b")):
        write_clip(tmp_path / "own" / part / name / "x.mp4")
    mini = Miniature("folders", tmp_path / "own", None, ("a", "b"), {})
    out = prepared(mini, tmp_path / "out")
    assert (out / "test.txt").read_text() == "test/b/x.mp4 1\n"
    assert call("prepare", *mini.overrides, f"out={out}", "overwrite=true", "val_fraction=0.5") == 2


def own(root: Path, *paths: str) -> list[str]:
    """Little files that pass for videos, and what prepare is called with to list them."""
    for path in paths:
        file = root / "own" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"a video")
    return ["dataset=folders", f"videos={root / 'own'}", f"out={root / 'out'}", "overwrite=true"]


def lines(out: Path, part: str) -> list[str]:
    return (out / f"{part}.txt").read_text().splitlines()


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("Train", "VAL", "Test"),
        ("TRAINING", "valid", "testing"),
    ],
)
def test_splits_go_by_their_usual_names_in_any_letter_case(
    names: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = own(tmp_path, *(f"{name}/{c}/{c}.mp4" for name in names for c in ("jump", "run")))
    assert call("prepare", *given) == 0
    for part, name in zip(("train", "val", "test"), names, strict=True):
        assert lines(tmp_path / "out", part) == [f"{name}/jump/jump.mp4 0", f"{name}/run/run.mp4 1"]
    assert (tmp_path / "out/classes.txt").read_text() == "jump\nrun\n"
    assert f"{names[0]}/ is train" in said(capsys)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            ("train/a/1.mp4", "Test/a/2.mp4", "train/stray.mp4"),
            ["train/stray.mp4 lies in the split train/", "move it into the folder of its class"],
        ),
        (
            ("train/a/1.mp4", "test/a/2.mp4", "spare/a/3.mp4"),
            ["spare/a/3.mp4 lies in no split, though there is test/, train/: move", "rename"],
        ),
        (("train/a/1.mp4", "2.mp4"), ["2.mp4 lies in no split", "move it into a split, or away"]),
        (("run/1.mp4", "Validation/2.mp4"), ["run/1.mp4 lies in no split", "dataset=csv"]),
        (("a/1.mp4", "2.mp4"), ["2.mp4 lies in no folder", "move it into one, or away"]),
    ],
)
def test_folders_that_look_like_splits_and_are_not_used_so_are_an_error(
    paths: tuple[str, ...], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *own(tmp_path, *paths)) == 2
    err = said(capsys)
    for word in words:
        assert word in err
    assert not (tmp_path / "out").exists()


def test_a_folder_above_the_classes_is_not_silently_the_only_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *own(tmp_path, "data/run/1.mp4", "data/jump/2.mp4")) == 0
    assert "one class only, data: if the classes are the folders inside" in said(capsys)


def own_csv(root: Path, *rows: str, videos: tuple[str, ...] = ()) -> list[str]:
    """A CSV file of these rows, and what prepare is called with to read it."""
    folders = own(root, *(videos or [row.partition(",")[0] for row in rows]))
    write_lines(root / "own.csv", list(rows))
    return ["dataset=csv", f"annotations={root / 'own.csv'}", *folders[1:]]


def test_classes_that_are_whole_numbers_stay_and_gaps_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{number}.mp4,{number}" for number in (10, 2, 0, 11, 1)]
    assert call("prepare", *own_csv(tmp_path, *rows)) == 0
    out = tmp_path / "out"
    assert lines(out, "train") == [row.replace(",", " ") for row in rows]
    assert (out / "classes.txt").read_text().split() == [str(number) for number in range(12)]
    assert json.loads((out / "prepared.json").read_text())["classes"] == 12
    assert problems(out) == {"class_without_videos": [str(number) for number in range(3, 10)]}
    assert "12 of them, from 0; no row has 3 4 5 6 7 8 9" in said(capsys)
    data = data_of(out)
    assert (data.classes, len(class_names(data))) == (12, 12)


def test_numbers_as_pandas_writes_them_and_numbers_among_names(tmp_path: Path) -> None:
    assert call("prepare", *own_csv(tmp_path, "a.mp4,2.0", "b.mp4,10.0", "c.mp4,0.0")) == 0
    assert lines(tmp_path / "out", "train") == ["a.mp4 2", "b.mp4 10", "c.mp4 0"]
    assert call("prepare", *own_csv(tmp_path, "a.mp4,2", "b.mp4,10", "c.mp4,ten")) == 0
    assert lines(tmp_path / "out", "train") == ["a.mp4 1", "b.mp4 0", "c.mp4 2"]


@pytest.mark.parametrize("number", ["-1", "100000", "20260101"])
def test_numbers_that_are_no_classes_are_refused(
    number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *own_csv(tmp_path, "a.mp4,0", f"b.mp4,{number}")) == 2
    assert f"own.csv:2: the class {number} is no number from 0 to 99,999" in said(capsys)


@pytest.mark.parametrize(
    ("rows", "taken"),
    [
        (["path,class", "a.mp4,x", "b.mp4,y"], "path,class"),
        (["video,label", "a.mp4,0", "b.mp4,1"], "video,label"),
        (["file name,what", "a.mp4,x", "b.mp4,x"], "file name,what"),
        (["a.mp4,x", "b.mp4,y"], None),
        (["gone.mp4,z", "a.mp4,x", "b.mp4,y"], None),  # names a video, though none is there
        (["frames,z", "a.mp4,x", "b.mp4,y"], None),  # names a folder
        (["who,x", "a.mp4,x", "b.mp4,y"], None),  # a class of others
        (["5,7", "a.mp4,0", "b.mp4,1"], None),
    ],
)
def test_which_first_row_is_a_header_and_that_it_is_said(
    rows: list[str], taken: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own/frames").mkdir(parents=True)
    assert call("prepare", *own_csv(tmp_path, *rows, videos=("a.mp4", "b.mp4"))) == 0
    err = said(capsys)
    assert ("is taken for a header" in err) == (taken is not None)
    missing = [] if taken or rows[0] == "a.mp4,x" else [rows[0].partition(",")[0]]
    assert problems(tmp_path / "out").get("missing", []) == missing
    assert len(lines(tmp_path / "out", "train")) == 2
    if taken:
        assert f"own.csv:1: '{taken}' is taken for a header, as it names no video" in err


def test_paths_of_a_csv_file_mean_the_same_however_they_are_written(tmp_path: Path) -> None:
    videos = ("a.mp4", "b.mp4", "deep/c.mp4", "d.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    rows = ["./a.mp4,x", f"{tmp_path}/own/b.mp4,y", "deep//../deep/c.mp4,x"]
    rows += [f"{tmp_path}/link/d.mp4,y", "/elsewhere/e.mp4,x", "../own.csv,x"]
    given = own_csv(tmp_path, *rows, videos=videos)
    assert call("prepare", *given, f"videos={tmp_path}/link") == 0
    out = tmp_path / "out"
    assert lines(out, "train") == ["a.mp4 0", "b.mp4 1", "deep/c.mp4 0", "d.mp4 1"]
    assert problems(out) == {"missing": ["/elsewhere/e.mp4", "../own.csv"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a.mp4;x\nb.mp4;y\n", "own.csv:1: expected 'path,class name', got 'a.mp4;x'"),
        ('a.mp4,"x\nb.mp4,y\n', "is no row of comma-separated values"),
        ("", "names no video: expected rows"),
        ("path,class\n", "names no video: expected rows"),
        ("a.mp4,caf\udce9\n", "give a text file in UTF-8"),
        ("\0,\0\nb.mp4,y\n", "none of the 1 annotated videos can be listed"),
        (f"{'x' * 5000},x\nb.mp4,y\n", "none of the 1 annotated videos"),
    ],
)
def test_a_csv_file_that_makes_no_sense(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = own_csv(tmp_path, videos=("z/other.mp4",))
    (tmp_path / "own.csv").write_bytes(os.fsencode(content))
    assert call("prepare", *given) == 2
    assert words in said(capsys)


def test_files_that_are_left_out_are_counted_by_reason_and_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = own(tmp_path, "a/1.mts", "b/2.OGV", "a/._1.mts", "a/n.txt", "b/m.txt", ".x/3.mp4")
    (tmp_path / "own/b/gone.mp4").symlink_to("/no/such/file.mp4")
    (tmp_path / "own/c").symlink_to("/no/such/disk")
    assert call("prepare", *given) == 0
    assert lines(tmp_path / "out", "train") == ["a/1.mts 0", "b/2.OGV 1"]
    rows = {(row["kind"], row["what"]): row for row in json_lines(tmp_path / "out/problems.jsonl")}
    assert {key: row["num_files"] for key, row in rows.items()} == {
        ("broken_link", "b/gone.mp4"): 1,
        ("broken_link", "c"): 1,
        ("hidden", ".mts"): 1,
        ("hidden", "folder"): 1,
        ("not_a_video", ".txt"): 2,
    }
    assert rows["not_a_video", ".txt"]["where"] == "such as a/n.txt"
    words = said(capsys)
    assert "2 broken link, such as c (a link that leads nowhere" in words
    assert "left out: 2 files that are no videos (2 .txt), such as a/n.txt" in words
    assert "left out: 2 hidden files and folders (1 .mts, 1 folder), such as a/._1.mts" in words


def test_a_class_whose_name_is_not_utf8_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    given = own(tmp_path, "a/1.mp4", "b/2.mp4", "c\nd/3.mp4")
    folder = os.fsencode(tmp_path / "own") + b"/caf\xe9"
    os.mkdir(folder)
    shutil.copy(tmp_path / "own/a/1.mp4", folder + b"/1.mp4")
    assert call("prepare", *given) == 0
    assert lines(tmp_path / "out", "classes") == ["a", "b"]
    assert problems(tmp_path / "out") == {
        "name_no_list_can_hold": [r"caf\udce9/1.mp4", r"c\nd/3.mp4"]
    }


def test_folders_of_frames_that_no_list_can_hold_are_named_once_each(tmp_path: Path) -> None:
    for name in ("a/1", "b/2", "b/3 ", "caf\udce9/4"):
        write_frames(tmp_path / "own" / name)
    write_frames(tmp_path / "own/b/5", template="\udce9{:05}.jpg")
    given = ["dataset=folders", f"videos={tmp_path / 'own'}", f"out={tmp_path / 'out'}"]
    assert call("prepare", *given) == 0
    assert lines(tmp_path / "out", "train") == [f"a/1 {FRAMES} 0", f"b/2 {FRAMES} 1"]
    assert problems(tmp_path / "out") == {
        "name_no_list_can_hold": ["b/3 ", r"caf\udce9/4"],
        "frames_numbered_otherwise": ["b/5"],
    }


@pytest.mark.parametrize("names", [("a", "a "), (" ", "b")])
def test_classes_that_a_list_of_names_cannot_tell_apart_are_refused(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *own(tmp_path, *(f"{name}/1.mp4" for name in names))) == 2
    assert "is a line of its own in classes.txt" in said(capsys)
    assert not (tmp_path / "out/train.txt").exists()


def test_frames_beside_their_optical_flow_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = miniatures.ssv2(tmp_path, frames=True)
    for folder in mini.videos.iterdir():
        for name in ("flow_x_{:05}.jpg", "flow_y_{:05}.jpg"):
            for number in range(1, miniatures.FRAMES):
                shutil.copy(folder / "img_00001.jpg", folder / name.format(number))
    out = prepared(mini, tmp_path / "out")
    assert data_of(out).frame_template == "img_{:05}.jpg"
    assert {clip.total for clip in clips_of(out, None, "train")} == {miniatures.FRAMES}
    assert problems(out) == {"optical_flow": [".jpg"]}
    assert f"{10 * 2 * (miniatures.FRAMES - 1)} images of optical flow (" in said(capsys)


def test_unpadded_names_of_kinetics_are_found(tmp_path: Path) -> None:
    mini = miniatures.kinetics(tmp_path)
    for video in mini.videos.rglob("*.mp4"):
        name, start, end = video.stem.rsplit("_", 2)
        video.rename(video.with_name(f"{name}_{int(start)}_{int(end)}.mp4"))
    out = prepared(mini, tmp_path / "out")
    assert problems(out) == {}
    assert len(clips_of(out, None, "train")) == mini.counts[None, "train"]


def test_folders_of_frames_that_are_numbered_otherwise_are_named(tmp_path: Path) -> None:
    mini = miniatures.ssv2(tmp_path, frames=True)
    (mini.videos / "100/img_00003.jpg").unlink()
    shutil.rmtree(mini.videos / "110")
    write_frames(mini.videos / "110", template="frame{:03}.jpg")
    out = prepared(mini, tmp_path / "out")
    assert problems(out)["frames_numbered_otherwise"] == ["100", "110"]
    assert problems(out)["missing"] == ["100.webm", "110.webm"]
    data = data_of(out)
    assert (data.frame_template, data.first_frame) == ("img_{:05}.jpg", 1)
    assert clips_of(out, None, "val")[0][3:5] == (1, miniatures.FRAMES)


def test_names_that_no_list_can_hold_and_links_in_a_circle(tmp_path: Path) -> None:
    mini = miniatures.folders(tmp_path, per_class=2)
    clip = mini.videos / "Zumba/my clip 0.mp4"
    strange = [clip.with_name("two\nlines.mp4"), os.fsencode(clip.parent) + b"/\xff.mp4"]
    for name in strange:
        shutil.copy(clip, name)
    (mini.videos / "Zumba/loop").symlink_to(mini.videos)
    clip.rename(tmp_path / "elsewhere.mp4")
    clip.symlink_to(tmp_path / "elsewhere.mp4")
    out = prepared(mini, tmp_path / "out")
    assert sorted(problems(out)["name_no_list_can_hold"]) == [
        r"Zumba/\udcff.mp4",
        r"Zumba/two\nlines.mp4",
    ]
    assert problems(out).keys() == {"name_no_list_can_hold", "linked_again"}
    assert len(clips_of(out, None, "train")) == 6


def test_rows_that_contradict_each_other_and_hmdb51s_unused_videos(tmp_path: Path) -> None:
    mini = miniatures.csv(tmp_path)
    assert mini.annotations is not None
    with mini.annotations.open("a") as file:
        file.write("day 0/a.mp4,wave\n")
    out = prepared(mini, tmp_path / "out")
    assert problems(out) == {"two_classes": ["day 0/a.mp4"]}
    assert clips_of(out, None, "train")[0].label == 0
    mini = miniatures.hmdb51(tmp_path, splits=1)
    for line in (
        (tmp_path / "testTrainMulti_7030_splits/clap_test_split1.txt").read_text().split("\n")
    ):
        if line.endswith(" 0 "):
            (mini.videos / "clap" / line[:-3]).unlink()  # in no list: not missed
    assert problems(prepared(mini, tmp_path / "hmdb51")) == {}


# Damaged videos


def write_damaged_within(path: Path) -> Path:
    """A video of 30 frames and a key frame every 10th, with bytes of frame 5 spoilt: none of its
    first, middle and last frames needs that one."""
    with av.open(str(path), "w") as container:
        options = {"x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(30):
            image = rng.integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0, 10, 20]
    content = bytearray(path.read_bytes())
    start, end = packets[5].pos + 8, packets[5].pos + packets[5].size
    content[start:end] = bytes(byte ^ 0x55 for byte in content[start:end])
    path.write_bytes(content)
    return path


def damaged(root: Path) -> list[str]:
    """Two good videos, one of text, one damaged within; and what prepare is called with."""
    given = own(root, "a/good.mp4", "a/text.mp4", "b/fine.mp4")
    for name in ("a/good.mp4", "b/fine.mp4"):
        write_video(root / "own" / name)
    write_damaged_within(root / "own/b/within.mp4")
    return given


@pytest.mark.parametrize(
    ("scan", "bad"),
    [("off", []), ("quick", ["a/text.mp4"]), ("strict", ["a/text.mp4", "b/within.mp4"])],
)
def test_a_scan_leaves_damaged_videos_out_and_names_them(
    scan: str, bad: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *damaged(tmp_path), f"scan={scan}", "workers=2") == 0
    out = tmp_path / "out"
    assert problems(out) == ({"damaged": bad} if bad else {})
    videos = ["a/good.mp4 0", "a/text.mp4 0", "b/fine.mp4 1", "b/within.mp4 1"]
    assert lines(out, "train") == [line for line in videos if line[:-2] not in bad]
    (listed,) = json.loads((out / "prepared.json").read_text())["lists"]
    assert listed["videos"] == 4 - len(bad)
    summary = f"{len(bad)} damaged, such as a/text.mp4 (cannot be "
    assert (summary in said(capsys)) == bool(bad)


@pytest.mark.soak
def test_a_scan_that_was_stopped_goes_on_and_looks_again_at_what_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (*damaged(tmp_path), "scan=quick", "workers=1")
    real, asked = inspecting.inspect_all, []

    def stopped(jobs: list[inspecting.Job], *rest: Any) -> Any:
        results = real(jobs, *rest)
        yield from (next(results), next(results))
        raise KeyboardInterrupt

    def counted(jobs: list[inspecting.Job], *rest: Any) -> Any:
        asked.extend(job.path.name for job in jobs)
        return real(jobs, *rest)

    monkeypatch.setattr(inspecting, "inspect_all", stopped)
    assert call("prepare", *given) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "out/train.txt").exists()
    write_video(tmp_path / "own/a/text.mp4", frames=5)  # mended since
    monkeypatch.setattr(inspecting, "inspect_all", counted)
    assert call("prepare", *given) == 0
    assert asked == ["text.mp4", "fine.mp4", "within.mp4"]
    assert problems(tmp_path / "out") == {}
    asked.clear()
    assert call("prepare", *given) == 0
    assert asked == []
    assert call("prepare", *given, "scan=strict") == 0  # another question
    assert len(asked) == 4


@pytest.mark.long
def test_a_scan_takes_folders_of_frames(tmp_path: Path) -> None:
    mini = miniatures.ssv2(tmp_path, frames=True)
    (mini.videos / "100" / f"img_{miniatures.FRAMES:05}.jpg").write_text("no image")
    out = prepared(mini, tmp_path / "out", "scan=quick")
    assert problems(out) == {"damaged": ["100"]}
    assert len(clips_of(out, None, "train")) == mini.counts[None, "train"] - 1


def test_a_process_that_dies_costs_a_scan_one_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = own(tmp_path, "a/1.mp4", "a/crash.mp4", "b/hang.mp4", "b/2.mp4")
    program = write_list(tmp_path / "stand_in.py", [STAND_IN])
    monkeypatch.setattr("videomae.video.screening.QUICK", [sys.executable, str(program)])
    assert call("prepare", *given, "scan=quick", "timeout_s=3") == 0
    assert lines(tmp_path / "out", "train") == ["a/1.mp4 0", "b/2.mp4 1"]
    rows = json_lines(tmp_path / "out/problems.jsonl")
    assert {row["what"]: row["where"] for row in rows} == {
        "a/crash.mp4": "decoder crashed (SIGSEGV)",
        "b/hang.mp4": "not decoded in time (3 s)",
    }


@pytest.mark.long
def test_a_scan_that_finds_nothing_readable_writes_no_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", *own(tmp_path, "a/1.mp4", "b/2.mp4"), "scan=quick") == 2
    words = said(capsys)
    assert "none of the 2 videos can be decoded, such as a/1.mp4: cannot be" in words
    assert "python -m videomae.doctor" in words
    assert not (tmp_path / "out/train.txt").exists()


# Training on it


def test_a_run_takes_its_lists_classes_and_root_from_it(tmp_path: Path) -> None:
    mini = miniatures.ucf101(tmp_path)
    out = prepared(mini, tmp_path / "out", "val_groups=1")
    base = (*FINETUNE, "data.classes=null", "weights=scratch", "max_steps=1", "data.hflip=true")
    given = (*base, f"data.prepared={out}", "data.split=1")
    assert call("finetune", *given, f"output_dir={tmp_path / 'run'}") == 0
    config = (tmp_path / "run/config.yaml").read_text()
    assert f"train_list: {out / 'split1/train.txt'}" in config
    assert f"val_list: {out / 'split1/val.txt'}" in config
    assert "classes: 3" in config


@pytest.mark.long
def test_prepared_lists_are_trained_on_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also on folders of frames, whose format the run need not be told; and other classes' weights
    are refused."""
    mini = miniatures.ssv2(tmp_path, frames=True)
    out = prepared(mini, tmp_path / "out")
    given = (*FINETUNE, "data.classes=null", "data.sampling=segment", f"data.prepared={out}")
    run = tmp_path / "run"
    assert call("finetune", *given, "weights=scratch", f"output_dir={run}") == 0
    trained = json.loads((run / "results.json").read_text())
    assert set(trained["per_class"]) == set(mini.classes)
    assert trained["num_videos"] == 3
    assert trained["num_unreadable"] == 0
    evaluation = (f"weights={run}", f"output_dir={tmp_path / 'again'}")
    assert call("evaluate", *given, *evaluation) == 0
    assert trained.pop("weights") == {"chosen": "last", "step": 3}
    assert trained.pop("shared_with") == {}
    assert json.loads((tmp_path / "again/results.json").read_text()) == trained
    names = (out / "classes.txt").read_text().splitlines()
    write_lines(out / "classes.txt", names[::-1])
    assert call("evaluate", *given, *evaluation, "overwrite=true") == 2
    assert "was trained with other class names" in capsys.readouterr().err


def test_explicit_settings_win(tmp_path: Path) -> None:
    out = prepared(miniatures.ucf101(tmp_path), tmp_path / "out")
    own = {"prepared": str(out), "split": "1", "root": "/moved", "test_list": "mine.txt"}
    data = with_prepared(replace(DATA, **own))
    assert (data.root, data.test_list) == ("/moved", "mine.txt")
    assert data.train_list == str(out / "split1/train.txt")
    assert data.num_train == 9_537


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (None, "has the splits 1, 2, 3: choose one"),
        (4, r"data\.split=4 does not exist: .* 1, 2, 3"),
    ],
)
def test_a_split_that_does_not_exist(split: int | None, words: str, tmp_path: Path) -> None:
    out = prepared(miniatures.ucf101(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigError, match=words):
        data_of(out, split)


def test_a_split_where_there_are_none(tmp_path: Path) -> None:
    out = prepared(miniatures.kinetics(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"has no splits: leave data\.split out"):
        data_of(out, 1)
    with pytest.raises(ConfigError, match=r"give data\.prepared=DIR"):
        replace(DATA, split="1")
    with pytest.raises(ConfigError, match=r"holds no prepared\.json"):
        data_of(tmp_path)
    (out / "prepared.json").write_text("[]")
    with pytest.raises(ConfigError, match="prepare it again"):
        data_of(out)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "3"},
        {"classes": 10**9},
        {"classes": -1},
        {"list_format": "html"},
        {"list_format": None},
        {"first_frame": -1},
        {"root": ["a"]},
        {"root": "a\0b"},
        {"frame_template": "../../{:05}.jpg"},
        {"frame_template": "{:9999999999}.jpg"},
        {"frame_template": "{0.real}.jpg"},
        {"frame_template": 7},
        {"lists": [{"split": None, "part": "train", "videos": "x", "published": 1, "sha256": ""}]},
    ],
    ids=str,
)
def test_a_prepared_directory_of_others_that_cannot_be_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    out = prepared(miniatures.kinetics(tmp_path), tmp_path / "out")
    facts = json.loads((out / "prepared.json").read_text())
    (out / "prepared.json").write_text(json.dumps(facts | change))
    with pytest.raises(ConfigError, match=r"prepared\.json is not what .* prepare it again"):
        data_of(out)


def test_the_published_counts_are_those_of_the_documentation() -> None:
    table = (ROOT / "data_lists/README.md").read_text()
    for splits in PUBLISHED.values():
        for parts in splits.values():
            for count in parts.values():
                assert re.search(rf"\b{count:,}\b", table)
