"""What a decoder of the user's own yields is checked: nothing is trained on what no file holds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videomae.config import ClipConfig, DataConfig
from videomae.lists.formats import Clip
from videomae.video.interface import DecodeError, DecoderError, Part, check_count, whole
from videomae.video.opening import open_clip

FRAMES = np.zeros((3, 4, 4, 3), np.uint8)
NUMBERS = [2, 5, 7]


class Own:
    """A video whose parts are given."""

    num_frames: Any = 9
    fps, reference_stride = None, 1

    def __init__(self, parts: Sequence[tuple[int, Any]]) -> None:
        self.given = parts

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        for place, frames in self.given:
            yield Part(place, frames)

    def read(self, indices: Sequence[int]) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    "parts",
    [
        [(0, FRAMES)],
        [(0, FRAMES[:1]), (1, FRAMES[:2])],
        [(0, FRAMES[:2]), (0, FRAMES)],  # all again, as the first were wrong
        [(0, FRAMES[:1]), (1, np.zeros((2, 8, 6, 3), np.uint8))],  # the picture changes its size
    ],
)
def test_what_is_right_passes(parts: list[tuple[int, Any]]) -> None:
    found = list(whole(Own(parts), NUMBERS))
    assert [part.place for part in found] == [place for place, _ in parts]
    assert all(part.frames is frames for part, (_, frames) in zip(found, parts, strict=True))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "yields 0 of 3 frames"),
        ([(0, FRAMES[:2])], "yields 2 of 3 frames"),
        ([(0, np.zeros((4, 4, 4, 3), np.uint8))], "yields 4 of 3 frames"),
        ([(1, FRAMES[:2])], "yields place 1 where 0 follows"),
        ([(0, FRAMES[:1]), (2, FRAMES[:1])], "yields place 2 where 1 follows"),
        ([(0, FRAMES[..., :1])], r"yields \(3, 4, 4, 1\) uint8 as frames"),
        ([(0, FRAMES[..., 0])], r"yields \(3, 4, 4\) uint8 as frames"),
        ([(0, FRAMES.astype(np.float32))], "float32 as frames, not .* uint8"),
        ([(0, None)], "yields NoneType as frames"),
        ([(0, np.zeros((3, 0, 4, 3), np.uint8))], r"yields \(3, 0, 4, 3\) uint8 as frames"),
    ],
)
def test_what_is_wrong_names_the_decoder(parts: list[tuple[int, Any]], said: str) -> None:
    with pytest.raises(DecoderError, match=rf"the decoder {__name__}:Own .*{said}"):
        list(whole(Own(parts), NUMBERS))


def test_frames_that_are_mirrored_by_a_view_are_copied() -> None:
    frames = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)[:, :, ::-1]
    (part,) = whole(Own([(0, frames)]), NUMBERS)  # torch takes no negative strides
    assert part.frames.flags.c_contiguous
    np.testing.assert_array_equal(part.frames, frames)


@pytest.mark.parametrize("count", [0, -1, 3.0, "3", True, None])
def test_a_count_that_is_none_names_the_decoder(count: Any) -> None:
    video = Own([])
    check_count(video)
    video.num_frames = count
    with pytest.raises(DecoderError, match=rf"the decoder {__name__}:Own .*num_frames is "):
        check_count(video)


class Missing:
    """A decoder that opens its file as Python does."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        path.open("rb")


def test_a_file_that_a_decoder_of_ones_own_cannot_open_is_a_bad_file(tmp_path: Path) -> None:
    clip = ClipConfig(frames=4, stride=1, size=32)
    data = DataConfig(clip=clip, root=str(tmp_path), decoder=f"{__name__}:Missing")
    with pytest.raises(DecodeError, match=r"whole:Missing cannot open it .*gone\.npy"):
        open_clip(Clip("gone.npy", line=1), data)
