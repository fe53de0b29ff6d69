"""Frame numbers of clips: tables a person can check, and the recipe written down a second time.

The second writing follows facts of the recipe, not the code: numbers count from 0, a window is
frames * stride long.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videomae.data.frame_sampling import (
    dense_indices,
    dense_view_indices,
    is_short,
    middle_segment_indices,
    middle_window_indices,
    num_dense_starts,
    num_window_starts,
    segment_indices,
    segment_length,
    segment_view_indices,
    window_indices,
)

GEOMETRIES = [(16, 4), (16, 2), (8, 8), (4, 2), (4, 1), (2, 3), (1, 1), (1, 5)]
LENGTHS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 30, 31, 32, 33, 61, 63, 64, 65, 66, 100, 300]


# Pre-training: `frames` frames, `stride` apart.


@pytest.mark.parametrize(
    ("num_frames", "frames", "stride", "start", "expected"),
    [
        (12, 4, 2, 0, [0, 2, 4, 6]),
        (12, 4, 2, 4, [4, 6, 8, 10]),
        (8, 4, 2, 0, [0, 2, 4, 6]),
        (5, 4, 2, 0, [0, 2, 4, 4]),
        (4, 4, 2, 0, [0, 2, 3, 3]),
        (1, 4, 2, 0, [0, 0, 0, 0]),
        (12, 4, 2, 9, [9, 11, 11, 11]),
        (100, 16, 4, 36, [36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 92, 96]),
    ],
)
def test_a_dense_clip_steps_by_the_stride_and_stays_on_the_last_frame(
    num_frames: int, frames: int, stride: int, start: int, expected: list[int]
) -> None:
    assert dense_indices(num_frames, frames, stride, start) == expected


def walked(num_frames: int, frames: int, stride: int, start: int) -> list[int]:
    """A clip by walking: a step that would leave the video ends on its last frame."""
    numbers = [start]
    while len(numbers) < frames:
        following = numbers[-1]
        for _ in range(stride):
            if following + 1 < num_frames:
                following += 1
        numbers.append(following)
    return numbers


@pytest.mark.parametrize(("frames", "stride"), GEOMETRIES)
def test_a_dense_clip_is_what_walking_gives(frames: int, stride: int) -> None:
    for num_frames in LENGTHS:
        for start in range(num_frames):
            expected = walked(num_frames, frames, stride, start)
            assert dense_indices(num_frames, frames, stride, start) == expected


@pytest.mark.parametrize(
    ("num_frames", "frames", "stride", "starts"),
    [
        (100, 16, 4, 37),
        (65, 16, 4, 2),
        (64, 16, 4, 1),
        (63, 16, 4, 1),
        (1, 16, 4, 1),
        (12, 4, 2, 5),
    ],
)
def test_dense_starts_keep_frames_times_stride_inside_the_video(
    num_frames: int, frames: int, stride: int, starts: int
) -> None:
    assert num_dense_starts(num_frames, frames, stride) == starts


@pytest.mark.parametrize(("frames", "stride"), GEOMETRIES)
def test_every_dense_start_keeps_the_stride_unless_the_video_is_short(
    frames: int, stride: int
) -> None:
    for num_frames in LENGTHS:
        starts = range(num_dense_starts(num_frames, frames, stride))
        for start in starts:
            clip = dense_indices(num_frames, frames, stride, start)
            steps = [after - before for before, after in itertools.pairwise(clip)]
            assert (steps != [stride] * (frames - 1)) == is_short(num_frames, frames, stride)
        if num_frames >= frames * stride:  # every window that fits is a start
            fits = [s for s in range(num_frames) if s + frames * stride <= num_frames]
            assert list(starts) == fits


@pytest.mark.parametrize("start", [-1, 12, 13])
def test_a_dense_clip_starts_inside_the_video(start: int) -> None:
    with pytest.raises(ValueError, match=str(start)):
        dense_indices(12, 4, 2, start)


# Dense fine-tuning: a window, both ends taken.


@pytest.mark.parametrize(
    ("num_frames", "frames", "stride", "start", "expected"),
    [
        # 64 / 15 = 4.27: 0, 4.27, 8.53, 12.8, 17.07, 21.33, 25.6, 29.87, ..., 59.73, 64 -> 63
        (100, 16, 4, 0, [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]),
        (100, 16, 4, 35, [35, 39, 43, 47, 52, 56, 60, 64, 69, 73, 77, 81, 86, 90, 94, 98]),
        # 32 / 15 = 2.13
        (50, 16, 2, 0, [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31]),
        (12, 4, 2, 3, [3, 5, 8, 10]),  # 3, 5.67, 8.33, 11 -> 10
        (8, 4, 2, 0, [0, 2, 5, 7]),  # 0, 2.67, 5.33, 8 -> 7
        (7, 4, 2, 0, [0, 3, 6, 6]),  # three of 0..7, then the last frame
        (5, 4, 2, 0, [0, 4, 4, 4]),  # two of 0..5
        (3, 4, 2, 0, [0, 2, 2, 2]),  # one of 0..3
        (1, 4, 2, 0, [0, 0, 0, 0]),
        (2, 2, 3, 0, [1, 1]),  # not one whole stride: the last frame only
    ],
)
def test_a_window_is_covered_evenly_from_end_to_end(
    num_frames: int, frames: int, stride: int, start: int, expected: list[int]
) -> None:
    assert window_indices(num_frames, frames, stride, start) == expected


def evenly(first: float, last: float, count: int) -> list[float]:
    return [float(number) for number in np.linspace(first, last, num=count)]


def window_of_the_recipe(num_frames: int, frames: int, stride: int, end: int) -> list[int]:
    """Dense fine-tuning, by the frame at which the window ends."""
    if num_frames > frames * stride:
        start = end - frames * stride
        return [int(min(max(x, start), end - 1)) for x in evenly(start, end, frames)]
    numbers = evenly(0, num_frames, num_frames // stride)
    while len(numbers) < frames:
        numbers.append(float(num_frames))
    return [int(min(x, num_frames - 1)) for x in numbers]


@pytest.mark.parametrize(("frames", "stride"), GEOMETRIES)
def test_windows_are_those_of_the_recipe(frames: int, stride: int) -> None:
    """Its random end lies in [window, num_frames)."""
    window = frames * stride
    for num_frames in LENGTHS:
        ends = range(window, num_frames) if num_frames > window else [num_frames]
        clips = [
            window_indices(num_frames, frames, stride, start)
            for start in range(num_window_starts(num_frames, frames, stride))
        ]
        expected = [window_of_the_recipe(num_frames, frames, stride, end) for end in ends]
        assert clips == expected


@pytest.mark.parametrize("start", [-1, 4])
def test_a_window_outside_the_video_is_refused(start: int) -> None:
    assert num_window_starts(12, 4, 2) == 4
    with pytest.raises(ValueError, match=f"from {start} "):
        window_indices(12, 4, 2, start)


# Segment fine-tuning: one frame from each part of the video.


@pytest.mark.parametrize(
    ("num_frames", "frames", "offsets", "expected"),
    [
        (12, 4, [0, 0, 0, 0], [0, 3, 6, 9]),
        (12, 4, [2, 0, 1, 2], [2, 3, 7, 11]),
        (15, 4, [2, 2, 2, 2], [2, 5, 8, 11]),  # parts of 3; the last 3 frames are in none
        (4, 4, [0, 0, 0, 0], [0, 1, 2, 3]),
        (7, 4, [0, 0, 0, 0], [0, 1, 2, 3]),
        (3, 5, [0, 0, 0, 0, 0], [0, 0, 0, 1, 2]),
        (1, 3, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_segments_give_one_frame_each(
    num_frames: int, frames: int, offsets: list[int], expected: list[int]
) -> None:
    assert segment_indices(num_frames, frames, offsets) == expected


@pytest.mark.parametrize(("num_frames", "length"), [(64, 16), (67, 16), (4, 1), (7, 1), (1, 1)])
def test_segment_length_is_the_whole_frames_of_a_part(num_frames: int, length: int) -> None:
    assert segment_length(num_frames, 4) == length


@pytest.mark.parametrize(("num_frames", "frames"), [(6, 3), (8, 3), (3, 3), (4, 2)])
def test_offsets_reach_every_choice_of_one_frame_per_part(num_frames: int, frames: int) -> None:
    part = num_frames // frames
    choices = itertools.product(*(range(i * part, (i + 1) * part) for i in range(frames)))
    drawn = itertools.product(range(segment_length(num_frames, frames)), repeat=frames)
    got = [tuple(segment_indices(num_frames, frames, list(offsets))) for offsets in drawn]
    assert sorted(got) == sorted(choices)


# The evaluation of an epoch: the middle of the video.


@pytest.mark.parametrize(
    ("num_frames", "frames", "stride", "expected"),
    [
        # The window ends at (64 + 300) // 2 = 182, so it starts at 118; 64 / 15 = 4.27 apart,
        # and its own end is the last frame before it.
        (
            *(300, 16, 4),
            [118, 122, 126, 130, 135, 139, 143, 147, 152, 156, 160, 164, 169, 173, 177, 181],
        ),
        (12, 4, 2, [2, 4, 7, 9]),  # ends at (8 + 12) // 2 = 10; 2, 4.67, 7.33, 10 -> 9
        (13, 4, 2, [2, 4, 7, 9]),  # ends at 21 // 2 = 10
        (9, 4, 2, [0, 2, 5, 7]),  # ends at 17 // 2 = 8
        (8, 4, 2, [0, 2, 5, 7]),  # no longer than the window: as in training
        (5, 4, 2, [0, 4, 4, 4]),
        (1, 4, 2, [0, 0, 0, 0]),
    ],
)
def test_the_middle_window_is_that_of_the_recipe(
    num_frames: int, frames: int, stride: int, expected: list[int]
) -> None:
    assert middle_window_indices(num_frames, frames, stride) == expected


@pytest.mark.parametrize(("frames", "stride"), GEOMETRIES)
def test_middle_windows_end_where_the_recipe_says(frames: int, stride: int) -> None:
    for num_frames in LENGTHS:
        end = (frames * stride + num_frames) // 2
        expected = window_of_the_recipe(num_frames, frames, stride, end)
        assert middle_window_indices(num_frames, frames, stride) == expected


@pytest.mark.parametrize(
    ("num_frames", "frames", "expected"),
    [
        (40, 4, [5, 15, 25, 35]),  # parts of 10
        (23, 4, [2, 7, 12, 17]),  # parts of 23 // 4 = 5; the last 3 frames are in none
        (4, 4, [0, 1, 2, 3]),
        (7, 4, [0, 1, 2, 3]),
        (3, 5, [0, 0, 0, 1, 2]),
    ],
)
def test_middle_segments_are_the_centres_of_the_parts(
    num_frames: int, frames: int, expected: list[int]
) -> None:
    assert middle_segment_indices(num_frames, frames) == expected


# Test views.


def test_five_dense_views_of_300_frames() -> None:
    """16 x 4: every 4th frame makes 75; 59 to spare, starts at 0, 14.75, 29.5, 44.25, 59."""
    views = dense_view_indices(300, 16, 4, 5)
    assert [view[0] for view in views] == [0, 4 * 14, 4 * 29, 4 * 44, 4 * 59]
    for view in views:
        assert view == list(range(view[0], view[0] + 64, 4))
    assert views[4][15] == 296  # the last frame of the 75


@pytest.mark.parametrize(
    ("num_frames", "frames", "stride", "segments", "expected"),
    [
        (12, 4, 2, 2, [[0, 2, 4, 6], [4, 6, 8, 10]]),
        (12, 4, 2, 1, [[2, 4, 6, 8]]),  # two to spare, centred
        (14, 4, 2, 1, [[2, 4, 6, 8]]),  # three to spare, rounded down
        (7, 4, 2, 3, [[0, 2, 4, 6]] * 3),
        (6, 4, 2, 2, [[0, 2, 4, 4]] * 2),
        (1, 4, 2, 2, [[0, 0, 0, 0]] * 2),
        (16, 4, 2, 3, [[0, 2, 4, 6], [4, 6, 8, 10], [8, 10, 12, 14]]),
    ],
)
def test_dense_views_are_evenly_spaced(
    num_frames: int, frames: int, stride: int, segments: int, expected: list[list[int]]
) -> None:
    assert dense_view_indices(num_frames, frames, stride, segments) == expected


def dense_view_of_the_recipe(
    num_frames: int, frames: int, stride: int, segments: int, segment: int
) -> list[int]:
    kept = [number for number in range(num_frames) if number % stride == 0]
    while len(kept) < frames:
        kept.append(kept[-1])
    step = max(1.0 * (len(kept) - frames) / (segments - 1), 0)
    first = int(segment * step)
    return [kept[first + i] for i in range(frames)]


@pytest.mark.parametrize(("frames", "stride"), GEOMETRIES)
def test_dense_views_are_those_of_the_recipe(frames: int, stride: int) -> None:
    for num_frames, segments in itertools.product(LENGTHS, (2, 5, 10)):
        expected = [
            dense_view_of_the_recipe(num_frames, frames, stride, segments, segment)
            for segment in range(segments)
        ]
        assert dense_view_indices(num_frames, frames, stride, segments) == expected


def test_two_segment_views_of_40_frames() -> None:
    """16 x 2 x 3: parts of 2.5 frames; the second view half a part, 1.25 frames, later."""
    assert segment_view_indices(40, 16, 2) == [
        [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37],
        [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26, 28, 31, 33, 36, 38],
    ]


def test_segment_views_of_short_videos_repeat_frames() -> None:
    assert segment_view_indices(4, 8, 2) == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2
    assert segment_view_indices(1, 4, 2) == [[0, 0, 0, 0]] * 2


@given(
    num_frames=st.integers(1, 400),
    frames=st.sampled_from([4, 8, 16, 32]),
    segments=st.integers(1, 10),
)
def test_segment_views_interleave(num_frames: int, frames: int, segments: int) -> None:
    """The source sorts the numbers of all views, and deals them out in turn."""
    part = num_frames / frames
    everything = sorted(
        int(segment * part / segments + part * number)
        for segment in range(segments)
        for number in range(frames)
    )
    dealt = [everything[segment::segments] for segment in range(segments)]
    assert segment_view_indices(num_frames, frames, segments) == dealt
    assert 0 <= everything[0] <= everything[-1] < num_frames


@pytest.mark.parametrize(
    ("num_frames", "frames", "stride", "short"),
    [
        (61, 16, 4, False),  # 0, 4, ..., 60
        (60, 16, 4, True),
        (31, 16, 2, False),
        (30, 16, 2, True),
        (16, 16, 1, False),
        (15, 16, 1, True),
        (1, 2, 1, True),
        (1, 1, 4, False),
    ],
)
def test_a_video_is_short_where_the_clip_does_not_fit(
    num_frames: int, frames: int, stride: int, short: bool
) -> None:
    assert is_short(num_frames, frames, stride) is short


@pytest.mark.parametrize(("frames", "stride"), GEOMETRIES)
def test_every_frame_number_lies_in_the_video(frames: int, stride: int) -> None:
    for num_frames in LENGTHS:
        last_window = num_window_starts(num_frames, frames, stride) - 1
        offsets = [segment_length(num_frames, frames) - 1] * frames
        clips = [
            dense_indices(num_frames, frames, stride, num_frames - 1),
            window_indices(num_frames, frames, stride, last_window),
            segment_indices(num_frames, frames, offsets),
            middle_window_indices(num_frames, frames, stride),
            middle_segment_indices(num_frames, frames),
            *dense_view_indices(num_frames, frames, stride, 5),
            *segment_view_indices(num_frames, frames, 2),
        ]
        for clip in clips:
            assert len(clip) == frames
            assert clip == sorted(clip)
            assert 0 <= clip[0] <= clip[-1] < num_frames
