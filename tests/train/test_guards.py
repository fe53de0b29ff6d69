"""Learning guards: each speaks of a run that fails in its way, and of none that learns."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose

from tests import test_commands
from tests.conftest import composed, write_list
from tests.test_commands import call
from tests.train import json_lines
from tests.train.guard_runs import Coloured, coloured, short_run, shuffled
from videomae.model.loss import pixel_targets
from videomae.train import finetuning as finetuning_stage
from videomae.train import pretraining as pretraining_stage
from videomae.train.guards import (
    Answers,
    Level,
    NoBetterThanChance,
    OneClass,
    Patience,
    StuckLoss,
    chance_loss,
    low_rate,
    mean_loss,
    rising_rate,
)
from videomae.train.schedule import Plan
from videomae.train.usual_rate import UsualRate


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Coloured:
    """Clips from which both stages learn."""
    return coloured(tmp_path_factory.mktemp("coloured"))


def told(stage: str, output: Path, clips: Coloured, *overrides: str) -> dict[str, dict[str, Any]]:
    """Train by a command; the rows of warnings.jsonl by guard, none where there is no such file."""
    assert call(stage, *overrides, *clips.data(stage), f"output_dir={output}") == 0
    file = output / "warnings.jsonl"
    rows = json_lines(file) if file.exists() else []
    for row in rows:
        assert row.keys() == {"step", "guard", "text", "setting"}
    return {row["guard"]: row for row in rows}


def plan(warmup: int = 0, total: int = 1000, batch: int = 8, lr: float = 1e-3) -> Plan:
    return Plan(
        num_clips=80,
        global_batch=batch,
        repeats=1,
        world=1,
        micro_batch=batch,
        accumulation=1,
        steps_per_epoch=10,
        total_steps=total,
        warmup_steps=warmup,
        peak_lr=lr,
        min_lr=0.0,
    )


# Runs that are made to fail


@pytest.mark.long
def test_a_rate_too_low_for_its_batch_is_told_at_the_start(
    clips: Coloured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [word for word in short_run("finetune", 3) if not word.startswith("optim.lr")]
    found = told("finetune", tmp_path / "run", clips, *small, "max_steps=1")
    row = found.pop("low_rate")
    assert (row["step"], row["setting"]) == (0, "optim.lr")
    for words in (
        "3.13e-05 (optim.base_lr 0.001 x 8/256)",
        "the default settings, 0.00025 with 64",
    ):
        assert words in row["text"]
    assert row["text"].endswith("give optim.lr=8.8e-05")  # by the square root of 8/64
    assert row["text"] in " ".join(capsys.readouterr().err.split())
    assert not found
    again = told("finetune", tmp_path / "again", clips, *small, "max_steps=1", "optim.lr=8.8e-05")
    assert not again


@pytest.mark.long
def test_the_rate_of_an_exp_and_that_of_a_folder_are_known(
    clips: Coloured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_commands, "compose_groups", compose)  # of all words, as in a command
    words = ("+exp=demo_finetune", "max_steps=1", "data.class_names=null", "run=debug")
    found = told("finetune", tmp_path / "exp", clips, *words, "optim.global_batch=4")
    assert "+exp=demo_finetune, 0.001 with 32" in found["low_rate"]["text"]
    assert not told("finetune", tmp_path / "as_it_is", clips, *words, "optim.global_batch=16")
    words = (f"data.videos={clips.root}", "run=debug", "max_steps=1")
    for name, given in {"fitted": (), "given": ("optim.base_lr=1e-3",)}.items():
        output = tmp_path / name
        assert call("pretrain", *words, f"output_dir={output}", *given) == 0
        assert (output / "warnings.jsonl").exists() == (name == "given")
    assert "a folder of videos" in (tmp_path / "given" / "warnings.jsonl").read_text()


@pytest.mark.long
def test_a_loss_that_stays_at_chance_is_told(clips: Coloured, tmp_path: Path) -> None:
    run = short_run("finetune", 10, "optim.lr=1e-7")
    row = told("finetune", tmp_path / "run", clips, *run)["loss_at_chance"]
    assert (row["step"], row["setting"]) == (40, "optim.lr")
    for words in ("the last 16 steps, 1.386,", "among 4 classes, 1.386", "at rates up to 1e-07"):
        assert words in row["text"]


@pytest.mark.long
def test_a_validation_that_predicts_one_class_is_told(clips: Coloured, tmp_path: Path) -> None:
    names = [line.split()[0] for line in clips.train.read_text().splitlines()]
    lines = [f"{name} {number if number < 4 else 0}" for number, name in enumerate(names)]
    one_sided = replace(clips, train=write_list(tmp_path / "train.txt", lines))
    run = short_run("finetune", 10, "eval_every=10", f"data.val_list={clips.test}")
    row = told("finetune", tmp_path / "run", one_sided, *run)["one_class"]
    assert row["step"] == 40
    assert "24 of 24 videos of data.val_list are predicted as '0'" in row["text"]
    assert "the label of 6" in row["text"]


@pytest.mark.long
def test_shuffled_labels_are_told(clips: Coloured, tmp_path: Path) -> None:
    mixed = shuffled(clips.train, tmp_path / "train.txt", seed=6)
    clips = replace(clips, train=mixed)
    found = told("finetune", tmp_path / "run", clips, *short_run("finetune", 40))
    row = found["no_better_than_chance"]
    assert (row["step"], row["setting"]) == (160, "data.train_list")
    assert "guessing reaches up to 10 (97.5 %), though the training loss has fallen" in row["text"]


@pytest.mark.long
def test_a_pre_training_that_predicts_the_mean_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining_stage, "PRETRAIN_PATIENCE", 60)
    noise = coloured(tmp_path / "noise", noise=True)
    row = told("pretrain", tmp_path / "run", noise, *short_run("pretrain", 18))["predicts_the_mean"]
    assert (row["step"], row["setting"]) == (68, "optim.lr")
    assert "the mean colours of each tubelet, 0.9922" in row["text"]


# Runs that learn


@pytest.mark.long
def test_runs_that_learn_make_no_guard_speak(
    clips: Coloured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining_stage, "PRETRAIN_PATIENCE", 40)
    monkeypatch.setattr(finetuning_stage, "PATIENCE", 20)
    validated = ("eval_every=5", f"data.val_list={clips.test}")
    assert not told("pretrain", tmp_path / "one", clips, *short_run("pretrain", 14))
    run = short_run("finetune", 10, *validated)
    assert not told("finetune", tmp_path / "two", clips, *run)


@pytest.mark.soak
def test_a_guard_is_heard_once_though_a_run_goes_on(clips: Coloured, tmp_path: Path) -> None:
    run = short_run("finetune", 12, "optim.lr=1e-7", "resume=auto")
    output = tmp_path / "run"
    assert not told("finetune", output, clips, *run, "max_steps=30")  # not judged before its end
    found = told("finetune", output, clips, *run)
    again = told("finetune", output, clips, *run)
    assert "loss_at_chance" not in found  # its window of 20 steps began at step 31
    assert found == again
    assert found["no_better_than_chance"]["step"] == 48


# Levels and thresholds


def test_the_level_of_the_mean_is_that_of_the_targets() -> None:
    tubelets = torch.rand(2, 5, 2 * 8 * 8, 3, generator=torch.Generator().manual_seed(0))
    targets = pixel_targets(tubelets)
    assert targets.square().mean().item() == pytest.approx(mean_loss(2, 8), rel=1e-4)
    assert mean_loss(2, 8) == 127 / 128


@pytest.mark.parametrize(
    ("labels", "smoothing", "level"),
    [
        ([0, 1, 2, 3], 0.0, math.log(4)),
        ([0, 1, 2, 3], 0.1, math.log(4)),
        ([0, 0, 0, 1], 0.0, -0.75 * math.log(0.75) - 0.25 * math.log(0.25)),
        ([0, 0, 1, 1], 0.0, math.log(2)),  # two classes have no video
        ([2, 2, 2, 2], 0.0, 0.0),
    ],
)
def test_the_loss_of_chance(labels: list[int], smoothing: float, level: float) -> None:
    found = chance_loss(np.array(labels), 4, smoothing)
    assert found == pytest.approx(level)
    logits = torch.tensor([max(1e-9, labels.count(k) / len(labels)) for k in range(4)]).log()
    share = (1 - smoothing) * logits.softmax(0) + smoothing / 4
    best = torch.nn.functional.cross_entropy(
        share.log().expand(len(labels), 4), torch.tensor(labels), label_smoothing=smoothing
    )
    assert best.item() == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize(
    ("warmup", "total", "judged", "window"),
    [
        (10, 1000, 210, 100),
        (10, 210, 210, 100),
        (10, 110, 110, 50),  # at its end
        (10, 30, 30, 10),
        (10, 29, None, 9),  # too short to tell
        (50, 50, None, 1),
    ],
)
def test_from_which_step_on_a_run_is_judged(
    warmup: int, total: int, judged: int | None, window: int
) -> None:
    patience = Patience(plan(warmup, total), 200, at_end=True)
    assert (patience.judged, patience.window) == (judged, window)
    later = Patience(plan(warmup, total), 200, at_end=False)
    assert later.judged == (judged if total - warmup >= 200 else None)


@pytest.mark.parametrize(
    ("losses", "spoken"),
    [
        ([2.0] * 300, 210),
        ([3.0] * 300, 210),
        ([1.97] * 300, 210),
        ([1.95] * 300, None),  # 2.5 % below
        ([2.0] * 150 + [1.0] * 150, None),  # a slow start
        ([1.0] * 220 + [2.0] * 120, 316),  # what was learned is lost
        ([None, float("nan")] * 150, None),
        ([2.0, None] * 200, 211),  # only those that were read count
    ],
)
def test_which_losses_are_stuck(losses: list[float | None], spoken: int | None) -> None:
    level = Level(2.0, "guard", "chance", "do something")
    guard = StuckLoss(level, Patience(plan(warmup=10), 200, at_end=True))
    messages = {step: guard.step(step, loss) for step, loss in enumerate(losses, start=1)}
    assert [step for step, found in messages.items() if found] == ([spoken] if spoken else [])


def test_a_rate_that_rises_to_its_end_is_told_with_both_its_ends(
    clips: Coloured, tmp_path: Path
) -> None:
    small = [word for word in short_run("finetune", 3) if not word.startswith("optim.lr")]
    rate = ("optim.global_batch=4", "optim.base_lr=1e-7", "max_steps=1")
    row = told("finetune", tmp_path / "run", clips, *small, *rate)["rising_rate"]
    assert (row["step"], row["setting"]) == (0, "optim.min_lr")
    assert "rises from 1.56e-09" in row["text"]
    assert "to 1.56e-08 at the end (optim.min_lr 1e-06)" in row["text"]


def test_which_rates_rise() -> None:
    optim = composed("finetune").optim
    for floor, rises in ((0.0, False), (1e-3, False), (2e-3, True)):
        ours = replace(plan(lr=1e-3), min_lr=floor)
        assert (rising_rate(optim, ours) is not None) == rises
        assert ours.highest_lr == max(1e-3, floor)


@pytest.mark.parametrize(
    ("batch", "lr", "far"),
    [
        (64, 2.5e-4, False),
        (16, 2.5e-4 / 4, False),  # half of what the square root gives
        (8, 2.5e-4 / 8, True),
        (8, 1e-4, False),
        (512, 2.5e-4, False),  # no more than the recipe's own is expected of a larger batch
        (64, 0.9e-4, True),
    ],
)
def test_which_rates_are_far_too_low(batch: int, lr: float, far: bool) -> None:
    optim = composed("finetune").optim
    usual = UsualRate(2.5e-4, 64, "the default settings")
    ours = plan(batch=batch, lr=lr)
    assert (low_rate(optim, ours, usual) is not None) == far
    assert low_rate(replace(optim, lr=lr), ours, usual) is None
    assert low_rate(optim, ours, None) is None


@pytest.mark.parametrize(
    ("predicted", "labels", "spoken"),
    [
        ([1] * 20, [0, 1] * 10, True),
        ([1] * 19 + [0], [0, 1] * 10, True),
        ([1] * 18 + [0] * 2, [0, 1] * 10, False),
        ([1] * 20, [1] * 16 + [0] * 4, False),  # most labels are that class
        ([1] * 8, [0, 1] * 4, False),  # too few to tell
    ],
)
def test_which_predictions_are_one_class(
    predicted: list[int], labels: list[int], spoken: bool
) -> None:
    guard = OneClass(["a", "b"], Patience(plan(), 200, at_end=True))
    answers = Answers("data.val_list", np.array(predicted), np.array(labels))
    assert guard.judge(199, answers) is None
    assert (guard.judge(200, answers) is not None) == spoken


@pytest.mark.parametrize(
    ("right", "videos", "classes", "spoken"),
    [
        (63, 400, 8, True),  # 97.5 % of guesses are no better
        (64, 400, 8, False),
        (0, 400, 8, True),
        (9, 20, 4, True),
        (10, 20, 4, False),
        (5, 19, 4, False),  # too few to tell
    ],
)
def test_which_results_are_guesses(right: int, videos: int, classes: int, spoken: bool) -> None:
    labels = np.arange(videos) % classes
    predicted = np.where(np.arange(videos) < right, labels, (labels + 1) % classes)
    patience = Patience(plan(), 200, at_end=True)
    guard = NoBetterThanChance(np.arange(classes), classes, patience, None)
    answers = Answers("data.test_list", predicted, labels)
    assert guard.judge(199, answers) is None
    assert (guard.judge(200, answers) is not None) == spoken


def test_the_share_of_the_most_frequent_class_is_chance() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    guard = NoBetterThanChance(labels, 2, Patience(plan(), 200, at_end=True), None)
    for right, spoken in ((80, True), (87, True), (90, False)):
        answers = Answers("data.test_list", np.where(np.arange(100) < right, labels, 2), labels)
        assert (guard.judge(200, answers) is not None) == spoken


def test_unreadable_videos_are_not_judged() -> None:
    probs = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]], np.float32)
    answers = Answers.of("data.test_list", probs, np.array([0, 1, 1]))
    assert answers.predicted.tolist() == [0, 1]
    assert answers.labels.tolist() == [0, 1]
