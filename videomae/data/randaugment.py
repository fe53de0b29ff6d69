"""RandAugment on whole clips: every frame gets the same operations at the same strength.

Cubuk et al., 2020, https://arxiv.org/abs/1909.13719, as VideoMAE V2 uses it, which is timm's
`rand-m7-n4-mstd0.5-inc1`, bit by bit: 15 operations that grow stronger with the level, 0 to 10.

An operation takes one frame, (H, W, 3) uint8. All operations are applied to a frame while it is in
the processor's cache, which is faster than one operation after the other on the whole clip.

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
"""RGB colour that fills the parts of a frame from outside the source frame."""
MOST = 10.0
"""Highest level of an operation."""
Frame = NDArray[np.uint8]
"""A frame, (H, W, 3) uint8."""
Operation = Callable[[Frame, float], Frame]
"""Function of a frame and a level, -10 to 10; a negative level is the opposite direction, where the
operation has two."""


def draw_operations(
    config: AugmentConfig, rng: np.random.Generator
) -> list[tuple[Operation, float]]:
    """Draw the operations of one view, each with its level.

    config.rand_ops operations are drawn with replacement; each is kept with probability
    config.rand_prob.
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
    """Apply operations, each with its level, to a clip: (T, H, W, 3) uint8 -> the same shape."""
    done = np.empty(frames.shape, np.uint8)
    for source, target in zip(frames.numpy(), done, strict=True):
        frame = source
        for operation, level in operations:
            frame = operation(frame, level)
        target[...] = frame
    return torch.from_numpy(done)


def auto_contrast(frame: Frame, level: float) -> Frame:
    """Stretch each colour channel to the full range, 0 to 255."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(frame)))


def equalize(frame: Frame, level: float) -> Frame:
    """Equalize the histogram of each colour channel."""
    return np.asarray(ImageOps.equalize(Image.fromarray(frame)))


def invert(frame: Frame, level: float) -> Frame:
    """Invert all values: 255 - value."""
    return 255 - frame


def posterize(frame: Frame, level: float) -> Frame:
    """Keep the highest 4 bits of each value, fewer at a higher level, none at level 10."""
    bits = 4 - int(abs(level) / MOST * 4)
    return frame & np.uint8(256 - (1 << (8 - bits)) & 255)


def solarize(frame: Frame, level: float) -> Frame:
    """Invert the values from a threshold on; at level 10, all of them."""
    threshold = 256 - min(256, int(abs(level) / MOST * 256))
    return _map(frame, np.where(threshold <= VALUES, 255 - VALUES, VALUES))


def solarize_add(frame: Frame, level: float) -> Frame:
    """Add up to 110, at level 10, to the values below 128."""
    lighter = np.minimum(255, VALUES + min(128, int(abs(level) / MOST * 110)))
    return _map(frame, np.where(VALUES < 128, lighter, VALUES))


def color(frame: Frame, level: float) -> Frame:
    """Blend a frame with its greyscale version, or away from it."""
    picture = Image.fromarray(frame)
    return np.asarray(Image.blend(picture.convert("L").convert("RGB"), picture, _factor(level)))


def contrast(frame: Frame, level: float) -> Frame:
    """Blend a frame with its mean grey, or away from it."""
    grey = np.asarray(Image.fromarray(frame).convert("L"))
    return _map(frame, _blended(int(grey.mean() + 0.5), level))


def brightness(frame: Frame, level: float) -> Frame:
    """Blend a frame with black, or away from it."""
    return _map(frame, _blended(0, level))


def sharpness(frame: Frame, level: float) -> Frame:
    """Blend a frame with its smoothed version, or away from it."""
    smooth = frame.copy()  # its edge stays
    # Pillow's SMOOTH: the mean of 3 x 3 pixels, of which the middle one counts five times.
    rows = frame[:-2].astype(np.uint16) + frame[1:-1] + frame[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    sums += 4 * frame[1:-1, 1:-1].astype(np.uint16)
    smooth[1:-1, 1:-1] = (2 * sums + 13) // 26
    return np.asarray(Image.blend(Image.fromarray(smooth), Image.fromarray(frame), _factor(level)))


def rotate(frame: Frame, level: float) -> Frame:
    """Rotate a frame about its centre by up to 30 degrees, counter-clockwise for positive
    levels."""
    angle = level / MOST * 30
    return np.asarray(
        Image.fromarray(frame).rotate(angle, Image.Resampling.BICUBIC, fillcolor=FILL)
    )


def shear_x(frame: Frame, level: float) -> Frame:
    """Shear a frame horizontally by a factor of up to 0.3."""
    return _affine(frame, (1, level / MOST * 0.3, 0, 0, 1, 0))


def shear_y(frame: Frame, level: float) -> Frame:
    """Shear a frame vertically by a factor of up to 0.3."""
    return _affine(frame, (1, 0, 0, level / MOST * 0.3, 1, 0))


def translate_x(frame: Frame, level: float) -> Frame:
    """Translate a frame horizontally by up to 0.45 of its width."""
    return _affine(frame, (1, 0, level / MOST * 0.45 * frame.shape[1], 0, 1, 0))


def translate_y(frame: Frame, level: float) -> Frame:
    """Translate a frame vertically by up to 0.45 of its height."""
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
"""All values of a colour channel, (256,) int64."""


def _map(frame: Frame, table: NDArray[np.integer]) -> Frame:
    """Replace every value of a frame by table[value]; the table has 256 entries."""
    mapped = frame.tobytes().translate(table.astype(np.uint8).tobytes())
    return np.frombuffer(mapped, np.uint8).reshape(frame.shape)


def _factor(level: float) -> float:
    """Return the weight of the frame in a blend, 0.1 to 1.9; at level 0 it is 1, no change."""
    return max(0.1, 1 + level / MOST * 0.9)


def _blended(start: int, level: float) -> NDArray[np.uint8]:
    """Return the table of a blend with one grey value, (256,) uint8."""
    ramp = Image.fromarray(VALUES.astype(np.uint8)[None])
    return np.asarray(Image.blend(Image.new("L", ramp.size, start), ramp, _factor(level)))[0]


def _affine(frame: Frame, matrix: tuple[float, float, float, float, float, float]) -> Frame:
    """Transform a frame: the pixel (x, y) is that at matrix @ (x, y, 1), with bicubic
    interpolation."""
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
