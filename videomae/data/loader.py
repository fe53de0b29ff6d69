"""Examples to batches, in an order that depends on nothing but the seed."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videomae.data.dataset import EvaluationClips, Example, Item, TrainingClips
from videomae.data.sliding_windows import VideoWindows, Windows
from videomae.data.slots import Register, copied
from videomae.data.streams import Stream, random_stream
from videomae.data.workers import LENT, Loader
from videomae.data.working import WorkerSlot
from videomae.run.bad_files import BadFile

PIECE = 8
"""Videos that a process decodes at a time, at most: its slots have room for so many."""


class Batch(NamedTuple):
    """One micro-batch: V views, those of one video next to each other."""

    clip: Tensor
    """(V, T, H, W, 3) uint8"""
    video: Tensor
    """(V,) int64: the video's place among the clips of the list."""
    label: Tensor
    """(V,) int64: classes; or what another head learns of each view's video, (V, K) float32."""
    valid: Tensor
    """(V,) bool: False where the video could not be read, or is forgotten."""
    mask: Tensor | None
    """(V, N) bool, True = masked: hidden from the encoder."""
    decoder_mask: Tensor | None
    """(V, N) bool, True = masked: not rebuilt."""
    num_short: int
    """Videos shorter than a clip."""
    bad: list[BadFile]
    erase: Tensor | None = None
    """(V, 4) int64: what random erasing takes, top, left, height, width; empty: nothing."""
    num_forgotten: int = 0
    """Videos that tombstones name: their views are blank, and not valid."""


