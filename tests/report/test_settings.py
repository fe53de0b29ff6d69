"""Settings on the page: those that the command of a run used, and code of one's own."""

from pathlib import Path
from typing import Any

import pytest

from tests.test_report import ABOUT, Tags, result
from videomae.report.gather import RunRecord
from videomae.report.page import page
from videomae.report.results import Result
from videomae.report.summary import rows

CONFIG = {
    "model": {"name": "vit_nano"},
    "data": {
        "root": "videos",
        "train_list": "train.txt",
        "test_list": "test.txt",
        "target": "class",
        "repeats": 2,
        "clip": {"frames": 8},
    },
    "augment": {"transform": None},
    "optim": {"global_batch": 64, "base_lr": 0.001, "epochs": 30, "drop_path": 0.1},
    "weights": "outputs/a",
    "seed": 3,
    "max_steps": 5,
}
USED = {"model.name", "data.root", "data.test_list", "data.clip.frames", "weights"}
OF_TRAINING = {"optim.global_batch", "optim.base_lr", "optim.epochs", "optim.drop_path"} | {
    *("data.train_list", "data.repeats", "max_steps"),
}


def facts(run: RunRecord) -> dict[str, str]:
    """The settings and hashes of the only section of a page."""
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    found = [word for word in Tags(text.partition("Settings and hashes")[2]).words if word]
    return dict(zip(found[::2], found[1::2], strict=True))


def a_run(directory: Path, *, own: Result | None = None, **changed: Any) -> RunRecord:
    return RunRecord(directory, CONFIG | changed, results=[own or result()])


def test_an_evaluation_lists_no_setting_of_a_training(tmp_path: Path) -> None:
    evaluation = facts(a_run(tmp_path))
    assert evaluation.keys() >= USED
    assert not evaluation.keys() & (OF_TRAINING | {"seed"})
    (tmp_path / "metrics.jsonl").write_text("")
    training = facts(a_run(tmp_path))
    assert training.keys() >= USED | OF_TRAINING | {"seed"}


def test_a_probe_and_a_mean_of_splits_list_what_they_use(tmp_path: Path) -> None:
    of_probe = Result(50, 90, 50, 10, 0, "1 x 1", {"a": 50.0}, None, probe="knn")
    probe = facts(a_run(tmp_path, own=of_probe))
    assert probe.keys() >= USED | {"seed", "data.train_list"}
    assert not probe.keys() & {"optim.epochs", "data.repeats"}
    chosen = {"chosen": "last", "step": 3}
    of_splits = Result(50, 90, 50, 10, 0, "1 x 1", {"a": 50.0}, None, weights=chosen)
    assert facts(a_run(tmp_path, own=of_splits)).keys() >= OF_TRAINING


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("data", "target", "mine.head:Ordinal"),
        ("augment", "transform", "mine.augmentation:draw"),
        ("optim", "objective", "mine.objective:Pull"),
    ],
)
def test_code_of_ones_own_is_shown_and_its_default_is_not(
    tmp_path: Path, section: str, name: str, value: str
) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    key = f"{section}.{name}"
    assert key not in facts(a_run(tmp_path))
    changed: dict[str, Any] = {section: {**CONFIG[section], name: value}}  # type: ignore[dict-item]
    assert facts(a_run(tmp_path, **changed))[key] == value
