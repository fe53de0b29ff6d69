"""The training loop: what it logs, what it does about bad videos and numbers, and how it stops."""

import ctypes
import json
import logging
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import write_list, write_video
from tests.train import (
    NUM_VIDEOS,
    STEPS,
    STEPS_PER_EPOCH,
    finetuning,
    json_lines,
    metrics,
    pretraining,
    step_of,
    train,
    video_list,
    weights,
)
from videomae.config import DataConfig, PretrainConfig, token_grid
from videomae.data import dataset, working
from videomae.data.dataset import TrainingClips
from videomae.data.loader import TrainingOrder, collate
from videomae.data.mask import Masking
from videomae.data.workers import WorkerDied
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.model.mae import VideoMAE
from videomae.run import signals
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.run.signals import stop_signals
from videomae.train import stopping, trainer
from videomae.train.checkpoint import Checkpoints
from videomae.train.objective import Inputs, Reconstruct
from videomae.train.schedule import Plan
from videomae.train.step import train_step
from videomae.train.step_range import StepRange
from videomae.train.stopping import HealthMonitor, NonFiniteError, TooManyBadVideos
from videomae.video.interface import Video
from videomae.video.opening import open_clip

BATCH = 4


@pytest.fixture
def folder(tmp_path: Path, videos: Path) -> Path:
    """A copy of `videos`, by links, that a test may spoil."""
    root = tmp_path / "videos"
    root.mkdir()
    for path in videos.glob("*.mp4"):
        (root / path.name).symlink_to(path)
    return root


