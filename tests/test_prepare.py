"""Official annotation files and videos to clip lists, and runs on what was prepared."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests import miniatures
from tests.conftest import ROOT, composed
from tests.miniatures import Miniature, write_clip, write_frames, write_lines
from tests.test_commands import call
from tests.train import FINETUNE, json_lines
from videomae.config import ConfigError, DataConfig
from videomae.lists.annotations import PUBLISHED, ucf101_group
from videomae.lists.clips import Clip, class_names, read_clips
from videomae.lists.prepared import with_prepared

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


def test_own_folders_may_be_divided_already(tmp_path: Path) -> None:
    for part, name in (("train", "a"), ("train", "b"), ("val", "a"), ("test", "b")):
        write_clip(tmp_path / "own" / part / name / "x.mp4")
    mini = Miniature("folders", tmp_path / "own", None, ("a", "b"), {})
    out = prepared(mini, tmp_path / "out")
    assert (out / "test.txt").read_text() == "test/b/x.mp4 1\n"
    assert call("prepare", *mini.overrides, f"out={out}", "overwrite=true", "val_fraction=0.5") == 2


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


def test_the_published_counts_are_those_of_the_documentation() -> None:
    table = (ROOT / "data_lists/README.md").read_text()
    for splits in PUBLISHED.values():
        for parts in splits.values():
            for count in parts.values():
                assert re.search(rf"\b{count:,}\b", table)
