"""A run whose other files are damaged goes on from its checkpoint, to the same end."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tests.train import (
    STEPS,
    assert_same_run,
    finetuning,
    json_lines,
    labelled_list,
    metrics,
    pretraining,
    train,
)
from videomae.config import FinetuneConfig, WhichWeights
from videomae.run.files import replacing
from videomae.run.record import made

ODD = b"\xff\xfe{odd\n"
SIDE_FILES = (
    *("environment.json", "metrics.jsonl", "spikes.jsonl", "warnings.jsonl", "bad_files.jsonl"),
    "best.json",
)


def configured(videos: Path, directory: Path, **settings: object) -> FinetuneConfig:
    """A fine-tuning that keeps the best of its evaluations."""
    overrides = (f"data.val_list={labelled_list(videos / 'val.txt')}", "eval_every=1")
    best = {"test_weights": WhichWeights.best}
    return finetuning(videos, directory, *overrides, **best, **settings)


@pytest.fixture(scope="module")
def straight(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(configured(videos, tmp_path_factory.mktemp("straight") / "run"))


def damage(directory: Path) -> dict[str, bytes]:
    """Damage every side file, in ways that leave the lines of metrics.jsonl to be found."""
    environment = (directory / "environment.json").read_bytes()
    rows = (directory / "metrics.jsonl").read_bytes()
    contents = {
        "environment.json": environment[: len(environment) // 2],
        "metrics.jsonl": ODD + rows + b'{"loss": 1.0}\n[2]\n{"step": "3"}\n{"step": 4, "lo',
        "spikes.jsonl": b'{"loss": 1.0}\n',
        "warnings.jsonl": ODD + b'{"step": 2, "guard": ["x"], "text": "y", "setting": "z"}\n',
        "bad_files.jsonl": ODD + b'{"path": "x.mp4"}\n{"list": "train", "line": 1}\n',
        "best.json": b'{"step": 2',
        "results.json": b"{",
        "config.yaml": ODD,
        "predictions.jsonl": ODD,
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return contents


@pytest.mark.long
def test_damaged_side_files_are_set_aside_and_the_run_goes_on(
    videos: Path, tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = train(configured(videos, tmp_path / "run", max_steps=4))
    (directory / "environment.json.damaged").write_text("an earlier one")
    contents = damage(directory)
    capsys.readouterr()
    train(configured(videos, directory, resume="auto"))
    said = capsys.readouterr().err.splitlines()
    assert_same_run(directory, straight)
    best = (directory / "best.json").read_text()
    assert best == (straight / "best.json").read_text()
    assert (directory / "environment.json.damaged").read_text() == "an earlier one"
    for name in SIDE_FILES:
        (line,) = [line for line in said if f"{directory / name} is damaged" in line]
        kept = directory / f"{name}.damaged{'2' if name == 'environment.json' else ''}"
        assert kept.name in line
        assert kept.read_bytes() == contents[name]
    assert json.loads((directory / "environment.json").read_text())["sha256"]
    assert json_lines(directory / "metrics.jsonl")[-1]["step"] == STEPS
    assert not (directory / "bad_files.jsonl").exists()
    assert "seed: 0" in (directory / "config.yaml").read_text()


@pytest.mark.parametrize("what", ["file", "link", "folder", "pipe"])
@pytest.mark.parametrize("name", ["tensorboard", "written.json"])
def test_what_lies_in_the_place_of_a_folder_or_file_of_the_run_is_set_aside(
    videos: Path, tmp_path: Path, name: str, what: str
) -> None:
    run = train(pretraining(videos, tmp_path / "run", max_steps=1))
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    put(place, what)
    train(pretraining(videos, run, max_steps=2, resume="auto"))
    assert [row["step"] for row in metrics(run)] == [1, 2]
    right = ("folder",) if name == "tensorboard" else ("file", "link")
    assert os.path.lexists(run / f"{name}.damaged") == (what not in right)


@pytest.mark.parametrize("what", ["file", "link", "pipe"])
def test_the_folder_of_what_is_written_is_made_way_for(tmp_path: Path, what: str) -> None:
    put(tmp_path / "figures", what)
    with replacing(made(tmp_path, "figures/loss.png")) as temporary:
        temporary.write_text("")
    assert (tmp_path / "figures" / "loss.png").is_file()
    assert os.path.lexists(tmp_path / "figures.damaged")


def put(place: Path, what: str) -> None:
    """Something in the place of another thing."""
    if what == "file":
        place.write_text("mine")
    elif what == "link":
        place.symlink_to("gone")
    elif what == "folder":
        place.mkdir()
        (place / "mine").touch()
    else:
        os.mkfifo(place)


def test_what_other_libraries_say_of_a_full_disk_is_said_as_the_system_does(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(OSError, match="No space left on device") as caught, replacing(path):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(SafetensorError, match="header"), replacing(path):
        raise SafetensorError("invalid header")
