"""Fingerprints of clips: perceptual hashes of key frames, and the motion of coarse brightness.

`Fingerprinter` takes the frames of one clip as they are decoded and gives its `Fingerprint`, by
which `duplicates` and `contamination` find copies. It looks at 5 frames a second of the clip's
first ten minutes, however many it is given. Needs `pdqhash` and OpenCV (the extra `curate`).
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import pdqhash
from numpy.typing import NDArray

GRID = 8
"""Rows and columns of the coarse picture of a view, in which motion is measured."""
GRID_HZ = 5
"""Coarse pictures a second."""
TICKS_PER_KEY = 2
"""Every second coarse picture's frame is a key frame, of which all views are hashed: 2.5 a second.
Of the others the whole is hashed, so that a trimmed copy's key frames are near to some hash."""
MOST_TICKS = 3000
"""Coarse pictures of a fingerprint at most: ten minutes. What follows is not looked at."""
MOST_KEYS = MOST_TICKS // TICKS_PER_KEY
SHAPES = (Fraction(9, 16), Fraction(1), Fraction(4, 3), Fraction(16, 9))
"""Width to height of the centred crops that people cut, or put between blurred bars."""
INNER = 0.9
"""Side of the centred crop that keeps the frame's shape."""
MOST_VIEWS = 2 + len(SHAPES)
HASH_BYTES = 32
HASHED_PX = 64
"""Side of the square picture that a view is reduced to before it is hashed, which is PDQ's own: of
larger ones PDQ takes pixels that lie off the centre, and mirrored copies are 20 bits away."""
LEAST_QUALITY = 50
"""PDQ's quality (0 to 100) below which a picture is too plain for its hash to mean anything."""
LARGEST_PX = 1 << 20

