"""The commands, as a user calls them: what they say, what they refuse, what they leave behind."""

import errno
import importlib
import inspect
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

import videomae
from tests.conftest import compose_groups, composed, run_command, write_list, write_video
from tests.train import (
    CLASSES,
    FINETUNE,
    PRETRAIN,
    finetuning,
    json_lines,
    labelled_list,
    pretraining,
    train,
    video_list,
    weights,
)
from videomae.config import EvaluateConfig
from videomae.data.dataset import EvaluationClips
from videomae.evaluate import evaluate
from videomae.evaluation.metrics import Scores
from videomae.evaluation.predictions import PredictionError
from videomae.lists.clips import read_clips
from videomae.model.pixels import normalise
from videomae.pictures import figures
from videomae.run.command import _what_to_do
from videomae.run.directory import RunExistsError
from videomae.run.files import sha256
from videomae.run.overwrite import clear_run
from videomae.run.schema import COMMANDS, schema
from videomae.train import usual_rate
from videomae.weights.formats import read_weights
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, save_weights

BLANK = Image.new("L", (8, 8))
TEST_LIST = [f"{number}.mp4 {number % CLASSES}" for number in range(7)]


def module_of(command: str) -> ModuleType:
    """What `python -m videomae.COMMAND` runs."""
    module = importlib.import_module(f"videomae.{command}")
    is_package = hasattr(module, "__path__")
    return importlib.import_module(f"videomae.{command}.__main__") if is_package else module


def call(command: str, *overrides: str, pictures: bool = False) -> int:
    """Run a command's main in this process, with hydra's own reading of the command line.

    Without pictures all are composed and none is drawn, which takes longest in a tiny run. What
    usual_rate composes are groups of settings, from which the others change nothing.
    """
    module = module_of(command)
    with pytest.MonkeyPatch.context() as patch:
        if not {"-m", "--multirun"} & {*overrides}:  # else all is composed twice, to look
            patch.setattr(Hydra, "get_mode", lambda *_, **__: RunMode.RUN)
        if not pictures:
            patch.setattr(figures, "_write", lambda _, place: BLANK.save(place, "png"))
        patch.setattr(usual_rate, "compose", compose_groups)
        root = logging.getLogger()
        patch.setattr(root, "handlers", root.handlers[:])  # Hydra leaves its own
        patch.setattr(sys, "argv", [str(module.__file__), *overrides])
        try:
            module.main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            HydraConfig.instance().cfg = None
            GlobalHydra.instance().clear()
    return 0


