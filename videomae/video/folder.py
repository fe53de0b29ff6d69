"""Folders of extracted frames, through Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from videomae.video.interface import DecodeError, Frames

BROKEN_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises at files that are damaged or no images."""


class FrameFolder:
    """A folder of extracted frames, one image file each."""

    reference_stride = 1

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
