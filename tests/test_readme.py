"""The commands of the README compose, and the files it names exist."""

import argparse
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from tests.conftest import ROOT, write_list
from tests.test_commands import call
from videomae.config import ClipConfig, Positions, config_dir
from videomae.model import VideoClassifier, VideoMAE, preset
from videomae.run.schema import COMMANDS, config_object, register
from videomae.weights.formats import DEEPSPEED

README = (ROOT / "README.md").read_text()


def commands(text: str = README) -> list[list[str]]:
    """Every `python -m videomae...` of the README, also under torchrun, as words."""
    text = text.replace("\\\n", " ")
    found = re.findall(r"^ +((?:python|torchrun) .*-m videomae\..*)$", text, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def test_the_readme_shows_every_command() -> None:
    shown = {word.removeprefix("videomae.") for words in commands() for word in words}
    assert set(COMMANDS) - {"evaluate"} <= shown
    assert "python -m videomae.evaluate" in README


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_composes(words: list[str]) -> None:
    module = words.index("-m") + 1
    given = [word for word in words[module + 1 :] if word != "..."]
    name = words[module].removeprefix("videomae.")
    jobs = [given]
    if given[:1] == ["-m"]:  # a sweep
        parsed = OverridesParser.create().parse_overrides(given[1:])
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        assert len(jobs) > 1
    register(name)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for overrides in jobs:
            compose(name, overrides=overrides, return_hydra_config=True)
            own = [each for each in overrides if not each.startswith("hydra")]
            config_object(compose(name, overrides=own), name)


def test_files_that_the_readme_names_exist() -> None:
    for script in re.findall(r"scripts/\w+\.\w+", README):
        assert (ROOT / script).is_file(), script
    rooms = re.findall(r"`(videomae/\w+/)`: ([^|;]*)", README)  # some rows of the table name two
    assert len(rooms) > 10
    for room, names in rooms:
        for module in re.findall(r"`(\w+)`", names):
            assert (ROOT / room / f"{module}.py").is_file(), module


# "Bring your own weights", run

SMALL = (  # what makes a command of the README a matter of seconds
    "model=vit_tiny",
    "model.positions=sincos_1d",
    "data.clip.frames=4",
    "data.clip.size=32",
    "data.repeats=1",
    "data.segments=1",
    "data.crops=1",
    "optim.global_batch=2",
    "run=debug",
    "max_steps=1",
)


def stand_ins(here: Path, videos: Path) -> None:
    """The files that the section names, as those who released them made them, but small."""
    args = argparse.Namespace(num_frames=4, input_size=32, sampling_rate=4, lr=np.float64(1e-3))
    tiny = replace(preset("vit_tiny"), positions=Positions.sincos_1d)
    clip = ClipConfig(frames=4, stride=4, size=32)
    torch.save(
        {"model": VideoMAE(tiny, clip).state_dict(), "args": args, "epoch": 199},
        here / "vit_b_hybrid_pt.pth",
    )
    for path, classes in (("tiktokactions_ft_k400.pth", 400), (f"checkpoint-29/{DEEPSPEED}", 101)):
        (here / path).parent.mkdir(exist_ok=True)
        half = VideoClassifier(tiny, clip, classes).half().state_dict()
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


@pytest.mark.long
def test_bring_your_own_weights(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command and every line of Python of the section, in its order."""
    section = README.split("## Bring your own weights\n")[1].split("\n## ")[0]
    stand_ins(tmp_path, videos)
    monkeypatch.chdir(tmp_path)
    ran = []
    for words in commands(section):
        _, _, module, *overrides = words
        name = module.removeprefix("videomae.")
        given = [word.replace("=/data/", f"={tmp_path}/data/") for word in overrides]
        small = SMALL if name in ("finetune", "evaluate") else ()
        assert call(name, *given, *small) == 0, capsys.readouterr().err
        said = "".join(capsys.readouterr())
        assert "unexpected: none" in said or name == "finetune", said
        ran.append(name)
    assert ran == ["finetune", "finetune", "evaluate", "reconstruct"] + ["convert"] * 3
    for name in ("k400_vitb_v2", "ucf101_vitb_tiktok", "k400_vitb_v1/evaluation"):
        assert (tmp_path / "outputs" / name / "results.json").is_file()
    names = ("vit_b_hybrid_pt.pth", "back.pth")
    first, back = (torch.load(name, weights_only=False)["model"] for name in names)
    assert all(first[name].equal(back[name]) for name in first)
    assert (tmp_path / "reconstruction.png").is_file()
    (snippet,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    found: dict[str, Any] = {}
    exec(snippet, found)
    assert isinstance(found["model"], VideoMAE)
    assert found["longer"].clip.frames == 32
    assert found["longer"].clip.frame == (192, 256)