_HEAD = struct.Struct("<4sIIIII")
_MAGIC = b"VMF1"
_CHECK = struct.Struct("<I")
_FREQUENCIES = 16
_MIDDLE = slice(_FREQUENCIES**2 // 2 - 1, _FREQUENCIES**2 // 2 + 1)
_MIRRORED = np.tile((-1.0) ** np.arange(_FREQUENCIES), _FREQUENCIES)
"""Mirrored left to right, a picture has its cosine transform with every second column negated."""


class View(NamedTuple):
    """A part of a frame, in fractions of its width and height."""

    left: float
    top: float
    right: float
    bottom: float


def centred(width: float, height: float) -> View:
    """Return the view in the middle of a frame that takes these fractions of its sides."""
    return View((1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2)


@cache
def views_of(width: int, height: int) -> tuple[View, ...]:
    """The parts of a frame that are hashed: all of it, its inner 90 %, crops of other shapes.

    Args:
        width: of the frame, in pixels. Only the relation of the two counts.
        height: of the frame, in pixels.

    Returns:
        The whole frame first; at most MOST_VIEWS.
    """
    views = [centred(1, 1), centred(INNER, INNER)]
    shape = width / height
    for wanted in map(float, SHAPES):
        share = min(shape, wanted) / max(shape, wanted)  # of the frame that the crop keeps
        if share <= INNER:
            views.append(centred(share, 1) if wanted < shape else centred(1, share))
    return tuple(views)


class FingerprintError(ValueError):
    """Bytes that are not a fingerprint, or a damaged one."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Hashes and motion by which copies of a clip are found; times count from its first frame."""

    width: int
    """Width of the frames that were given, in pixels."""
    height: int
    """Height of the frames that were given, in pixels."""
    times_s: NDArray[np.float32]
    """(K,) times of the key frames."""
    hashes: NDArray[np.uint8]
    """(K, V, 2, 32) PDQ hashes of each key frame's views (`views_of`), plain and mirrored."""
    quality: NDArray[np.uint8]
    """(K, V) PDQ's quality of each view, 0 to 100."""
    whole: NDArray[np.uint8]
    """(S, 32) PDQ hashes of whole frames, plain, GRID_HZ a second."""
    whole_quality: NDArray[np.uint8]
    """(S,) PDQ's quality of whole frames."""
    grid: NDArray[np.uint16]
    """(S, V, 8, 8) mean luma of the cells of each view, in 256ths, GRID_HZ a second."""

    @property
    def views(self) -> tuple[View, ...]:
        """The views that were hashed, in the order of `hashes`."""
        return views_of(self.width, self.height)

    @property
    def duration_s(self) -> float:
        """Seconds that the coarse pictures cover."""
        return len(self.grid) / GRID_HZ

    def to_bytes(self) -> bytes:
        """The fingerprint as bytes for a side file, with a checksum at their end."""
        keys, views = self.quality.shape
        head = _HEAD.pack(_MAGIC, self.width, self.height, keys, views, len(self.grid))
        times_s, grid = self.times_s.astype("<f4"), self.grid.astype("<u2")
        parts = (times_s, self.hashes, self.quality, self.whole, self.whole_quality, grid)
        body = head + b"".join(part.tobytes() for part in parts)
        return body + _CHECK.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Fingerprint":
        """Read what `to_bytes` wrote.

        Raises:
            FingerprintError: the bytes are cut off, damaged, or something else.
        """
        if len(data) < _HEAD.size + _CHECK.size:
            raise FingerprintError(f"a fingerprint of {len(data)} bytes is cut off")
        magic, width, height, keys, views, ticks = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise FingerprintError(f"not a fingerprint: it begins with {magic!r}, not {_MAGIC!r}")
        if not (1 <= width <= LARGEST_PX and 1 <= height <= LARGEST_PX):
            raise FingerprintError(f"a fingerprint of frames of {width} x {height} px is damaged")
        if keys > MOST_KEYS or ticks > MOST_TICKS or views != len(views_of(width, height)):
            raise FingerprintError(
                f"a fingerprint of {keys} key frames, {views} views and {ticks} pictures is damaged"
            )
        hashed, cells = keys * views, ticks * views * GRID * GRID
        sizes = (4 * keys, 2 * HASH_BYTES * hashed, hashed, HASH_BYTES * ticks, ticks, 2 * cells)
        expected = _HEAD.size + sum(sizes) + _CHECK.size
        if len(data) != expected:
            raise FingerprintError(f"a fingerprint has {len(data)} bytes, its head says {expected}")
        body = data[: -_CHECK.size]
        if zlib.crc32(body) != _CHECK.unpack(data[-_CHECK.size :])[0]:
            raise FingerprintError("a fingerprint is damaged: its checksum differs")
        starts = [_HEAD.size + sum(sizes[:number]) for number in range(len(sizes))]
        times_s = np.frombuffer(body, "<f4", keys, starts[0]).astype(np.float32)
        if not np.isfinite(times_s).all():
            raise FingerprintError("a fingerprint is damaged: its times are no numbers")
        hashes, quality, whole, whole_quality = (
            np.frombuffer(body, np.uint8, sizes[part], starts[part]) for part in (1, 2, 3, 4)
        )
        return cls(
            width=width,
            height=height,
            times_s=times_s,
            hashes=hashes.reshape(keys, views, 2, HASH_BYTES),
            quality=quality.reshape(keys, views),
            whole=whole.reshape(ticks, HASH_BYTES),
            whole_quality=whole_quality,
            grid=np.frombuffer(body, "<u2", cells, starts[5])
            .astype(np.uint16)
            .reshape(ticks, views, GRID, GRID),
        )


def luma_of(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as a grey picture, (H, W).

    Raises:
        ValueError: it is neither (H, W) nor (H, W, 3) of uint8.
    """
    colours = frame.shape[2:]
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or colours not in ((), (3,)):
        raise ValueError(
            "a frame is a uint8 array of shape (H, W) or (H, W, 3), "
            f"got {frame.dtype} of shape {frame.shape}"
        )
    grey: Any = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if colours else frame
    return grey


@cache
def _boxes(views: tuple[View, ...], width: int, height: int) -> list[tuple[slice, slice]]:
    """The rows and columns of each view in a picture, in whole pixels, as much on either side."""
    boxes = []
    for view in views:
        left, top = round(view.left * width), round(view.top * height)
        boxes.append((slice(top, height - top), slice(left, width - left)))
    return boxes


def hash_views(
    luma: NDArray[np.uint8], views: tuple[View, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """PDQ hashes of a picture's views.

    Args:
        luma: (H, W)
        views: centred parts of the picture.

    Returns:
        (V, 2, 32) hashes, plain and mirrored, and (V,) qualities from 0 to 100.
    """
    height, width = luma.shape
    size, squares = (HASHED_PX, HASHED_PX), []
    for box in _boxes(views, width, height):
        square = cv2.resize(luma[box], size, interpolation=cv2.INTER_AREA)
        squares.append(cv2.cvtColor(square, cv2.COLOR_GRAY2RGB))
    return hash_squares(squares)


def hash_squares(
    squares: Sequence[Any],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """PDQ hashes of pictures (64, 64, 3), plain and mirrored, and qualities, as `hash_views`."""
    found = [pdqhash.compute_float(square) for square in squares]
    waves = np.stack([each for each, _ in found])
    both = np.stack([waves, waves * _MIRRORED], axis=1)
    middle = np.sort(both)[..., _MIDDLE].mean(axis=2, keepdims=True)  # the median, faster
    return np.packbits(both > middle, axis=2), np.array([quality for _, quality in found], np.uint8)


@cache
def _edges(views: tuple[View, ...], width: int, height: int) -> tuple[Any, ...]:
    """Where the cells of each view begin and end in a picture, in pixels.

    Returns:
        (V, 9) whole pixels and the fractions beyond them, down the picture; the same across it;
        and (V, 1, 1) the pixels of a cell.
    """
    parts = np.arange(GRID + 1) / GRID
    places = np.array(views)[..., None]
    down = (places[:, 1] + (places[:, 3] - places[:, 1]) * parts) * height
    across = (places[:, 0] + (places[:, 2] - places[:, 0]) * parts) * width
    rows = np.minimum(down.astype(np.intp), height - 1)
    columns = np.minimum(across.astype(np.intp), width - 1)
    area = (down[:, 1] - down[:, 0]) * (across[:, 1] - across[:, 0])
    return rows, down - rows, columns, across - columns, area[:, None, None]


def cells(luma: NDArray[np.uint8], views: tuple[View, ...]) -> NDArray[np.uint16]:
    """Mean luma of the cells of a picture's views, in 256ths, so that the least motion is kept.

    Each is a difference of sums over all pixels above and to the left, between pixels their mix.

    Args:
        luma: (H, W)
        views: parts of the picture.

    Returns:
        (V, 8, 8)
    """
    height, width = luma.shape
    rows, below, columns, beyond, area = _edges(views, width, height)
    sums: Any = cv2.integral(luma, sdepth=cv2.CV_64F)  # (H + 1, W + 1)
    below, beyond = below[..., None], beyond[:, None]
    lines = sums[rows] * (1 - below) + sums[rows + 1] * below  # (V, 9, W + 1)
    at = columns[:, None]
    left = np.take_along_axis(lines, at, 2)
    corners = left * (1 - beyond) + np.take_along_axis(lines, at + 1, 2) * beyond  # (V, 9, 9)
    means = np.diff(np.diff(corners, axis=1), axis=2) / area
    return (means * 256 + 0.5).clip(0, 255 * 256).astype(np.uint16)


class Fingerprinter:
    """Takes a clip's frames in the order in which they are shown, and gives its fingerprint."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._size = (0, 0)
        self._keys: list[tuple[float, NDArray[np.uint8], NDArray[np.uint8]]] = []
        self._whole: list[tuple[NDArray[np.uint8], int]] = []
        self._grid: list[NDArray[np.uint16]] = []

    def wants(self, time_s: float) -> bool:
        """Whether a frame shown at this time would be looked at: others need not be converted."""
        if self._first_s is None:
            return True
        ticks = len(self._grid)
        return ticks < MOST_TICKS and time_s - self._first_s >= ticks / GRID_HZ - 1e-6

    def add(self, frame: NDArray[np.uint8], index: int, time_s: float) -> None:
        """Look at one frame.

        Args:
            frame: (H, W, 3) RGB or (H, W) luma, uint8; a long side of 256 px is enough.
            index: number of the frame in its video, for messages.
            time_s: when the frame is shown, in seconds from any origin.

        Raises:
            ValueError: the frame is no picture, or its time no number.
        """
        if not math.isfinite(time_s):
            raise ValueError(f"frame {index} is shown at {time_s} s: its time is not known")
        if not self.wants(time_s):
            return
        luma = luma_of(frame)
        if self._first_s is None:
            self._first_s = time_s
            self._size = luma.shape[1], luma.shape[0]
        views = views_of(*self._size)
        since_s = time_s - self._first_s
        self._hold(since_s)
        if len(self._grid) == MOST_TICKS:
            return
        if len(self._grid) >= TICKS_PER_KEY * len(self._keys):
            hashes, quality = hash_views(luma, views)
            self._keys.append((since_s, hashes, quality))
        else:
            hashes, quality = hash_views(luma, views[:1])
        self._whole.append((hashes[0, 0], int(quality[0])))
        self._grid.append(cells(luma, views))

    def _hold(self, since_s: float) -> None:
        """Repeat the last picture for the ticks that passed while no frame was shown."""
        while self._grid and (len(self._grid) + 1) / GRID_HZ <= since_s:
            if len(self._grid) == MOST_TICKS:
                return
            self._grid.append(self._grid[-1])
            self._whole.append(self._whole[-1])

    def finish(self) -> Fingerprint:
        """Give the fingerprint of the frames that were added.

        Raises:
            ValueError: no frame was added.
        """
        if not self._grid:
            raise ValueError("no frame was added: a clip without frames has no fingerprint")
        times, hashes, quality = zip(*self._keys, strict=True)
        whole, whole_quality = zip(*self._whole, strict=True)
        width, height = self._size
        return Fingerprint(
            width=width,
            height=height,
            times_s=np.array(times, np.float32),
            hashes=np.stack(hashes),
            quality=np.stack(quality),
            whole=np.stack(whole),
            whole_quality=np.array(whole_quality, np.uint8),
            grid=np.stack(self._grid),
        )
