"""Videos to frames. A decoder is opened where it is used, and never crosses to another process."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import decord
import numpy as np
from decord._ffi.base import DECORDError
from numpy.typing import NDArray
from PIL import Image

from videomae.config import ConfigError, DataConfig
from videomae.data.clips import Clip

Frames = NDArray[np.uint8]
"""(T, H, W, 3), RGB."""

decord.logging.set_level(decord.logging.FATAL)  # FFmpeg's own words; ours name file and line


BROKEN_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises at files that are damaged or no images."""


class DecodeError(Exception):
    """A video that cannot be read: missing, damaged, or not a video."""


class Video(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """How many frames it has; at least 1."""

    @property
    def fps(self) -> float | None:
        """Frames per second; None: not known."""

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of those numbers, 0-based, in any order and as often as asked.

        Raises:
            DecodeError: they cannot be decoded.
        """


class DecordVideo:
    """A video file through decord, with one thread: loaders run one process per core."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.stat().st_size == 0:
                raise DecodeError(f"{path} is empty (0 bytes)")
            if path.is_dir():
                raise DecodeError(f"{path} is a directory, not a video file")
            self.reader = decord.VideoReader(str(path), num_threads=1)
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
        return frames[places]


class FrameFolder:
    """A folder of extracted frames, one image file each."""

    def __init__(self, path: Path, template: str, start: int, total: int) -> None:
        if not path.is_dir():
            raise DecodeError(f"{path} is not a folder of frames")
        self.path = path
        self.template = template
        self.start = start
        self.num_frames = total
        self.fps: float | None = None

    def read(self, indices: Sequence[int]) -> Frames:
        wanted, places = np.unique(indices, return_inverse=True)
        files = [self.path / self.template.format(self.start + number) for number in wanted]
        try:
            images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
            return np.stack(images)[places]
        except BROKEN_IMAGE as error:
            raise DecodeError(f"{self.path}: {error}") from error


SOURCE_LINE = r"^\[[\d:]+\] \S+:\d+: "
"""What decord puts before its words."""
DECODERS: dict[str, Callable[[Path], Video]] = {"decord": DecordVideo}
"""What data.decoder may name. Another library needs one class like DecordVideo."""


def check_decoder(name: str) -> None:
    """Raise ConfigError unless there is a decoder of that name."""
    if name not in DECODERS:
        raise ConfigError(f"no decoder {name!r}; data.decoder is one of {', '.join(DECODERS)}")


def open_clip(clip: Clip, data: DataConfig) -> Video:
    """The video of one line of a clip list.

    Raises:
        DecodeError: it cannot be opened.
    """
    path = Path(data.root or "") / clip.path
    if clip.total is None:
        return DECODERS[data.decoder](path)
    assert data.frame_template is not None  # read_clips has checked it
    assert clip.start is not None
    return FrameFolder(path, data.frame_template, clip.start, clip.total)


def _reason(path: Path, error: Exception) -> str:
    """The error in one line, without the decoder's own clock, source lines and call stack."""
    lines = str(error).strip().splitlines()
    if not lines:
        return f"{path}: {type(error).__name__}"
    if "st_nb >= 0" in lines[0]:
        return f"{path} holds no video stream"
    return f"{path}: {re.sub(SOURCE_LINE, '', lines[0])[:300]}"
