"""What every decoder of this room offers, and the error it raises.

A video is opened where it is used, and never crosses to another process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""(T, H, W, 3), RGB, turned as the file says."""
PART_BYTES = 1 << 26
"""Bytes of frames that a reader gives at once; a single frame may be larger."""
PIXEL_BYTES = 9
"""Bytes of memory that reading a pixel takes at the least: two decoded pictures in 4:2:0, of which
one is built on the other, one in RGB, and its copy."""


class DecodeError(Exception):
    """A video that cannot be read: missing, damaged, or not a video."""


class Part(NamedTuple):
    """Some of the frames that were asked for, one after the other."""

    place: int
    """That of the first among the numbers that were asked for."""
    frames: Frames


class Video(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """How many frames it has; at least 1."""

    @property
    def fps(self) -> float | None:
        """Frames per second; None: not known."""

    @property
    def reference_stride(self) -> int:
        """Frames whose number is a multiple of it need none of those between them; 1: unknown."""

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """The frames of ascending, distinct numbers, 0-based, in their order, some at a time.

        A part has as many frames as fit into PART_BYTES, but at least one, so that reading large
        frames takes little memory. Where a later frame shows that earlier ones were not the right
        ones, all come again, from place 0 on: the last ones count.

        Raises:
            DecodeError: they cannot be decoded.
        """

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of these numbers, 0-based, at least one, in any order and as often as asked.

        Raises:
            DecodeError: they cannot be decoded.
        """


def gathered(parts: Callable[[Sequence[int]], Iterator[Part]], indices: Sequence[int]) -> Frames:
    """What Video.read gives, from what Video.parts gives: each frame is decoded once.

    Raises:
        ValueError: no frame is asked for.
    """
    if not len(indices):
        raise ValueError("no frame is asked for")
    wanted, places = np.unique(indices, return_inverse=True)
    found: list[Frames] = []
    for part in parts(wanted.tolist()):
        found = [part.frames] if part.place == 0 else [*found, part.frames]
    frames = found[0] if len(found) == 1 else np.concatenate(found)
    return frames if np.array_equal(places, range(len(frames))) else frames[places]


def frames_in_part(frame_bytes: int) -> int:
    """How many frames of that many bytes a part has."""
    return max(1, PART_BYTES // frame_bytes)


def check_frame_size(path: Path, width: int, height: int, max_bytes: int) -> None:
    """Check that frames of that size, in pixels, can be read within that much memory.

    Raises:
        DecodeError: they cannot.
    """
    needed = PIXEL_BYTES * width * height
    if needed > max_bytes:
        raise DecodeError(
            f"{path}: its frames of {width} x {height} take at least {needed / 1e9:.2f} GB to read,"
            f" more than max_clip_bytes={max_bytes} allows"
        )


@contextmanager
def within_memory(path: str) -> Iterator[None]:
    """A block that reads a video, and raises DecodeError where memory does not suffice for it."""
    try:
        yield
    except MemoryError as error:
        raise DecodeError(f"{path}: memory does not suffice to read it ({error})") from error
    except RuntimeError as error:
        if "memory" not in str(error):  # torch has no other class for it
            raise
        line = str(error).splitlines()[0]
        raise DecodeError(f"{path}: memory does not suffice to read it ({line})") from error
