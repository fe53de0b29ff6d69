# mine/augmentation.py
"""augment.transform=mine.augmentation:draw: views that are turned by a random quarter."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from videomae.config import AugmentConfig
from videomae.data.augment import Augmentation, draw_augmentation


@dataclass(frozen=True)
class Turned:
    """A number of quarter turns, then the augmentation that the settings ask for."""

    turns: int
    crop: Augmentation

    def apply(self, frames: Tensor, view: Tensor) -> None:
        self.crop.apply(torch.rot90(frames, self.turns, dims=(1, 2)), view)


def draw(
    height: int,
    width: int,
    frame: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    hflip: bool,
) -> Turned:
    turns = int(rng.integers(4))
    size = (width, height) if turns % 2 else (height, width)
    return Turned(turns, draw_augmentation(*size, frame, config, rng, hflip=hflip))
