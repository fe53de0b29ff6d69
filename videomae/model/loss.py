"""What the decoder is asked for, and how far off it is."""

import torch
from einops import rearrange
from torch import Tensor

from videomae.model.tubelet import take


@torch.no_grad()
def pixel_targets(clip: Tensor, decoded: Tensor, patch: int, tubelet: int) -> Tensor:
    """Pixels of the decoded tubelets, each colour at mean 0 and spread 1 within its tubelet.

    Args:
        clip: (B, 3, T, H, W), pixels in [0, 1]; the caller undoes the ImageNet mean and std.
        decoded: (B, K) int64 token indices, time-major.

    Returns:
        (B, K, tubelet * patch * patch * 3), colour last.

    Source: VideoMAE's norm_pix target; unbiased variance, 1e-6 added to the spread.
    """
    pixels = tubelet_pixels(clip, patch, tubelet)
    pixels = take(pixels, decoded)  # gather first, normalise only what is needed
    mean, spread = tubelet_statistics(pixels)
    return ((pixels - mean) / spread).flatten(2)


def tubelet_pixels(clip: Tensor, patch: int, tubelet: int) -> Tensor:
    """(B, 3, T, H, W) -> (B, N, tubelet * patch * patch, 3), tokens time-major."""
    return rearrange(
        clip, "b c (t u) (h p) (w q) -> b (t h w) (u p q) c", u=tubelet, p=patch, q=patch
    )


def tubelet_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of each colour in each tubelet, both (B, K, 1, 3).

    Targets are normalised with them, and a prediction becomes visible pixels with them.
    """
    return pixels.mean(2, keepdim=True), pixels.std(2, keepdim=True) + 1e-6


def token_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each token, in float32: (B, K, P), (B, K, P) -> (B, K)."""
    return (prediction.float() - target).square().mean(2)
