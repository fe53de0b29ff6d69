"""Names that no file can have, or that cannot be looked at, are bad files or plain errors."""

import os
import stat
from pathlib import Path

import pytest

from tests.conftest import write_list
from tests.test_commands import call
from tests.test_predict import classifier, encoder_of_pretraining
from tests.train import FINETUNE, PRETRAIN, json_lines, labelled_list
from videomae.config import ConfigError
from videomae.config.lists import ListedConfig
from videomae.run import files
from videomae.run.checks import check_place, require
from videomae.run.files import why_missing
from videomae.video.inspection import inspect_frames, inspect_video

LONG = "x" * 300
ODD = {
    "too long a name": f"{LONG}.mp4",
    "too long a path": "/".join(["d" * 200] * 30) + ".mp4",
    "a NUL": "a\0b.mp4",
    "a loop of links": "loop/a.mp4",
    "below a file": "file.txt/a.mp4",
}
SCRATCH = ("weights=scratch", "max_steps=1")
COMMANDS = ("pretrain", "finetune", "evaluate", "probe", "scan", "pack", "extract")


@pytest.fixture
def root(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of videos, a loop of links and a file, in the working directory."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "videos"
    root.mkdir()
    for video in videos.glob("?.mp4"):
        (root / video.name).symlink_to(video)
    (root / "loop").symlink_to("loop")
    (root / "file.txt").touch()
    return root


def overrides(command: str, root: Path, source: Path) -> list[str]:
    """What the command is called with, on that list."""
    here = source.parent
    data = [f"data.root={root}", "output_dir=out"]
    match command:
        case "pretrain":
            return [*PRETRAIN, *data, f"data.train_list={source}", "max_steps=1"]
        case "finetune":
            lists = [f"data.train_list={source}", f"data.test_list={source}"]
            return [*FINETUNE, *data, *lists, *SCRATCH]
        case "evaluate":
            good = labelled_list(here / "good.txt")
            lists = [f"data.train_list={good}", f"data.test_list={good}", "output_dir=run"]
            assert call("finetune", *FINETUNE, *data[:1], *lists, *SCRATCH) == 0
            return [*FINETUNE, *data, f"data.test_list={source}", "weights=run"]
        case "probe":
            weights = encoder_of_pretraining(here / "weights.safetensors")
            lists = [f"data.train_list={source}", f"data.test_list={source}", "data.classes=3"]
            return [*data, *lists, f"weights={weights}", "run=debug", "probe.kinds=[knn]"]
        case "extract":
            weights = encoder_of_pretraining(here / "weights.safetensors")
            return [f"list={source}", f"root={root}", f"weights={weights}", *data[1:], "run=debug"]
    smaller = ["short_side=32", "keyint=16", "max_bad_fraction=0.5"] if command == "pack" else []
    return [f"list={source}", f"root={root}", "out=out", "workers=1", *smaller]


@pytest.mark.parametrize("odd", ["too long a name", pytest.param("a NUL", marks=pytest.mark.soak)])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_odd_name_on_line_1_is_a_bad_file(
    root: Path, capsys: pytest.CaptureFixture[str], command: str, odd: str
) -> None:
    label = " 0" if command in ("finetune", "evaluate", "probe") else ""
    lines = [ODD[odd] + label, *(f"{number}.mp4{label}" for number in range(5))]
    source = write_list(root.parent / "list.txt", lines)
    assert call(command, *overrides(command, root, source), pictures=True) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("odd", ODD)
def test_inspections_say_what_is_wrong_with_an_odd_name(root: Path, odd: str) -> None:
    for found in (inspect_video(root / ODD[odd]), inspect_frames(root / ODD[odd], "{}.jpg", 1, 2)):
        assert not found.ok
        assert found.error


@pytest.mark.parametrize("odd", [name for name in ODD if name != "a NUL"])
@pytest.mark.parametrize("key", ["weights", "video", "output"])
def test_an_odd_name_in_a_setting_is_an_error(
    root: Path, capsys: pytest.CaptureFixture[str], odd: str, key: str
) -> None:
    weights = classifier(root.parent / "weights.safetensors")
    given = {"weights": weights, "video": root / "0.mp4", "output": "out.json"}
    given[key] = root / ODD[odd]
    assert call("predict", *(f"{name}={value}" for name, value in given.items()), "run=debug") == 2
    said = capsys.readouterr().err
    assert "error: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("resume", [LONG, "loop", "loop/step_1"])
def test_an_odd_checkpoint_is_no_complete_one(
    root: Path, capsys: pytest.CaptureFixture[str], resume: str
) -> None:
    source = write_list(root.parent / "list.txt", [f"{number}.mp4" for number in range(5)])
    given = overrides("pretrain", root, source)
    assert call("pretrain", *given, f"resume={root / resume}") == 2
    assert "is no complete checkpoint" in capsys.readouterr().err


def test_a_folder_that_cannot_be_entered_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def refuse(path: str | Path, **how: bool) -> os.stat_result:
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(files.os, "stat", refuse)
    reason = "cannot be looked at (Permission denied)"
    assert why_missing(tmp_path / "locked" / "a.mp4") == reason
    with pytest.raises(ConfigError, match=r"root=.*cannot be looked at \(Permission denied"):
        require(ListedConfig(root=str(tmp_path / "locked")), "root")


@pytest.mark.skipif(os.geteuid() == 0, reason="root enters every folder")
def test_a_locked_folder_is_an_error(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=stat.S_IWUSR)
    with pytest.raises(ConfigError, match="Permission denied"):
        require(ListedConfig(root=str(locked / "inside")), "root")


@pytest.mark.parametrize("name", [LONG, "loop", "nowhere"])
def test_a_place_that_cannot_be_made_is_refused_at_the_start(root: Path, name: str) -> None:
    (root / "nowhere").symlink_to("gone")
    with pytest.raises(ConfigError, match="and cannot be made; choose another out"):
        check_place("out", root / name)


def test_a_video_whose_features_can_have_no_name_is_a_bad_file(root: Path) -> None:
    name = f"{'n' * 246}.mp4"
    (root / name).symlink_to(root / "0.mp4")
    source = write_list(root.parent / "list.txt", [name, "1.mp4"])
    assert call("extract", *overrides("extract", root, source)) == 0
    rows = {row["path"]: row for row in json_lines(Path("out/manifest.jsonl"))}
    assert "no file can have the name" in rows[name]["error"]
    assert "file" in rows["1.mp4"]


def test_a_video_whose_picture_can_have_no_name_is_predicted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{'n' * 251}.mp4"
    (root / name).symlink_to(root / "0.mp4")
    weights = classifier(root.parent / "weights.safetensors")
    given = [f"weights={weights}", f"video={root / name}", "sheet=sheets", "output=out.json"]
    assert call("predict", *given, "run=debug", pictures=True) == 0
    assert "no file can have the name of its picture" in capsys.readouterr().err
