"""Crops of decoded frames. They stay uint8 and channels-last: (T, H, W, 3).

A crop is chosen as a box (top, left, height, width) in source pixels, the same for every frame.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videomae.config import AugmentConfig, CropKind

Box = tuple[int, int, int, int]
"""top, left, height, width, in pixels."""

# Where a multi-scale crop may lie, in quarters (down, right) of the free space.
CORNERS_AND_CENTRE = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
BETWEEN = [(2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
PLACES = CORNERS_AND_CENTRE + BETWEEN


def random_box(
    height: int, width: int, size: int, config: AugmentConfig, rng: np.random.Generator
) -> Box:
    """A training crop of a frame of that height and width, for a model that sees `size` pixels."""
    if config.crop is CropKind.multi_scale:
        return multi_scale_box(height, width, size, config.scales, rng)
    return random_resized_box(height, width, config.area, config.aspect, rng)


def multi_scale_box(
    height: int, width: int, size: int, scales: list[float], rng: np.random.Generator
) -> Box:
    """Pre-training's crop: sides from `scales` of the short side, at one of 13 places.

    The two sides are at most one scale apart; a side within 2 px of `size` is taken as `size`,
    which needs no resizing. Source: VideoMAE V2, GroupMultiScaleCrop (which lets that rule reach
    past the frame's edge; here it does not).
    """
    short = min(height, width)
    sides = [max(1, int(short * scale)) for scale in scales]
    sides = [size if abs(side - size) < 3 and size <= short else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[rng.integers(len(pairs))]
    down, right = PLACES[rng.integers(len(PLACES))]
    top, left = (height - crop_height) // 4 * down, (width - crop_width) // 4 * right
    return top, left, crop_height, crop_width


def random_resized_box(
    height: int, width: int, area: list[float], aspect: list[float], rng: np.random.Generator
) -> Box:
    """Fine-tuning's crop: a random share of the area, a random aspect (width over height).

    After ten draws that do not fit: the largest centred crop whose aspect does.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(area[0], area[1])
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        crop_width, crop_height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_width, crop_height = width, height
    if width / height < aspect[0]:
        crop_height = min(height, max(1, round(width / aspect[0])))
    elif width / height > aspect[1]:
        crop_width = min(width, max(1, round(height * aspect[1])))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def resized_crop(frames: Tensor, box: Box, height: int, width: int, *, antialias: bool) -> Tensor:
    """The box of every frame, bilinearly resized: (T, H, W, 3) -> (T, height, width, 3), uint8."""
    top, left, crop_height, crop_width = box
    crop = frames[:, top : top + crop_height, left : left + crop_width]
    if (crop_height, crop_width) == (height, width):
        return crop.contiguous()
    resized = F.interpolate(
        crop.permute(0, 3, 1, 2), (height, width), mode="bilinear", antialias=antialias
    )
    return resized.permute(0, 2, 3, 1).contiguous()


def evaluation_crops(frames: Tensor, size: int, crops: int) -> list[Tensor]:
    """`crops` squares along the longer side, once the short side is `size`; one alone is centred.

    (T, H, W, 3) -> `crops` times (T, size, size, 3). Not antialiased. Source: VideoMAE V2.
    """
    _, height, width, _ = frames.shape
    if height <= width:
        new_height, new_width = size, max(size, size * width // height)
    else:
        new_height, new_width = max(size, size * height // width), size
    whole = (0, 0, height, width)
    frames = resized_crop(frames, whole, new_height, new_width, antialias=False)
    spare = max(new_height, new_width) - size
    starts = [int(spare / (crops - 1) * k) for k in range(crops)] if crops > 1 else [spare // 2]
    if new_height <= new_width:
        return [frames[:, :, left : left + size].contiguous() for left in starts]
    return [frames[:, top : top + size].contiguous() for top in starts]


def mirror(frames: Tensor) -> Tensor:
    """Left becomes right: (T, H, W, 3) -> same."""
    return torch.flip(frames, dims=(2,))
