"""Whole videos to windows: clips at even distances, from the first frame to the last."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import ClipConfig, DataConfig
from videomae.data.dataset import check_given_up, read_crops
from videomae.data.sample import dense_indices, num_dense_starts
from videomae.data.working import Desk
from videomae.lists.clips import Clip, ClipList
from videomae.run.bad_files import BadFile
from videomae.video.interface import DecodeError, Video, within_memory
from videomae.video.opening import open_clip


class Windows(NamedTuple):
    """Some windows of one video, in their order."""

    video: int
    """The place of its clip in the list."""
    clip: Tensor
    """(W, T, H, W, 3) uint8; W is 0 where the video could not be read."""
    starts: list[int]
    """The source frames that the windows begin with."""
    num_frames: int
    """Of the whole video."""
    fps: float | None
    """Of the video; None: not known."""
    last: bool
    """Whether these are the video's last ones."""
    bad: BadFile | None
    """Why the video, or its rest, could not be read."""


def window_starts(num_frames: int, clip: ClipConfig, hop: int) -> list[int]:
    """The first frames of a video's windows: one every `hop` frames.

    Where these leave frames over at the end, a last window ends with the video. A video shorter
    than a window has one, whose last frame repeats.
    """
    last = num_dense_starts(num_frames, clip.frames, clip.stride) - 1
    starts = list(range(0, last + 1, hop))
    return starts if starts[-1] == last else [*starts, last]


class VideoWindows:
    """The windows of clips, `batch` at a time.

    The centre of the frame is cut out, as for a test view with one crop.
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

    def make(self, task: int, first: int, desk: Desk) -> Iterator[tuple[Windows, bool]]:
        """Those of one clip, without the `first` batches, and whether each batch is its last."""
        clip, shape = self.clips[task], self.data.clip
        try:
            with desk.at(task), within_memory(clip.path):
                check_given_up(self.given_up, task, clip)
                video = open_clip(clip, self.data)
                starts = window_starts(video.num_frames, shape, self.hop)
            for place in range(first * self.batch, len(starts), self.batch):
                some = starts[place : place + self.batch]
                with desk.at(task), within_memory(clip.path):
                    pixels = self._pixels(video, some)
                last = place + self.batch >= len(starts)
                yield Windows(task, pixels, some, video.num_frames, video.fps, last, None), last
        except DecodeError as error:
            bad = BadFile(task, clip.path, clip.line, str(error), clip.source)
            nothing = torch.zeros(0, shape.frames, *shape.frame, 3, dtype=torch.uint8)
            yield Windows(task, nothing, [], 0, None, True, bad), True

    def _pixels(self, video: Video, starts: Sequence[int]) -> Tensor:
        """(W, T, H, W, 3) uint8 of the windows that start there."""
        shape = self.data.clip
        rows = [
            dense_indices(video.num_frames, shape.frames, shape.stride, start) for start in starts
        ]
        wanted, places = np.unique(rows, return_inverse=True)  # each is decoded once
        (centre,) = read_crops(video, wanted.tolist(), shape.frame, 1)
        return centre[torch.from_numpy(places).view(len(rows), -1)]
