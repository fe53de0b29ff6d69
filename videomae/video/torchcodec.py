"""Video files through torchcodec, which needs FFmpeg's shared libraries on the system."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchcodec.decoders import VideoDecoder

from videomae.video.container import check_file
from videomae.video.interface import DecodeError, Frames


class TorchCodecVideo:
    """A video file, with one thread: loaders run one process per core.

    seek_mode is exact: the first pass over the packets counts the frames, whatever the file says.
    """

    reference_stride = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        source = check_file(path)
        try:
            self.reader = VideoDecoder(
                str(source), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            self.num_frames: int = len(self.reader)
        except (RuntimeError, ValueError, TypeError) as error:
            raise DecodeError(_reason(path, error)) from error
        if self.num_frames == 0:
            raise DecodeError(f"{path} holds no frame")

    @property
    def fps(self) -> float | None:
        return self.reader.metadata.average_fps

    def read(self, indices: Sequence[int]) -> Frames:
        wanted, places = np.unique(indices, return_inverse=True)  # each frame is decoded once
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            raise DecodeError(f"{self.path} has {self.num_frames} frames, asked for {wanted[-1]}")
        try:
            frames: Frames = self.reader.get_frames_at(wanted.tolist()).data.numpy()
        except (RuntimeError, ValueError, IndexError) as error:
            raise DecodeError(_reason(self.path, error)) from error
        return frames[places]


def _reason(path: Path, error: Exception) -> str:
    """The error in one line."""
    lines = str(error).strip().splitlines()
    return f"{path}: {lines[0][:300] if lines else type(error).__name__}"
