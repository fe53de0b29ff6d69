"""Whole runs in bf16 under CUDA's rules, and every command that takes what they leave behind."""

import importlib
import json
from pathlib import Path
from typing import NamedTuple

from tests.conftest import TINY, composed, write_list
from tests.cuda_rules import cuda_rules
from tests.train.processes import Job, in_processes
from videomae.run.directory import METRICS

NUM_VIDEOS, CLASSES, STEPS = 11, 3, 3
"""A step an epoch: eight of eleven videos."""


class Way(NamedTuple):
    """How a run holds its model, and computes attention."""

    sharding: str
    processes: int
    attention: str
    more: tuple[str, ...] = ()
    """Other settings of the run."""

    def __str__(self) -> str:
        return " ".join([self.sharding, f"x {self.processes}", self.attention, *self.more])

    def settings(self) -> list[str]:
        shards = ["run.shards=2"] * (self.sharding == "hsdp")
        return [f"run.sharding={self.sharding}", f"run.attention={self.attention}", *shards]


def lists_of(videos: Path) -> Path:
    """A labelled list of the first eleven videos."""
    return write_list(
        videos / "under_rules.txt", [f"{n}.mp4 {n % CLASSES}" for n in range(NUM_VIDEOS)]
    )


def common(videos: Path, output: Path) -> list[str]:
    """What all commands on a list of videos are told."""
    return [*TINY, "run.precision=bf16", f"data.root={videos}", f"output_dir={output}"]


def training(videos: Path, output: Path, way: Way) -> list[str]:
    """What both stages are told: pictures, checkpoints and what follows an epoch, often."""
    return [
        *common(videos, output),
        *way.settings(),
        f"data.train_list={lists_of(videos)}",
        "data.repeats=2",
        "optim.global_batch=8",
        "run.device_batch=2",
        f"optim.epochs={STEPS}",
        "optim.warmup_epochs=1",
        "run.image_every=1",
        "run.checkpoint_every=2",
        "run.background_checkpoints=true",
        *way.more,
    ]


def pretraining(videos: Path, output: Path, way: Way) -> list[str]:
    """With a probe after every epoch."""
    labelled = lists_of(videos)
    return [
        *training(videos, output, way),
        "mask=random_cell",
        "optim.clip_grad=1.0",
        "probe.every_epochs=1",
        f"probe.train_list={labelled}",
        f"probe.test_list={labelled}",
        f"probe.root={videos}",
        f"probe.classes={CLASSES}",
    ]


def finetuning(videos: Path, output: Path, way: Way, weights: Path) -> list[str]:
    """With mixup, CutMix, erasing, a running mean, and a validation after every epoch."""
    labelled = lists_of(videos)
    return [
        *training(videos, output, way),
        "augment=finetune",
        "augment.rand_ops=1",
        "augment.erase_prob=1",
        "optim.drop_path=0.3",
        "optim.head_drop=0.3",
        "optim.ema_decay=0.5",
        "eval_every=1",
        "test_weights=best",
        f"weights={weights}",
        f"data.classes={CLASSES}",
        "data.segments=1",
        "data.crops=1",
        f"data.val_list={labelled}",
        f"data.test_list={labelled}",
    ]


def run(command: str, overrides: list[str], processes: int = 1) -> None:
    """A command in so many processes, to its end."""
    if processes == 1:
        function = getattr(importlib.import_module(f"videomae.{command}"), command)
        with cuda_rules():
            function(composed(command, *overrides))
    else:
        codes = in_processes(processes, Job(command, overrides, rules=True))
        assert codes == [0] * processes, f"{command}: {codes}"


def check_training(directory: Path, *pictures: str) -> None:
    """Look for what a run that went to its end has written."""
    lines = (directory / METRICS).read_text().splitlines()
    steps = {row["step"] for row in map(json.loads, lines) if "loss" in row}
    assert steps == set(range(1, STEPS + 1))
    assert (directory / "checkpoints" / "last").read_text() == f"step_{STEPS}"
    for picture in ("loss", *pictures):
        assert (directory / "figures" / f"{picture}.png").stat().st_size > 1000


def train_both(videos: Path, output: Path, way: Way) -> tuple[Path, Path]:
    """Pre-train, then fine-tune what came of it; the directories of the two."""
    pretrained, finetuned = output / "pretrained", output / "finetuned"
    run("pretrain", pretraining(videos, pretrained, way), way.processes)
    check_training(pretrained, "reconstruction")
    run("finetune", finetuning(videos, finetuned, way, pretrained), way.processes)
    check_training(finetuned, "training_clips", "confusion")
    assert (finetuned / "results.json").is_file()
    return pretrained, finetuned


def use(videos: Path, output: Path, pretrained: Path, finetuned: Path, processes: int = 1) -> None:
    """Give the weights of two runs, and of their checkpoints, to every command that takes any."""
    labelled = lists_of(videos)
    test = ["data.classes=3", f"data.test_list={labelled}"]
    each = {
        "evaluate": [*test, "data.segments=2", "data.crops=2", f"weights={finetuned}"],
        "probe": [*test, f"data.train_list={labelled}", "probe.lrs=[1e-3,1e-2]"],
    }
    epochs = ["probe.linear_epochs=1", "probe.attentive_epochs=1", "probe.min_steps=1"]
    each["probe"] += [*epochs, f"weights={checkpoint(pretrained)}"]
    for command, overrides in each.items():
        run(command, [*common(videos, output / command), *overrides], processes)
        assert (output / command / "results.json").is_file()
    alone = ["run=debug", f"video={videos / '0.mp4'}"]
    to = {"predict": f"output={output / 'said.json'}", "extract": f"output_dir={output / 'out'}"}
    to["reconstruct"] = f"output={output / 'rebuilt.png'}"
    of = {"predict": checkpoint(finetuned), "extract": finetuned, "reconstruct": pretrained}
    for command, where in to.items():
        precision = "fp16" if command == "predict" else "bf16"
        given = [*alone, f"run.precision={precision}", f"weights={of[command]}", where]
        run(command, given)
        assert Path(where.partition("=")[2]).exists()


def checkpoint(directory: Path) -> Path:
    """The newest one of a run."""
    return directory / "checkpoints" / f"step_{STEPS}"


def go_on(videos: Path, output: Path, first: Way, then: Way) -> None:
    """Pre-train to the second step in one way, and to the end in another."""
    own = tuple(each for each in first.more if each.startswith("run."))
    shared = [each for each in then.more if not each.startswith("run.")]
    stopped = pretraining(videos, output, first._replace(more=own))
    run("pretrain", [*stopped, *shared, "max_steps=2"], first.processes)
    run("pretrain", [*pretraining(videos, output, then), "resume=auto"], then.processes)
    check_training(output, "reconstruction")
