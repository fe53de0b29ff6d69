"""Lines of a clip list to views: decoded, sampled, augmented and masked, as uint8.

What an item gets is a function of (seed, epoch, index of its line, view) and of nothing else.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import AugmentConfig, ClipConfig, DataConfig, Sampling
from videomae.data import frame_sampling
from videomae.data.augment import ViewMaker, augmentation_of, erase_box, evaluation_crops
from videomae.data.mask import Masking
from videomae.data.streams import Stream, random_stream
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.run.bad_files import BadFile
from videomae.run.extensions import is_extension
from videomae.video.interface import DecodeError, Part, Video, whole, within_memory
from videomae.video.opening import ask_for, open_clip, wait_for

UNLABELLED = -1
"""The label of a clip that has none."""
ABOUT = 64
"""Bytes of what a batch says of one view, its masks apart."""


class Item(NamedTuple):
    """A place in the training order."""

    epoch: int
    video: int


class Example(NamedTuple):
    """The views of one video, V of them."""

    clip: Tensor
    """(V, T, H, W, 3) uint8; all zero where the video could not be read."""
    video: int
    label: Tensor
    """() int64: the class; or what another head learns of the video, (K,) float32."""
    mask: Tensor | None
    """(V, N) bool, True = masked: hidden from the encoder."""
    decoder_mask: Tensor | None
    """(V, N) bool, True = masked: not rebuilt."""
    short: bool
    """Whether the video is too short for the clip, which repeats or crowds frames."""
    bad: BadFile | None
    """Why the slot is empty. Its views have weight 0; no other video takes their place."""
    erase: Tensor | None = None
    """(V, 4) int64: what random erasing takes, top, left, height, width; empty: nothing."""
    forgotten: bool = False
    """Whether the slot is empty as a tombstone names the video, which was not opened."""


def class_of(clip: Clip) -> Tensor:
    """Return the number of a video's class, () int64; UNLABELLED where it has none."""
    return torch.tensor(UNLABELLED if clip.label is None else clip.label)


