"""Frames of a clip for the stages that need a model: which ones, and their pixels."""

from collections.abc import Sequence
from pathlib import Path

from videomae.config import ClipConfig, DataConfig
from videomae.lists.formats import Clip
from videomae.video.interface import Frames, Video, within_memory
from videomae.video.opening import open_clip


def sampled_numbers(num_frames: int, count: int) -> list[int]:
    """Return the numbers of frames at even distances: the middles of `count` equal parts of a clip.

    Args:
        num_frames: number of frames of the clip; where it is smaller than `count`, each is taken.
    """
    count = min(count, num_frames)
    return [(2 * part + 1) * num_frames // (2 * count) for part in range(count)]


def open_range(path: Path, span: tuple[int, int], max_bytes: int) -> Video:
    """Open a clip of a video, whose frames count from 0.

    Args:
        span: first frame of the clip in its video, and the one after its last.
        max_bytes: bytes of memory that decoding may take.

    Raises:
        DecodeError: it cannot be opened.
    """
    clip = Clip(path.name, line=1, start_frame=span[0], end_frame=span[1])
    data = DataConfig(clip=ClipConfig(1, 1, 1), root=str(path.parent), max_clip_bytes=max_bytes)
    return open_clip(clip, data)


def read_frames(
    path: Path, span: tuple[int, int], numbers: Sequence[int], max_bytes: int
) -> Frames:
    """Decode frames of a clip, upright: (len(numbers), H, W, 3) uint8 RGB.

    Args:
        span, max_bytes: as open_range takes them.
        numbers: numbers of the frames in the clip, from 0.

    Raises:
        DecodeError: they cannot be decoded.
    """
    with within_memory(str(path)):
        return open_range(path, span, max_bytes).read(numbers)
