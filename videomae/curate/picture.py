"""Small upright pictures of decoded frames, from which all scores of a clip are computed.

Every frame becomes a picture with a long side of 256 pixels; some, the sampled ones, also one of
512 pixels. Both are made from the decoded frame: the full RGB frame never is. Nearly all videos are
4:2:0, whose planes are halved until they are small, which takes half the time of FFmpeg's scaler.
"""

from dataclasses import dataclass
from functools import cache, cached_property
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


PLANAR = {"yuv420p": False, "yuvj420p": True}
"""Formats whose planes are scaled here, and whether black and white are 0 and 255 in any case."""
FULL_RANGE = 2
"""FFmpeg's AVCOL_RANGE_JPEG: black and white are 0 and 255."""
BT601 = (0.299, 0.114)
KR_KB = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""Weights of red and blue in the luma by FFmpeg's number of a colour space (BT.709, BT.2020); of
others, and where none is told, those of BT.601 hold."""


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
        image: Any = _halved(frame, size) if _can_halve(frame, size) else self._resized(frame, size)
        quarters, mirrored, _ = TURNS[signs]
        image = np.rot90(image, quarters)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image)

    def _resized(self, frame: av.VideoFrame, size: Size) -> Colours:
        """Scale a frame of any format by FFmpeg."""
        kind = frame.format.name, int(frame.colorspace), int(frame.color_range)
        key = (frame.width, frame.height, *kind, *size)
        scaler = self.scalers.setdefault(key, VideoReformatter())
        shrinks = size[0] <= frame.width
        how = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        return pixels(scaler.reformat(frame, *size, "bgr24", interpolation=how, threads=1))


def _can_halve(frame: av.VideoFrame, size: Size) -> bool:
    """Return whether a frame's planes can be halved down to a size."""
    small = frame.width >= 2 * size[0] and frame.height >= 2 * size[1]
    return small and frame.format.name in PLANAR


def _halved(frame: av.VideoFrame, size: Size) -> Colours:
    """Scale a frame of 4:2:0 down by halving its planes, and convert it."""
    y, u, v = (_shrunk(_plane(plane), size) for plane in frame.planes)
    full = PLANAR[frame.format.name] or int(frame.color_range) == FULL_RANGE
    found: Any = cv2.transform(cv2.merge([y, u, v]), _to_bgr(int(frame.colorspace), full))
    return found


def _plane(plane: Any) -> Grey:
    """Return a view of a plane's pixels."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _shrunk(plane: Any, size: Size) -> Any:
    """Scale a plane to a size: by halves, which OpenCV does fastest, while it is twice as large."""
    while plane.shape[1] >= 2 * size[0] and plane.shape[0] >= 2 * size[1]:
        half = plane.shape[1] // 2, plane.shape[0] // 2
        plane = cv2.resize(plane, half, interpolation=cv2.INTER_AREA)
    if plane.shape == size[::-1]:
        return plane
    shrinks = plane.shape[1] >= size[0] and plane.shape[0] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(plane, size, interpolation=how)


@cache
def _to_bgr(colour_space: int, full_range: bool) -> Any:
    """Return the matrix (3, 4) that converts (Y, U, V, 1) to blue, green and red."""
    red, blue = KR_KB.get(colour_space, BT601)
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    to_red, to_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    matrix = np.array(
        [
            [luma, to_blue, 0],
            [luma, -to_blue * blue / green, -to_red * red / green],
            [luma, 0, to_red],
        ]
    )
    black = np.array([0 if full_range else 16, 128, 128])
    return np.column_stack([matrix, -matrix @ black]).astype(np.float32)
