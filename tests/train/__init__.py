"""What the tests of training share: tiny runs, and what they leave behind."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import TINY, composed, write_list
from videomae.config import FinetuneConfig, PretrainConfig, TrainConfig
from videomae.finetune import finetune
from videomae.pretrain import pretrain
from videomae.train.step import StepSettings

NUM_VIDEOS, CLASSES = 11, 3
STEPS_PER_EPOCH, STEPS = 2, 6
"""Of a run below: 11 videos in batches of 4, so that 3 are left over in each of 3 epochs."""
TIMES = {"clips_per_s", "data_s", "step_s", "save_s", "data_s_max", "data_rank_max"}
"""The only numbers of metrics.jsonl that may differ between two runs that do the same."""
RECIPE = (
    *TINY,
    "data.repeats=2",
    "optim.global_batch=4",
    "optim.base_lr=0.2",  # 3e-3 at this batch: six steps change something
    "optim.epochs=3",
    "optim.warmup_epochs=1",
    "run.image_every=0",
    "run.checkpoint_every=100",
)
PRETRAIN = (*RECIPE, "mask=random_cell", "optim.clip_grad=1.0")
FINETUNE = (
    *RECIPE,
    f"data.classes={CLASSES}",
    "data.segments=1",
    "data.crops=1",
    "optim.drop_path=0.3",
    "optim.head_drop=0.3",
)
PICTURES = (
    "videomae.train.pretraining.save_loss_curve",
    "videomae.train.pretraining.draw_reconstructions",
    "videomae.train.pretraining.draw_attention",
    "videomae.evaluation.scoring.draw_attention",
    "videomae.train.finetuning.save_clips",
    "videomae.train.finetuning.save_loss_curve",
    "videomae.evaluation.heads.save_confusion",
)


def step_of(arguments: Sequence[Any]) -> int:
    """The number of the step that train_step is called with."""
    return next(each.step for each in arguments if isinstance(each, StepSettings))


def video_list(path: Path, paths: list[str] | None = None) -> Path:
    """A list without labels; by default of the first eleven of `videos`."""
    return write_list(path, paths or [f"{number}.mp4" for number in range(NUM_VIDEOS)])


def labelled_list(path: Path) -> Path:
    """A list with labels of the first eleven of `videos`."""
    return write_list(path, [f"{n}.mp4 {n % CLASSES}" for n in range(NUM_VIDEOS)])


def pretraining(
    videos: Path,
    output: Path,
    *overrides: str,
    train_list: Path | None = None,
    **settings: Any,
) -> PretrainConfig:
    """A pre-training run of STEPS steps. `settings` are those of TrainConfig."""
    train_list = train_list or video_list(videos / "train.txt")
    config = composed("pretrain", *PRETRAIN, *overrides)
    return _placed(config, videos, output, train_list, settings)


def finetuning(
    videos: Path,
    output: Path,
    *overrides: str,
    train_list: Path | None = None,
    **settings: Any,
) -> FinetuneConfig:
    """A fine-tuning run of STEPS steps from random weights."""
    train_list = train_list or labelled_list(videos / "labelled.txt")
    config = composed("finetune", *FINETUNE, *overrides)
    return _placed(config, videos, output, train_list, {"weights": "scratch"} | settings)


def _placed(
    config: Any, videos: Path, output: Path, train_list: Path, settings: dict[str, Any]
) -> Any:
    data = replace(config.data, root=str(videos), train_list=str(train_list))
    if isinstance(config, FinetuneConfig) and data.test_list is None:
        data = replace(data, test_list=str(labelled_list(videos / "test.txt")))
    return replace(config, data=data, output_dir=str(output), **settings)


def train(config: TrainConfig) -> Path:
    """Run the command in this process, less its pictures, and return its directory."""
    with pytest.MonkeyPatch.context() as patch:
        for picture in PICTURES:
            patch.setattr(picture, lambda *_: None)
        if isinstance(config, PretrainConfig):
            pretrain(config)
        else:
            assert isinstance(config, FinetuneConfig)
            finetune(config)
    return Path(config.output_dir)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def metrics(directory: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl says, less the times."""
    rows = json_lines(directory / "metrics.jsonl")
    return [{key: row[key] for key in row.keys() - TIMES} for row in rows]


def weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of weights.safetensors."""
    return load_file(directory / "weights.safetensors")


def assert_same_run(first: Path, second: Path) -> None:
    """Two run directories hold the same weights and the same numbers, bit for bit."""
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if not ours[name].equal(theirs[name])]
    assert not differing
    assert metrics(first) == metrics(second)
    results = [path / "results.json" for path in (first, second)]
    if any(path.exists() for path in results):
        assert results[0].read_text() == results[1].read_text()
