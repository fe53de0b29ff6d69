"""What fine-tuning adds to training: mixed labels, a running mean, the best of its evaluations."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.conftest import soaked, write_list
from tests.model import CLIP, CONFIG, randomise
from tests.train import (
    STEPS,
    STEPS_PER_EPOCH,
    assert_same_run,
    finetuning,
    json_lines,
    labelled_list,
    train,
    weights,
)
from videomae.config import AugmentConfig, ConfigError, CropKind, WhichWeights
from videomae.data.dataset import EvaluationClips, ValidationClips
from videomae.data.loader import Batch
from videomae.data.mix import Mixing, mixed
from videomae.evaluation.scoring import score_model
from videomae.finetune import finetune
from videomae.model import VideoClassifier
from videomae.model.pixels import normalise
from videomae.run.files import sha256
from videomae.run.run import Run
from videomae.train.objective import Classify
from videomae.weights.formats import read_weights
from videomae.weights.tensors import WeightsError


def test_the_loss_of_mixed_views_is_that_of_soft_labels() -> None:
    """Against the cross-entropy with the two labels' probabilities written out."""
    config = AugmentConfig(CropKind.random_resized, antialias=False, mixup=0.8, cutmix=1.0)
    model = VideoClassifier(CONFIG, CLIP, classes=3).eval()
    randomise(model)
    frames = torch.randint(0, 256, (4, 4, 12, 12, 3), dtype=torch.uint8)
    label, valid = torch.tensor([0, 0, 2, 1]), torch.tensor([True, True, True, True])
    batch = Batch(frames, torch.arange(4), label, valid, None, None, 0, [])
    mixing = Mixing(config, block=2, frame=(12, 12), repeats=2, seed=0)
    objective = Classify(model, label_smoothing=0.1, mixing=mixing)
    kinds = set()
    for step in range(1, 9):
        inputs = objective.inputs(batch, step, 0)
        drawn = mixing.draw(step, 0, valid)
        kinds.add(bool(drawn.box.any()))
        smooth = F.one_hot(label, 3) * 0.9 + 0.1 / 3
        weight = drawn.label[:, None]
        soft = weight * smooth + (1 - weight) * smooth.flip(0)
        logits = model(mixed(normalise(frames), drawn))
        expected = -(soft * logits.log_softmax(1)).sum()
        torch.testing.assert_close(objective(*inputs.tensors), expected)
        assert inputs.num_errors == 4
    assert kinds == {True, False}


@pytest.mark.long
def test_the_running_mean_is_what_is_written_and_survives_a_stop(
    videos: Path, tmp_path: Path
) -> None:
    ema = ("optim.ema_decay=0.75",)
    whole = train(finetuning(videos, tmp_path / "whole", *ema))
    train(finetuning(videos, tmp_path / "parts", *ema, max_steps=3))
    parts = train(finetuning(videos, tmp_path / "parts", *ema, resume="auto"))
    assert_same_run(whole, parts)
    # By hand, from the weights after each step
    plain = [
        weights(train(finetuning(videos, tmp_path / f"{step}", max_steps=step)))
        for step in range(1, STEPS + 1)
    ]
    torch.manual_seed(0)
    config = finetuning(videos, tmp_path / "x")
    start = VideoClassifier(
        config.model, config.data.clip, 3, drop_path=0.3, head_drop=0.3
    ).state_dict()
    mean = start["blocks.0.mlp.fc1.weight"]
    for after in plain:
        mean = 0.75 * mean + 0.25 * after["blocks.0.mlp.fc1.weight"]
    torch.testing.assert_close(weights(whole)["blocks.0.mlp.fc1.weight"], mean)


def validated(videos: Path, output: Path, *overrides: str, **settings: object) -> Path:
    config = finetuning(videos, output, *overrides, eval_every=1, **settings)
    data = replace(config.data, val_list=str(labelled_list(videos / "val.txt")))
    return train(replace(config, data=data))


def rows_of(directory: Path) -> list[dict[str, float]]:
    return [row for row in json_lines(directory / "metrics.jsonl") if "val_top1" in row]