def collate(examples: Sequence[Example], clip: Tensor) -> Batch:
    """Join examples that have equally many views; all their views are in `clip` already."""
    views = len(examples[0].clip)
    masks = [example.mask for example in examples if example.mask is not None]
    decoder_masks = [e.decoder_mask for e in examples if e.decoder_mask is not None]
    erase = [example.erase for example in examples if example.erase is not None]
    per_video = [(e.video, e.bad is None and not e.forgotten) for e in examples]
    video, valid = (
        torch.tensor(values).repeat_interleave(views) for values in zip(*per_video, strict=True)
    )
    label = torch.stack([e.label for e in examples]).repeat_interleave(views, 0)
    return Batch(
        clip=clip,
        video=video,
        label=label,
        valid=valid,
        mask=torch.cat(masks) if masks else None,
        decoder_mask=torch.cat(decoder_masks) if decoder_masks else None,
        num_short=sum(example.short for example in examples),
        bad=[example.bad for example in examples if example.bad is not None],
        erase=torch.cat(erase) if erase else None,
        num_forgotten=sum(example.forgotten for example in examples),
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
    """This rank's micro-batches, from one step to another."""

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


def evaluation_batches(num_videos: int, *, rank: int, world: int, batch: int) -> list[list[int]]:
    """Every world-th batch of the videos, in their order.

    A batch is the same whoever computes it, so that its numbers do not depend on the processes:
    the last bit of a prediction may depend on what lies beside it in the batch.
    """
    starts = range(rank * batch, num_videos, world * batch)
    return [list(range(start, min(start + batch, num_videos))) for start in starts]


class ExampleBatches:
    """Makes batches of examples, `most` videos in each at most."""

    def __init__(self, examples: TrainingClips | EvaluationClips, most: int) -> None:
        self.examples = examples
        self.clips = examples.clips
        self.given_up = examples.given_up
        self.nbytes = most * examples.nbytes + 1024  # each field is aligned
        self.max_clip_bytes = examples.data.max_clip_bytes
        self.timeout_s = examples.data.timeout_s

    def ask(self, task: Sequence[Item] | Sequence[int]) -> None:
        """Have the files of a task fetched, where they lie at an address."""
        self.examples.ask([item.video if isinstance(item, Item) else item for item in task])

    def make(
        self, task: Sequence[Item] | Sequence[int], first: int, slot: WorkerSlot
    ) -> Iterator[tuple[Batch, bool]]:
        """The one batch of these items."""
        assert first == 0
        clip = slot.empty(len(task), *self.examples.shape)
        items: Sequence[Any] = task  # of the kind that these examples have
        found = []
        for item, views in zip(items, clip, strict=True):
            video = item.video if isinstance(item, Item) else item
            self.examples.wait(video)
            with slot.decoding(video):
                found.append(self.examples.read(item, views))
        yield collate(found, clip.flatten(0, 1)), True


def piece_size(videos: int) -> int:
    """Videos that a process decodes at a time of a micro-batch of so many: equal parts but for the
    last, so that no process needs memory for a whole one."""
    return -(-videos // -(-videos // PIECE))


class Delivers(Protocol):
    """Puts parts of batches where they are used; see videomae.train.delivery."""

    @property
    def register(self) -> Register | None: ...
    def room(self, *shape: int) -> Tensor: ...
    def put(self, room: Tensor, values: Tensor) -> None: ...
    def arrive(self, room: Tensor) -> Tensor: ...
    def settle(self, outstanding: int = 0) -> None: ...


def delivered_batches(
    clips: TrainingClips,
    batches: Iterable[list[Item]],
    delivery: Delivers,
    *,
    size: int,
    workers: int,
) -> Generator[Batch]:
    """Batches of the whole run, their clips on the device; the rest stays on the CPU.

    They are decoded in pieces, which are copied from where they were decoded.

    Args:
        size: videos of each batch.
    """
    most = piece_size(size)
    starts = range(0, size, most)
    loader = Loader(
        ExampleBatches(clips, most),
        (items[start : start + most] for items in batches for start in starts),
        workers=workers,
        in_order=True,
        pin=False,
        lend=True,
        register=delivery.register,
    )
    views = clips.shape[0]
    with closing(iter(loader)) as pieces:
        try:
            for first in pieces:
                clip = delivery.room(size * views, *clips.shape[1:])
                taken = []
                for start, piece in zip(starts, chain([first], pieces), strict=False):
                    delivery.put(clip[start * views :][: len(piece.clip)], piece.clip)
                    taken.append(copied(piece._replace(clip=piece.clip[:0]), pin=False))
                    delivery.settle(outstanding=LENT)  # before the next but one is asked for
                yield join(taken, delivery.arrive(clip))
        finally:
            delivery.settle()


def join(pieces: Sequence[Batch], clip: Tensor) -> Batch:
    """Pieces of a batch as one, whose clips are joined already."""
    if len(pieces) == 1:
        return pieces[0]._replace(clip=clip)
    joined: dict[str, Any] = {
        name: torch.cat([getattr(piece, name) for piece in pieces])
        for name, value in pieces[0]._asdict().items()
        if isinstance(value, Tensor)
    }
    joined["num_short"] = sum(piece.num_short for piece in pieces)
    joined["num_forgotten"] = sum(piece.num_forgotten for piece in pieces)
    joined["bad"] = [bad for piece in pieces for bad in piece.bad]
    return pieces[0]._replace(**joined | {"clip": clip})


def training_loader(
    clips: TrainingClips,
    batches: Iterable[list[Item]],
    *,
    size: int,
    workers: int,
    pin: bool,
) -> Loader[Sequence[Item], Batch]:
    """Batches of the whole run, without a pause between epochs.

    Args:
        size: of the batches, at most.
    """
    return Loader(
        ExampleBatches(clips, size),
        batches,
        workers=workers,
        in_order=True,
        pin=pin,
    )


def single_examples(clips: TrainingClips, places: Iterable[int]) -> Iterator[Batch]:
    """Clips of the list as the first epoch has them, each a batch of its own, for pictures.

    They are decoded by a process of their own, so that no video ends this one.
    """
    batches = ([Item(0, place)] for place in places)
    yield from training_loader(clips, batches, size=1, workers=1, pin=False)


def evaluation_loader(
    clips: EvaluationClips,
    *,
    rank: int,
    world: int,
    batch: int,
    workers: int,
    pin: bool,
) -> Loader[Sequence[int], Batch]:
    """Every rank's share of the videos: none twice, shares may be unequal or empty."""
    places = evaluation_batches(len(clips.clips), rank=rank, world=world, batch=batch)
    return Loader(
        ExampleBatches(clips, batch),
        places,
        workers=min(workers, len(places)),
        in_order=True,
        pin=pin,
    )


def window_loader(windows: VideoWindows, *, workers: int, pin: bool) -> Loader[int, Windows]:
    """The windows of every video, those of one video in their order."""
    return Loader(
        windows,
        range(len(windows.clips)),
        workers=workers,
        in_order=False,
        pin=pin,
    )
