"""A run whose other files are damaged goes on from its checkpoint, to the same end."""

import json
from pathlib import Path

import pytest

from tests.train import STEPS, assert_same_run, finetuning, json_lines, labelled_list, train
from videomae.config import FinetuneConfig, WhichWeights

ODD = b"\xff\xfe{odd\n"
SIDE_FILES = ("environment.json", "metrics.jsonl", "spikes.jsonl", "bad_files.jsonl", "best.json")


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
        "bad_files.jsonl": ODD + b'{"path": "x.mp4"}\n{"list": "train", "line": 1}\n',
        "best.json": b'{"step": 2',
        "results.json": b"{",
        "config.yaml": ODD,
        "predictions.jsonl": ODD,
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return contents


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
    assert json_lines(directory / "bad_files.jsonl") == []
    assert "seed: 0" in (directory / "config.yaml").read_text()
