"""RandAugment on whole clips: every frame gets the same operations at the same strength.

Cubuk et al., 2020, https://arxiv.org/abs/1909.13719, as VideoMAE V2 uses it, which is timm's
`rand-m7-n4-mstd0.5-inc1`: 15 operations that grow stronger with the level. Rotation, shear and
translation are bilinear here, bicubic there; the others equal Pillow's bit by bit.

A clip is (T, H, W, 3) uint8. Levels run from 0 to 10.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from videomae.config import AugmentConfig

FILL = 128
"""What moves into the frame from outside."""
MOST = 10.0
"""The highest level."""
Frames = NDArray[np.uint8]
"""(T, H, W, 3)"""
Operation = Callable[[Frames, float], Frames]
"""Takes the level; a negative one means the operation's other direction, where it has two."""


def rand_augment(frames: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """A clip after config.rand_ops operations, drawn with replacement, each left out half the time.

    (T, H, W, 3) uint8 -> same.
    """
    clip: Frames = frames.numpy()
    for _ in range(config.rand_ops):
        operation = OPERATIONS[rng.integers(len(OPERATIONS))]
        if rng.random() >= config.rand_prob:
            continue
        level = min(MOST, max(0.0, rng.normal(config.rand_level, config.rand_spread)))
        clip = operation(clip, -level if rng.random() < 0.5 else level)
    return torch.from_numpy(clip)


def auto_contrast(clip: Frames, level: float) -> Frames:
    """Stretch each colour of each frame to the full range."""
    low = clip.min(1).min(1).astype(np.float64)  # (T, 3)
    high = clip.max(1).max(1).astype(np.float64)
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    offset = np.where(high > low, -low * scale, 0.0)
    values = np.arange(256)[None, None] * scale[..., None] + offset[..., None]  # (T, 3, 256)
    return _map_planes(clip, np.clip(values, 0, 255).astype(np.uint8))


def equalize(clip: Frames, level: float) -> Frames:
    """Make all values of each colour of each frame about equally frequent."""
    tables = np.empty((len(clip), 3, 256), dtype=np.uint8)
    for t, c in np.ndindex(len(clip), 3):
        counts = np.bincount(clip[t, :, :, c].ravel(), minlength=256)
        present = counts[counts > 0]
        step = int(counts.sum() - present[-1]) // 255
        if len(present) > 1 and step > 0:
            before = np.concatenate([[0], np.cumsum(counts)[:-1]])
            tables[t, c] = np.minimum((step // 2 + before) // step, 255)
        else:
            tables[t, c] = np.arange(256)
    return _map_planes(clip, tables)


def invert(clip: Frames, level: float) -> Frames:
    """Negative."""
    return 255 - clip


def posterize(clip: Frames, level: float) -> Frames:
    """Keep the highest 4 bits, at level 10 none."""
    bits = 4 - int(abs(level) / MOST * 4)
    return clip & np.uint8(256 - (1 << (8 - bits)) & 255)


def solarize(clip: Frames, level: float) -> Frames:
    """Invert the values from a threshold on, at level 10 all."""
    threshold = 256 - min(256, int(abs(level) / MOST * 256))
    values = np.arange(256)
    return _map(clip, np.where(values < threshold, values, 255 - values).astype(np.uint8))


def solarize_add(clip: Frames, level: float) -> Frames:
    """Add up to 110 to the dark half of the values."""
    values = np.arange(256)
    lighter = np.minimum(255, values + min(128, int(abs(level) / MOST * 110)))
    return _map(clip, np.where(values < 128, lighter, values).astype(np.uint8))


def color(clip: Frames, level: float) -> Frames:
    """Towards grey, or away from it."""
    picture = _tall(clip)
    return _blend(picture.convert("L").convert("RGB"), clip, level)


def contrast(clip: Frames, level: float) -> Frames:
    """Towards each frame's mean grey, or away from it."""
    grey = np.asarray(_tall(clip).convert("L")).reshape(len(clip), -1)
    means = (grey.mean(1) + 0.5).astype(np.uint8)
    return _blend(_tall(np.broadcast_to(means[:, None, None, None], clip.shape)), clip, level)


def brightness(clip: Frames, level: float) -> Frames:
    """Towards black, or away from it."""
    return _blend(_tall(np.zeros_like(clip)), clip, level)


def sharpness(clip: Frames, level: float) -> Frames:
    """Towards each frame's smoothed picture, or away from it."""
    smooth = np.asarray(_tall(clip).filter(ImageFilter.SMOOTH)).reshape(clip.shape).copy()
    smooth[:, [0, -1]] = clip[:, [0, -1]]  # a frame's edge stays, and sees no other frame
    return _blend(_tall(smooth), clip, level)


def rotate(clip: Frames, level: float) -> Frames:
    """By up to 30 degrees about the middle, counter-clockwise."""
    angle = math.radians(level / MOST * 30)
    cos, sin = math.cos(angle), math.sin(angle)
    _, height, width, _ = clip.shape
    x, y = width / 2, height / 2
    return _affine(clip, [[cos, -sin, x - x * cos + y * sin], [sin, cos, y - x * sin - y * cos]])


def shear_x(clip: Frames, level: float) -> Frames:
    """By up to 0.3, along the rows."""
    return _affine(clip, [[1, level / MOST * 0.3, 0], [0, 1, 0]])


def shear_y(clip: Frames, level: float) -> Frames:
    """By up to 0.3, along the columns."""
    return _affine(clip, [[1, 0, 0], [level / MOST * 0.3, 1, 0]])


def translate_x(clip: Frames, level: float) -> Frames:
    """By up to 0.45 of the width."""
    return _affine(clip, [[1, 0, level / MOST * 0.45 * clip.shape[2]], [0, 1, 0]])


def translate_y(clip: Frames, level: float) -> Frames:
    """By up to 0.45 of the height."""
    return _affine(clip, [[1, 0, 0], [0, 1, level / MOST * 0.45 * clip.shape[1]]])


OPERATIONS: tuple[Operation, ...] = (
    auto_contrast,
    equalize,
    invert,
    rotate,
    posterize,
    solarize,
    solarize_add,
    color,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)


def _tall(clip: Frames) -> Image.Image:
    """All frames below each other in one picture: Pillow is fast where frames do not matter."""
    return Image.fromarray(clip.reshape(-1, *clip.shape[2:]))


def _blend(start: Image.Image, clip: Frames, level: float) -> Frames:
    """From `start` to the clip and beyond: 0.1 to 1.9 of the way, 1 at level 0."""
    factor = max(0.1, 1 + level / MOST * 0.9)
    return np.array(Image.blend(start, _tall(clip), factor)).reshape(clip.shape)


def _map(clip: Frames, table: NDArray[np.uint8]) -> Frames:
    """table[value] of every value."""
    return np.array(_tall(clip).point(table.tolist() * 3)).reshape(clip.shape)


def _map_planes(clip: Frames, tables: NDArray[np.uint8]) -> Frames:
    """Likewise, with a table for each colour of each frame: (T, 3, 256)."""
    mapped = np.empty_like(clip)
    for t, c in np.ndindex(len(clip), 3):
        np.take(tables[t, c], clip[t, :, :, c], out=mapped[t, :, :, c])
    return mapped


def _affine(clip: Frames, matrix: list[list[float]]) -> Frames:
    """The value at (x, y) is that at matrix @ (x, y, 1) of the clip, in pixels, bilinearly."""
    frames, height, width, _ = clip.shape
    # grid_sample counts from -1 to 1 over the frame, and all frames share one grid.
    size = torch.tensor([width, height], dtype=torch.float32)
    turn, move = torch.tensor(matrix).split([2, 1], dim=1)
    turn = turn * size[None, :] / size[:, None]
    move = (2 * move[:, 0] + torch.tensor(matrix)[:, :2] @ size) / size - 1
    theta = torch.cat([turn, move[:, None]], 1)[None]
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=False)
    planes = torch.from_numpy(clip).permute(0, 3, 1, 2).reshape(1, frames * 3, height, width)
    # Zero is what grid_sample finds outside.
    moved = F.grid_sample(planes.float() - FILL, grid, mode="bilinear", align_corners=False)
    moved = (moved + FILL).round_().to(torch.uint8).view(frames, 3, height, width)
    return moved.permute(0, 2, 3, 1).contiguous().numpy()
