"""Cuts: those of PySceneDetect's ContentDetector, and where clips of a fixed duration begin."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.curate.footage import FPS, Image, edited, panned, render
from videomae.config import CutsConfig
from videomae.curate.cuts import ContentChange, ContentCutter, Cut, CutFilter, FixedCutter
from videomae.curate.picture import Picture


def cuts_of(frames: list[Image], cuts: CutsConfig | None = None) -> list[int]:
    """The cuts that are found in frames, which are taken as small pictures."""
    finder = ContentCutter(cuts or CutsConfig())
    found = [finder.add(Picture(frame), index, 0.0) for index, frame in enumerate(frames)]
    assert finder.finish() == ()
    return [cut.frame for cut in chain.from_iterable(found)]


def test_planted_cuts_are_found_and_no_others() -> None:
    scenes = [list(panned(seed, frames, 2.0)) for seed, frames in enumerate((40, 25, 60, 20))]
    assert cuts_of(list(chain.from_iterable(scenes))) == [40, 65, 125]


def test_a_flash_is_no_scene_of_its_own() -> None:
    frames = list(panned(0, 80))
    frames[60] = np.full_like(frames[60], 255)
    frames[40:] = list(panned(1, 40))
    frames[50] = np.full_like(frames[50], 255)
    assert cuts_of(frames) == [40]


@given(
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 1]), min_size=1, max_size=200),
    st.integers(1, 20),
)
@example([0, 0, 0, 0, 0, 1], 5)  # as close as may be
def test_changes_become_cuts_as_in_the_library(changes: list[int], min_frames: int) -> None:
    scenedetect = pytest.importorskip("scenedetect.detector")
    timecodes = pytest.importorskip("scenedetect.common")
    oracle = scenedetect.FlashFilter(scenedetect.FlashFilter.Mode.MERGE, min_frames)
    ours = CutFilter(0.5, min_frames)
    for index, change in enumerate(changes):
        when = timecodes.FrameTimecode(index, fps=25.0)
        expected = [each.frame_num for each in oracle.filter(when, change > 0.5)]
        unsettled = ours.unsettled
        found = ours.add(index, change)
        assert ([] if found is None else [found]) == expected
        assert found in (None, index, unsettled)  # clips are given their frames by this


def test_changes_are_those_of_the_library() -> None:
    detectors = pytest.importorskip("scenedetect.detectors")
    timecodes = pytest.importorskip("scenedetect.common")
    frames = list(chain(panned(3, 30, 3.0), panned(4, 30, 1.0)))
    oracle, ours = detectors.ContentDetector(), ContentChange()
    for index, frame in enumerate(frames):
        oracle.process_frame(timecodes.FrameTimecode(index, fps=25.0), frame)
        assert ours.add(frame) == pytest.approx(oracle._frame_score, abs=1e-9)


def test_cuts_of_a_file_are_those_of_the_library(tmp_path: Path) -> None:
    """The library shrinks frames in another way, so that changes differ a little."""
    scenedetect = pytest.importorskip("scenedetect")
    from tests.curate.test_measuring import clips_of

    strobe = edited(panned(9, 30, 2.0), lambda image: image * (np.random.default_rng(0).random()))
    parts = [panned(5, 30, 2.0), panned(6, 22, 0.5), strobe, panned(7, 40, 4.0), panned(8, 16)]
    video = render(tmp_path / "v.mp4", chain.from_iterable(parts))
    expected = scenedetect.detect(str(video), scenedetect.ContentDetector())
    starts = [scene[0].frame_num for scene in expected]
    assert len(starts) > 3
    assert [row["start_frame"] for row in clips_of(video)] == starts


def test_pieces_of_a_fixed_duration_begin_at_its_multiples() -> None:
    finder = FixedCutter(CutsConfig(fixed_s=2.0))
    picture = Picture(np.zeros((4, 4, 3), np.uint8))
    found = [finder.add(picture, index, round(index / FPS, 6)) for index in range(5 * FPS)]
    assert list(chain.from_iterable(found)) == [Cut(2 * FPS), Cut(4 * FPS)]
