"""Video files through decord, or its fork decord2."""

import re
from collections.abc import Sequence
from pathlib import Path

import decord
import numpy as np
from decord._ffi.base import DECORDError

from videomae.video.container import check_file
from videomae.video.interface import DecodeError, Frames

decord.logging.set_level(decord.logging.FATAL)  # FFmpeg's own words; ours name file and line
SOURCE_LINE = r"^\[[\d:]+\] \S+:\d+: "
"""What decord puts before its words."""


class DecordVideo:
    """A video file, with one thread: loaders run one process per core."""

    reference_stride = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        source = check_file(path)
        try:
            self.reader = decord.VideoReader(str(source), num_threads=1)
        except (DECORDError, RuntimeError, OSError, ValueError) as error:
            raise DecodeError(_reason(path, error)) from error
        if self.num_frames == 0:
            raise DecodeError(f"{path} holds no frame")

    @property
    def num_frames(self) -> int:
        return len(self.reader)

    @property
    def fps(self) -> float | None:
        rate = float(self.reader.get_avg_fps())
        return rate if 0 < rate < float("inf") else None

    def read(self, indices: Sequence[int]) -> Frames:
        wanted, places = np.unique(indices, return_inverse=True)  # each frame is decoded once
        try:
            frames: Frames = self.reader.get_batch(wanted.tolist()).asnumpy()
        except (DECORDError, RuntimeError, IndexError) as error:
            raise DecodeError(_reason(self.path, error)) from error
        return frames if np.array_equal(places, range(len(frames))) else frames[places]


def _reason(path: Path, error: Exception) -> str:
    """The error in one line, without the decoder's own clock, source lines and call stack."""
    lines = str(error).strip().splitlines()
    if not lines:
        return f"{path}: {type(error).__name__}"
    if "st_nb >= 0" in lines[0]:
        return f"{path} holds no video stream"
    return f"{path}: {re.sub(SOURCE_LINE, '', lines[0])[:300]}"
