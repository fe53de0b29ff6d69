"""The four benchmarks in miniature, from the official downloads to their numbers."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests import miniatures
from tests.miniatures import Miniature
from tests.test_commands import call
from tests.test_prepare import prepared
from tests.train import FINETUNE, PRETRAIN

TRAIN = (*FINETUNE, "data.classes=null", "data.hflip=false", "optim.epochs=4", "augment=finetune")
TRAIN += ("weights=scratch", "optim.base_lr=0.05", "optim.ema_decay=0.5")
VIEWS = ("segments=2", "crops=3")
DATA_VIEWS = tuple(f"data.{view}" for view in VIEWS)


def result(directory: Path) -> dict[str, Any]:
    """results.json, less which weights were chosen."""
    found = json.loads((directory / "results.json").read_text())
    assert found.pop("weights", {"chosen": "last"})["chosen"] == "last"
    assert found.pop("shared_with", {}) == {}
    return found


def predicted(mini: Miniature, run: Path, output: Path) -> dict[str, list[str]]:
    """The classes of every video of the data set, the most probable first, by the real command."""
    given = (f"weights={run}", f"video={mini.videos}", f"output={output}", "top=100", "run=debug")
    assert call("predict", *given, *VIEWS) == 0
    rows = json.loads(output.read_text())["videos"]
    return {row["video"]: [guess["class"] for guess in row["top"]] for row in rows}


def assert_counts(found: dict[str, Any], guesses: dict[str, list[str]], lists: Path) -> None:
    """The numbers of results.json, counted from the predictions of single videos."""
    names = (lists.parents[lists.parent.name.startswith("split")] / "classes.txt").read_text()
    classes = names.splitlines()
    rows = [line.rsplit(maxsplit=1) for line in lists.read_text().splitlines()]
    truth = {path: classes[int(label)] for path, label in rows}
    hits = {path: guesses[path][0] == name for path, name in truth.items()}
    assert found["num_videos"] == len(truth)
    assert found["num_unreadable"] == 0
    assert found["top1"] == pytest.approx(100 * np.mean(list(hits.values())))
    among = [name in guesses[path][:5] for path, name in truth.items()]
    assert found["top5"] == pytest.approx(100 * np.mean(among))
    by_class = {
        name: 100 * np.mean([hits[path] for path, own in truth.items() if own == name])
        for name in classes
        if name in truth.values()
    }
    known = {name: value for name, value in found["per_class"].items() if value is not None}
    assert known == pytest.approx(by_class)
    assert found["mean_class_accuracy"] == pytest.approx(np.mean(list(by_class.values())))


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "data", "part"),
    [
        (miniatures.ucf101, ("data.split=2", "data.hflip=true"), "split2/test.txt"),
        (miniatures.hmdb51, ("data.split=3", "data.hflip=true"), "split3/test.txt"),
        (miniatures.kinetics, ("data.hflip=true",), "val.txt"),
        (miniatures.ssv2, ("data.sampling=segment",), "val.txt"),
    ],
    ids=["ucf101", "hmdb51", "k400", "ssv2"],
)
def test_from_the_official_downloads_to_the_number(
    make: Callable[[Path], Miniature], data: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    mini = make(tmp_path / "mini")
    lists = prepared(mini, tmp_path / "lists")
    run, again = tmp_path / "run", tmp_path / "again"
    given = (*TRAIN, *DATA_VIEWS, f"data.prepared={lists}", *data)
    assert call("finetune", *given, f"output_dir={run}") == 0
    found = result(run)
    assert set(found["per_class"]) == set(mini.classes)
    assert call("evaluate", *given, f"weights={run}", f"output_dir={again}") == 0
    assert result(again) == found
    assert_counts(found, predicted(mini, run, tmp_path / "predictions.json"), lists / part)


@pytest.mark.soak
@pytest.mark.long
def test_every_split_in_turn_and_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = miniatures.ucf101(tmp_path / "mini")
    lists = prepared(mini, tmp_path / "lists")
    run, again = tmp_path / "run", tmp_path / "again"
    given = (*TRAIN, *DATA_VIEWS, f"data.prepared={lists}", "data.hflip=true")
    assert call("finetune", *given, "data.split=all", f"output_dir={run}") == 0
    assert "mean of 3 splits: top-1" in " ".join(capsys.readouterr().err.split())
    began = [
        datetime.fromisoformat(json.loads((place / "environment.json").read_text())["began"])
        for place in (run, run / "split1", run / "split2", run / "split3")
    ]
    assert began == sorted(began)
    mean = result(run)
    single = {str(n): result(run / f"split{n}") for n in (1, 2, 3)}
    for n, own in single.items():
        guesses = predicted(mini, run / f"split{n}", tmp_path / "predictions.json")
        assert_counts(own, guesses, lists / f"split{n}/test.txt")
        assert mean["splits"][n]["top1"] == own["top1"]
    assert mean["top1"] == pytest.approx(np.mean([own["top1"] for own in single.values()]))
    low, high = mean["top1_interval"]
    assert low <= mean["top1"] <= high
    assert mean["num_videos"] == 18
    assert set(mean["per_class"]) == set(mini.classes)
    # A split is what it is alone; and trained models are evaluated on their own splits.
    alone = (*given, "data.split=2", f"output_dir={tmp_path / 'alone'}")
    assert call("finetune", *alone) == 0
    assert result(tmp_path / "alone") | {"sha256": 0} == single["2"] | {"sha256": 0}
    weights = [d / "weights.safetensors" for d in (tmp_path / "alone", run / "split2")]
    assert weights[0].stat().st_size == pytest.approx(weights[1].stat().st_size, abs=64)
    evaluation = (*given, "data.split=all", f"weights={run}", f"output_dir={again}")
    assert call("evaluate", *evaluation) == 0
    ours = result(again)
    for place in (run, again):  # what was used, and not what the exp or a default says
        whole, each = (
            yaml.safe_load((place / name).read_text())
            for name in ("config.yaml", "split1/config.yaml")
        )
        assert whole["model"] == each["model"]
        assert whole["data"]["clip"] == each["data"]["clip"]
        assert whole["data"]["classes"] == each["data"]["classes"] == len(mini.classes)
        assert whole["data"]["split"] == "all"
    for row in mean["splits"].values():
        del row["weights"], row["shared_with"]
    assert ours == mean
    assert call("finetune", *given, "data.split=all", f"output_dir={run}", "resume=auto") == 0
    assert result(run)["top1"] == mean["top1"]


def test_all_splits_where_that_makes_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinetics = prepared(miniatures.kinetics(tmp_path / "k400"), tmp_path / "k400_lists")
    lists = prepared(miniatures.ucf101(tmp_path / "ucf101"), tmp_path / "lists")
    run = tmp_path / "run"
    for command, given, words in (
        ("finetune", (*TRAIN, f"data.prepared={kinetics}"), "has no splits: leave it out"),
        (
            "finetune",
            (*TRAIN, f"data.prepared={lists}", "resume=step_3"),
            "checkpoint of one split",
        ),
        ("evaluate", (*TRAIN, f"data.prepared={lists}", f"weights={run}"), "on it: data.split=1"),
        ("pretrain", (*PRETRAIN, f"data.prepared={lists}"), "is for finetune and evaluate"),
    ):
        assert call(command, *given, "data.split=all", f"output_dir={run}") == 2, command
        assert words in " ".join(capsys.readouterr().err.split())
    assert not run.exists()
    (lists / "split3" / "train.txt").unlink()  # before the first split is trained, not after it
    given = (*TRAIN, f"data.prepared={lists}", "data.split=all", f"output_dir={run}")
    assert call("finetune", *given) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"data.train_list={lists}/split3/train.txt does not exist" in said
    assert not run.exists()
