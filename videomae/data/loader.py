"""Examples to batches, in an order that depends on nothing but the seed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from videomae.data.dataset import (
    BadFile,
    EvaluationClips,
    Example,
    Item,
    Stream,
    TrainingClips,
    random_stream,
)
from videomae.data.windows import VideoWindows, Windows


class Batch(NamedTuple):
    """One micro-batch: V views, those of one video next to each other."""

    clip: Tensor
    """(V, T, H, W, 3) uint8"""
    video: Tensor
    """(V,) int64: the video's place among the clips of the list."""
    label: Tensor
    """(V,) int64"""
    valid: Tensor
    """(V,) bool: False where the video could not be read."""
    mask: Tensor | None
    """(V, N) bool, True = masked: hidden from the encoder."""
    decoder_mask: Tensor | None
    """(V, N) bool, True = masked: not rebuilt."""
    num_short: int
    """Videos shorter than a clip."""
    bad: list[BadFile]
    erase: Tensor | None = None
    """(V, 4) int64: what random erasing takes, top, left, height, width; empty: nothing."""


def collate(examples: Sequence[Example]) -> Batch:
    """Join examples that have equally many views."""
    views = len(examples[0].clip)
    masks = [example.mask for example in examples if example.mask is not None]
    decoder_masks = [e.decoder_mask for e in examples if e.decoder_mask is not None]
    erase = [example.erase for example in examples if example.erase is not None]
    per_video = [(e.video, e.label, e.bad is None) for e in examples]
    video, label, valid = (
        torch.tensor(values).repeat_interleave(views) for values in zip(*per_video, strict=True)
    )
    return Batch(
        clip=torch.cat([example.clip for example in examples]),
        video=video,
        label=label,
        valid=valid,
        mask=torch.cat(masks) if masks else None,
        decoder_mask=torch.cat(decoder_masks) if decoder_masks else None,
        num_short=sum(example.short for example in examples),
        bad=[example.bad for example in examples if example.bad is not None],
        erase=torch.cat(erase) if erase else None,
    )


@lru_cache(maxsize=2)
def epoch_order(num_clips: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The clips of one epoch in the order they are seen."""
    return random_stream(seed, Stream.order, epoch).permutation(num_clips)


class TrainingOrder:
    """Which videos each optimiser step sees, on each rank and in each micro-batch.

    A pure function of the seed: the global batch is the same however it is split. The last
    len(list) % global_batch videos of an epoch's order are not seen in it.
    """

    def __init__(self, num_clips: int, global_batch: int, seed: int) -> None:
        assert num_clips >= global_batch  # Plan.of has checked it
        self.num_clips = num_clips
        self.global_batch = global_batch
        self.seed = seed
        self.steps_per_epoch = num_clips // global_batch

    def global_items(self, step: int) -> list[Item]:
        """All items of `step`, which counts from 1."""
        epoch, position = divmod(step - 1, self.steps_per_epoch)
        order = epoch_order(self.num_clips, self.seed, epoch)
        first = position * self.global_batch
        return [Item(epoch, int(index)) for index in order[first : first + self.global_batch]]

    def tried(self, step: int) -> NDArray[np.bool_]:
        """Which clips have been asked for by the end of `step`: (num_clips,) bool."""
        seen = np.zeros(self.num_clips, dtype=bool)
        epochs, rest = divmod(step, self.steps_per_epoch)
        for epoch in range(epochs):
            order = epoch_order(self.num_clips, self.seed, epoch)
            seen[order[: self.steps_per_epoch * self.global_batch]] = True
            if seen.all():
                return seen
        if rest:
            order = epoch_order(self.num_clips, self.seed, epochs)
            seen[order[: rest * self.global_batch]] = True
        return seen


class MicroBatches:
    """A batch sampler: this rank's micro-batches, from one step to another."""

    def __init__(
        self, order: TrainingOrder, *, rank: int, world: int, size: int, first: int, last: int
    ) -> None:
        self.order = order
        self.share = order.global_batch // world
        self.rank = rank
        self.size = size
        self.steps = range(first, last + 1)

    def __iter__(self) -> Iterator[list[Item]]:
        for step in self.steps:
            mine = self.order.global_items(step)[self.rank * self.share :][: self.share]
            for start in range(0, self.share, self.size):
                yield mine[start : start + self.size]


def training_loader(
    clips: TrainingClips, micro_batches: MicroBatches, *, workers: int, pin: bool
) -> DataLoader[Example]:
    """Batches of the whole run, without a pause between epochs."""
    return DataLoader(
        clips,
        batch_sampler=micro_batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
    )


def evaluation_batches(num_videos: int, *, rank: int, world: int, batch: int) -> list[list[int]]:
    """Every world-th batch of the videos, in their order.

    A batch is the same whoever computes it, so that its numbers do not depend on the processes:
    the last bit of a prediction may depend on what lies beside it in the batch.
    """
    starts = range(rank * batch, num_videos, world * batch)
    return [list(range(start, min(start + batch, num_videos))) for start in starts]


def evaluation_loader(
    clips: EvaluationClips, *, rank: int, world: int, batch: int, workers: int, pin: bool
) -> DataLoader[Example]:
    """Every rank's share of the videos: none twice, shares may be unequal or empty."""
    return DataLoader(
        clips,
        batch_sampler=evaluation_batches(len(clips.clips), rank=rank, world=world, batch=batch),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
    )


def window_loader(windows: VideoWindows, *, workers: int, pin: bool) -> DataLoader[Windows]:
    """The windows of every video, those of one video in their order."""
    return DataLoader(
        windows,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start_worker,
    )


def stop_workers(batches: Iterator[Batch]) -> None:
    """End the decoding processes of a loader's iterator, also those stuck in a decoder."""
    if isinstance(batches, _MultiProcessingDataLoaderIter):
        batches._shutdown_workers()
        for worker in batches._workers:
            worker.kill()


def _start_worker(_: int) -> None:
    """Signals to the whole job are the training process's to handle: it still wants the batches.

    Ctrl-C goes to every process of a terminal, SIGTERM often to every process of a job. A worker
    ends on SIGTERM only when its own training process sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        trainer = multiprocessing.parent_process()
        assert trainer is not None
        threading.Thread(target=_end_with, args=(trainer.pid,), daemon=True).start()


def _end_with(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
