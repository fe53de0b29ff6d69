"""Frame sampling: the numbers of the frames, from 0, that make a clip of a video.

Source: VideoMAE V2, get_frame_id_list (pre-training), VideoClsDataset (dense) and
RawFrameClsDataset (segment).
"""

import numpy as np
from numpy.typing import NDArray


def dense_indices(num_frames: int, frames: int, stride: int, start: int) -> list[int]:
    """Return the numbers of `frames` frames, `stride` apart, from `start`, for pre-training.

    Raises:
        ValueError: `start` lies outside the video.

    A video shorter than the clip ends on its own last frame here; in the source, on the last
    whole stride.
    """
    if not 0 <= start < num_frames:
        raise ValueError(f"start must lie in [0, {num_frames}), got {start}")
    return [min(start + i * stride, num_frames - 1) for i in range(frames)]


def num_dense_starts(num_frames: int, frames: int, stride: int) -> int:
    """Count the starts that keep a dense clip, with its last stride, in the video; at least 1."""
    return max(1, num_frames - frames * stride + 1)


def window_indices(num_frames: int, frames: int, stride: int, start: int) -> list[int]:
    """Return `frames` numbers spread over frames * stride frames from `start`: dense fine-tuning.

    Both ends of the window are taken, so the frames are a little more than `stride` apart. A video
    no longer than the window is covered at about `stride`, then its last frame repeats.

    Raises:
        ValueError: the window leaves the video.
    """
    window = frames * stride
    if num_frames <= window:
        covered = num_frames // stride
        spread = np.linspace(0, num_frames, num=covered)
        padded = np.concatenate([spread, np.full(frames - covered, num_frames)])
        return _whole(padded.clip(0, num_frames - 1))
    if not 0 <= start < num_window_starts(num_frames, frames, stride):
        raise ValueError(f"a window of {window} frames from {start} leaves a video of {num_frames}")
    spread = np.linspace(start, start + window, num=frames)
    return _whole(spread.clip(start, start + window - 1))


def num_window_starts(num_frames: int, frames: int, stride: int) -> int:
    """Count the starts that `window_indices` accepts; at least 1."""
    return max(1, num_frames - frames * stride)


def middle_window_indices(num_frames: int, frames: int, stride: int) -> list[int]:
    """Return the clip in the middle of the video, for evaluation during dense fine-tuning."""
    start = (num_frames - frames * stride) // 2
    return window_indices(num_frames, frames, stride, start)


def segment_indices(num_frames: int, frames: int, offsets: list[int]) -> list[int]:
    """Return one frame from each of `frames` equal parts of the video, for segment fine-tuning.

    Args:
        offsets: for each part, the frame taken in it, in [0, segment_length(num_frames, frames)).

    A video of fewer frames than parts repeats its first frame in front.
    """
    if num_frames < frames:
        return [0] * (frames - num_frames) + list(range(num_frames))
    length = segment_length(num_frames, frames)
    return [i * length + offset for i, offset in enumerate(offsets)]


def middle_segment_indices(num_frames: int, frames: int) -> list[int]:
    """Return the middle frame of each part, for evaluation during segment fine-tuning."""
    middle = segment_length(num_frames, frames) // 2
    return segment_indices(num_frames, frames, [middle] * frames)


def segment_length(num_frames: int, frames: int) -> int:
    """Return the length, in frames, of each of the `frames` parts of a video; at least 1."""
    return max(1, num_frames // frames)


def dense_view_indices(num_frames: int, frames: int, stride: int, segments: int) -> list[list[int]]:
    """Return `segments` test clips, evenly spaced over the video; a single clip is centred."""
    strided = list(range(0, num_frames, stride))
    strided += [strided[-1]] * (frames - len(strided))
    spare = len(strided) - frames
    starts = (
        [int(spare / (segments - 1) * k) for k in range(segments)] if segments > 1 else [spare // 2]
    )
    return [strided[start : start + frames] for start in starts]


def segment_view_indices(num_frames: int, frames: int, segments: int) -> list[list[int]]:
    """Return `segments` interleaved test clips, each with one frame of every part of the video."""
    part = num_frames / frames
    return [[int(k * part / segments + part * i) for i in range(frames)] for k in range(segments)]


def is_short(num_frames: int, frames: int, stride: int) -> bool:
    """Tell whether the video is too short for a dense clip of `frames` frames at `stride`."""
    return num_frames < (frames - 1) * stride + 1


def _whole(numbers: NDArray[np.float64]) -> list[int]:
    """Round frame numbers towards zero."""
    return [int(number) for number in numbers]
