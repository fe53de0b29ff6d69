"""Ranges of videos in a clip list: how many there are, and how many share frames with others."""

import numpy as np

from videomae.lists.clips import ClipList
from videomae.lists.columns import NONE
from videomae.lists.parquet import MOST_FRAME


def num_ranges(clips: ClipList) -> int:
    """Count the clips that are ranges of a video, not all of it."""
    start, end = clips.columns.number("start_frame"), clips.columns.number("end_frame")
    return int(np.count_nonzero((start != 0) | (end != NONE)))


def num_overlapping(clips: ClipList) -> int:
    """Count the clips that share frames with any other clip of the list."""
    paths = clips.columns.texts().dictionary_encode()
    files = clips.columns.number("source") * len(paths.dictionary) + paths.indices.to_numpy()
    start, end = clips.columns.number("start_frame"), clips.columns.number("end_frame")
    order = np.lexsort((start, files))
    files, start, end = files[order], start[order], end[order]
    end = np.where(end == NONE, MOST_FRAME, end)
    apart = MOST_FRAME + 1  # so that a file's frames lie beyond those of the one before
    offset = apart * np.concatenate([[0], np.cumsum(files[1:] != files[:-1])])
    start, end = offset + start, offset + end
    shares = np.zeros(len(clips), bool)
    shares[1:] = np.maximum.accumulate(end)[:-1] > start[1:]  # with one that begins no later
    shares[:-1] |= end[:-1] > start[1:]  # with the next one, or else with none of those after it
    return int(np.count_nonzero(shares))