def test_evaluations_on_the_way_and_the_best_of_them(videos: Path, tmp_path: Path) -> None:
    run = validated(videos, tmp_path / "run", test_weights=WhichWeights.best)
    rows = rows_of(run)
    assert [row["step"] for row in rows] == [2, 4, 6]
    best = json.loads((run / "best.json").read_text())
    first_best = max(rows, key=lambda row: (row["val_top1"], -row["step"]))
    assert best == {"step": first_best["step"], "val_top1": first_best["val_top1"]}
    info = read_weights(run / "best.safetensors").info
    assert info.step == best["step"]
    results = json.loads((run / "results.json").read_text())
    assert results["weights"] == {
        "chosen": "best",
        **best,
        "chosen_on": str(videos / "val.txt"),
    }
    assert results["sha256"]["weights"] == sha256(run / "best.safetensors")
    last, best_weights = (load_file(run / f"{name}.safetensors") for name in ("weights", "best"))
    assert last.keys() == best_weights.keys()


def test_the_way_is_evaluated_on_middles_and_the_end_on_test_views(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []

    def noted(
        run: Run, model: VideoClassifier, dataset: EvaluationClips, *rest: Any, **more: Any
    ) -> Any:
        kinds.append((type(dataset), dataset.shape[0]))
        return score_model(run, model, dataset, *rest, **more)

    monkeypatch.setattr("videomae.train.finetuning.score_model", noted)
    monkeypatch.setattr("videomae.evaluation.scoring.score_model", noted)
    validated(videos, tmp_path / "run", "data.segments=2", "data.crops=2")
    assert kinds == [(ValidationClips, 1)] * 3 + [(EvaluationClips, 4)]


@pytest.mark.long
def test_evaluations_change_nothing_in_the_training(videos: Path, tmp_path: Path) -> None:
    without = train(finetuning(videos, tmp_path / "without"))
    run = validated(videos, tmp_path / "run")
    ours, theirs = weights(without), weights(run)
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert json.loads((run / "results.json").read_text())["weights"] == {
        "chosen": "last",
        "step": STEPS,
    }


@pytest.mark.long
@pytest.mark.parametrize("stop", [*soaked(1, STEPS_PER_EPOCH), STEPS_PER_EPOCH + 1])
def test_the_best_survives_a_stop(videos: Path, tmp_path: Path, stop: int) -> None:
    whole = validated(videos, tmp_path / "whole", "run.checkpoint_every=1")
    validated(videos, tmp_path / "parts", "run.checkpoint_every=1", max_steps=stop)
    parts = validated(videos, tmp_path / "parts", "run.checkpoint_every=1", resume="auto")
    assert (whole / "best.json").read_text() == (parts / "best.json").read_text()
    ours, theirs = (load_file(run / "best.safetensors") for run in (whole, parts))
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert rows_of(whole) == rows_of(parts)


def spoiled(path: Path, what: str) -> None:
    """Something else in the place of a run's best weights."""
    path.unlink()
    if what == "damaged":
        path.write_bytes(b"junk\n")
    elif what == "cut":
        path.write_bytes((path.parent / "weights.safetensors").read_bytes()[:-100])
    elif what == "pipe":
        os.mkfifo(path)


@pytest.mark.long
@pytest.mark.parametrize("what", ["damaged", *soaked("missing", "cut", "pipe")])
def test_best_weights_that_cannot_be_used_are_named_with_the_next_step(
    videos: Path, tmp_path: Path, what: str
) -> None:
    run = validated(videos, tmp_path / "run", "run.checkpoint_every=3")
    file = run / "best.safetensors"
    spoiled(file, what)
    (run / "best.json").write_text(json.dumps({"step": 1, "val_top1": 101.0}))
    (run / "results.json").unlink()
    given: dict[str, Any] = {"test_weights": WhichWeights.best, "resume": "auto"}
    with pytest.raises(WeightsError) as error:
        validated(videos, run, "run.checkpoint_every=3", **given)
    for words in (str(file), "put that file back", "resume=auto test_weights=last"):
        assert words in str(error.value)
    validated(videos, run, "run.checkpoint_every=3", **given | {"test_weights": WhichWeights.last})
    assert (run / "results.json").is_file()


@pytest.mark.long
def test_the_best_of_a_future_that_was_left_is_forgotten(videos: Path, tmp_path: Path) -> None:
    """Going on from an older checkpoint, with a best that cannot be reached again."""
    run = validated(videos, tmp_path / "run", "run.checkpoint_every=1", "run.keep_checkpoints=9")
    (run / "best.json").write_text(json.dumps({"step": 6, "val_top1": 101.0}))
    again = validated(
        videos,
        run,
        "run.checkpoint_every=1",
        "run.keep_checkpoints=9",
        resume=str(run / "checkpoints" / "step_3"),
    )
    assert json.loads((again / "best.json").read_text())["val_top1"] <= 100


def test_a_choice_without_evaluations_is_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test_weights=best needs eval_every=1"):
        finetuning(videos, tmp_path, test_weights=WhichWeights.best)
    with pytest.raises(ConfigError, match=r"data\.val_list is not set"):
        train(finetuning(videos, tmp_path / "run", eval_every=1))


@pytest.mark.long
def test_the_labels_and_five_clips_are_shown_at_the_start(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(finetuning(videos, tmp_path / "run", max_steps=1))  # with its pictures
    said = capsys.readouterr().err
    assert "data.train_list: 11 videos of 3 classes, the head has 3; 3 to 4 of a class" in said
    assert "differ by" in said
    for number in (0, 2, 5, 7, 10):
        assert f"  line {number + 1}: {number}.mp4: {number % 3}\n" in said
    assert (tmp_path / "run" / "figures" / "training_clips.png").is_file()
    train(finetuning(videos, tmp_path / "run", resume="auto"))
    assert "data.train_list: 11" not in capsys.readouterr().err  # it has been seen


def test_test_videos_that_are_trained_on_are_counted(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = finetuning(videos, tmp_path / "run", max_steps=1)
    test_list = write_list(tmp_path / "test.txt", ["3.mp4 0", "11.mp4 1", "4.mp4 2"])
    train(replace(config, data=replace(config.data, test_list=str(test_list))))
    said = " ".join(capsys.readouterr().err.split())
    assert "WARNING: 2 of 3 videos of data.test_list are in data.train_list too" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["shared_with"] == {"data.train_list": 2}


@pytest.mark.long
def test_test_videos_that_the_weights_have_seen_are_counted(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(finetuning(videos, tmp_path / "first", max_steps=1))
    config = finetuning(videos, tmp_path / "second", max_steps=1, weights=str(tmp_path / "first"))
    other = write_list(tmp_path / "other.txt", [f"{n}.mp4 {n % 3}" for n in (0, 1, 2, 5)])
    test_list = write_list(tmp_path / "test.txt", ["3.mp4 0", "11.mp4 1", "4.mp4 2"])
    lists = {"train_list": str(other), "test_list": str(test_list)}
    config = replace(config, data=replace(config.data, **lists))
    capsys.readouterr()
    train(config)
    first = f"{tmp_path}/first"
    text = f"2 of the 3 videos of data.test_list were trained on by {first}, such as 3.mp4: "
    assert f"WARNING: {text}" in capsys.readouterr().err
    (row,) = map(json.loads, (tmp_path / "second" / "warnings.jsonl").read_text().splitlines())
    assert (row["step"], row["guard"]) == (0, "seen_in_training")
    assert row["text"].startswith(text)
    results = json.loads((tmp_path / "second" / "results.json").read_text())
    assert results["shared_with"] == {f"the training list of {first}": 2}
    damaged = tmp_path / "first" / "config.yaml"
    damaged.write_text("data: [")  # it is then not known
    train(replace(config, output_dir=str(tmp_path / "third")))
    assert "were trained on" not in capsys.readouterr().err
