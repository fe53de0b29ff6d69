"""Genuine clips of UCF101, HMDB51 and Kinetics, under their real names.

They are not part of this repository: VIDEOMAE_GENUINE_CLIPS names the folder that holds them (see
.ci/genuine). Annotation files are written here in the official form, with splits of their own.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.miniatures import Miniature, write_lines
from tests.test_commands import call
from tests.test_prepare import prepared
from tests.train import FINETUNE
from tests.video.conformance import OWN, judge

VARIABLE = "VIDEOMAE_GENUINE_CLIPS"
FOLDER = Path(os.environ.get(VARIABLE, "/none"))
needs_clips = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"{VARIABLE} names no folder of genuine clips"
)
UCF101 = ("v_SoccerJuggling_g23_c01.avi", "v_SoccerJuggling_g24_c01.avi")
HMDB51 = {
    "cartwheel": ("Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",),
    "wave": (
        "RATRACE_wave_f_nm_np1_fr_goo_37.avi",
        "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",
        "TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    ),
}
KINETICS = ("R6llTwEh07w.mp4", "SOX5yA1l24A.mp4", "WUzgd7C1pWA.mp4")
RENAMED = {HMDB51["cartwheel"][0]: f"hmdb51_{HMDB51['cartwheel'][0]}"}
"""Names that the archive gives its clips, where they are not their own."""
CLIPS = (*UCF101, *HMDB51["cartwheel"], *HMDB51["wave"], *KINETICS)
TRAINING = (*FINETUNE, "data.classes=null", "data.hflip=false", "optim.epochs=2")
TRAINING += ("optim.global_batch=1",)


def place(name: str, target: Path) -> Path:
    """Put a clip at a path of its data set."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(FOLDER / RENAMED.get(name, name), target))


def ucf101(root: Path) -> Miniature:
    videos, lists = root / "UCF-101", root / "ucfTrainTestlist"
    for name in UCF101:
        place(name, videos / "SoccerJuggling" / name)
    write_lines(lists / "classInd.txt", ["1 SoccerJuggling", "2 YoYo"], "\r\n")
    write_lines(lists / "trainlist01.txt", [f"SoccerJuggling/{UCF101[0]} 1"], "\r\n")
    write_lines(lists / "testlist01.txt", [f"SoccerJuggling/{UCF101[1]}"], "\r\n")
    counts = {(1, "train"): 1, (1, "test"): 1}
    return Miniature("ucf101", videos, lists, ("SoccerJuggling", "YoYo"), counts)


def hmdb51(root: Path) -> Miniature:
    videos, lists = root / "hmdb51", root / "testTrainMulti_7030_splits"
    for label, names in HMDB51.items():
        for name in names:
            place(name, videos / label / name)
        marks = [f"{name} {2 if number == 1 else 1} " for number, name in enumerate(names)]
        write_lines(lists / f"{label}_test_split1.txt", marks)
    return Miniature("hmdb51", videos, lists, tuple(HMDB51), {(1, "train"): 3, (1, "test"): 1})


def kinetics(root: Path) -> Miniature:
    videos, annotations, classes = root / "videos", root / "annotations", ("abseiling", "yoga")
    header = "label,youtube_id,time_start,time_end,split"
    rows: dict[str, list[str]] = {"train": [header], "val": [header]}
    where = zip(KINETICS, (*classes, "yoga"), ("train", "train", "val"), strict=True)
    for name, label, part in where:
        stem = Path(name).stem
        place(name, videos / label / f"{stem}_000012_000022.mp4")
        rows[part].append(f"{label},{stem},12,22,{part}")
    for part, lines in rows.items():
        write_lines(annotations / f"{part}.csv", lines)
    counts = {(None, "train"): 2, (None, "val"): 1}
    return Miniature("k400", videos, annotations, classes, counts)


@needs_clips
@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_is_read_scanned_and_packed_as_ffmpeg_shows_it(name: str, tmp_path: Path) -> None:
    assert judge(FOLDER / RENAMED.get(name, name), OWN, tmp_path) == []


@needs_clips
@pytest.mark.long
@pytest.mark.parametrize("make", [ucf101, hmdb51, kinetics])
def test_from_the_download_to_the_number_without_a_bad_file(
    make: Callable[[Path], Miniature], tmp_path: Path
) -> None:
    mini = make(tmp_path / "data")
    lists, run = tmp_path / "lists", tmp_path / "run"
    prepared(mini, lists, "scan=strict")
    assert "damaged" not in (lists / "problems.jsonl").read_text()
    train, out = next(lists.rglob("train.txt")), tmp_path / "scan"
    assert call("scan", f"list={train}", f"root={mini.videos}", f"out={out}") == 0
    assert (out / "clean.txt").read_text() == train.read_text()
    data = (f"data.prepared={lists}", *(["data.split=1"] if (1, "train") in mini.counts else []))
    assert (
        call("finetune", *TRAINING, "weights=scratch", *data, f"output_dir={run}", pictures=True)
        == 0
    )
    views = ("data.segments=2", "data.crops=3")
    done = tmp_path / "evaluation"
    assert call("evaluate", *TRAINING, *views, *data, f"weights={run}", f"output_dir={done}") == 0
    assert not (run / "bad_files.jsonl").exists()
    for directory in (run, done):
        found = json.loads((directory / "results.json").read_text())
        assert (found["num_videos"], found["num_unreadable"]) == (1, 0)
    output = tmp_path / "seen.json"
    given = (f"weights={run}", f"video={mini.videos}", f"output={output}", "run=debug")
    assert call("predict", *given) == 0
    seen = json.loads(output.read_text())["videos"]
    assert len(seen) == sum(mini.counts.values())
    assert not [row for row in seen if row.get("error")]