def every_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call `act` with the number of each step as it begins."""

    def acting(*args: Any) -> Any:
        act(step_of(args))
        return train_step(*args)

    monkeypatch.setattr(trainer, "train_step", acting)


def spoil(
    monkeypatch: pytest.MonkeyPatch, steps: Collection[int], factor: float = float("inf")
) -> None:
    """Make the errors of these steps infinite, or so many times what they are."""

    def spoiling(
        objective: Any,
        optimizer: Any,
        inputs: Iterable[Inputs],
        *rest: Any,
    ) -> Any:
        if step_of(rest) in steps:
            *good, last = inputs
            *others, weight = last.tensors
            inputs = [*good, Inputs((*others, weight * factor), last.num_errors)]
        return train_step(objective, optimizer, inputs, *rest)

    monkeypatch.setattr(trainer, "train_step", spoiling)


def order(num_clips: int = NUM_VIDEOS, batch: int = BATCH) -> TrainingOrder:
    """That of the runs below, whose seed is 0."""
    return TrainingOrder(num_clips, batch, seed=0)


# What is logged


@pytest.mark.parametrize(
    ("last", "traced"), [(10, [4, 5, 6]), (5, [2, 3, 4]), (2, [0, 1]), (1, [0])]
)
def test_a_trace_is_written_of_some_steps_and_changes_nothing(
    videos: Path, tmp_path: Path, last: int, traced: list[int]
) -> None:
    settings = ("optim.epochs=5", f"max_steps={last}")
    plain = train(pretraining(videos, tmp_path / "plain", *settings))
    run = train(pretraining(videos, tmp_path / "run", *settings, "run.profile=true"))
    trace = json.loads((run / "profile" / "trace.json").read_text())
    steps = {
        event["name"]
        for event in trace["traceEvents"]
        if event.get("name", "").startswith("ProfilerStep#")
    }
    assert steps == {f"ProfilerStep#{number}" for number in traced}
    assert any("attention" in event.get("name", "") for event in trace["traceEvents"])
    assert metrics(run) == metrics(plain)


def test_a_row_every_so_many_steps_and_for_the_first(videos: Path, tmp_path: Path) -> None:
    rows = metrics(train(pretraining(videos, tmp_path / "run", "run.log_every=3")))
    assert [row["step"] for row in rows] == [1, 3, 6]
    assert [row["epoch"] for row in rows] == [1 / STEPS_PER_EPOCH, 3 / STEPS_PER_EPOCH, 3]
    assert rows == [
        row
        for row in metrics(train(pretraining(videos, tmp_path / "all")))
        if row["step"] in (1, 3, 6)
    ]


def test_the_rate_logged_is_that_of_the_plan(videos: Path, tmp_path: Path) -> None:
    config = pretraining(videos, tmp_path / "run")
    plan = Plan.of(config.optim, num_clips=NUM_VIDEOS, repeats=2, world=1, device_batch=2)
    assert plan.total_steps == STEPS
    rates = [row["lr"] for row in metrics(train(config))]
    assert rates == [plan.lr(step) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("overrides", [("run.checkpoint_every=2",), ("run.log_every=2",)])
def test_the_speed_logged_is_no_higher_than_possible(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    slow_s = 0.05
    every_step(monkeypatch, lambda _: time.sleep(slow_s))
    directory = train(pretraining(videos, tmp_path / "run", *overrides))
    rows = json_lines(directory / "metrics.jsonl")
    views = BATCH * 2
    for row in rows:
        assert row["clips_per_s"] == pytest.approx(views / row["step_s"], rel=0.1)
        assert 0 <= row["data_s"] <= row["step_s"]
    assert [row["step"] for row in rows if row["clips_per_s"] > 1.1 * views / slow_s] == []


def test_short_videos_are_counted_and_not_bad(folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", frames=5)  # a clip spans 7
    for name in ("0.mp4", "1.mp4", "2.mp4"):
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / "short.mp4")
    rows = metrics(train(pretraining(folder, tmp_path / "run", "run.log_every=3")))
    short = [
        sum(item.video < 3 for item in order().global_items(step)) for step in range(1, STEPS + 1)
    ]
    assert [row["num_short"] for row in rows] == [short[0], sum(short[1:3]), sum(short[3:])]
    assert sum(short) > 0
    assert {row["num_bad"] for row in rows} == {0}


def test_tensorboard_has_the_numbers_and_the_pictures(videos: Path, tmp_path: Path) -> None:
    directory = train(pretraining(videos, tmp_path / "run", "run.image_every=3"))
    events = EventAccumulator(str(directory / "tensorboard")).Reload()
    losses = {event.step: event.value for event in events.Scalars("loss")}
    rows = {row["step"]: row["loss"] for row in metrics(directory)}
    assert losses == pytest.approx(rows)
    assert [event.step for event in events.Images("reconstruction")] == [3, 6]


# Bad videos


def spoil_files(folder: Path) -> dict[str, int]:
    """Three unreadable files in `folder`; their lines in `spoilt_list`."""
    (folder / "0.mp4").unlink()
    half = (folder / "1.mp4").read_bytes()
    (folder / "1.mp4").unlink()
    (folder / "1.mp4").write_bytes(half[: len(half) // 2])
    (folder / "2.mp4").unlink()
    (folder / "2.mp4").write_text("this is no video\n")
    return {"0.mp4": 2, "1.mp4": 3, "2.mp4": 5}


def spoilt_list(path: Path) -> Path:
    names = [f"{number}.mp4" for number in range(NUM_VIDEOS)]
    return write_list(path, ["# a comment", *names[:2], "", *names[2:]])


@pytest.mark.parametrize(("make", "workers"), [(pretraining, 2), (finetuning, 0)])
def test_unreadable_videos_are_counted_and_listed_once(
    folder: Path, tmp_path: Path, make: Callable[..., Any], workers: int
) -> None:
    lines = spoil_files(folder)
    train_list = spoilt_list(tmp_path / "list.txt")
    if make is finetuning:
        text = train_list.read_text().replace(".mp4", ".mp4 1")
        train_list.write_text(text)
    overrides = ("data.max_bad_fraction=1", f"run.workers={workers}")
    test_list = write_list(tmp_path / "test.txt", ["5.mp4 1"])
    if make is finetuning:
        overrides += (f"data.test_list={test_list}",)
    directory = train(make(folder, tmp_path / "run", *overrides, train_list=train_list))
    rows = json_lines(directory / "bad_files.jsonl")
    assert order().tried(STEPS)[:3].all()
    assert {row["path"]: row["line"] for row in rows} == lines
    assert len(rows) == 3
    assert {row["list"] for row in rows} == {"train"}
    for row in rows:
        assert row["path"] in row["error"]
    counts = [row["num_bad"] for row in metrics(directory)]
    assert counts == [int(order().tried(step)[:3].sum()) for step in range(1, STEPS + 1)]
    assert (directory / "weights.safetensors").is_file()


def test_an_unreadable_video_seen_in_every_step_is_listed_once(
    folder: Path, tmp_path: Path
) -> None:
    spoil_files(folder)
    overrides = ("data.max_bad_fraction=1", "optim.global_batch=11", "run.device_batch=11")
    directory = train(pretraining(folder, tmp_path / "run", *overrides))
    assert [row["num_bad"] for row in metrics(directory)] == [3, 3, 3]
    assert len(json_lines(directory / "bad_files.jsonl")) == 3


def test_a_file_that_vanishes_during_the_run_is_bad_from_then_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(step: int) -> None:
        if step == 2:
            (folder / "5.mp4").unlink()

    every_step(monkeypatch, vanish)
    overrides = ("data.max_bad_fraction=1", "optim.global_batch=11", "run.device_batch=11")
    directory = train(pretraining(folder, tmp_path / "run", *overrides))
    assert [row["num_bad"] for row in metrics(directory)] == [0, 1, 1]
    (entry,) = json_lines(directory / "bad_files.jsonl")
    assert entry["path"] == "5.mp4"
    assert "No such file" in entry["error"]


def expected_loss(config: PretrainConfig, videos: Sequence[int]) -> float:
    """Of the first step, over the first epoch's views of these videos."""
    torch.manual_seed(config.seed)
    objective = Reconstruct(VideoMAE(config.model, config.data.clip))
    clips = read_clips(str(config.data.train_list), config.data, labelled=False)
    masking = Masking(config.mask, token_grid(config.model, config.data.clip))
    dataset = TrainingClips(clips, config.data, config.augment, masking, config.seed)
    items = [item for item in order().global_items(1) if item.video in videos]
    examples = [dataset[item] for item in items]
    batch = collate(examples, torch.cat([example.clip for example in examples]))
    assert batch.valid.all()
    inputs = objective.inputs(batch, 1, 0)
    return objective(*inputs.tensors).item() / inputs.num_errors


