"""Conversion between decoded pixels, uint8, and the normalised floats that models see."""

from functools import cache

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet, for pixels in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue over ImageNet, for pixels in [0, 1]."""


@cache  # a copy from the host in every step would make the host wait for the device
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # the cached tensors are used outside the caller's mode too
        return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


def normalise(frames: Tensor) -> Tensor:
    """Turn decoded frames into a model's clip: (B, T, H, W, 3) uint8 -> (B, 3, T, H, W) float32.

    Runs on the device of `frames`, so that only one byte per value is copied to it.
    """
    return normalise_pixels(frames).permute(0, 4, 1, 2, 3)


def normalise_pixels(pixels: Tensor) -> Tensor:
    """Normalise decoded pixels by ImageNet's mean and std: (..., 3) uint8 -> (..., 3) float32."""
    mean, std = _constants(pixels.device)
    return torch.addcmul(-mean / std, pixels.float(), 1 / (255 * std))  # (x / 255 - mean) / std


def unnormalise(pixels: Tensor) -> Tensor:
    """Undo `normalise_pixels`: (..., 3) float -> (..., 3) float32 in [0, 1]."""
    mean, std = _constants(pixels.device)
    return pixels.float() * std + mean
