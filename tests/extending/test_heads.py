"""A head of the user's own, and that files of others never bring code along."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_list
from tests.test_commands import call
from tests.train import CLASSES, FINETUNE, NUM_VIDEOS, json_lines
from videomae.weights.formats import read_weights
from videomae.weights.weights import Weights, save_weights

OWN = "data.target=mine.head:Ordinal"


@pytest.fixture
def given(place: Path, videos: Path) -> list[str]:
    """Overrides of a fine-tuning with its own head, and of its evaluation."""
    lines = [f"{n}.mp4 {n % CLASSES}" for n in range(NUM_VIDEOS)]
    listed = write_list(place / "list.txt", lines)
    lists = [f"data.{key}={listed}" for key in ("train_list", "val_list", "test_list")]
    return [*FINETUNE, f"data.root={videos}", *lists, "eval_every=1"]


def rewritten(path: Path, saved: Weights, **info: object) -> Path:
    """The weights with other metadata, as a stranger may have written them."""
    save_weights(path, saved.tensors, replace(saved.info, **info))
    return path


@pytest.mark.long
def test_a_head_of_ones_own_is_trained_evaluated_predicted_and_reported(
    place: Path, videos: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*given, OWN, "weights=scratch", "output_dir=run", "test_weights=best"]
    assert call("finetune", *words) == 0
    found = json.loads((place / "run" / "results.json").read_text())
    assert list(found)[:2] == ["mean_steps_off", "exact"]
    tried = [
        row["val_mean_steps_off"]
        for row in json_lines(place / "run" / "metrics.jsonl")
        if "val_mean_steps_off" in row
    ]
    best = json.loads((place / "run" / "best.json").read_text())
    assert best["val_mean_steps_off"] == min(tried)  # the lower the better, as the head says
    info = read_weights(place / "run").info
    assert (info.target, info.classes, info.head) == ("mine.head:Ordinal", 2, {"classes": 3})

    words = [*given, "weights=run/best.safetensors"]
    assert call("evaluate", *words, OWN, "output_dir=eval") == 0
    again = json.loads((place / "eval" / "results.json").read_text())
    assert list(again.pop("shared_with").values()) == [NUM_VIDEOS]
    assert all(again[key] == found[key] for key in again)
    rows = json_lines(place / "eval" / "predictions.jsonl")
    levels = np.array([sum(p > 0.5 for p in row["values"].values()) for row in rows])
    off = np.abs(levels - np.arange(NUM_VIDEOS) % CLASSES)
    assert found["mean_steps_off"] == pytest.approx(off.mean())

    words = ["run=debug", "weights=run", f"video={videos / '3.mp4'}", "target=mine.head:Ordinal"]
    assert call("predict", *words) == 0
    (video,) = json.loads((place / "predictions.json").read_text())["videos"]
    assert video["values"].keys() == {"above 0", "above 1"}
    capsys.readouterr()
    assert call("report", "runs=[run,eval]", "out=report") == 0
    assert f"mean_steps_off {found['mean_steps_off']:.4g}" in capsys.readouterr().out


def test_weights_name_no_code_that_is_imported(
    place: Path, videos: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "theirs.py").write_text("open('imported', 'w')\n\nclass Head:\n    pass\n")
    assert call("finetune", *given, "weights=scratch", "output_dir=run", "max_steps=1") == 0
    saved = read_weights(place / "run")
    theirs = rewritten(place / "theirs.safetensors", saved, target="theirs:Head")
    commands = {
        "evaluate": [*given, "output_dir=e"],
        "predict": ["run=debug", f"video={videos / '3.mp4'}"],
    }
    for command, words in commands.items():
        capsys.readouterr()
        assert call(command, *words, f"weights={theirs}") == 2
        key = "target" if command == "predict" else "data.target"
        said = capsys.readouterr().err
        assert "weights are not trusted to name code" in said
        assert f"give {key}=theirs:Head" in said
    new = [*given, f"weights={theirs}", "output_dir=new", "max_steps=1"]
    assert call("finetune", *new) == 0  # their encoder, under a new head
    assert "head: new" in capsys.readouterr().err
    assert call("extract", "run=debug", f"weights={theirs}", f"video={videos / '3.mp4'}") == 0
    assert not (place / "imported").exists()


@pytest.mark.parametrize(
    ("target", "state"), [("many", {}), ("regression", {"mean": 3}), ("multilabel", {"x": [1]})]
)
def test_nonsense_in_the_metadata_of_weights_is_an_error(
    place: Path,
    videos: Path,
    given: list[str],
    capsys: pytest.CaptureFixture[str],
    target: str,
    state: dict[str, object],
) -> None:
    assert call("finetune", *given, "weights=scratch", "output_dir=run", "max_steps=1") == 0
    capsys.readouterr()
    saved = read_weights(place / "run")
    theirs = rewritten(place / "theirs.safetensors", saved, target=target, head=state)
    status = call("predict", "run=debug", f"video={videos / '3.mp4'}", f"weights={theirs}")
    assert status == (0 if target == "multilabel" else 2)  # which has no state, and ignores it
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine.head:Other", "head.py defines no Other"),
        ("mine.augmentation:draw", "is no class that extends videomae.evaluation.head.Head"),
    ],
)
def test_what_is_no_head_is_said(
    place: Path, given: list[str], capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert call("finetune", *given, "weights=scratch", f"data.target={name}") == 2
    assert said in capsys.readouterr().err


HEADS = """
from mine.head import Ordinal


class Text(Ordinal):
    def metrics(self, predicted, clips):
        return {"quality": "good"}


class Total(Ordinal):
    def errors(self, outputs, target, label_smoothing):
        return super().errors(outputs, target, label_smoothing).sum()
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Text", "metrics of mine.wrong:Text: quality is 'good', and must be a number"),
        ("Total", "views have shape () and must have"),
    ],
)
def test_a_head_that_returns_something_else_is_told(
    place: Path, given: list[str], capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (place / "mine" / "wrong.py").write_text(HEADS)
    assert call("finetune", *given, "weights=scratch", f"data.target=mine.wrong:{name}") == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
