"""Pixels as files hold them and as models see them."""

from functools import cache

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
"""Of each colour over ImageNet, pixels in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""Likewise."""


@cache  # a copy from the host in every step would make the host wait for the device
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # they outlive the caller's mode
        return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


def normalise(frames: Tensor) -> Tensor:
    """Decoded frames, (B, T, H, W, 3) uint8, as a clip for a model: (B, 3, T, H, W) float32.

    Runs on the device of `frames`, so that what travels there is one byte a value.
    """
    return normalise_pixels(frames).permute(0, 4, 1, 2, 3)


def normalise_pixels(pixels: Tensor) -> Tensor:
    """Decoded pixels, uint8, as a model wants them: float32. Colour is last: (..., 3)."""
    mean, std = _constants(pixels.device)
    return torch.addcmul(-mean / std, pixels.float(), 1 / (255 * std))  # (x / 255 - mean) / std


def unnormalise(pixels: Tensor) -> Tensor:
    """Normalised pixels back to float32 in [0, 1]. Colour is the last dimension: (..., 3)."""
    mean, std = _constants(pixels.device)
    return pixels.float() * std + mean
