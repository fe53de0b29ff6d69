"""Pixels on their way to a model and back, against ImageNet's numbers written out."""

import torch

from videomae.model.pixels import normalise, normalise_pixels, unnormalise


def test_frames_become_clips_of_mean_0_and_spread_1_over_imagenet() -> None:
    frames = torch.randint(0, 256, (2, 3, 4, 5, 3), dtype=torch.uint8)
    clip = normalise(frames)
    assert (clip.shape, clip.dtype) == ((2, 3, 3, 4, 5), torch.float32)
    numbers = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
    for colour, (mean, spread) in enumerate(numbers):
        expected = (frames[..., colour].double() / 255 - mean) / spread
        torch.testing.assert_close(clip[:, colour].double(), expected, rtol=0, atol=1e-6)


def test_pixels_come_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)[:, None].expand(-1, 3)
    back = unnormalise(normalise_pixels(pixels))
    torch.testing.assert_close(back, pixels.float() / 255, rtol=0, atol=1e-6)
