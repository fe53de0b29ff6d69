"""Small pictures: those of FFmpeg's scaler, for every colour space, range, format and size."""

from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.curate.footage import scenery
from videomae.curate.picture import DETAILED, SMALL, Shrinker, scaled

LIMITED, FULL = 1, 2
SPACES = {"bt709": 1, "unknown": 2, "bt601": 6}


def frame_of(height: int, width: int, format_: str = "yuv420p") -> av.VideoFrame:
    """A frame of a smooth scenery in strong colours."""
    image = scenery(3, height, width)[:height, :width]
    image[: height // 4, : width // 4] = (250, 10, 40)
    image[: height // 4, width // 2 :] = (10, 30, 240)
    image = cv2.GaussianBlur(image, (0, 0), 4)  # else scalers differ at what they smooth
    return av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=format_)


@pytest.mark.parametrize(("space", "full"), [*product(SPACES, (LIMITED, FULL))])
@pytest.mark.parametrize("size", [(1024, 576), (1080, 1920), (721, 1283), (600, 1100)])
def test_halved_frames_are_those_of_the_scaler(
    space: str, full: int, size: tuple[int, int]
) -> None:
    frame = frame_of(*size)
    frame.colorspace, frame.color_range = SPACES[space], full
    shrinker = Shrinker()
    quick = shrinker(frame, sampled=True)
    for found, long_side in ((quick.colours, SMALL), (quick.detail, DETAILED)):
        assert found is not None
        expected = shrinker._resized(frame, scaled((frame.width, frame.height), long_side))
        assert found.shape == expected.shape
        assert max(found.shape[:2]) == long_side
        # With the matrix of another space or range the difference is 7 and more.
        assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("format_", ["yuv444p", "yuv422p10le", "rgb24", "gray", "yuvj420p"])
def test_any_format_is_read(format_: str) -> None:
    frame = frame_of(600, 800, format_)
    picture = Shrinker()(frame, sampled=True)
    assert picture.colours.shape == (192, 256, 3)
    expected = Shrinker()(frame_of(600, 800), sampled=True)
    assert np.abs(picture.luma.astype(int) - expected.luma).mean() < 4
    assert np.abs(picture.detailed_luma.astype(int) - expected.detailed_luma).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (2, 2000), (2000, 2), (16, 16), (4320, 7680)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    frame = av.VideoFrame(size[1], size[0], "yuv420p")
    for plane in frame.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    picture = Shrinker()(frame, sampled=True)
    assert max(picture.colours.shape[:2]) == SMALL
    assert picture.detail is not None
    assert max(picture.detail.shape[:2]) == DETAILED
    assert min(picture.colours.shape[:2]) >= 1
    assert np.ptp(picture.luma) <= 2


def test_a_frame_of_another_size_gets_the_size_of_the_first(tmp_path: Path) -> None:
    shrinker = Shrinker()
    shapes = {
        shrinker(frame_of(*size), sampled=False).colours.shape
        for size in ((600, 800), (300, 200), (1200, 1600))
    }
    assert shapes == {(192, 256, 3)}
