"""Samples of right and wrong predictions for a report, with frames of the videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videomae.config import DataConfig, Sampling, UserError
from videomae.data import frame_sampling
from videomae.data.forgetting import with_tombstones
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.lists.tombstones import TombstoneError
from videomae.report.predicted import Prediction
from videomae.run.files import regular, sha256
from videomae.video.interface import DecodeError
from videomae.video.opening import open_clip, reading_here

MOST_FRAMES = 6
"""Largest number of frames of a filmstrip."""


class Sample(NamedTuple):
    """A test video with its prediction and some of its frames."""

    prediction: Prediction
    frames: list[NDArray[np.uint8]]
    """Frames, (H, W, 3) uint8 each; empty if the video cannot be read any more."""
    error: str
    """Reason why there are no frames; else empty."""


def choose(predictions: Sequence[Prediction], count: int) -> list[Prediction]:
    """Return up to `count` right, then up to `count` wrong predictions, evenly spaced over the
    list."""
    chosen = []
    for correct in (True, False):
        own = [each for each in predictions if each.readable and each.correct is correct]
        places = np.linspace(0, len(own) - 1, min(count, len(own))).round().astype(int)
        chosen += [own[place] for place in places]
    return chosen


def read_samples(
    chosen: Sequence[Prediction], data: DataConfig | None, hashes: Sequence[str]
) -> list[Sample]:
    """Return the chosen predictions with frames of the middle clip of each video.

    Args:
        data: settings of the run's data set; None: they are not known.
        hashes: SHA-256 of the test list that the run recorded.
    """
    if not chosen:
        return []
    if data is None:
        return [Sample(each, [], "the run's config does not say where") for each in chosen]
    if reason := _why_not_read(Path(str(data.test_list)), hashes):
        return [Sample(each, [], f"data.test_list={data.test_list} {reason}") for each in chosen]
    try:
        key, path = "data.test_list", Path(str(data.test_list))
        clips = with_tombstones(read_clips(path, data, labelled=True, key=key), path, data, key)
    except TombstoneError:  # likewise
        reason = f"data.tombstones={data.tombstones} cannot be read"
        return [Sample(each, [], reason) for each in chosen]
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
        if clip.forgotten:
            samples.append(Sample(each, [], "data.tombstones names the video"))
            continue
        try:
            with reading_here(clip.path, data.max_clip_bytes):
                samples.append(Sample(each, list(_frames(clip, data)), ""))
        except DecodeError as error:
            samples.append(Sample(each, [], str(error)))
    return samples


def _why_not_read(path: Path, hashes: Sequence[str]) -> str | None:
    """Return why a test list is not read; None if it is the list that was tested on.

    A run of somebody else may name any file, whose lines the page must not show.

    Args:
        hashes: SHA-256 of the list that was tested on.
    """
    try:
        found = sha256(regular(path))
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return None if found in hashes else "is not the list that was tested on: its hash differs"


def _frames(clip: Clip, data: DataConfig) -> NDArray[np.uint8]:
    """Return evenly spaced frames of the middle clip, (F, H, W, 3) uint8, F at most MOST_FRAMES."""
    video = open_clip(clip, data)
    frames = data.clip.frames
    if data.sampling is Sampling.segment:
        (indices,) = frame_sampling.segment_view_indices(video.num_frames, frames, segments=1)
    else:
        (indices,) = frame_sampling.dense_view_indices(
            video.num_frames, frames, data.clip.stride, segments=1
        )
    places = np.linspace(0, frames - 1, min(frames, MOST_FRAMES)).round().astype(int)
    return video.read([indices[place] for place in places])
