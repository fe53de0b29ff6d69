"""Every key of metrics.jsonl: which there are, and what each must be, from facts outside of it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import write_list, write_video
from tests.train import (
    NUM_VIDEOS,
    STEPS,
    STEPS_PER_EPOCH,
    finetuning,
    json_lines,
    labelled_list,
    pretraining,
    train,
)
from videomae.config import RunConfig
from videomae.data.dataset import ValidationClips
from videomae.data.loader import Batch, TrainingOrder, delivered_batches
from videomae.lists.clips import read_clips
from videomae.model.pixels import normalise
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.train import throughput, trainer
from videomae.train.checkpoint import Checkpoints
from videomae.train.objective import Inputs
from videomae.train.schedule import Plan
from videomae.train.step import Notices, StepReport, train_step
from videomae.train.step_range import StepRange
from videomae.train.throughput import Throughput
from videomae.weights.load import load_model

BATCH, MICRO_BATCHES, REPEATS = 4, 2, 2
WAIT_S, COMPUTE_S, SAVE_S = 0.25, 1.0, 5.0
"""What a micro-batch, a step and a checkpoint take by the clock of these tests."""
STEP_S = MICRO_BATCHES * WAIT_S + COMPUTE_S
OF_EVERY_STEP = {
    *("step", "epoch", "loss", "lr", "grad_norm", "num_bad", "num_skipped", "num_short"),
    *("clips_per_s", "data_s", "step_s", "save_s"),
}
UNREADABLE, SHORT = 3, 5
"""Videos that are spoilt."""


@pytest.fixture
def folder(tmp_path: Path, videos: Path) -> Path:
    """The videos, one of them unreadable and one shorter than a clip."""
    root = tmp_path / "videos"
    root.mkdir()
    for path in videos.glob("*.mp4"):
        (root / path.name).symlink_to(path)
    (root / f"{UNREADABLE}.mp4").unlink()
    (root / f"{SHORT}.mp4").unlink()
    write_video(root / f"{SHORT}.mp4", frames=5)  # a clip spans 7
    return root


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The mean error and the gradient's norm of each step, by automatic differentiation of all its
    micro-batches at once; by the clock each part of a run takes what is said above."""
    clock = SimpleNamespace(now=100.0)
    found: list[tuple[float, float]] = []

    def recomputing(objective: Any, optimizer: Any, inputs: Iterable[Inputs], *rest: Any) -> Any:
        inputs = list(inputs)
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        errors = sum(objective(*each.tensors) for each in inputs)
        mean = errors / sum(each.num_errors for each in inputs)
        parts = torch.autograd.grad(mean, parameters)
        norm = torch.cat([part.flatten() for part in parts]).norm()
        found.append((mean.item(), norm.item()))
        clock.now += COMPUTE_S
        return train_step(objective, optimizer, inputs, *rest)

    def waiting(*args: Any, **settings: Any) -> Iterator[Batch]:
        batches = delivered_batches(*args, **settings)
        try:
            for batch in batches:
                clock.now += WAIT_S
                yield batch
        finally:
            batches.close()

    def saving(self: Checkpoints, *args: Any) -> None:
        clock.now += SAVE_S
        save(self, *args)

    save = Checkpoints.save
    monkeypatch.setattr(trainer, "train_step", recomputing)
    monkeypatch.setattr(trainer, "delivered_batches", waiting)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(Checkpoints, "save", saving)
    return found


def seen(step: int, video: int) -> int:
    """How often a step of these runs sees a video."""
    order = TrainingOrder(NUM_VIDEOS, BATCH, seed=0)
    return [item.video for item in order.global_items(step)].count(video)


SETTINGS = (
    *("run.log_every=2", "run.checkpoint_every=3", "data.max_bad_fraction=1"),
    f"run.device_batch={BATCH // MICRO_BATCHES}",
)


