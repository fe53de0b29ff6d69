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
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) for values in (MEAN, STD))
    return mean, std


def normalise(frames: Tensor) -> Tensor:
    """Decoded frames, (B, T, H, W, 3) uint8, as a clip for a model: (B, 3, T, H, W) float32.

    Runs on the device of `frames`, so that what travels there is one byte a value.
    """
    mean, std = _constants(frames.device)
    return (frames.permute(0, 4, 1, 2, 3).float() / 255 - mean) / std


def unnormalise(clip: Tensor) -> Tensor:
    """A model's clip, (B, 3, T, H, W), back to float32 pixels in [0, 1], same shape."""
    mean, std = _constants(clip.device)
    return clip.float() * std + mean
