"""RandAugment on whole clips: every frame gets the same operations at the same strength.

Cubuk et al., 2020, https://arxiv.org/abs/1909.13719, as VideoMAE V2 uses it, which is timm's
`rand-m7-n4-mstd0.5-inc1`, bit by bit: 15 operations that grow stronger with the level.

An operation takes one frame, (H, W, 3) uint8: all of them are done while it is in the processor's
cache, which is faster than one operation after the other on the whole clip. Levels: 0 to 10.

timm's own operations are not called, because importing them takes 2.6 s and 200 MB in every process
that decodes, they are no faster (33 against 32 ms a clip), and posterize fails at level 10.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from videomae.config import AugmentConfig

FILL = (128, 128, 128)
"""What moves into the frame from outside."""
MOST = 10.0
"""The highest level."""
Frame = NDArray[np.uint8]
"""(H, W, 3)"""
Operation = Callable[[Frame, float], Frame]
"""Takes the level; a negative one means the operation's other direction, where it has two."""


def draw_operations(
    config: AugmentConfig, rng: np.random.Generator
) -> list[tuple[Operation, float]]:
    """The operations of one view, each with its level.

    config.rand_ops of them are drawn with replacement, and each is left out half the time.
    """
    drawn = []
    for _ in range(config.rand_ops):
        operation = OPERATIONS[rng.integers(len(OPERATIONS))]
        if rng.random() >= config.rand_prob:
            continue
        level = min(MOST, max(0.0, rng.normal(config.rand_level, config.rand_spread)))
        drawn.append((operation, -level if rng.random() < 0.5 else level))
    return drawn


def rand_augment(frames: Tensor, operations: list[tuple[Operation, float]]) -> Tensor:
    """A clip after these operations, each with its level: (T, H, W, 3) uint8 -> same."""
    done = np.empty(frames.shape, np.uint8)
    for source, target in zip(frames.numpy(), done, strict=True):
        frame = source
        for operation, level in operations:
            frame = operation(frame, level)
        target[...] = frame
    return torch.from_numpy(done)


def auto_contrast(frame: Frame, level: float) -> Frame:
    """Stretch each colour to the full range."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(frame)))


def equalize(frame: Frame, level: float) -> Frame:
    """Make all values of each colour about equally frequent."""
    return np.asarray(ImageOps.equalize(Image.fromarray(frame)))


def invert(frame: Frame, level: float) -> Frame:
    """Negative."""
    return 255 - frame


def posterize(frame: Frame, level: float) -> Frame:
    """Keep the highest 4 bits, at level 10 none."""
    bits = 4 - int(abs(level) / MOST * 4)
    return frame & np.uint8(256 - (1 << (8 - bits)) & 255)


def solarize(frame: Frame, level: float) -> Frame:
    """Invert the values from a threshold on, at level 10 all."""
    threshold = 256 - min(256, int(abs(level) / MOST * 256))
    return _map(frame, np.where(threshold <= VALUES, 255 - VALUES, VALUES))


def solarize_add(frame: Frame, level: float) -> Frame:
    """Add up to 110 to the dark half of the values."""
    lighter = np.minimum(255, VALUES + min(128, int(abs(level) / MOST * 110)))
    return _map(frame, np.where(VALUES < 128, lighter, VALUES))


def color(frame: Frame, level: float) -> Frame:
    """Towards grey, or away from it."""
    picture = Image.fromarray(frame)
    return np.asarray(Image.blend(picture.convert("L").convert("RGB"), picture, _factor(level)))


def contrast(frame: Frame, level: float) -> Frame:
    """Towards the mean grey, or away from it."""
    grey = np.asarray(Image.fromarray(frame).convert("L"))
    return _map(frame, _blended(int(grey.mean() + 0.5), level))


def brightness(frame: Frame, level: float) -> Frame:
    """Towards black, or away from it."""
    return _map(frame, _blended(0, level))


def sharpness(frame: Frame, level: float) -> Frame:
    """Towards the smoothed picture, or away from it."""
    smooth = frame.copy()  # its edge stays
    # Pillow's SMOOTH: the mean of 3 x 3 pixels, of which the middle one counts five times.
    rows = frame[:-2].astype(np.uint16) + frame[1:-1] + frame[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    sums += 4 * frame[1:-1, 1:-1].astype(np.uint16)
    smooth[1:-1, 1:-1] = (2 * sums + 13) // 26
    return np.asarray(Image.blend(Image.fromarray(smooth), Image.fromarray(frame), _factor(level)))


def rotate(frame: Frame, level: float) -> Frame:
    """By up to 30 degrees about the middle, counter-clockwise."""
    angle = level / MOST * 30
    return np.asarray(
        Image.fromarray(frame).rotate(angle, Image.Resampling.BICUBIC, fillcolor=FILL)
    )


def shear_x(frame: Frame, level: float) -> Frame:
    """By up to 0.3, along the rows."""
    return _affine(frame, (1, level / MOST * 0.3, 0, 0, 1, 0))


def shear_y(frame: Frame, level: float) -> Frame:
    """By up to 0.3, along the columns."""
    return _affine(frame, (1, 0, 0, level / MOST * 0.3, 1, 0))


def translate_x(frame: Frame, level: float) -> Frame:
    """By up to 0.45 of the width."""
    return _affine(frame, (1, 0, level / MOST * 0.45 * frame.shape[1], 0, 1, 0))


def translate_y(frame: Frame, level: float) -> Frame:
    """By up to 0.45 of the height."""
    return _affine(frame, (1, 0, 0, 0, 1, level / MOST * 0.45 * frame.shape[0]))


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


VALUES = np.arange(256)
"""Of a pixel's colour."""


def _map(frame: Frame, table: NDArray[np.integer]) -> Frame:
    """table[value] of every value."""
    mapped = frame.tobytes().translate(table.astype(np.uint8).tobytes())
    return np.frombuffer(mapped, np.uint8).reshape(frame.shape)


def _factor(level: float) -> float:
    """How far a blend goes: 0.1 to 1.9 of the way, 1 at level 0."""
    return max(0.1, 1 + level / MOST * 0.9)


def _blended(start: int, level: float) -> NDArray[np.uint8]:
    """What a blend from one grey makes of each value."""
    ramp = Image.fromarray(VALUES.astype(np.uint8)[None])
    return np.asarray(Image.blend(Image.new("L", ramp.size, start), ramp, _factor(level)))[0]


def _affine(frame: Frame, matrix: tuple[float, float, float, float, float, float]) -> Frame:
    """The value at (x, y) is that at matrix @ (x, y, 1), in pixels, bicubically."""
    picture = Image.fromarray(frame)
    return np.asarray(
        picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            matrix,
            Image.Resampling.BICUBIC,
            fillcolor=FILL,
        )
    )