def test_the_loss_is_averaged_over_the_readable_videos(folder: Path, tmp_path: Path) -> None:
    first = [item.video for item in order().global_items(1)]
    bad, good = first[1], [first[0], *first[2:]]
    (folder / f"{bad}.mp4").unlink()
    config = pretraining(folder, tmp_path / "run", "data.max_bad_fraction=1", max_steps=1)
    assert metrics(train(config))[0]["loss"] == pytest.approx(expected_loss(config, good), rel=1e-5)
    assert expected_loss(config, good) != pytest.approx(expected_loss(config, good[:2]), rel=1e-5)


def test_a_step_without_a_readable_video_is_told_and_no_reason_to_stop(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for item in order().global_items(1):
        (folder / f"{item.video}.mp4").unlink()
    overrides = ("data.max_bad_fraction=1", "run.max_nonfinite=1")
    directory = train(pretraining(folder, tmp_path / "run", *overrides))
    rows = metrics(directory)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[0]["num_bad"] == BATCH
    assert rows[0]["loss"] is None
    assert rows[1]["loss"] > 0
    said = capsys.readouterr().err
    assert said.count("step 1: no video of this batch could be read (4 of 4)") == 1
    assert "step 1/6  no readable video  lr" in said
    assert "nan" not in said
    assert not (directory / "spikes.jsonl").exists()


def two_bad(folder: Path) -> list[str]:
    """The names of two videos of the first step, which are taken away."""
    names = [f"{item.video}.mp4" for item in order().global_items(1)[:2]]
    for name in names:
        (folder / name).unlink()
    return names


def test_one_bad_file_of_a_small_list_does_not_stop_a_run(folder: Path, tmp_path: Path) -> None:
    name = f"{order().global_items(1)[0].video}.mp4"
    (folder / name).unlink()
    directory = train(pretraining(folder, tmp_path / "run"))
    assert metrics(directory)[-1]["num_bad"] == 1
    assert [row["path"] for row in json_lines(directory / "bad_files.jsonl")] == [name]


def test_too_many_bad_videos_stop_the_run_at_an_epochs_end(folder: Path, tmp_path: Path) -> None:
    names = two_bad(folder)
    directory = tmp_path / "run"
    with pytest.raises(TooManyBadVideos) as error:
        train(pretraining(folder, directory))
    told = ("2 of the 8 videos", "1.0%", "data.max_bad_fraction", "bad_files.jsonl")
    for words in (*told, "python -m videomae.scan"):
        assert words in str(error.value)
    rows = json_lines(directory / "bad_files.jsonl")
    assert sorted(row["path"] for row in rows) == sorted(names)
    assert not (directory / "weights.safetensors").exists()
    assert (directory / "checkpoints" / "last").read_text() in ("step_2", "step_3")

    limit = ("data.max_bad_fraction=0.25",)  # the remedy that the message names
    train(pretraining(folder, directory, *limit, resume="auto"))
    assert [row["step"] for row in metrics(directory)] == list(range(1, STEPS + 1))
    undisturbed = train(pretraining(folder, tmp_path / "other", *limit))
    assert metrics(undisturbed) == metrics(directory)
    assert len(json_lines(directory / "bad_files.jsonl")) == 2


def test_mending_the_files_is_a_remedy(folder: Path, tmp_path: Path, videos: Path) -> None:
    names = two_bad(folder)
    with pytest.raises(TooManyBadVideos, match=r"Mend.*the files.*resume=auto"):
        train(pretraining(folder, tmp_path / "run"))
    for name in names:
        (folder / name).symlink_to(videos / name)
    directory = train(pretraining(folder, tmp_path / "run", resume="auto"))
    assert (directory / "weights.safetensors").is_file()


LONG_LIST, LONG_BATCH = 130, 10


def long_run(folder: Path, tmp_path: Path, bad: Collection[int], *overrides: str) -> PretrainConfig:
    """One epoch of 13 steps of 10 videos, of which those at these places of the list are bad."""
    many = tmp_path / "many"
    many.mkdir()
    for number in set(range(LONG_LIST)) - set(bad):
        (many / f"{number}.mp4").symlink_to(folder / f"{number % 12}.mp4")
    names = [f"{number}.mp4" for number in range(LONG_LIST)]
    return pretraining(
        many,
        tmp_path / "run",
        f"optim.global_batch={LONG_BATCH}",
        "optim.epochs=1",
        "run.device_batch=10",
        "data.repeats=1",
        *overrides,
        train_list=video_list(tmp_path / "long.txt", names),
    )


def at(step: int) -> int:
    """A place of the long list that this step sees."""
    return order(LONG_LIST, LONG_BATCH).global_items(step)[0].video


def test_bad_videos_are_not_judged_before_a_hundred(videos: Path, tmp_path: Path) -> None:
    bad = [at(step) for step in (1, 2, 3, 4, 10)]
    with pytest.raises(TooManyBadVideos, match="5 of the 100 videos"):
        train(long_run(videos, tmp_path, bad))
    assert (tmp_path / "run" / "checkpoints" / "last").read_text() in ("step_10", "step_11")


def test_bad_videos_found_early_are_judged_at_a_hundred(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(TooManyBadVideos, match="3 of the 100 videos"):
        train(long_run(videos, tmp_path, [at(1), at(2), at(3)]))


def test_a_few_bad_videos_are_tolerated(videos: Path, tmp_path: Path) -> None:
    limit = "data.max_bad_fraction=0.02"  # 2 of 100, then of 130: not more
    directory = train(long_run(videos, tmp_path, [at(8), at(9)], limit))
    assert metrics(directory)[-1]["num_bad"] == 2


def test_a_file_that_is_listed_twice_is_one_file(folder: Path, tmp_path: Path) -> None:
    names = [f"{number}.mp4" for number in range(8)]
    for name in names[:2]:
        (folder / name).unlink()
    listed = video_list(tmp_path / "list.txt", [*names, "0.mp4", "0.mp4", "0.mp4", "1.mp4"])
    directory = tmp_path / "run"
    limit = "data.max_bad_fraction=0.25"  # 2 of 8 files, 6 of 12 lines
    rows = metrics(train(pretraining(folder, directory, limit, train_list=listed)))
    assert rows[-1]["num_bad"] == 2
    bad = json_lines(directory / "bad_files.jsonl")
    assert sorted(row["path"] for row in bad) == names[:2]


def test_a_trial_run_that_reads_nothing_is_no_success(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.mp4"):
        path.unlink()
        path.write_text("no video")
    limit = "data.max_bad_fraction=1"
    with pytest.raises(TooManyBadVideos, match="4 of the 4 videos"):
        train(pretraining(folder, tmp_path / "run", limit, max_steps=1))
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_a_killed_worker_changes_nothing(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_a_worker(step: int) -> None:
        if step in (2, 3):
            worker = multiprocessing.active_children()[0]
            worker.kill()
            worker.join()

    settings = ("run.workers=2", "optim.epochs=6")
    expected = train(pretraining(videos, tmp_path / "undisturbed", *settings))
    every_step(monkeypatch, kill_a_worker)
    found = train(pretraining(videos, tmp_path / "run", *settings))
    assert [row["loss"] for row in metrics(found)] == [row["loss"] for row in metrics(expected)]
    for name, tensor in weights(expected).items():
        assert tensor.equal(weights(found)[name])
    assert not (found / "bad_files.jsonl").exists()


def test_workers_that_always_die_cost_no_step(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_all(step: int) -> None:
        if step == 3:
            monkeypatch.setattr(working, "_leave_signals_to", lambda _: os._exit(3))
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()

    every_step(monkeypatch, kill_all)
    config = pretraining(videos, tmp_path / "run", "run.workers=1", "optim.epochs=30")
    with pytest.raises(WorkerDied, match=r"status 3.*resume=auto"):
        train(config)
    saved = int((tmp_path / "run" / "checkpoints" / "last").read_text().removeprefix("step_"))
    assert [row["step"] for row in metrics(tmp_path / "run")] == list(range(1, saved + 1))
    assert 2 <= saved <= 6  # what was decoded before is still used


@pytest.mark.long
def test_a_video_that_hangs_is_named_and_known_when_the_run_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"

    def opening(clip: Clip, data: DataConfig) -> Video:
        if clip.path == "5.mp4":
            with tries.open("a") as file:
                file.write("x")
            ctypes.PyDLL(None).sleep(600)  # and keeps the interpreter's lock
        return open_clip(clip, data)

    monkeypatch.setattr(dataset, "open_clip", opening)
    directory = tmp_path / "run"
    settings = ("run.workers=2", "data.timeout_s=2", "data.max_bad_fraction=0.5")
    train(pretraining(folder, directory, *settings, max_steps=STEPS_PER_EPOCH))
    (row,) = json_lines(directory / "bad_files.jsonl")
    assert row["path"] == "5.mp4"
    assert row["error"] == "5.mp4: not decoded in time (2 s, data.timeout_s), twice"
    assert tries.read_text() == "xx"
    train(pretraining(folder, directory, *settings, resume="auto"))  # it is looked at again
    assert tries.read_text() == "xxxx"
    assert metrics(directory)[-1]["num_bad"] == 1

    monkeypatch.undo()
    again = train(pretraining(folder, directory, *settings, "optim.epochs=3", resume="auto"))
    assert not (again / "bad_files.jsonl").exists()  # it has been mended


# Steps that are not finite


def test_a_step_that_is_not_finite_is_left_out_and_counted(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {2, 3, 5})
    directory = train(pretraining(videos, tmp_path / "run"))
    rows = metrics(directory)
    assert [row["num_skipped"] for row in rows] == [0, 1, 2, 2, 3, 3]
    assert [row["step"] for row in rows if row["loss"] is None] == [2, 3, 5]
    assert [row["step"] for row in rows if row["grad_norm"] is None] == [2, 3, 5]
    assert all(tensor.isfinite().all() for tensor in weights(directory).values())


@pytest.mark.parametrize("named", [[3, 4, 5], [3]])
def test_too_many_such_steps_in_a_row_stop_the_run(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: list[int]
) -> None:
    spoil(monkeypatch, named)
    most = len(named)
    config = pretraining(videos, tmp_path / "run", f"run.max_nonfinite={most}")
    with pytest.raises(NonFiniteError) as error:
        train(config)
    plan = Plan.of(config.optim, num_clips=NUM_VIDEOS, repeats=2, world=1, device_batch=2)
    message = str(error.value)
    assert f"steps {named}" in message
    assert f"lr {plan.lr(named[-1]):.3g}" in message
    assert f"run.max_nonfinite={most}" in message
    seen = [item.video for step in named for item in order().global_items(step)]
    for video in seen[:8]:
        assert f"{video}.mp4" in message
    assert ("and 4 more" in message) == (len(seen) == 12)
    directory = Path(config.output_dir)
    assert not (directory / "weights.safetensors").exists()
    assert (directory / "checkpoints" / "last").is_file()

    monkeypatch.undo()
    train(pretraining(videos, directory, resume="auto"))
    assert all(tensor.isfinite().all() for tensor in weights(directory).values())


def test_a_loss_far_above_the_others_is_logged_with_its_videos(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "ENOUGH", 3)
    spoil(monkeypatch, {5}, factor=30.0)
    config = pretraining(videos, tmp_path / "run")
    directory = train(config)
    losses = [row["loss"] for row in metrics(directory)]
    assert losses[4] > 10 * max(losses[:4])
    (row,) = json_lines(directory / "spikes.jsonl")
    assert (row["step"], row["loss"]) == (5, losses[4])
    assert row["usual"] == pytest.approx(statistics.median(losses[:4]))
    assert row["videos"] == [f"{item.video}.mp4" for item in order().global_items(5)]

    train(replace(config, resume=str(directory / "checkpoints" / "step_6")))
    assert len(json_lines(directory / "spikes.jsonl")) == 1


@pytest.mark.parametrize(
    ("losses", "spikes"),
    [
        ([1.0, 1.1] * 10 + [1.49], []),  # the median is 1.05, sigma 1.4826 times 0.05
        ([1.0, 1.1] * 10 + [1.50], [21]),
        ([1.0, 1.1] * 9 + [9.0], []),  # too few to tell
        ([1.0] * 20 + [1.01, 1.02], [22]),
        ([3.0 - 0.1 * step for step in range(25)], []),
        ([float("nan"), 1.0, float("inf")], [1, 3]),
        ([1.0] * 20 + [None, 1.0], []),  # no video could be read
        ([*np.random.default_rng(0).normal(1, 0.1, 500), 0.0, 1.7], [502]),
    ],
)
def test_which_losses_are_far(
    videos: Path, tmp_path: Path, losses: list[float | None], spikes: list[int]
) -> None:
    class Spikes:
        def spike(self, step: int, *_: Any) -> None:
            found.append(step)

        def unread(self, step: int, num_videos: int) -> None:
            pass

    found: list[int] = []
    config = pretraining(videos, videos)
    clips = read_clips(str(config.data.train_list), config.data, labelled=False)
    plan = Plan.of(config.optim, num_clips=NUM_VIDEOS, repeats=2, world=1, device_batch=2)
    alone = Processes(0, 1, 1, torch.device("cpu"))
    log: Any = Spikes()
    run = Run(config.run, alone, tmp_path)
    looks = HealthMonitor(run, clips, StepRange(plan, order(), 0, 6), log, {}, 0.1)
    for step, loss in enumerate(losses, start=1):
        looks.loss(step, loss)
    assert found == spikes


def test_weights_gone_bad_stop_the_run(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_weights(step: int) -> None:
        if step == 2:
            models[0].encoder_to_decoder.weight.data[0, 0] = float("inf")

    models: list[VideoMAE] = []
    build = VideoMAE.__init__

    def note(self: VideoMAE, *args: Any) -> None:
        build(self, *args)
        models.append(self)

    monkeypatch.setattr(VideoMAE, "__init__", note)
    every_step(monkeypatch, break_weights)
    with pytest.raises(NonFiniteError, match=r"steps \[2, 3, 4"):
        train(pretraining(videos, tmp_path / "run"))


# Signals


@pytest.mark.parametrize(
    ("make", "number"), [(pretraining, signal.SIGTERM), (finetuning, signal.SIGINT)]
)
def test_a_signal_ends_the_run_after_a_checkpoint(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[..., Any],
    number: signal.Signals,
) -> None:
    config = make(videos, tmp_path / "run")
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    every_step(monkeypatch, lambda step: os.kill(os.getpid(), number) if step == 2 else None)
    with pytest.raises(SystemExit) as end:
        train(config)
    assert end.value.code == 128 + number
    directory = tmp_path / "run"
    step = int((directory / "checkpoints" / "last").read_text().removeprefix("step_"))
    assert step == 2
    assert [row["step"] for row in metrics(directory)] == list(range(1, step + 1))
    assert f"stopped by {number.name} after step {step}" in capsys.readouterr().err
    assert not (directory / "weights.safetensors").exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_how_a_run_ends_is_said_while_the_step_still_runs(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    said, told = list[str](), threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            told.set()

    def in_a_long_step(step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), number)
            told.wait(30)
            assert len(said) == 1

    listener = Listener()
    signals.logger.addHandler(listener)
    every_step(monkeypatch, in_a_long_step)
    try:
        with pytest.raises(SystemExit):
            train(pretraining(videos, tmp_path / "run"))
    finally:
        signals.logger.removeHandler(listener)
    assert said[0].startswith("Ctrl-C: " if number == signal.SIGINT else "SIGTERM: ")
    assert "the run finishes this step, then writes a checkpoint" in said[0]
    assert ("Ctrl-C again" in said[0]) == (number == signal.SIGINT)


def test_a_signal_in_the_last_step_lets_the_run_finish(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_step(
        monkeypatch, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == STEPS else None
    )
    assert weights(train(pretraining(videos, tmp_path / "run")))


def test_a_second_interrupt_does_not_spoil_the_checkpoint(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints.save

    def interrupted(*args: Any) -> Path:
        signal.raise_signal(signal.SIGINT)
        return save(*args)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    every_step(monkeypatch, lambda step: signal.raise_signal(signal.SIGINT) if step == 2 else None)
    with pytest.raises(SystemExit):
        train(pretraining(videos, tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / "last").read_text() == "step_2"


def test_under_torchrun_an_interrupt_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the terminal, and passed on. A real second one comes later."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    now = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    with stop_signals() as received:
        signal.raise_signal(signal.SIGINT)
        now += 0.1
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT] * 2
        now += signals.ECHO_S
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_interrupt_does_not_wait() -> None:
    def interrupt_twice() -> None:
        with stop_signals() as received:
            signal.raise_signal(signal.SIGINT)
            assert received == [signal.SIGINT]
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
