"""Sliding windows: clips at even distances over a whole video, for feature extraction."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import ClipConfig, DataConfig
from videomae.data.dataset import check_given_up, read_crops
from videomae.data.frame_sampling import dense_indices, num_dense_starts
from videomae.data.working import WorkerSlot
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.run.bad_files import BadFile
from videomae.video.interface import DecodeError, Video, within_memory
from videomae.video.opening import ask_for, open_clip, wait_for


class Windows(NamedTuple):
    """A batch of consecutive windows of one video."""

    video: int
    """Index of the video's clip in the list."""
    clip: Tensor
    """Frames of the windows, (windows, T, H, W, 3) uint8; empty where the video is unreadable."""
    starts: list[int]
    """Number of the source frame that each window begins with, from 0."""
    num_frames: int
    """Length of the whole video, in frames."""
    fps: float | None
    """Frame rate of the video, in frames per second; None: not known."""
    last: bool
    """Whether these are the last windows of the video."""
    bad: BadFile | None
    """Why the video, or the rest of it, could not be read; None: it could."""


def window_starts(num_frames: int, clip: ClipConfig, hop: int) -> list[int]:
    """Return the first frame of each window of a video: one window every `hop` frames.

    If frames remain at the end, an additional window ends with the video. A video shorter than a
    window has one window, in which its last frame repeats.
    """
    last = num_dense_starts(num_frames, clip.frames, clip.stride) - 1
    starts = list(range(0, last + 1, hop))
    return starts if starts[-1] == last else [*starts, last]


class VideoWindows:
    """Batch source of the sliding windows of all clips, at most `batch` windows at a time.

    Each frame is cropped to its centre, as in a test view with one crop.
    """

    def __init__(self, clips: Sequence[Clip], data: DataConfig, hop: int, batch: int) -> None:
        self.clips = ClipList.of(clips)
        self.data = data
        self.hop = hop
        self.batch = batch
        self.given_up: dict[int, str] = {}
        self.max_clip_bytes = data.max_clip_bytes
        self.timeout_s = data.timeout_s
        self.nbytes = batch * math.prod((data.clip.frames, *data.clip.frame, 3))

    def ask(self, task: int) -> None:
        """Have the file of a clip fetched, where it lies at an address."""
        ask_for([self.clips[task]], self.data)

    def make(self, task: int, first: int, slot: WorkerSlot) -> Iterator[tuple[Windows, bool]]:
        """Yield a clip's batches from number `first` on, each with whether it is the last."""
        clip, shape = self.clips[task], self.data.clip
        wait_for(clip, self.data)
        try:
            with slot.decoding(task), within_memory(clip.path):
                check_given_up(self.given_up, task, clip)
                video = open_clip(clip, self.data)
                starts = window_starts(video.num_frames, shape, self.hop)
            for place in range(first * self.batch, len(starts), self.batch):
                some = starts[place : place + self.batch]
                with slot.decoding(task), within_memory(clip.path):
                    pixels = self._pixels(video, some)
                last = place + self.batch >= len(starts)
                yield Windows(task, pixels, some, video.num_frames, video.fps, last, None), last
        except DecodeError as error:
            bad = BadFile(task, clip.path, clip.line, str(error), clip.source, clip.span)
            nothing = torch.zeros(0, shape.frames, *shape.frame, 3, dtype=torch.uint8)
            yield Windows(task, nothing, [], 0, None, True, bad), True

    def _pixels(self, video: Video, starts: Sequence[int]) -> Tensor:
        """Decode the windows that begin at `starts`: (len(starts), T, H, W, 3) uint8."""
        shape = self.data.clip
        rows = [
            dense_indices(video.num_frames, shape.frames, shape.stride, start) for start in starts
        ]
        wanted, places = np.unique(rows, return_inverse=True)  # each is decoded once
        (centre,) = read_crops(video, wanted.tolist(), shape.frame, 1)
        return centre[torch.from_numpy(places).view(len(rows), -1)]