class TrainingClips:
    """Items of the training order to examples.

    Args:
        clips: the list.
        masking: draws the masks (pre-training); None: no masks, labels instead (fine-tuning).
        seed: of the run.
        target: what is learned of a video: () int64 or (K,) float32.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        data: DataConfig,
        augment: AugmentConfig,
        masking: Masking | None,
        seed: int,
        target: Callable[[Clip], Tensor] = class_of,
    ) -> None:
        self.clips = ClipList.of(clips)
        self.data = data
        self.parts = data.parts()
        self.augment = augment
        self.draw_augmentation = augmentation_of(augment)
        self.masking = masking
        self.seed = seed
        self.target = target
        self.given_up: dict[int, str] = {}
        self.shape = (data.repeats, *view_shape(data))
        masks = 2 * math.prod(masking.grid) if masking else 0
        self.no_target = torch.zeros_like(target(self.clips[0])) if self.clips else torch.tensor(0)
        about = masks + self.no_target.nbytes + ABOUT
        self.nbytes = math.prod(self.shape) + data.repeats * about

    def __getitem__(self, item: Item) -> Example:
        """One video; blank, with weight 0, where its file cannot be read."""
        return self.read(item, torch.empty(self.shape, dtype=torch.uint8))

    def ask(self, videos: Sequence[int]) -> None:
        """Have the files of some videos fetched, where they lie at an address."""
        for source, part in self.parts.items():
            clips = (self.clips[video] for video in videos)
            ask_for((clip for clip in clips if clip.source == source), part)

    def wait(self, video: int) -> None:
        """Wait for the file of a video, where it lies at an address."""
        clip = self.clips[video]
        wait_for(clip, self.parts[clip.source])

    def read(self, item: Item, pixels: Tensor) -> Example:
        """Read one video; its views are written into `pixels`, (V, T, H, W, 3) uint8."""
        clip = self.clips[item.video]
        views = range(self.data.repeats)
        rngs = [random_stream(self.seed, Stream.view, *item, view) for view in views]
        data, bad, short = self.parts[clip.source], None, False
        try:
            if clip.forgotten:
                pixels.zero_()
            else:
                short = self._decode(item, clip, pixels, rngs)
        except DecodeError as error:
            bad = BadFile(item.video, clip.path, clip.line, str(error), clip.source, clip.span)
            short = False
            pixels.zero_()
        except Exception as error:
            add_place(error, clip, data.decoder, self.augment.transform)
            raise
        mask = decoder_mask = None
        if self.masking is not None:
            drawn = [self.masking.draw(rng) for rng in rngs]
            mask = torch.stack([encoder for encoder, _ in drawn])
            decoders = [decoder for _, decoder in drawn if decoder is not None]
            decoder_mask = torch.stack(decoders) if decoders else None
        label = self.target(clip)
        erase = None
        if self.augment.erase_prob > 0:
            boxes = [erase_box(data.clip.frame, self.augment, rng) for rng in rngs]
            erase = torch.tensor(boxes)
        return Example(
            *(pixels, item.video, label, mask, decoder_mask, short, bad, erase, clip.forgotten)
        )

    def _decode(
        self, item: Item, clip: Clip, pixels: Tensor, rngs: Sequence[np.random.Generator]
    ) -> bool:
        """Decode the views of a video into `pixels`; return whether it is too short for the clip.

        Raises:
            DecodeError: it cannot be read.
        """
        data = self.parts[clip.source]
        check_given_up(self.given_up, item.video, clip)
        with within_memory(clip.path):
            video = open_clip(clip, data)
            window = self._window(video, item, data.clip)
            short = self._is_short(video, window, data.clip)
            wanted, places = np.unique(window, return_inverse=True)  # each is decoded once
            parts = whole(video, wanted.tolist())
            del video  # decord's goes on decoding while it is open
            self._fill(pixels, parts, rngs)
        if len(wanted) < len(window):
            pixels.copy_(pixels[:, torch.from_numpy(places)])
        return short

    def _window(self, video: Video, item: Item, clip: ClipConfig) -> list[int]:
        """Frame numbers of the clip, shared by its views."""
        rng = random_stream(self.seed, Stream.window, *item)
        frames, stride, total = clip.frames, clip.stride, video.num_frames
        if self.masking is not None:
            step = video.reference_stride
            if not self.data.align_starts or stride % step:
                step = 1
            starts = range(0, frame_sampling.num_dense_starts(total, frames, stride), step)
            start = starts[int(rng.integers(len(starts)))]
            return frame_sampling.dense_indices(total, frames, stride, start)
        if self.data.sampling is Sampling.segment:
            offsets = rng.integers(frame_sampling.segment_length(total, frames), size=frames)
            return frame_sampling.segment_indices(total, frames, offsets.tolist())
        start = int(rng.integers(frame_sampling.num_window_starts(total, frames, stride)))
        return frame_sampling.window_indices(total, frames, stride, start)

    def _is_short(self, video: Video, window: list[int], clip: ClipConfig) -> bool:
        if self.masking is not None:
            return frame_sampling.is_short(video.num_frames, clip.frames, clip.stride)
        return _repeats(window)

    def _fill(
        self, views: Tensor, parts: Iterator[Part], rngs: Sequence[np.random.Generator]
    ) -> None:
        """Augment frames to the first ones of each view."""
        size, drawn = (0, 0), list[ViewMaker]()
        for place, frames in parts:
            if frames.shape[1:3] != size:
                size, hflip = frames.shape[1:3], self.data.hflip
                frame, draw = self.data.clip.frame, self.draw_augmentation
                drawn = [draw(*size, frame, self.augment, rng, hflip=hflip) for rng in rngs]
            for view, augmentation in zip(views, drawn, strict=True):
                part = view[place : place + len(frames)]
                augmentation.apply(torch.from_numpy(frames), part)
            del frames  # before the next come


class EvaluationClips:
    """Videos to all their test views, segments x crops, from one decode.

    Args:
        clips: the list, without the videos that tombstones name.
    """

    def __init__(self, clips: Sequence[Clip], data: DataConfig) -> None:
        self.clips = ClipList.of(clips)
        assert len(self.clips.kept()) == len(self.clips)
        self.data = data
        self.given_up: dict[int, str] = {}
        self.shape = (data.segments * data.crops, *view_shape(data))
        self.nbytes = math.prod(self.shape) + self.shape[0] * ABOUT

    def __getitem__(self, index: int) -> Example:
        """One video; blank, and marked as bad, where its file cannot be read."""
        return self.read(index, torch.empty(self.shape, dtype=torch.uint8))

    def ask(self, videos: Sequence[int]) -> None:
        """Have the files of some videos fetched, where they lie at an address."""
        ask_for((self.clips[video] for video in videos), self.data)

    def wait(self, video: int) -> None:
        """Wait for the file of a video, where it lies at an address."""
        wait_for(self.clips[video], self.data)

    def read(self, index: int, pixels: Tensor) -> Example:
        """Read one video; its views are written into `pixels`, (V, T, H, W, 3) uint8."""
        clip, bad, short = self.clips[index], None, False
        try:
            check_given_up(self.given_up, index, clip)
            with within_memory(clip.path):
                video = open_clip(clip, self.data)
                segments = self._segments(video)
                self._fill(pixels, video, segments)
            short = any(_repeats(segment) for segment in segments)
        except DecodeError as error:
            bad = BadFile(index, clip.path, clip.line, str(error), span=clip.span)
            pixels.zero_()
        except Exception as error:
            add_place(error, clip, self.data.decoder)
            raise
        return Example(pixels, index, class_of(clip), None, None, short, bad)

    def _segments(self, video: Video) -> list[list[int]]:
        """Frame numbers of each temporal position."""
        data, frames, total = self.data, self.data.clip.frames, video.num_frames
        if data.sampling is Sampling.segment:
            return frame_sampling.segment_view_indices(total, frames, data.segments)
        return frame_sampling.dense_view_indices(total, frames, data.clip.stride, data.segments)

    def _fill(self, pixels: Tensor, video: Video, segments: list[list[int]]) -> None:
        """Fill in the views, segment by segment."""
        wanted, places = np.unique(segments, return_inverse=True)
        crops = read_crops(video, wanted.tolist(), self.data.clip.frame, self.data.crops)
        rows = torch.from_numpy(places).view(len(segments), -1)
        views = (crop[row] for row in rows for crop in crops)
        for place, view in zip(pixels, views, strict=True):
            place.copy_(view)


class ValidationClips(EvaluationClips):
    """Videos to one view each, of their middle, as fine-tuning evaluates its epochs.

    In time it is what training could draw there, not a test view, whose frames lie otherwise.
    """

    def __init__(self, clips: Sequence[Clip], data: DataConfig) -> None:
        super().__init__(clips, replace(data, segments=1, crops=1))

    def _segments(self, video: Video) -> list[list[int]]:
        clip, total = self.data.clip, video.num_frames
        if self.data.sampling is Sampling.segment:
            return [frame_sampling.middle_segment_indices(total, clip.frames)]
        return [frame_sampling.middle_window_indices(total, clip.frames, clip.stride)]


def read_crops(
    video: Video, numbers: Sequence[int], frame: tuple[int, int], crops: int
) -> list[Tensor]:
    """The evaluation crops of frames of ascending, distinct numbers: `crops` of (T, *frame, 3).

    Raises:
        DecodeError: the frames cannot be decoded.
    """
    found: list[list[Tensor]] = []
    for place, frames in whole(video, numbers):
        cut = evaluation_crops(torch.from_numpy(frames), frame, crops)
        found = [cut] if place == 0 else [*found, cut]
    return found[0] if len(found) == 1 else [torch.cat(parts) for parts in zip(*found, strict=True)]


def view_shape(data: DataConfig) -> tuple[int, ...]:
    """(T, H, W, 3) of one view."""
    return (data.clip.frames, *data.clip.frame, 3)


def check_given_up(given_up: Mapping[int, str], index: int, clip: Clip) -> None:
    """Raise DecodeError if the clip at this place of the list is one that decoders do not survive.

    Args:
        given_up: why, by place; the loader fills it in.
    """
    if index in given_up:
        raise DecodeError(f"{clip.path}: {given_up[index]}")


def add_place(error: Exception, clip: Clip, *names: str | None) -> None:
    """Add to an error where it came about: the video, and code of the user's that took part.

    Args:
        names: values of data.decoder and augment.transform.
    """
    own = [name for name in names if name is not None and is_extension(name)]
    code = f", by code of your own: {' or '.join(own)}" if own else ""
    error.add_note(f"This came about with {clip.path}, line {clip.line} of the list{code}.")


def _repeats(indices: Sequence[int]) -> bool:
    return len(set(indices)) < len(indices)
