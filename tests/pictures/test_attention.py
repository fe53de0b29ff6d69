"""Pictures of attention: its colours lie over the pixels of the tokens that receive it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.pictures.test_figures import picture
from videomae.pictures.attention import ClipAttention, heat, save_attention


def clip_of(received: Tensor) -> ClipAttention:
    """A grey clip of 4 frames of 16 x 32 in tokens of 2 frames x 8 x 8."""
    return ClipAttention(torch.full((4, 16, 32, 3), 128, dtype=torch.uint8), received, "line 1: a")


def test_a_token_that_receives_all_attention_is_bright_and_no_other() -> None:
    received = torch.zeros(2, 2, 4)
    received[1, 0, 3] = 1
    pixels = heat(clip_of(received)).astype(int).sum(-1)
    bright = pixels > pixels.min() + 100
    expected = np.zeros((4, 16, 32), dtype=bool)
    expected[2:4, 0:8, 24:32] = True
    np.testing.assert_array_equal(bright, expected)


def test_equal_attention_is_the_middle_of_the_colours() -> None:
    even = heat(clip_of(torch.full((2, 2, 4), 1 / 16)))
    assert len(np.unique(even.reshape(-1, 3), axis=0)) == 1
    uneven = torch.full((2, 2, 4), 0.5 / 16)
    uneven[0, 0, 0] += 0.5
    brightest = heat(clip_of(uneven)).astype(int).sum(-1).max()
    assert even[0, 0, 0].astype(int).sum() < brightest - 60


def test_pictures_of_any_number_of_clips_fit_a_screen(tmp_path: Path) -> None:
    """And a phone: they are at most 700 pixels wide."""
    torch.manual_seed(0)
    for number in (1, 2, 3, 4):
        clips = [
            ClipAttention(
                torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8),
                torch.rand(8, 4, 4).softmax(-1),
                "line 1: " + 40 * "$^{long/" + "\x1b.mp4",
            )
            for _ in range(number)
        ]
        save_attention(tmp_path / f"{number}.png", clips)
        height, width, _ = picture(tmp_path / f"{number}.png", least=(150, 300)).shape
        assert height <= 1000
        assert width <= 700
