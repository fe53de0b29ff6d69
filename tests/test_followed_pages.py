"""The pages that a newcomer follows, command by command in their order, on small stand-ins."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from tests import miniatures
from tests.conftest import write_list, write_video
from tests.pages import PAGES, commands, snippets
from tests.test_commands import call
from videomae.config import ClipConfig, Positions
from videomae.model import VideoClassifier, VideoMAE, preset
from videomae.weights.formats import DEEPSPEED
from videomae.weights.weights import Kind, WeightsInfo, save_weights

pytestmark = pytest.mark.long

MODEL = replace(preset("vit_tiny"), positions=Positions.sincos_1d)
CLIP = ClipConfig(frames=4, stride=4, size=32)
FEW_STEPS = {"run": "debug", "max_steps": "1"}
"""Of a command that a page makes small itself: it is run at the sizes that it names."""
TRAINING = FEW_STEPS | {
    "model": "vit_tiny",
    "model.positions": "sincos_1d",
    "data.clip.frames": "4",
    "data.clip.size": "32",
    "data.repeats": "1",
    "optim.global_batch": "2",
}
TESTING = {"data.segments": "1", "data.crops": "1"}
PROBING = {"probe.min_steps": "2", "probe.linear_epochs": "1", "probe.attentive_epochs": "1"}
SMALL = {
    "pretrain": TRAINING,
    "finetune": TRAINING | TESTING,
    "evaluate": TESTING | {"run": "debug"},
    "probe": {"run": "debug"} | PROBING,
    "predict": {"segments": "1", "crops": "1", "run": "debug"},
    "extract": {"run": "debug"},
}
"""What makes a command a matter of seconds; a page's own values of these settings give way."""


def follow(page: str, here: Path, also: Mapping[str, Mapping[str, str]] = SMALL) -> list[str]:
    """Run the commands of a page in the current directory, which is `here`; return their names.

    Those in which a reader is to fill in something (... or NAME), and those with a bucket, which
    tests/video/test_remote.py tries, are left out.
    """
    ran = []
    for _, name, overrides in commands(page):
        if "..." in overrides or any("/NAME/" in each or "s3://" in each for each in overrides):
            continue
        small = FEW_STEPS if "model=vit_tiny" in overrides else also.get(name, {})
        given = [each for each in overrides if each.split("=")[0] not in small]
        given = [each.replace("=/data/", f"={here}/data/") for each in given]
        given += [f"{key}={value}" for key, value in small.items()]
        assert call(name, *given) == 0, given
        ran.append(name)
    return ran


def run_of(directory: Path, model: VideoMAE | VideoClassifier, kind: Kind) -> None:
    """A run directory that holds the weights of a model."""
    directory.mkdir(parents=True)
    classes = model.head.out_features if isinstance(model, VideoClassifier) else None
    info = WeightsInfo(kind, directory.name, MODEL, CLIP, classes=classes)
    save_weights(directory / "weights.safetensors", model.state_dict(), info)


def labelled_folder(here: Path, videos: Path) -> None:
    """videos/ with two folders of eight videos, and lists of them with labels of 12 classes."""
    paths = []
    for first, folder in enumerate(("holiday", "work")):
        (here / "videos" / folder).mkdir(parents=True)
        for number in range(8):
            name = "beach" if (folder, number) == ("holiday", 0) else str(number)
            paths.append(f"{folder}/{name}.mp4")
            if first == 0:
                (here / "videos" / paths[-1]).symlink_to(videos / f"{number}.mp4")
            else:
                write_video(here / "videos" / paths[-1], seed=20 + number)
    write_list(here / "clips.txt", paths)
    labelled = [f"{path} {number % 12}" for number, path in enumerate(paths)]
    write_list(here / "train.txt", labelled[:12])
    write_list(here / "test.txt", labelled[12:])
    write_list(here / "classes.txt", [f"class {number}" for number in range(12)])


def test_own_videos(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled_folder(tmp_path, videos)
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "videos")
        (tmp_path / f"{name}.txt").write_text((tmp_path / "clips.txt").read_text())
    monkeypatch.chdir(tmp_path)
    ran = follow("docs/own_videos.md", tmp_path)
    assert ran[:4] == ["pretrain", "finetune", "predict", "report"]
    assert ran[4:9] == ["prepare", "scan", "pretrain", "pretrain", "reconstruct"]
    assert ran[9:] == [
        *("pretrain", "finetune", "evaluate", "predict", "extract", "report", "pretrain")
    ]
    for written in (
        *("outputs/finetune/prepared/test.txt", "outputs/finetune/results.json"),
        *("lists/mine/train.txt", "lists/mine/val.txt", "lists/mine/test.txt"),
        *("lists/mine/classes.txt", "scans/mine/clean.txt", "scans/mine/scan.parquet"),
        *("reconstruction.png", "predictions.json", "seen/holiday/beach.mp4.png"),
        *("features/manifest.jsonl", "outputs/report/report.html"),
        *("outputs/mine_12/results.json", "outputs/mine_12/evaluation/results.json"),
        "outputs/mine_12/figures/training_clips.png",
    ):
        assert (tmp_path / written).is_file(), written
    page = PAGES["docs/run_directory.md"]
    for run in ("mine", "mine_12"):
        text = (tmp_path / "outputs" / run / "metrics.jsonl").read_text()
        for key in json.loads(text.splitlines()[-1]):
            assert f"`{key}`" in page, key
    for key in json.loads((tmp_path / "outputs/mine_12/results.json").read_text()):
        assert f"`{key}`" in page, key
    found: dict[str, Any] = {}
    for text in snippets("docs/own_videos.md"):
        exec(text, found)
    assert found["tokens"].shape == (1, 2 * 4 * 4, MODEL.dim)