@pytest.fixture(scope="module")
def pretrained(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished pre-training run, with its pictures."""
    directory = tmp_path_factory.mktemp("pretrained") / "run"
    config = pretraining(videos, directory, name="first")
    importlib.import_module("videomae.pretrain").pretrain(config)
    return directory


def test_other_clips_than_those_of_the_weights_are_warned_of(
    pretrained: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute a step may else be the only sign."""
    for size, told in ((48, True), (32, False)):
        clip = f"data.clip.size={size}"
        run = tmp_path / str(size)
        train(finetuning(videos, run, clip, max_steps=1, weights=str(pretrained)))
        said = " ".join(capsys.readouterr().err.split())
        assert ("WARNING: the weights were trained on" in said) is told
        assert (f"data.clip.frames=4 data.clip.size={32} keeps theirs" in said) is told


def evaluated_overrides(videos: Path, tmp_path: Path) -> list[str]:
    """Of a fine-tuning run and of its evaluation, the same for both."""
    return [
        *FINETUNE,
        "name=second",
        "data.segments=2",
        "data.crops=2",
        "data.max_bad_fraction=1",
        f"data.root={videos}",
        f"data.train_list={labelled_list(tmp_path / 'train.txt')}",
        f"data.test_list={write_list(tmp_path / 'test.txt', TEST_LIST)}",
    ]


@pytest.fixture(scope="module")
def finetuned(
    videos: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The directory of a finished fine-tuning run, and its overrides less weights, output_dir."""
    root = tmp_path_factory.mktemp("finetuned")
    overrides = evaluated_overrides(videos, root)
    end = (f"weights={pretrained}", f"output_dir={root / 'run'}")
    importlib.import_module("videomae.finetune").finetune(composed("finetune", *overrides, *end))
    return root / "run", overrides


# Starting


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_says_what_the_command_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    said = capsys.readouterr().out
    module = module_of(command)
    explanation = inspect.getdoc(module)
    assert explanation is not None
    assert " ".join(said.split()).startswith(" ".join(explanation.split()))
    assert f"python -m videomae.{command}" in explanation
    if "weights" in {field.name for field in fields(COMMANDS[command])}:
        assert "weights" in explanation


@pytest.mark.long
def test_without_data_a_command_says_so_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run_command("pretrain", "+exp=tiktok_vitg", cwd=tmp_path)
    assert time.monotonic() - began < 45  # 15 s on a machine that does nothing else
    assert done.returncode == 2
    for words in ("data.train_list is not set", "data.root is not set", "give data.root="):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "overrides", "missing"),
    [
        ("pretrain", ("+exp=tiktok_vitb",), ["data.train_list", "data.root"]),
        (
            "finetune",
            ("+exp=ucf101",),
            ["data.train_list", "data.test_list", "data.root", "weights"],
        ),
        (
            "finetune",
            ("data.classes=null",),
            ["data.train_list", "data.test_list", "data.root", "data.classes", "weights"],
        ),
        (
            "finetune",
            ("+exp=ucf101", "eval_every=1", "weights=scratch"),
            ["data.train_list", "data.val_list", "data.test_list", "data.root"],
        ),
        ("evaluate", ("+exp=hmdb51",), ["data.test_list", "data.root", "weights"]),
        ("reconstruct", (), ["weights", "video"]),
    ],
)
def test_what_is_missing_is_named_with_the_override_that_gives_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    overrides: tuple[str, ...],
    missing: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(command, *overrides) == 2
    said = capsys.readouterr()
    rows = [line.strip() for line in said.err.splitlines() if line.startswith("  ")]
    assert [row.split()[0] for row in rows] == missing
    for row, key in zip(rows, missing, strict=True):
        assert row.startswith(f"{key} is not set: ")
        assert f"; give {key}=" in row
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_paths_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("pretrain", "data.train_list=/no/list.txt", "data.root=/no/videos") == 2
    said = capsys.readouterr().err
    assert "data.train_list=/no/list.txt does not exist" in said
    assert "data.root=/no/videos does not exist" in said
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_exps(tmp_path: Path) -> Path:
    """A directory of configs with one mistake each."""
    directory = tmp_path / "configs" / "exp"
    directory.mkdir(parents=True)
    for name, line in {"misspelt": "base_lrr: 1.0", "mistyped": "epochs: many"}.items():
        (directory / f"{name}.yaml").write_text(f"# @package _global_\noptim:\n  {line}\n")
    return directory.parent


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.base_lrr=1.0", ["optim.base_lrr"]),
        ("optim.epochs=many", ["optim.epochs", "many"]),
        ("run.precision=fp8", ["run.precision", "fp8", "bf16"]),
        ("+exp=misspelt", ["exp/misspelt", "base_lrr"]),
        ("+exp=mistyped", ["exp/mistyped", "optim.epochs", "many"]),
        ("+exp=nothing", ["exp=nothing", "tiktok_vitg"]),
    ],
)
def test_unknown_keys_and_wrong_types_are_named_with_their_file(
    own_exps: Path, capsys: pytest.CaptureFixture[str], override: str, words: list[str]
) -> None:
    assert call("pretrain", override, f"--config-dir={own_exps}") != 0
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.global_batch=0", "optim.global_batch must be at least 1, got 0"),
        ("data.clip.size=30", "the nearest sizes are 16 and 32"),
        ("mask.ratio=1.5", "mask.ratio must lie in (0, 1), got 1.5"),
        ("max_steps=0", "max_steps must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work_end_with_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("pretrain", override) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert list(tmp_path.iterdir()) == []


# Pre-training


def test_a_pretraining_run_leaves_what_the_readme_says(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        *PRETRAIN,
        "run.log_every=2",
        "name=mine",
        f"data.root={videos}",
        f"data.train_list={video_list(tmp_path / 'list.txt')}",
        f"output_dir={tmp_path / 'run'}",
    ]
    assert call("pretrain", *overrides) == 0
    directory = tmp_path / "run"
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "weights.safetensors",
        "figures",
        ".hydra",
        "written.json",
        "choices.json",
    }
    assert {path.name for path in (directory / ".hydra").iterdir()} == {
        "hydra.yaml",
        "overrides.yaml",
    }
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"last", "step_6"}
    for row in json_lines(directory / "metrics.jsonl"):
        assert {"step", "epoch", "loss", "lr", "grad_norm", "clips_per_s", "data_s", "step_s"} <= (
            row.keys()
        )
    said = capsys.readouterr().err
    for words in ("11 videos // 4", "3 epochs x 2", "optim.base_lr 0.2 x 4/256", "step 6/6"):
        assert words in said
    hashes = json.loads((directory / "environment.json").read_text())["sha256"]
    assert hashes == {"data.train_list": sha256(tmp_path / "list.txt")}
    # Nothing else is written, such as a log beside it.
    assert {path.name for path in tmp_path.iterdir()} == {"list.txt", "run"}


def test_config_yaml_composes_to_the_same_run(pretrained: Path, videos: Path) -> None:
    text = OmegaConf.load(pretrained / "config.yaml")
    config = OmegaConf.to_object(OmegaConf.merge(schema(COMMANDS["pretrain"]), text))
    assert config == pretraining(videos, pretrained, name="first")


def test_the_weights_say_what_they_are(pretrained: Path, videos: Path) -> None:
    info = read_weights(pretrained).info
    config = pretraining(videos, pretrained)
    assert (info.kind, info.name, info.step) == (Kind.pretrain, "first", 6)
    assert (info.model, info.clip, info.mask) == (config.model, config.data.clip, config.mask)
    assert info.parents == ()
    model = videomae.load_model(pretrained)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.equal(weights(pretrained)[name])


def test_pretraining_goes_on_from_weights(videos: Path, pretrained: Path, tmp_path: Path) -> None:
    directory = train(
        pretraining(videos, tmp_path / "run", weights=str(pretrained), max_steps=1, name="next")
    )
    theirs = weights(pretrained)
    for name, tensor in weights(directory).items():  # the first step is at a rate of 0
        assert tensor.equal(theirs[name])
    parents = read_weights(directory).info.parents
    assert [(link.name, link.sha256) for link in parents] == [
        ("first", sha256(pretrained / "weights.safetensors"))
    ]
    hashes = json.loads((directory / "environment.json").read_text())["sha256"]
    assert hashes["weights"] == parents[0].sha256


def test_pictures_of_the_run(pretrained: Path) -> None:
    assert {path.name for path in (pretrained / "figures").iterdir()} == {
        "attention.png",
        "loss.png",
        "reconstruction.png",
    }
    for path in (pretrained / "figures").iterdir():
        assert matplotlib.image.imread(path)[..., :3].std() > 0.02


@pytest.mark.parametrize("background", ["true", "false"])
def test_a_full_disk_ends_with_one_message(
    background: str,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    overrides = [
        *PRETRAIN,
        f"data.root={videos}",
        f"data.train_list={video_list(tmp_path / 'list.txt')}",
        f"output_dir={tmp_path / 'run'}",
        f"run.background_checkpoints={background}",
    ]
    for place in ("videomae.run.environment.write_text", "videomae.train.checkpoint.write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            assert call("pretrain", *overrides, "resume=auto", "max_steps=1") == 2
        said = capsys.readouterr().err
        assert "error: " in said
        assert "ake room" in said
        assert "resume=auto" in said
        assert "Traceback" not in said


# Fine-tuning


def test_finetuning_says_what_it_took_from_the_pretraining(
    videos: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = train(
        finetuning(videos, tmp_path / "run", weights=str(pretrained), max_steps=1, name="next")
    )
    said = capsys.readouterr().err
    report = re.search(r"(\d+) tensors loaded; missing: (.*); unexpected: (.*)", said)
    assert report, said
    assert int(report[1]) == len([n for n in weights(pretrained) if n.startswith("encoder.")]) - 2
    assert report[2] == "fc_norm.weight, fc_norm.bias, head.weight, head.bias"
    assert report[3].startswith("none; decoder left out (")
    theirs = weights(pretrained)
    compared = 0
    for name, tensor in weights(directory).items():  # the first step is at a rate of 0
        if not name.startswith(("fc_norm", "head")):
            assert tensor.equal(theirs[f"encoder.{name}"])
            compared += 1
    assert compared == int(report[1])
    assert [link.name for link in read_weights(directory).info.parents] == ["first"]


def test_finetuning_from_scratch_takes_nothing(
    videos: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = train(finetuning(videos, tmp_path / "run", weights="scratch", max_steps=1))
    assert "tensors loaded" not in capsys.readouterr().err
    info = read_weights(directory).info
    assert info.parents == ()
    assert (info.kind, info.class_names) == (Kind.classifier, ["0", "1", "2"])
    ours, theirs = weights(directory), weights(pretrained)
    assert not ours["blocks.0.mlp.fc1.weight"].equal(theirs["encoder.blocks.0.mlp.fc1.weight"])


@pytest.mark.long
def test_a_chain_of_three_is_remembered(
    videos: Path, finetuned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    directory = train(
        finetuning(videos, tmp_path / "run", weights=str(finetuned[0]), max_steps=1, name="third")
    )
    parents = read_weights(directory).info.parents
    assert [link.name for link in parents] == ["first", "second"]
    assert parents[1].sha256 == sha256(finetuned[0] / "weights.safetensors")
    theirs = weights(finetuned[0])
    assert all(tensor.equal(theirs[name]) for name, tensor in weights(directory).items())


def test_a_head_of_other_classes_is_replaced(
    videos: Path,
    finetuned: tuple[Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"weights": str(finetuned[0]), "max_steps": 1}
    directory = train(finetuning(videos, tmp_path / "run", "data.classes=5", **settings))
    assert "missing: head.weight, head.bias; unexpected: none" in capsys.readouterr().err
    ours, theirs = weights(directory), weights(finetuned[0])
    assert ours["head.bias"].shape == (5,)
    assert all(ours[n].equal(theirs[n]) for n in ours if not n.startswith("head."))


def test_part_of_an_encoder_is_refused(videos: Path, pretrained: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.safetensors"
    model = videomae.load_model(pretrained)
    info = read_weights(pretrained).info
    save_weights(part, model.state_dict(), info)
    tensors = load_file(part)
    del tensors["encoder.blocks.1.mlp.fc1.weight"]
    save_file(tensors, part, metadata=info.metadata())
    with pytest.raises(WeightsError, match=r"part of the encoder.*blocks.1.mlp.fc1.weight"):
        train(finetuning(videos, tmp_path / "run", weights=str(part)))
    assert not (tmp_path / "run").exists()


# Evaluation


def test_results_hold_what_was_promised(finetuned: tuple[Path, list[str]]) -> None:
    directory, _ = finetuned
    results = json.loads((directory / "results.json").read_text())
    assert list(results) == [
        "top1",
        "top1_interval",
        "top5",
        "mean_class_accuracy",
        "num_videos",
        "num_unreadable",
        "views",
        "per_class",
        "weights",
        "shared_with",
        "data",
        "sha256",
    ]
    assert results["data"] == directory.parent.name  # of test.txt, whose folder tells more
    assert results["weights"] == {"chosen": "last", "step": 6}
    assert results["sha256"]["weights"] == sha256(directory / "weights.safetensors")
    assert (results["num_videos"], results["num_unreadable"]) == (7, 0)
    assert results["views"] == {"segments": 2, "crops": 2}
    assert list(results["per_class"]) == ["0", "1", "2"]
    assert results["top5"] == 100  # of three classes
    assert (directory / "figures" / "confusion.png").is_file()


def noted(found: list[Scores], **columns: Any) -> Scores:
    """The scores of an evaluation, added to those found."""
    found.append(Scores(**columns))
    return found[-1]


def test_a_prediction_is_the_mean_over_the_views_of_the_model_at_rest(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a fine-tuning run, whose model has just been trained with dropout."""
    found: list[Scores] = []
    module = importlib.import_module("videomae.evaluation.heads")
    monkeypatch.setattr(module, "Scores", partial(noted, found))
    overrides = ("data.segments=2", "data.crops=2", "run.device_batch=8")
    config = finetuning(videos, tmp_path / "run", *overrides)
    directory = train(config)
    model = videomae.load_model(directory)
    clips = read_clips(str(config.data.test_list), config.data, labelled=True)
    dataset = EvaluationClips(clips, config.data)
    expected = []
    for index in range(len(clips)):
        views = dataset[index].clip
        assert len(views) == 4
        with torch.no_grad():
            logits = model(normalise(views)).double().numpy()  # type: ignore[operator]
        expected.append((np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).mean(0))
    assert np.std(expected, axis=0).max() > 1e-4
    np.testing.assert_allclose(found[0].probs, expected, rtol=1e-5)
    labels = np.array([clip.label for clip in clips])
    np.testing.assert_array_equal(found[0].labels, labels)
    results = json.loads((directory / "results.json").read_text())
    assert results["top1"] == pytest.approx(100 * np.mean(np.argmax(expected, 1) == labels))


def test_evaluate_takes_the_overrides_of_finetune_and_finds_the_same(
    finetuned: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, overrides = finetuned
    monkeypatch.chdir(tmp_path)
    assert call("evaluate", *overrides, f"weights={directory}") == 0
    own = tmp_path / "outputs" / "second" / "evaluation"  # beside the run, not in its place
    found, before = (json.loads((x / "results.json").read_text()) for x in (own, directory))
    assert before.pop("weights") == {"chosen": "last", "step": 6}
    shared = before.pop("shared_with")  # the encoder was pre-trained on these videos, too
    assert shared.pop("data.train_list") == 7
    assert [*shared.values()] == [7]
    assert [*found.pop("shared_with").values()] == [7, 7]  # and was fine-tuned on them
    assert found["data"] == Path(composed("evaluate", *overrides).data.test_list).parent.name
    assert found == before
    assert {path.name for path in own.iterdir()} == {
        "results.json",
        "predictions.jsonl",
        "features.safetensors",
        "config.yaml",
        "environment.json",
        "figures",
        ".hydra",
        "written.json",
    }
    hashes = json.loads((own / "environment.json").read_text())["sha256"]
    assert hashes["weights"] == sha256(directory / "weights.safetensors")
    assert "data.test_list" in hashes


@pytest.mark.long
def test_evaluate_runs_in_the_half_precision_of_the_official_code(
    finetuned: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other numbers than float32's, and nearer to them than those of bf16."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, list[Scores]] = {"float32": [], "bf16": [], "fp16": []}
    for name, scores in found.items():
        note = partial(noted, scores)
        monkeypatch.setattr(importlib.import_module("videomae.evaluation.heads"), "Scores", note)
        evaluate(evaluation(finetuned, tmp_path / name, f"run.precision={name}"))
    exact, rough, half = (scores[0].probs for scores in found.values())
    assert 0 < np.abs(half - exact).max() < np.abs(rough - exact).max() < 0.02


@pytest.mark.parametrize("command", ["pretrain", "finetune", "probe", "extract"])
def test_nothing_else_runs_in_half_precision(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given: list[str] = []
    if command in ("pretrain", "finetune"):
        recipe = PRETRAIN if command == "pretrain" else FINETUNE
        labelled = labelled_list(tmp_path / "list.txt")
        given = [*recipe, f"data.train_list={labelled}", f"data.root={videos}"]
    if command == "finetune":
        given += [f"data.test_list={labelled}", "weights=scratch"]
    assert call(command, *given, "run.precision=fp16") == 2
    assert "error: run.precision=fp16 is for evaluate and predict" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("exp", ["ucf101", "ssv2", "demo_finetune"])
def test_evaluate_takes_every_finetuning_exp(exp: str) -> None:
    ours = composed("evaluate", f"+exp={exp}", "weights=x", "output_dir=y")
    theirs = composed("finetune", f"+exp={exp}", "weights=x", "output_dir=y")
    assert isinstance(ours, EvaluateConfig)
    assert (ours.model, ours.data, ours.name) == (theirs.model, theirs.data, theirs.name)


def evaluation(finetuned: tuple[Path, list[str]], output: Path, *overrides: str) -> EvaluateConfig:
    directory, given = finetuned
    return composed(
        "evaluate", *given, f"weights={directory}", f"output_dir='{output}'", *overrides
    )


def test_an_unreadable_test_video_is_wrong_and_stays_in_the_count(
    finetuned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    lines = ["# of the test list", *TEST_LIST, "missing.mp4 0", "text.mp4 2"]
    test_list = write_list(tmp_path / "test.txt", lines)
    config = evaluation(finetuned, tmp_path / "out", f"data.test_list={test_list}")
    root = tmp_path / "videos"
    root.mkdir()
    for path in Path(str(config.data.root)).glob("*.mp4"):
        (root / path.name).symlink_to(path)
    (root / "text.mp4").write_text("this is no video\n")
    evaluate(replace(config, data=replace(config.data, root=str(root))))

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    before = json.loads((finetuned[0] / "results.json").read_text())
    assert (results["num_videos"], results["num_unreadable"]) == (9, 2)
    assert results["top1"] == pytest.approx(before["top1"] * 7 / 9)
    assert results["top5"] == pytest.approx(100 * 7 / 9)
    counts = {"0": (3, 4), "1": (2, 2), "2": (2, 3)}  # videos of each class before and now
    for name, (old, new) in counts.items():
        assert results["per_class"][name] == pytest.approx(before["per_class"][name] * old / new)
    rows = json_lines(tmp_path / "out" / "bad_files.jsonl")
    assert [(row["path"], row["line"], row["list"]) for row in rows] == [
        ("missing.mp4", 9, "test"),
        ("text.mp4", 10, "test"),
    ]
    assert all(row["path"] in row["error"] for row in rows)
    predictions = json_lines(tmp_path / "out" / "predictions.jsonl")
    assert [row["line"] for row in predictions] == list(range(2, 11))  # after the comment
    assert [f"{row['video']} {row['label']}" for row in predictions] == lines[1:]
    assert [row["readable"] for row in predictions] == [True] * 7 + [False] * 2
    assert [row["top"] for row in predictions[7:]] == [[], []]
    right = [row["top"][0]["label"] == row["label"] for row in predictions[:7]]
    assert results["top1"] == 100 * sum(right) / 9
    for row in predictions[:7]:
        probs = [guess["prob"] for guess in row["top"]]
        assert len(probs) == 3
        assert probs == sorted(probs, reverse=True)
        assert sum(probs) == pytest.approx(1, abs=2e-4)


def test_results_are_not_replaced_unless_asked(
    finetuned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    config = evaluation(finetuned, out)
    evaluate(config)
    before = (out / "results.json").read_text()
    with pytest.raises(RunExistsError, match="overwrite=true"):
        evaluate(config)
    one_view = evaluation(finetuned, out, "data.segments=1", "data.crops=1", "overwrite=true")
    evaluate(one_view)
    assert json.loads(before)["views"] != json.loads((out / "results.json").read_text())["views"]


def test_overwriting_results_does_not_cost_the_weights(
    finetuned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The overrides of a fine-tuning run, unchanged, name its own output_dir."""
    directory, overrides = finetuned
    copy = tmp_path / "run"
    for source in (path for path in directory.rglob("*") if path.is_file()):
        target = copy / source.relative_to(directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    end = (f"weights={copy}", f"output_dir={copy}", "overwrite=true")
    evaluate(composed("evaluate", *overrides, *end))
    assert (copy / "weights.safetensors").exists()
    assert (copy / "checkpoints").exists()
    assert (copy / "metrics.jsonl").exists()


@pytest.mark.long
@pytest.mark.parametrize("recorded", [True, False])
def test_a_fine_tuning_leaves_the_evaluation_that_came_before(
    videos: Path, finetuned: tuple[Path, list[str]], tmp_path: Path, recorded: bool
) -> None:
    out = tmp_path / "run"
    evaluate(evaluation(finetuned, out / "evaluation"))
    (out / "evaluation" / "notes.txt").write_text("mine")
    if not recorded:
        (out / "evaluation" / "written.json").unlink()
    files = [path for path in out.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for settings in ({}, {"overwrite": True}):
        train(finetuning(videos, out, max_steps=1, **settings))
        assert {path: path.read_bytes() for path in before} == before


def test_everything_in_the_directory_of_a_run_is_in_its_record(
    finetuned: tuple[Path, list[str]], pretrained: Path, tmp_path: Path
) -> None:
    evaluate(evaluation(finetuned, tmp_path / "evaluation"))
    for directory in (finetuned[0], pretrained, tmp_path / "evaluation"):
        clear_run(shutil.copytree(directory, tmp_path / "copy"))
        assert list((tmp_path / "copy").rglob("*")) == []
        (tmp_path / "copy").rmdir()


def test_a_prediction_that_is_not_finite_is_an_error_and_not_an_unreadable_video(
    finetuned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    source = read_weights(finetuned[0])
    tensors = {name: tensor.clone() for name, tensor in source.tensors.items()}
    tensors["head.bias"][0] = 3e38
    tensors["head.weight"][0] = 3e38  # finite, but not for long
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken, metadata=source.info.metadata())
    with pytest.raises(PredictionError, match="not finite"):
        evaluate(evaluation(finetuned, tmp_path / "out", f"weights={broken}"))
    assert not (tmp_path / "out" / "results.json").exists()


def test_classes_go_by_their_names(
    videos: Path, finetuned: tuple[Path, list[str]], tmp_path: Path
) -> None:
    names = write_list(tmp_path / "names.txt", ["jump high", "run", "sit"])
    named = f"data.class_names={names}"
    run = train(finetuning(videos, tmp_path / "run", named, max_steps=1))
    results = json.loads((run / "results.json").read_text())
    assert list(results["per_class"]) == ["jump high", "run", "sit"]
    assert read_weights(run).info.class_names == ["jump high", "run", "sit"]
    swapped = write_list(tmp_path / "swapped.txt", ["run", "jump high", "sit"])
    other = evaluation(finetuned, tmp_path / "out", f"weights={run}")
    data = replace(other.data, class_names=str(swapped))
    with pytest.raises(ValueError, match="class 0 is 'jump high'"):
        evaluate(replace(other, data=data))
    assert not (tmp_path / "out").exists()
    evaluate(replace(other, data=replace(other.data, class_names=None)))  # the weights name them
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(again["per_class"]) == ["jump high", "run", "sit"]


# Reconstruction


def draw(pretrained: Path, video: Path, output: Path, *overrides: str) -> None:
    module = importlib.import_module("videomae.reconstruct")
    given = (f"weights={pretrained}", f"video='{video}'", f"output='{output}'", "run=debug")
    module.reconstruct(composed("reconstruct", *given, *overrides))


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 90, 50), (5, 32, 32), (40, 18, 90)])
def test_any_video_is_drawn(
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    frames: int,
    height: int,
    width: int,
) -> None:
    video = write_video(tmp_path / "a video.mp4", frames=frames, height=height, width=width)
    draw(pretrained, video, tmp_path / "picture.png")
    image = matplotlib.image.imread(tmp_path / "picture.png")
    assert min(image.shape[:2]) > 200
    assert image[..., :3].std() > 0.02
    said = capsys.readouterr().out
    assert figures.STATISTICS in said
    assert "from the original" in figures.STATISTICS
    assert str(video) in said


def test_what_is_drawn_follows_the_settings(
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video = write_video(tmp_path / "video.mp4", frames=40)
    drawings: list[list[torch.Tensor]] = []
    module = importlib.import_module("videomae.pictures.figures")
    monkeypatch.setattr(
        module, "save_reconstructions", lambda _, rows, __: drawings.append(list(rows))
    )

    def drawn(*overrides: str) -> tuple[torch.Tensor, torch.Tensor, str]:
        draw(pretrained, video, tmp_path / "picture.png", *overrides)
        original, masked, _ = drawings[-1]
        return original, masked != original, capsys.readouterr().out

    original, hidden, said = drawn()
    assert "frames 16 to 22" in said  # the middle one of 33 starts
    assert 0.7 < hidden.float().mean() < 0.76  # as it was trained
    again, same, _ = drawn()
    assert again.equal(original)
    assert same.equal(hidden)
    again, other, _ = drawn("seed=1")
    assert again.equal(original)
    assert not other.equal(hidden)
    assert 0.2 < drawn("mask_ratio=0.25")[1].float().mean() < 0.26
    tube = drawn("mask_kind=tube", "mask_ratio=0.5")[1]
    assert tube[:, :2].any((1, -1)).equal(tube[:, 2:].any((1, -1)))  # the same in each time step
    later, _, said = drawn("start=3")
    assert "frames 3 to 9" in said
    assert not later.equal(original)
    assert "frames 0 to 9" in drawn("start=0", "stride=3")[2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mask_ratio=0", r"^mask_ratio must lie in \(0, 1\), got 0"),
        ("mask_ratio=1", r"^mask_ratio must lie in \(0, 1\), got 1"),
        ("stride=0", "stride must be at least 1, got 0"),
        ("start=40", "start=40 lies outside the 40 frames"),
        ("start=-1", "start must be at least 0, got -1"),
        ("seed=-1", r"seed must lie in .*, got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    pretrained: Path, tmp_path: Path, override: str, message: str
) -> None:
    video = write_video(tmp_path / "video.mp4", frames=40)
    with pytest.raises(ValueError, match=message):
        draw(pretrained, video, tmp_path / "picture.png", override)
    assert not (tmp_path / "picture.png").exists()


def test_a_classifier_cannot_reconstruct(
    finetuned: tuple[Path, list[str]], videos: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="is a fine-tuned classifier, without a decoder"):
        draw(finetuned[0], videos / "0.mp4", tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


@pytest.mark.long
@pytest.mark.parametrize("after_s", [0.3, 1.5, 3.0])
@pytest.mark.parametrize("name", ["recipes", "pretrain"])
def test_ctrl_c_while_a_command_begins_leaves_no_traceback(name: str, after_s: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", f"videomae.{name}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    ) as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "Traceback" not in said, said


def test_a_folder_that_went_away_is_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "run" / "metrics.jsonl")
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", gone)
    assert "its folder went away" in str(_what_to_do(error, ""))
    (tmp_path / "run").mkdir()
    assert _what_to_do(error, "") is None  # a mistake of ours
