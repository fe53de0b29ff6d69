"""What every decoder of this room offers, and the error it raises.

A video is opened where it is used, and never crosses to another process.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""(T, H, W, 3), RGB, turned as the file says."""


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

    @property
    def reference_stride(self) -> int:
        """Frames whose number is a multiple of it need none of those between them; 1: unknown."""

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of those numbers, 0-based, in any order and as often as asked.

        Raises:
            DecodeError: they cannot be decoded.
        """
