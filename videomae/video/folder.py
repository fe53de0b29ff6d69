"""Reader of folders of extracted frames, one image file each, through Pillow."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from videomae.config import MAX_CLIP_BYTES
from videomae.run.files import regular
from videomae.video.interface import (
    DecodeError,
    Frames,
    Part,
    check_frame_size,
    frames_in_part,
    gathered,
)

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "TGA")
"""Image formats that may be read: Pillow decodes them itself, and starts no other program."""
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Exceptions that Pillow raises for files that are damaged or are no images."""


def open_image(file: Path) -> Image.Image:
    """Open an image file in one of FORMATS, whatever the ending of its name.

    Raises:
        one of BROKEN_IMAGE: the file is damaged or no image.
    """
    return Image.open(regular(file), formats=FORMATS)


def count_frames(path: Path, template: str, start: int) -> int:
    """Count the image files of a folder that are numbered from `start` on without a gap."""
    names = set(os.listdir(path))
    return next(n for n in range(len(names) + 1) if template.format(start + n) not in names)


class FrameFolder:
    """A folder of extracted frames, one image file each.

    Args:
        template: format of a file name, filled with the numbers from `start` on.
        total: number of frames; None: as many as there are.
    """

    reference_stride = 1

    def __init__(
        self,
        path: Path,
        template: str,
        start: int,
        total: int | None,
        max_bytes: int = MAX_CLIP_BYTES,
    ) -> None:
        if not os.path.isdir(path):
            raise DecodeError(f"{path} is not a folder of frames")
        if total is None:
            total = count_frames(path, template, start)
            if total == 0:
                raise DecodeError(f"{path} holds no frame {template.format(start)}")
        self.path = path
        self.template = template
        self.start = start
        self.num_frames = total
        self.max_bytes = max_bytes
        self.fps: float | None = None

    def read(self, indices: Sequence[int]) -> Frames:
        return gathered(self.parts, indices)

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        try:
            place = 0
            while place < len(numbers):
                first = self._image(numbers[place])
                some = numbers[place : place + frames_in_part(first.nbytes)]
                images = [first, *(self._image(number) for number in some[1:])]
                yield Part(place, np.stack(images))
                place += len(some)
        except BROKEN_IMAGE as error:
            raise DecodeError(f"{self.path}: {error}") from error

    def _image(self, number: int) -> Frames:
        """Decode frame `number` from 0: (H, W, 3) uint8 RGB."""
        file = self.path / self.template.format(self.start + number)
        with open_image(file) as image:
            check_frame_size(file, image.width, image.height, self.max_bytes)
            return np.asarray(image.convert("RGB"))
