"""Which frames of a video make a clip. Pure arithmetic on frame numbers, which count from 0.

Source: VideoMAE V2, get_frame_id_list (pre-training), VideoClsDataset (dense) and
RawFrameClsDataset (segment).
"""

import numpy as np
from numpy.typing import NDArray


def dense_indices(num_frames: int, frames: int, stride: int, start: int) -> list[int]:
    """One clip of `frames` frames, `stride` apart, from `start`: pre-training.

    Raises:
        ValueError: `start` lies outside the video.

    A video shorter than the clip ends on its own last frame here; in the source, on the last
    whole stride.
    """
    if not 0 <= start < num_frames:
        raise ValueError(f"start must lie in [0, {num_frames}), got {start}")
    return [min(start + i * stride, num_frames - 1) for i in range(frames)]


def num_dense_starts(num_frames: int, frames: int, stride: int) -> int:
    """How many starts keep a dense clip, with its last stride, inside the video; at least 1."""
    return max(1, num_frames - frames * stride + 1)


def window_indices(num_frames: int, frames: int, stride: int, start: int) -> list[int]:
    """One clip spread over the window of frames * stride frames from `start`: dense fine-tuning.

    The ends of the window are both taken, so the frames are a little more than `stride` apart. A
    video no longer than the window is covered at about `stride`, then its last frame repeats.

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
    """How many starts `window_indices` takes; at least 1."""
    return max(1, num_frames - frames * stride)


def middle_window_indices(num_frames: int, frames: int, stride: int) -> list[int]:
    """The window in the middle of the video: dense fine-tuning's evaluation of an epoch."""
    start = (num_frames - frames * stride) // 2
    return window_indices(num_frames, frames, stride, start)


def segment_indices(num_frames: int, frames: int, offsets: list[int]) -> list[int]:
    """One frame from each of `frames` equal parts of the whole video: segment fine-tuning.

    Args:
        offsets: the place within each part, in [0, segment_length(num_frames, frames)); `frames`
            of them.

    A video of fewer frames than parts repeats its first frame in front.
    """
    if num_frames < frames:
        return [0] * (frames - num_frames) + list(range(num_frames))
    length = segment_length(num_frames, frames)
    return [i * length + offset for i, offset in enumerate(offsets)]


def middle_segment_indices(num_frames: int, frames: int) -> list[int]:
    """The middle frame of each part: segment fine-tuning's evaluation of an epoch."""
    middle = segment_length(num_frames, frames) // 2
    return segment_indices(num_frames, frames, [middle] * frames)


def segment_length(num_frames: int, frames: int) -> int:
    """Frames in each of the `frames` parts of a video; at least 1."""
    return max(1, num_frames // frames)


def dense_view_indices(num_frames: int, frames: int, stride: int, segments: int) -> list[list[int]]:
    """`segments` clips, evenly spaced over the video taken at `stride`; one alone is centred."""
    strided = list(range(0, num_frames, stride))
    strided += [strided[-1]] * (frames - len(strided))
    spare = len(strided) - frames
    starts = (
        [int(spare / (segments - 1) * k) for k in range(segments)] if segments > 1 else [spare // 2]
    )
    return [strided[start : start + frames] for start in starts]


def segment_view_indices(num_frames: int, frames: int, segments: int) -> list[list[int]]:
    """`segments` interleaved clips, each with one frame from every part of the video."""
    part = num_frames / frames
    return [[int(k * part / segments + part * i) for i in range(frames)] for k in range(segments)]


def is_short(num_frames: int, frames: int, stride: int) -> bool:
    """Whether no dense clip keeps its stride throughout this video."""
    return num_frames < (frames - 1) * stride + 1


def _whole(numbers: NDArray[np.float64]) -> list[int]:
    """Rounded towards zero."""
    return [int(number) for number in numbers]
