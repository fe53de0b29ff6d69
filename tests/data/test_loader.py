"""Batches: the same for every way of sharing the work, and every video where it belongs."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import write_list, write_video
from videomae.config import (
    AugmentConfig,
    ClipConfig,
    CropKind,
    DataConfig,
    MaskConfig,
    MaskKind,
)
from videomae.data.dataset import EvaluationClips, Example, Item, TrainingClips
from videomae.data.loader import (
    Batch,
    ExampleBatches,
    MicroBatches,
    TrainingOrder,
    collate,
    epoch_order,
    evaluation_loader,
    training_loader,
)
from videomae.data.mask import Masking
from videomae.data.working import WorkerSlot
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.run.bad_files import BadFile

MASKING = Masking(MaskConfig(kind=MaskKind.tube, ratio=0.75, decoder_ratio=0.5), (2, 4, 4))
AUGMENT = AugmentConfig(crop=CropKind.multi_scale, antialias=True)
DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32), repeats=2, segments=2, crops=3)


@pytest.fixture(scope="module")
def listed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clip], DataConfig]:
    """A list of the twelve videos with a heading, and its settings."""
    lines = ["# twelve videos", *(f"{number}.mp4 {number % 3}" for number in range(12))]
    data = replace(DATA, root=str(videos), classes=3)
    path = write_list(tmp_path_factory.mktemp("lists") / "list.txt", lines)
    return read_clips(path, data, labelled=True), data


@pytest.fixture(scope="module")
def training(listed: tuple[list[Clip], DataConfig]) -> TrainingClips:
    clips, data = listed
    return TrainingClips(clips, data, AUGMENT, MASKING, seed=3)


def batches_of(
    clips: TrainingClips,
    *,
    batch: int = 4,
    rank: int = 0,
    world: int = 1,
    size: int | None = None,
    first: int = 1,
    last: int = 6,
    workers: int = 0,
) -> list[Batch]:
    """The micro-batches of one rank, of two epochs unless told otherwise."""
    order = TrainingOrder(len(clips.clips), batch, clips.seed)
    micro_batches = MicroBatches(
        order, rank=rank, world=world, size=size or batch // world, first=first, last=last
    )
    loader = training_loader(clips, micro_batches, size=4, workers=workers, pin=False)
    return list(loader)


def joined(parts: Sequence[Batch]) -> Batch:
    """One batch of several, in their order."""

    def cat(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    return Batch(
        clip=cat("clip"),
        video=cat("video"),
        label=cat("label"),
        valid=cat("valid"),
        mask=cat("mask"),
        decoder_mask=cat("decoder_mask"),
        num_short=sum(part.num_short for part in parts),
        bad=[bad for part in parts for bad in part.bad],
    )


def assert_same(a: Batch, b: Batch) -> None:
    for name, one, other in zip(Batch._fields, a, b, strict=True):
        equal = one.equal(other) if isinstance(one, Tensor) else one == other
        assert equal, f"{name} differs"


# The order.


@given(st.data())
def test_an_epoch_sees_no_clip_twice(data: st.DataObject) -> None:
    num_clips = data.draw(st.integers(1, 30))
    batch = data.draw(st.integers(1, num_clips))
    order = TrainingOrder(num_clips, batch, seed=data.draw(st.integers(0, 2**40)))
    steps = num_clips // batch
    assert order.steps_per_epoch == steps
    for epoch in range(3):
        items = [
            item
            for step in range(epoch * steps + 1, (epoch + 1) * steps + 1)
            for item in order.global_items(step)
        ]
        assert {item.epoch for item in items} == {epoch}
        seen = [item.video for item in items]
        assert len(set(seen)) == len(seen) == steps * batch
        assert set(seen) <= set(range(num_clips))
        # the first of the epoch's permutation, so which clips are left out is chance too
        permutation = epoch_order(num_clips, order.seed, epoch).tolist()
        assert sorted(permutation) == list(range(num_clips))
        assert seen == permutation[: len(seen)]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        tuple(item.video for item in TrainingOrder(50, 50, seed).global_items(step))
        for seed in range(4)
        for step in range(1, 5)
    ]
    assert len(set(orders)) == 16
    firsts = [order[0] for order in orders]
    assert len(set(firsts)) > 8


def test_the_order_of_clips_does_not_depend_on_the_global_batch() -> None:
    def seen(batch: int) -> list[Item]:
        order = TrainingOrder(12, batch, seed=1)
        return [item for step in range(1, 36 // batch + 1) for item in order.global_items(step)]

    assert seen(1) == seen(3) == seen(4) == seen(12)


@given(st.data())
def test_tried_are_the_clips_of_all_steps_so_far(data: st.DataObject) -> None:
    num_clips = data.draw(st.integers(1, 12))
    batch = data.draw(st.integers(1, num_clips))
    step = data.draw(st.integers(0, 30))
    order = TrainingOrder(num_clips, batch, seed=data.draw(st.integers(0, 1000)))
    asked = {item.video for past in range(1, step + 1) for item in order.global_items(past)}
    tried = order.tried(step)
    assert tried.shape == (num_clips,)
    assert set(np.flatnonzero(tried).tolist()) == asked


# Ways of sharing the work.


@pytest.mark.parametrize(("world", "size"), [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)])
def test_micro_batches_divide_the_global_batch_in_order(world: int, size: int) -> None:
    order = TrainingOrder(10, 4, seed=0)
    ranks = [
        list(MicroBatches(order, rank=rank, world=world, size=size, first=1, last=5))
        for rank in range(world)
    ]
    per_step = 4 // world // size
    for step in range(1, 6):
        parts = [part for rank in ranks for part in rank[(step - 1) * per_step : step * per_step]]
        assert [len(part) for part in parts] == [size] * (4 // size)
        assert [item for part in parts for item in part] == order.global_items(step)


@pytest.mark.parametrize(("first", "last"), [(1, 5), (2, 5), (4, 5), (5, 5), (6, 5)])
def test_micro_batches_resumed_later_are_the_tail(first: int, last: int) -> None:
    order = TrainingOrder(6, 4, seed=0)
    whole = list(MicroBatches(order, rank=1, world=2, size=1, first=1, last=last))
    resumed = MicroBatches(order, rank=1, world=2, size=1, first=first, last=last)
    tail = list(resumed)
    assert len(tail) == 2 * (last - first + 1)
    assert tail == whole[2 * (first - 1) :]
    assert list(resumed) == tail  # and again, if asked again


@given(st.data())
def test_stops_and_other_worlds_go_on_in_the_same_order(data: st.DataObject) -> None:
    """However often a run is stopped, and on however many processes it goes on each time."""
    num_clips = data.draw(st.integers(1, 30))
    batch = data.draw(st.integers(1, num_clips))
    order = TrainingOrder(num_clips, batch, seed=data.draw(st.integers(0, 2**40)))
    seen: list[Item] = []
    done = 0
    for steps in data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)):
        world = data.draw(st.sampled_from([n for n in range(1, 9) if batch % n == 0]))
        size = data.draw(st.integers(1, batch // world + 1))
        ranks = [
            list(
                MicroBatches(
                    order, rank=rank, world=world, size=size, first=done + 1, last=done + steps
                )
            )
            for rank in range(world)
        ]
        per_step = -(-(batch // world) // size)
        assert {len(rank) for rank in ranks} == {steps * per_step}
        for step in range(steps):
            for rank in ranks:
                for part in rank[step * per_step : (step + 1) * per_step]:
                    assert 1 <= len(part) <= size
                    seen += part
        done += steps
    assert seen == [item for step in range(1, done + 1) for item in order.global_items(step)]
    for epoch in range(done // order.steps_per_epoch):
        videos = [item.video for item in seen if item.epoch == epoch]
        assert len(set(videos)) == len(videos) == order.steps_per_epoch * batch


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_are_the_same_for_any_number_of_workers(
    training: TrainingClips, workers: int
) -> None:
    alone = batches_of(training)
    helped = batches_of(training, workers=workers)
    for a, b in zip(alone, helped, strict=True):
        assert_same(a, b)
    assert not alone[0].clip.equal(alone[1].clip)


@pytest.mark.parametrize(("world", "size"), [(2, 2), (2, 1), (1, 2), (4, 1)])
def test_the_global_batch_is_the_same_for_any_number_of_ranks(
    training: TrainingClips, world: int, size: int
) -> None:
    whole = batches_of(training)
    ranks = [batches_of(training, rank=rank, world=world, size=size) for rank in range(world)]
    per_step = 4 // world // size
    for step, expected in enumerate(whole):
        parts = [b for rank in ranks for b in rank[step * per_step : (step + 1) * per_step]]
        assert_same(joined(parts), expected)


def test_a_loader_resumed_later_gives_the_same_tail(training: TrainingClips) -> None:
    whole = batches_of(training)
    resumed = batches_of(training, first=3, workers=1)
    assert len(resumed) == 4
    for a, b in zip(resumed, whole[2:], strict=True):
        assert_same(a, b)


def test_the_two_epochs_of_a_video_differ(training: TrainingClips) -> None:
    batches = batches_of(training)
    first, second = joined(batches[:3]), joined(batches[3:])
    assert sorted(first.video.tolist()) == sorted(second.video.tolist()) == sorted([*range(12)] * 2)
    assert not first.video.equal(second.video)
    assert first.mask is not None
    assert second.mask is not None
    for video in range(12):
        here, there = first.video == video, second.video == video
        assert not first.clip[here].equal(second.clip[there])
        assert not first.mask[here].equal(second.mask[there])


# What a batch holds.


def test_views_of_one_video_lie_next_to_each_other(training: TrainingClips) -> None:
    items = [Item(0, 5), Item(0, 1), Item(2, 9)]
    ((batch, last),) = ExampleBatches(training, 3).make(items, 0, WorkerSlot())
    assert last
    examples = [training[item] for item in items]
    assert batch.clip.shape == (6, 4, 32, 32, 3)
    assert batch.clip.dtype == torch.uint8
    assert batch.video.tolist() == [5, 5, 1, 1, 9, 9]
    assert batch.label.tolist() == [2, 2, 1, 1, 0, 0]
    assert batch.video.dtype == batch.label.dtype == torch.int64
    assert batch.valid.tolist() == [True] * 6
    assert batch.mask is not None
    assert batch.decoder_mask is not None
    for place, example in enumerate(examples):
        views = slice(2 * place, 2 * place + 2)
        assert example.mask is not None
        assert example.decoder_mask is not None
        assert batch.clip[views].equal(example.clip)
        assert batch.mask[views].equal(example.mask)
        assert batch.decoder_mask[views].equal(example.decoder_mask)
    assert (batch.num_short, batch.bad) == (0, [])


def test_a_batch_counts_short_videos_and_lists_bad_ones() -> None:
    clip = torch.zeros(3, 4, 8, 8, 3, dtype=torch.uint8)
    bad = BadFile(7, "7.mp4", 8, "cut")
    batch = collate(
        [
            Example(clip, 4, torch.tensor(0), None, None, True, None),
            Example(clip, 7, torch.tensor(1), None, None, False, bad),
            Example(clip, 2, torch.tensor(2), None, None, True, None),
        ],
        torch.cat([clip] * 3),
    )
    assert batch.num_short == 2
    assert batch.bad == [bad]
    assert batch.valid.dtype == torch.bool
    assert batch.valid.tolist() == [True] * 3 + [False] * 3 + [True] * 3
    assert batch.mask is batch.decoder_mask is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_video_empties_its_slot_and_changes_no_other(tmp_path: Path, workers: int) -> None:
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", frames=8 if number else 3, seed=number)
    data = replace(DATA, root=str(tmp_path))
    clips = [Clip(f"{number}.mp4", number + 1) for number in range(6)]
    good = TrainingClips(clips, data, AUGMENT, MASKING, seed=3)
    expected = batches_of(good, batch=3, last=4)
    assert [len(batch.bad) for batch in expected] == [0] * 4
    assert sum(batch.num_short for batch in expected) == 2  # 0.mp4, in both epochs

    (tmp_path / "4.mp4").write_text("not a video")
    batches = batches_of(good, batch=3, last=4, workers=workers)
    assert sum(len(batch.bad) for batch in batches) == 2
    for batch, before in zip(batches, expected, strict=True):
        assert batch.video.equal(before.video)
        assert batch.clip.shape == before.clip.shape
        harmed = batch.video == 4
        assert batch.valid.equal(~harmed)
        assert not batch.clip[harmed].any()
        assert batch.clip[~harmed].equal(before.clip[~harmed])
        assert batch.mask is not None
        assert before.mask is not None
        assert batch.mask[~harmed].equal(before.mask[~harmed])
        assert batch.num_short == before.num_short
        assert len(batch.bad) == int(harmed.any())
        for bad in batch.bad:
            assert (bad.video, bad.path, bad.line) == (4, "4.mp4", 5)
            assert str(tmp_path / "4.mp4") in bad.error


# Evaluation.


@pytest.mark.parametrize("num_videos", [1, 4, 7])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_each_video_is_evaluated_once_by_one_rank(
    listed: tuple[list[Clip], DataConfig], num_videos: int, world: int
) -> None:
    clips, data = listed
    dataset = EvaluationClips(clips[:num_videos], replace(data, segments=1, crops=1))
    shares = []
    for rank in range(world):
        loader = evaluation_loader(dataset, rank=rank, world=world, batch=2, workers=0, pin=False)
        batches = list(loader)
        shares.append([batch.video.tolist() for batch in batches])
        for batch in batches:
            assert batch.label.tolist() == [clips[video].label for video in batch.video]
    alone = [list(range(num_videos))[start : start + 2] for start in range(0, num_videos, 2)]
    assert sorted(batch for share in shares for batch in share) == alone  # whoever takes it
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_evaluation_with_workers_is_the_same_and_a_share_may_be_empty(
    listed: tuple[list[Clip], DataConfig],
) -> None:
    clips, data = listed
    dataset = EvaluationClips(clips[:4], data)

    def loaded(rank: int, world: int, workers: int) -> list[Batch]:
        return list(
            evaluation_loader(dataset, rank=rank, world=world, batch=3, workers=workers, pin=False)
        )

    alone, helped = loaded(0, 1, 0), loaded(0, 1, 2)
    assert [len(batch.video) for batch in alone] == [18, 6]  # 2 segments x 3 crops each
    for a, b in zip(alone, helped, strict=True):
        assert_same(a, b)
    assert torch.cat([batch.video for batch in alone]).tolist() == [
        video for video in range(4) for _ in range(6)
    ]
    assert loaded(4, 5, 2) == []


# Workers.


class ReportingClips(TrainingClips):
    """The label of an item is the number of the process that read it."""

    def read(self, item: Item, pixels: Tensor) -> Example:
        return super().read(item, pixels)._replace(label=torch.tensor(os.getpid()))


def iterated(training: TrainingClips) -> tuple[Generator[Batch], int]:
    """What is left of twelve batches after the first, and the worker that reads them."""
    clips = ReportingClips(training.clips, training.data, training.augment, None, seed=0)
    order = TrainingOrder(12, 2, seed=0)
    micro_batches = MicroBatches(order, rank=0, world=1, size=2, first=1, last=12)
    batches = iter(training_loader(clips, micro_batches, size=4, workers=1, pin=False))
    assert isinstance(batches, Generator)
    worker = int(next(batches).label[0])
    assert worker != os.getpid()
    return batches, worker


def gone(process: int, patience_s: float) -> bool:
    """Whether a child has ended, or ends in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process not in {child.pid for child in multiprocessing.active_children()}:
            return True
        time.sleep(0.01)
    return False


def test_a_worker_outlives_signals_that_are_not_from_its_training_process(
    training: TrainingClips,
) -> None:
    """Ctrl-C and SIGTERM reach the whole job; the training process still wants the batches."""
    batches, worker = iterated(training)
    os.kill(worker, signal.SIGINT)
    subprocess.run(["kill", "-TERM", str(worker)], check=True)
    assert not gone(worker, patience_s=0.2)
    rest = list(batches)
    assert {int(batch.label[0]) for batch in rest} == {worker}
    assert len(rest) == 11


def test_a_worker_ends_when_its_training_process_says_so(training: TrainingClips) -> None:
    batches, worker = iterated(training)
    os.kill(worker, signal.SIGTERM)
    assert gone(worker, patience_s=5)
    batches.close()  # which is to be harmless then


@pytest.mark.parametrize("hangs", [False, True])
def test_closing_ends_a_worker(training: TrainingClips, hangs: bool) -> None:
    batches, worker = iterated(training)
    assert not gone(worker, patience_s=0)
    if hangs:
        os.kill(worker, signal.SIGSTOP)  # it can do nothing now, like one stuck in a decoder
    began = time.monotonic()
    batches.close()
    assert gone(worker, patience_s=0.5)
    assert time.monotonic() - began < 4
