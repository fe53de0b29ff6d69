"""Small upright pictures of decoded frames, from which all scores of a clip are computed.

Every frame becomes a picture with a long side of 256 pixels; some, the sampled ones, also one of
512 pixels. FFmpeg's scaler makes both from the decoded frame: the full RGB frame is never made.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from videomae.video.picture import TURNS, Size, display_matrix, pixels, turned_size

SMALL, DETAILED = 256, 512
"""Long sides of the two pictures, in pixels."""
Grey = NDArray[np.uint8]
"""Luma, (H, W) uint8: 0 is black, 255 white."""
Colours = NDArray[np.uint8]
"""Pixels in the order of OpenCV, (H, W, 3) uint8: blue, green, red."""


@dataclass(frozen=True)
class Picture:
    """A frame, small and upright."""

    colours: Colours
    """The frame with a long side of SMALL pixels."""
    detail: Colours | None = None
    """The frame with a long side of DETAILED pixels; None: the frame is not sampled."""

    @cached_property
    def luma(self) -> Grey:
        """Luma of the small frame."""
        return grey(self.colours)

    @cached_property
    def detailed_luma(self) -> Grey:
        """Luma of the larger frame, of a sampled frame only."""
        assert self.detail is not None
        return grey(self.detail)


def grey(colours: Colours) -> Grey:
    """Return the luma of a picture."""
    found: Any = cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
    return found


def scaled(size: Size, long_side: int) -> Size:
    """Return a size with this long side and about the same shape."""
    factor = long_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


class Shrinker:
    """Converter of one video's frames to pictures of one size and one orientation."""

    def __init__(self) -> None:
        self.shown: Size | None = None
        """Size of the first frame after rotation, in pixels."""
        self.scalers: dict[tuple[object, ...], VideoReformatter] = {}

    def __call__(self, frame: av.VideoFrame, *, sampled: bool) -> Picture:
        """Return the picture of a frame.

        Raises:
            DecodeError: the frame is rotated by an angle that is no quarter turn.
            av.FFmpegError, ValueError: the frame cannot be converted.
        """
        signs = display_matrix(frame)
        if self.shown is None:
            self.shown = turned_size((frame.width, frame.height), signs)
        small = self._scaled(frame, signs, SMALL)
        return Picture(small, self._scaled(frame, signs, DETAILED) if sampled else None)

    def _scaled(self, frame: av.VideoFrame, signs: tuple[int, ...], long_side: int) -> Colours:
        assert self.shown is not None
        size = turned_size(scaled(self.shown, long_side), signs)  # before rotation
        kind = frame.format.name, int(frame.colorspace), int(frame.color_range)
        key = (frame.width, frame.height, *kind, *size)
        scaler = self.scalers.setdefault(key, VideoReformatter())
        shrinks = size[0] <= frame.width
        how = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        small = scaler.reformat(frame, *size, "bgr24", interpolation=how, threads=1)
        quarters, mirrored, _ = TURNS[signs]
        image = np.rot90(pixels(small), quarters)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image)
