"""Reader of video files through decord, or its fork decord2."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import decord
from decord._ffi.base import DECORDError

from videomae.config import MAX_CLIP_BYTES
from videomae.video.container import check_file, picture_size
from videomae.video.interface import (
    DecodeError,
    Frames,
    Part,
    check_frame_size,
    frames_in_part,
    gathered,
)

decord.logging.set_level(decord.logging.FATAL)  # hides FFmpeg's messages: ours name the file
SOURCE_LINE = r"^\[[\d:]+\] \S+:\d+: "
"""Pattern of the clock and the source line that begin decord's error messages."""


class DecordVideo:
    """A video file decoded by decord in one thread, as loaders run one process per core."""

    reference_stride = 1

    def __init__(self, path: Path, max_bytes: int = MAX_CLIP_BYTES) -> None:
        self.path = path
        source = check_file(path)
        self.size = picture_size(source, path)
        check_frame_size(path, *self.size, max_bytes)
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
        return gathered(self.parts, indices)

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        path, reader, count = (
            self.path,
            self.reader,
            frames_in_part(3 * self.size[0] * self.size[1]),
        )
        try:
            for place in range(0, len(numbers), count):
                frames = reader.get_batch(numbers[place : place + count]).asnumpy()
                if place + count >= len(numbers):
                    del self, reader  # an open reader goes on decoding in a thread of its own
                yield Part(place, frames)
        except (DECORDError, RuntimeError, IndexError) as error:
            raise DecodeError(_reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    """Return the error as one line, without decord's clock, source lines and call stack."""
    lines = str(error).strip().splitlines()
    if not lines:
        return f"{path}: {type(error).__name__}"
    if "st_nb >= 0" in lines[0]:
        return f"{path} holds no video stream"
    return f"{path}: {re.sub(SOURCE_LINE, '', lines[0])[:300]}"