def test_packs(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled_folder(tmp_path, videos)
    monkeypatch.chdir(tmp_path)
    assert follow("docs/packs.md", tmp_path) == ["pack", "pretrain"]
    assert (tmp_path / "packs/clips/index.arrow").is_file()


@pytest.mark.soak
def test_benchmarks(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UCF101 of three classes, from its official files to predictions; then a probe."""
    labelled_folder(tmp_path, videos)
    (tmp_path / "some.mp4").symlink_to(videos / "0.mp4")
    miniatures.ucf101(tmp_path / "data")
    run_of(tmp_path / "outputs/k400", VideoClassifier(MODEL, CLIP, 400), Kind.classifier)
    run_of(tmp_path / "outputs/tiktok_vitb", VideoMAE(MODEL, CLIP), Kind.pretrain)
    monkeypatch.chdir(tmp_path)
    three = {"data.classes": "null"}
    small = SMALL | {name: SMALL[name] | three for name in ("finetune", "evaluate")}
    ran = follow("docs/benchmarks.md", tmp_path, small)
    assert ran == ["prepare", "scan", "finetune", "evaluate", "predict", "probe", "extract"]
    for split in ("", "split1/", "split2/", "split3/"):
        for place in (f"{split}results.json", f"evaluation/{split}results.json"):
            assert (tmp_path / "outputs/ucf101" / place).is_file(), place
    assert (tmp_path / "seen.png").is_file()


def released(here: Path, videos: Path) -> None:
    """The files that the page on weights names, as those who released them made them, but small."""
    args = argparse.Namespace(num_frames=4, input_size=32, sampling_rate=4, lr=np.float64(1e-3))
    torch.save(
        {"model": VideoMAE(MODEL, CLIP).state_dict(), "args": args, "epoch": 199},
        here / "vit_b_hybrid_pt.pth",
    )
    for path, classes in (("tiktokactions_ft_k400.pth", 400), (f"checkpoint-29/{DEEPSPEED}", 101)):
        (here / path).parent.mkdir(exist_ok=True)
        half = VideoClassifier(MODEL, CLIP, classes).half().state_dict()
        torch.save({"module": half, "args": args, "names": {"x"}, "epoch": 29}, here / path)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        num_labels=400,
    )
    theirs = VideoMAEForVideoClassification(config)
    theirs.save_pretrained(here / "videomae-base-finetuned-kinetics")
    for name in ("k400_train", "k400_val", "train", "test"):
        write_list(here / f"{name}.txt", [f"{number}.mp4 {number % 3}" for number in range(4)])
    write_list(here / "ucf101_classes.txt", [f"class {number}" for number in range(101)])
    (here / "data").mkdir()
    for name in ("k400", "ucf101"):
        (here / "data" / name).symlink_to(videos)
    (here / "some.mp4").symlink_to(videos / "0.mp4")


def test_weights(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    released(tmp_path, videos)
    monkeypatch.chdir(tmp_path)
    ran = follow("docs/weights.md", tmp_path)
    assert ran == ["finetune", "finetune", "evaluate", "reconstruct"] + ["convert"] * 3
    printed = "".join(capsys.readouterr())
    assert set(re.findall(r"unexpected: (\w+)", printed)) == {"none"}
    assert printed.count("decoder left out") == 1  # of the first's
    for name in ("k400_vitb_v2", "ucf101_vitb_tiktok", "k400_vitb_v1/evaluation"):
        assert (tmp_path / "outputs" / name / "results.json").is_file()
    names = ("vit_b_hybrid_pt.pth", "back.pth")
    first, back = (torch.load(name, weights_only=False)["model"] for name in names)
    assert all(first[name].equal(back[name]) for name in first)
    assert (tmp_path / "reconstruction.png").is_file()
    (tmp_path / "x.mp4").symlink_to(videos / "0.mp4")
    run_of(tmp_path / "outputs/mine", VideoMAE(MODEL, CLIP), Kind.pretrain)
    run_of(tmp_path / "outputs/mine_12", VideoClassifier(MODEL, CLIP, 12), Kind.classifier)
    loading, using, training = snippets("docs/weights.md")
    found: dict[str, Any] = {}
    for snippet in (loading, using, training.replace("pretrain(config)", "")):
        exec(snippet, found)
    assert len(found["found"].values) == 12
    assert found["config"].name == "from_python"
    assert isinstance(found["model"], VideoMAE)
    assert found["longer"].clip.frames == 32
    assert found["longer"].clip.frame == (192, 256)
