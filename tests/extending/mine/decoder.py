# mine/decoder.py
"""data.decoder=mine.decoder:ArrayVideo: videos that are NumPy files, (T, H, W, 3) uint8."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from videomae.video.interface import DecodeError, Frames, Part, check_frame_size, frames_in_part


class ArrayVideo:
    """An open NAME.npy: a videomae.video.interface.Video."""

    fps = None  # frames per second; None: not known
    reference_stride = 1  # no frame needs others to be decoded

    def __init__(self, path: Path, max_clip_bytes: int) -> None:
        try:
            self.frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DecodeError(f"{path}: {error}") from error
        if self.frames.ndim != 4 or self.frames.dtype != np.uint8 or not len(self.frames):
            raise DecodeError(f"{path}: {self.frames.shape} {self.frames.dtype} is no video")
        _, height, width, _ = self.frames.shape
        check_frame_size(path, width, height, max_clip_bytes)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def read(self, indices: Sequence[int]) -> Frames:
        return np.array(self.frames[list(indices)])

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        count = frames_in_part(self.frames[0].nbytes)
        for place in range(0, len(numbers), count):
            yield Part(place, self.read(numbers[place : place + count]))
