"""Tiny runs: of pre-training and of fine-tuning, in the working directory, with the same bytes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.conftest import composed, write_list, write_video
from tests.fuzzing.base import digest
from tests.train import FINETUNE, PRETRAIN, finetuning, pretraining
from tests.train import train as train_in_process
from videomae.config import TrainConfig, WhichWeights

VIDEOS = 5
TUNING = ("data.val_list=train.txt", "data.test_list=train.txt", "eval_every=1")
ENVIRONMENT = {"command": ["x"], "commit": "0", "python": "3", "versions": {}, "sha256": {}}


def compose() -> None:
    """Compose the configs of the runs, which takes a while, once for all attempts."""
    composed("pretrain", *PRETRAIN)
    composed("finetune", *FINETUNE, *TUNING)


def write_data() -> None:
    """Videos and lists of them."""
    if not Path("videos").exists():
        for number in range(VIDEOS):
            write_video(Path("videos") / f"{number}.mp4", seed=number)
        write_list(Path("train.txt"), [f"{number}.mp4 {number % 3}" for number in range(VIDEOS)])


def train_tiny(steps: int, **settings: Any) -> str:
    """Pre-train for some steps; a hash of the weights."""
    write_data()
    config = pretraining(
        Path("videos"),
        Path("run"),
        train_list=Path("train.txt"),
        max_steps=steps,
        **settings,
    )
    train(config)
    settle(Path("run"))
    return weights_hash(Path("run"))


def tune_tiny(steps: int, **settings: Any) -> str:
    """Fine-tune for some steps with evaluations, and test the best weights; a hash of the last."""
    write_data()
    config = finetuning(
        Path("videos"),
        Path("run"),
        *TUNING,
        train_list=Path("train.txt"),
        max_steps=steps,
        **settings,
    )
    train(replace(config, test_weights=WhichWeights.best))
    settle(Path("run"))
    return weights_hash(Path("run"))


def train(config: TrainConfig) -> None:
    """Run a command in this process; git is not asked for a commit: it has files of its own."""
    with patch("videomae.run.environment.commit", lambda: "0"):
        train_in_process(config)


def weights_hash(run: Path) -> str:
    """A hash of the weights of a run."""
    content = (run / "weights.safetensors").read_bytes()
    return digest(content[int.from_bytes(content[:8], "little") + 8 :])


def settle(run: Path) -> None:
    """Put fixed numbers in the place of measured times, so that a run has the same bytes always."""
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row |= {name: 0.5 for name in row if name.endswith(("_s", "_s_max"))}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "environment.json").write_text(json.dumps(ENVIRONMENT, indent=2) + "\n")
