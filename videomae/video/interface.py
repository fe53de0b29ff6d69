"""The interface of all video readers, and the error that they raise.

A video is opened in the process that uses it, and is never sent to another one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from videomae.config import UserError
from videomae.run.worker_pool import end_if_spent

Frames = NDArray[np.uint8]
"""Decoded frames, (T, H, W, 3) uint8 RGB, rotated as the file says."""
PART_BYTES = 1 << 26
"""Bytes of frames that a reader yields at once, at most; a single frame may be larger."""
PIXEL_BYTES = 9
"""Bytes of memory that reading takes per pixel, at least: two decoded pictures in 4:2:0, one in
RGB, and its copy."""

NO_MEMORY = "memory does not suffice to read it"


class DecodeError(Exception):
    """Error: a video cannot be read, as it is missing, damaged, or not a video."""


class Part(NamedTuple):
    """Consecutive frames of those that were requested from a video."""

    place: int
    """Index of the first frame in the list of requested frame numbers."""
    frames: Frames
    """The frames, (T, H, W, 3) uint8 RGB."""


class Video(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """Number of frames in the video; at least 1."""

    @property
    def fps(self) -> float | None:
        """Frames per second; None: not known."""

    @property
    def reference_stride(self) -> int:
        """Stride whose multiples decode without the frames between them; 1: not known."""

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """Decode frames in parts, in the order of their numbers.

        A part has as many frames as fit into PART_BYTES, but at least one, so that reading large
        frames takes little memory. If a later frame shows that earlier ones were wrong, all parts
        are yielded again from place 0; the last ones count.

        Args:
            numbers: distinct frame numbers, from 0, in ascending order.

        Raises:
            DecodeError: the frames cannot be decoded.
        """

    def read(self, indices: Sequence[int]) -> Frames:
        """Decode the frames of these numbers: (len(indices), H, W, 3) uint8 RGB.

        Args:
            indices: frame numbers, from 0, at least one, in any order and with repetitions.

        Raises:
            DecodeError: the frames cannot be decoded.
        """


class DecoderError(UserError):
    """Error: a decoder of the user's own does not yield what it must."""


def whole(video: Video, numbers: Sequence[int]) -> Iterator[Part]:
    """Yield the parts of a video, and check that they are the frames that are asked for.

    Raises:
        DecodeError: the frames cannot be decoded.
        DecoderError: `video.parts` yields something else.
    """
    following = 0
    for place, frames in video.parts(numbers):
        is_array = isinstance(frames, np.ndarray)
        if (
            not is_array
            or frames.dtype != np.uint8
            or frames.shape[3:] != (3,)
            or 0 in frames.shape[1:]
        ):
            what = f"{frames.shape} {frames.dtype}" if is_array else type(frames).__name__
            raise _wrong(video, f"parts yields {what} as frames, not (T, H, W, 3) uint8")
        if place not in (0, following):
            raise _wrong(video, f"parts yields place {place} where {following} follows")
        following = place + len(frames)
        yield Part(place, np.ascontiguousarray(frames))
        del frames  # before the next come
    if following != len(numbers):
        raise _wrong(video, f"parts yields {following} of {len(numbers)} frames")


def check_count(video: Video) -> None:
    """Check that a video has frames.

    Raises:
        DecoderError: `video.num_frames` is no number of frames.
    """
    count = video.num_frames
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise _wrong(video, f"num_frames is {count!r}, not a whole number from 1")


def _wrong(video: Video, what: str) -> DecoderError:
    kind = type(video)
    return DecoderError(
        f"the decoder {kind.__module__}:{kind.__qualname__} is wrong: {what}; "
        "videomae.video.interface.Video says what it must do"
    )


def gathered(parts: Callable[[Sequence[int]], Iterator[Part]], indices: Sequence[int]) -> Frames:
    """Implement Video.read by Video.parts, so that each frame is decoded once.

    Raises:
        ValueError: `indices` is empty.
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
    """Return how many frames of `frame_bytes` bytes a part has."""
    return max(1, PART_BYTES // frame_bytes)


def check_frame_size(path: Path, width: int, height: int, max_bytes: int) -> None:
    """Check that frames of width x height pixels can be read within `max_bytes` of memory.

    Raises:
        DecodeError: the frames need more memory.
    """
    needed = PIXEL_BYTES * width * height
    if needed > max_bytes:
        raise DecodeError(
            f"{path}: its frames of {width} x {height} take at least {needed / 1e9:.2f} GB to read,"
            f" more than max_clip_bytes={max_bytes} allows"
        )


@contextmanager
def within_memory(path: str) -> Iterator[None]:
    """Turn errors of too little memory, in a block that reads a video, into DecodeError.

    A program that has read other videos before ends instead, see end_if_spent.
    """
    try:
        yield
    except MemoryError as error:
        end_if_spent()
        raise DecodeError(f"{path}: {NO_MEMORY} ({error})") from error
    except DecodeError as error:
        if not isinstance(error.__cause__, MemoryError):
            raise
        end_if_spent()
        raise DecodeError(f"{path}: {NO_MEMORY} ({error.__cause__})") from error.__cause__
    except RuntimeError as error:
        if "memory" not in str(error):  # torch raises RuntimeError for too little CPU memory
            raise
        end_if_spent()
        line = str(error).splitlines()[0]
        raise DecodeError(f"{path}: {NO_MEMORY} ({line})") from error
