"""Some test videos that were taken for what they are, and some that were not, with their frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videomae.config import DataConfig, Sampling, UserError
from videomae.data import sample
from videomae.lists.clips import Clip, read_clips
from videomae.report.gather import Prediction
from videomae.run.files import regular, sha256
from videomae.video.interface import DecodeError
from videomae.video.opening import open_clip, reading_here

MOST_FRAMES = 6
"""Of a filmstrip."""


class Sample(NamedTuple):
    """A test video, what was predicted, and what it looks like."""

    prediction: Prediction
    frames: list[NDArray[np.uint8]]
    """(H, W, 3) each; none where the video cannot be read any more."""
    error: str
    """Why there are none."""


def choose(predictions: Sequence[Prediction], count: int) -> list[Prediction]:
    """So many right ones, then so many wrong ones, each evenly spaced over the list."""
    chosen = []
    for correct in (True, False):
        own = [each for each in predictions if each.readable and each.correct is correct]
        places = np.linspace(0, len(own) - 1, min(count, len(own))).round().astype(int)
        chosen += [own[place] for place in places]
    return chosen


def look(
    chosen: Sequence[Prediction], data: DataConfig | None, hashes: Sequence[str]
) -> list[Sample]:
    """Decode frames of the middle clip of each video, as an evaluation of one view takes it.

    Args:
        data: of the run's config; None: it is not there.
        hashes: SHA-256 of the test list, as the run recorded it.
    """
    if not chosen:
        return []
    if data is None:
        return [Sample(each, [], "the run's config does not say where") for each in chosen]
    if reason := _why_not_read(Path(str(data.test_list)), hashes):
        return [Sample(each, [], f"data.test_list={data.test_list} {reason}") for each in chosen]
    try:
        clips = read_clips(str(data.test_list), data, labelled=True, key="data.test_list")
    except UserError:  # it would quote a line
        reason = f"data.test_list={data.test_list} is no list of labelled clips"
        return [Sample(each, [], reason) for each in chosen]
    listed = {(clip.line, clip.path): clip for clip in clips}
    samples = []
    for each in chosen:
        clip = listed.get((each.line, each.video))
        if clip is None:
            other = f"line {each.line} of {data.test_list} names another video now"
            samples.append(Sample(each, [], other))
            continue
        try:
            with reading_here(clip.path, data.max_clip_bytes):
                samples.append(Sample(each, list(_frames(clip, data)), ""))
        except DecodeError as error:
            samples.append(Sample(each, [], str(error)))
    return samples


def _why_not_read(path: Path, hashes: Sequence[str]) -> str | None:
    """Say why a list is not read, whose lines a page could show: a run of others may name any file.

    Args:
        hashes: SHA-256 of the list that was tested on.
    """
    try:
        found = sha256(regular(path))
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return None if found in hashes else "is not the list that was tested on: its hash differs"


def _frames(clip: Clip, data: DataConfig) -> NDArray[np.uint8]:
    """(at most MOST_FRAMES, H, W, 3)"""
    video = open_clip(clip, data)
    frames = data.clip.frames
    if data.sampling is Sampling.segment:
        (indices,) = sample.segment_view_indices(video.num_frames, frames, segments=1)
    else:
        (indices,) = sample.dense_view_indices(
            video.num_frames, frames, data.clip.stride, segments=1
        )
    places = np.linspace(0, frames - 1, min(frames, MOST_FRAMES)).round().astype(int)
    return video.read([indices[place] for place in places])