def check_rows(
    rows: list[dict[str, Any]], config: Any, expected: list[tuple[float, float]], saved: set[int]
) -> None:
    """Hold the rows of steps 1, 2, 4 and 6 against what is known of these steps.

    Args:
        saved: after these there is a checkpoint.
    """
    plan = Plan.of(config.optim, num_clips=NUM_VIDEOS, repeats=REPEATS, world=1, device_batch=2)
    bad_since = next(step for step in range(1, STEPS + 1) if seen(step, UNREADABLE))
    logged = (1, 2, 4, 6)
    assert [row["step"] for row in rows] == list(logged)
    assert sum(seen(step, SHORT) for step in range(1, STEPS + 1)) > 0
    for row, before in zip(rows, (0, *logged), strict=False):
        step = row["step"]
        assert row.keys() == OF_EVERY_STEP
        assert row["epoch"] == step / STEPS_PER_EPOCH
        assert row["lr"] == plan.lr(step)
        loss, norm = expected[step - 1]
        assert row["loss"] == pytest.approx(loss, rel=1e-5)
        assert row["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert row["num_bad"] == (step >= bad_since)
        assert row["num_skipped"] == 0
        window = range(before + 1, step + 1)
        assert row["num_short"] == sum(seen(each, SHORT) for each in window)
        assert row["data_s"] == pytest.approx(MICRO_BATCHES * WAIT_S)
        assert row["step_s"] == pytest.approx(STEP_S)
        assert row["clips_per_s"] == pytest.approx(BATCH * REPEATS / STEP_S)
        # That of a step comes after the step's row.
        assert row["save_s"] == SAVE_S * len(saved & set(range(before, step)))


def test_every_number_of_a_pretraining(
    folder: Path, tmp_path: Path, gradients: list[tuple[float, float]]
) -> None:
    config = pretraining(folder, tmp_path / "run", *SETTINGS)
    rows = json_lines(train(config) / "metrics.jsonl")
    check_rows(rows, config, gradients, saved={3, 6})


def test_every_number_of_a_finetuning(
    folder: Path, tmp_path: Path, gradients: list[tuple[float, float]]
) -> None:
    """Without what the step draws, which would not be the same twice."""
    plain = ("optim.drop_path=0", "optim.head_drop=0", "augment.erase_prob=0")
    config = finetuning(folder, tmp_path / "run", *SETTINGS, *plain, eval_every=1)
    val_list = labelled_list(tmp_path / "val.txt")
    config = replace(config, data=replace(config.data, val_list=str(val_list)))
    directory = train(config)
    rows = json_lines(directory / "metrics.jsonl")
    trained = [row for row in rows if "loss" in row]
    check_rows(trained, config, gradients, saved={2, 3, 4, 6})  # before each evaluation

    evaluated = [row for row in rows if "loss" not in row]
    assert [row["step"] for row in evaluated] == [2, 4, 6]
    assert all(row.keys() == {"step", "val_top1", "val_top5"} for row in evaluated)
    clips = read_clips(str(val_list), config.data, labelled=True)
    middles = ValidationClips(clips, config.data)
    model = load_model(directory / "weights.safetensors")  # of the last step
    right = 0
    for place, clip in enumerate(clips):
        if clip.path != f"{UNREADABLE}.mp4":
            with torch.no_grad():
                logits = model(normalise(middles[place].clip))
            right += int(logits.argmax()) == clip.label
    assert evaluated[-1]["val_top1"] == pytest.approx(100 * right / NUM_VIDEOS)
    # Of three classes the right one is always among five; an unreadable video is never right.
    assert evaluated[-1]["val_top5"] == pytest.approx(100 * (NUM_VIDEOS - 1) / NUM_VIDEOS)


class Rows(list[dict[str, Any]]):
    """A log that keeps what is logged."""

    def progress(self, *_: Any) -> None:
        """Nothing is drawn."""

    metrics = list.append


@pytest.mark.parametrize(("device", "world"), [("cpu", 1), ("cpu", 3), ("cuda", 1), ("cuda", 3)])
def test_the_numbers_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, world: int
) -> None:
    """Two steps of 10 s; the processes wait for 1, 4 and 2 s in the first, 2, 3 and 2 s then."""
    monkeypatch.setattr(throughput.torch.cuda, "max_memory_allocated", lambda: 3_500_000_000)
    processes = Processes(0, world, world, torch.device(device))
    config = pretraining(tmp_path, tmp_path, train_list=write_list(tmp_path / "l.txt", ["a.mp4"]))
    plan = Plan.of(config.optim, num_clips=NUM_VIDEOS, repeats=REPEATS, world=1, device_batch=2)
    order = TrainingOrder(NUM_VIDEOS, BATCH, seed=0)
    rows = Rows()
    log: Any = rows
    run = Run(RunConfig(log_every=2), processes, tmp_path)
    peak = 1e12 if device == "cuda" else None
    counted = Throughput(run, StepRange(plan, order, 6, 8), log, flops=5e10, peak=peak)
    assert counted.by_rank(1.5) == (1.5, *[0.0] * (world - 1))
    counted.begin(6, 0.0)
    for step, waited_s in ((7, (1.0, 4.0, 2.0)), (8, (2.0, 3.0, 2.0))):
        notices = Notices(num_short=1, waited_s=waited_s[:world])
        report = StepReport(0.5, 2.0, False, notices)
        counted.step(step, report, end=10.0 * (step - 6), waited_s=waited_s[0], also={})
    (row,) = rows
    assert (row["step"], row["step_s"], row["data_s"], row["num_short"]) == (8, 10.0, 1.5, 2)
    views_per_s = BATCH * REPEATS / 10
    assert row["clips_per_s"] == pytest.approx(views_per_s)
    assert row.keys() - OF_EVERY_STEP == {
        *(("mfu", "memory_gb") if device == "cuda" else ()),
        *(("data_s_max", "data_rank_max") if world > 1 else ()),
    }
    if device == "cuda":
        assert row["mfu"] == pytest.approx(5e10 * views_per_s / (world * 1e12))
        assert row["memory_gb"] == 3.5
    if world > 1:
        assert (row["data_s_max"], row["data_rank_max"]) == (3.5, 1)
