"""Tiny runs for the learning guards: slopes over four colours, which are the classes of the clips.

A healthy run of them learns within seconds, in both stages. test_guards.py makes runs that fail,
and `scripts/soak.py guards` goes through healthy ones.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.conftest import TINY, write_list
from tests.miniatures import FRAMES, write_clip, write_images

CLASSES, TRAINED, TESTED = 4, 32, 24
COLOURS = (1, 2, 4, 7)
"""The colour of each class, in bits."""


@dataclass(frozen=True)
class Coloured:
    """Clips of CLASSES colours in a folder per class, and their lists."""

    root: Path
    train: Path
    test: Path

    def data(self, stage: str) -> list[str]:
        """The settings of a stage that name the lists."""
        lists = [f"data.root={self.root}", f"data.train_list={self.train}"]
        if stage == "finetune":
            classes = (f"data.classes={CLASSES}", "data.segments=1", "data.crops=1")
            lists += [f"data.test_list={self.test}", *classes, "weights=scratch"]
        return lists


def coloured(root: Path, *, noise: bool = False) -> Coloured:
    """Write the clips and their lists.

    Args:
        noise: whether each frame is noise of its own, which nothing can be rebuilt from.
    """
    lines: list[str] = []
    for number in range(TRAINED + TESTED):
        label = number % CLASSES
        name = f"{'abcd'[label]}/take{number:03}.mp4"
        if noise:
            write_clip(root / name, COLOURS[label], seed=number)
        else:
            write_images(root / name, _slopes(COLOURS[label], number))
        lines.append(f"{name} {label}")
    train = write_list(root / "train.txt", lines[:TRAINED])
    return Coloured(root, train, write_list(root / "test.txt", lines[TRAINED:]))


def _slopes(colour: int, seed: int) -> np.ndarray:
    """Brighter to the right over a colour, (FRAMES, 48, 64, 3) uint8: what is hidden is known."""
    rng = np.random.default_rng(seed)
    time, y, x = np.mgrid[:FRAMES, :48, :64]
    slope = rng.uniform(0.8, 1.4) * x + rng.uniform(-0.5, 0.5) * y + rng.uniform(-2, 2) * time
    tint = np.array([colour & 1, colour >> 1 & 1, colour >> 2 & 1]) * 100
    return (slope[..., None] + 30 + tint).clip(0, 255).astype(np.uint8)


def short_run(stage: str, epochs: int, *overrides: str) -> Sequence[str]:
    """The settings of a run that learns: 4 steps an epoch of 8 videos each."""
    common = (*TINY, "optim.global_batch=8", f"optim.epochs={epochs}", "optim.warmup_epochs=2")
    steps = ("run.image_every=0", "run.log_every=20", "run.checkpoint_every=10000")
    if stage == "pretrain":
        recipe = ("data.repeats=2", "mask=random_cell", "optim.clip_grad=1.0", "optim.lr=3e-3")
    else:
        recipe = ("augment=plain", "optim.drop_path=0", "optim.layer_decay=1", "optim.lr=3e-3")
    return (*common, *steps, *recipe, *overrides)


def healthy_runs(clips: Coloured, seed: int) -> dict[str, tuple[str, list[str]]]:
    """Ten runs that learn: stage and settings by a name in words."""
    validated = ("eval_every=5", f"data.val_list={clips.test}")
    videos = f"data.videos={clips.root}"
    finetunings = {
        "fine-tuning": short_run("finetune", 20),
        "fine-tuning in batches of 4": short_run("finetune", 10, "optim.global_batch=4"),
        "fine-tuning in batches of 16, validated": short_run(
            "finetune", 40, "optim.global_batch=16", *validated
        ),
        "fine-tuning with the recipes' augmentation": short_run(
            "finetune", 90, "augment=finetune", "optim.label_smoothing=0.1"
        ),
        "fine-tuning with a running mean": short_run("finetune", 20, "optim.ema_decay=0.9"),
        "fine-tuning of +exp=demo_finetune": (
            *("+exp=demo_finetune", "data.class_names=null", "data.num_train=null"),
        ),
    }
    pretrainings = {
        "pre-training": short_run("pretrain", 160),
        "pre-training in batches of 4 at a lower rate": short_run(
            "pretrain", 80, "optim.global_batch=4", "optim.lr=1e-3"
        ),
    }
    runs = {name: ("finetune", list(words)) for name, words in finetunings.items()}
    runs |= {name: ("pretrain", list(words)) for name, words in pretrainings.items()}
    for stage, words in runs.values():
        words += clips.data(stage)
    runs["pre-training of a folder"] = ("pretrain", [videos])
    runs["fine-tuning of a folder"] = ("finetune", [videos, "weights=scratch"])
    return {
        name: (stage, [*words, f"seed={seed + number}"])
        for number, (name, (stage, words)) in enumerate(runs.items())
    }


def shuffled(labelled: Path, path: Path, seed: int) -> Path:
    """Write a labelled list with its labels in another order."""
    names, labels = zip(*_labelled(labelled), strict=True)
    order = random.Random(seed).sample(labels, len(labels))
    return write_list(path, [f"{name} {label}" for name, label in zip(names, order, strict=True)])


def by_class(root: Path, labelled: Path, folder: Path) -> Path:
    """Link the videos of a labelled list into a folder per class."""
    for name, label in _labelled(labelled):
        link = folder / f"class{label}" / Path(name).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / name)
    return folder


def _labelled(path: Path) -> list[tuple[str, str]]:
    """Names and labels of a list."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# ")]
    return [(name, label) for name, _, label in (line.rpartition(" ") for line in lines)]
