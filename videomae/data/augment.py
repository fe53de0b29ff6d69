"""Crops of decoded frames. They stay uint8 and channels-last: (T, H, W, 3).

A crop is chosen as a box (top, left, height, width) in source pixels, the same for every frame.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from videomae.config import AugmentConfig, CropKind
from videomae.data.randaugment import Operation, draw_operations, rand_augment
from videomae.run.extensions import extension
from videomae.video.interface import frames_in_part

Box = tuple[int, int, int, int]
"""top, left, height, width, in pixels."""

# Where a multi-scale crop may lie, in quarters (down, right) of the free space.
CORNERS_AND_CENTRE = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
BETWEEN = [(2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
PLACES = CORNERS_AND_CENTRE + BETWEEN


def random_box(
    height: int,
    width: int,
    frame: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Box:
    """A training crop of that height and width, for a model that sees `frame`, height and width."""
    if config.crop is CropKind.multi_scale:
        return multi_scale_box(height, width, frame, config.scales, rng)
    aspect = [bound * frame[1] / frame[0] for bound in config.aspect]
    return random_resized_box(height, width, config.area, aspect, rng)


def multi_scale_box(
    height: int,
    width: int,
    frame: tuple[int, int],
    scales: list[float],
    rng: np.random.Generator,
) -> Box:
    """Pre-training's crop: sides from `scales` of the largest crop, at one of 13 places.

    The largest crop has the aspect of `frame`: the short side squared where that is square. The two
    sides are at most one scale apart; a side within 2 px of the frame's is taken as that, which
    needs no resizing. Source: VideoMAE V2, GroupMultiScaleCrop (for squares; it lets that rule
    reach past the edge, here it does not).
    """
    shrink = min(height / frame[0], width / frame[1])
    largest = min(height, round(frame[0] * shrink)), min(width, round(frame[1] * shrink))
    heights, widths = (
        _sides(most, wanted, scales) for most, wanted in zip(largest, frame, strict=True)
    )
    pairs = [(h, w) for i, h in enumerate(heights) for j, w in enumerate(widths) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[rng.integers(len(pairs))]
    down, right = PLACES[rng.integers(len(PLACES))]
    top, left = (height - crop_height) // 4 * down, (width - crop_width) // 4 * right
    return top, left, crop_height, crop_width


def _sides(largest: int, wanted: int, scales: list[float]) -> list[int]:
    """Lengths of a multi-scale crop's side, one for each scale."""
    sides = [max(1, int(largest * scale)) for scale in scales]
    return [wanted if abs(side - wanted) < 3 and wanted <= largest else side for side in sides]


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


def resize_crop(frames: Tensor, box: Box, view: Tensor, *, antialias: bool) -> None:
    """Fill `view` with the box of every frame, bilinearly resized.

    Args:
        frames: (T, H, W, 3) uint8.
        view: (T, height, width, 3) uint8, contiguous.
    """
    top, left, height, width = box
    crop = frames[:, top : top + height, left : left + width]
    size = view.shape[1:3]
    if (height, width) == size:
        view.copy_(crop)
        return
    # What F.interpolate calls, which cannot write to memory that is there.
    aten = torch.ops.aten
    resize = aten._upsample_bilinear2d_aa.out if antialias else aten.upsample_bilinear2d.out
    resize(crop.permute(0, 3, 1, 2), size, False, None, None, out=view.permute(0, 3, 1, 2))


class Augmentation(NamedTuple):
    """The operations that make a view of every frame of a clip."""

    operations: list[tuple[Operation, float]]
    """Operations of RandAugment, each with its level."""
    box: Box
    mirrored: bool
    antialias: bool

    def apply(self, frames: Tensor, view: Tensor) -> None:
        """Fill `view`, (T, height, width, 3), from frames, (T, H, W, 3), both uint8."""
        if self.operations:
            frames = rand_augment(frames, self.operations)
        resize_crop(frames, self.box, view, antialias=self.antialias)
        if self.mirrored:
            view.copy_(mirror(view))


def draw_augmentation(
    height: int,
    width: int,
    frame: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    hflip: bool,
) -> Augmentation:
    """Draw the augmentation of one training view of frames of that height and width.

    Args:
        frame: height and width that the model sees.
        hflip: whether it may be mirrored.
    """
    operations = draw_operations(config, rng)
    box = random_box(height, width, frame, config, rng)
    return Augmentation(operations, box, hflip and rng.random() < 0.5, config.antialias)


class ViewMaker(Protocol):
    """A drawn augmentation: it makes a view of the frames of one clip."""

    def apply(self, frames: Tensor, view: Tensor) -> None:
        """Fill a view from frames of the clip.

        It is called for some frames at a time, and perhaps twice for the same ones; so each frame
        must be changed in the same way, whichever come with it, and nothing may be drawn here.

        Args:
            frames: (T, H, W, 3) uint8, RGB, not to be written to.
            view: (T, height, width, 3) uint8, contiguous, which is filled.
        """


class DrawAugmentation(Protocol):
    """A function that augment.transform names: it draws the augmentation of a training view.

    What a view gets must be a function of the arguments: draw from `rng` alone, never from
    `random`, `numpy.random` or torch. Then a run that goes on sees the same views, whatever the
    number of its processes. It is called in decoding processes, once for each view of a video.
    """

    def __call__(
        self,
        height: int,
        width: int,
        frame: tuple[int, int],
        config: AugmentConfig,
        rng: np.random.Generator,
        *,
        hflip: bool,
    ) -> ViewMaker:
        """Draw the augmentation of one view.

        Args:
            height: of the video's frames, in pixels.
            width: of the video's frames, in pixels.
            frame: height and width that the model sees.
            config: the settings of the section augment.
            hflip: whether a mirrored video keeps its class.
        """


def augmentation_of(config: AugmentConfig) -> DrawAugmentation:
    """The function that augment.transform names, or that of this project.

    Raises:
        ConfigError: it cannot be imported.
    """
    if config.transform is None:
        return draw_augmentation
    found: DrawAugmentation = extension("augment.transform", config.transform)
    return found


def evaluation_crops(frames: Tensor, frame: tuple[int, int], crops: int) -> list[Tensor]:
    """`crops` crops along the side that is left over once the frame just covers `frame`.

    (T, H, W, 3) -> `crops` times (T, *frame, 3). One alone is centred. Not antialiased. A square is
    cut from the longer side once the short one fits. Source: VideoMAE V2, for squares.
    """
    _, height, width, _ = frames.shape
    if height * frame[1] <= width * frame[0]:  # as wide as wanted, or wider
        new_height, new_width = frame[0], max(frame[1], frame[0] * width // height)
    else:
        new_height, new_width = max(frame[0], frame[1] * height // width), frame[1]
    tops, lefts = _starts(new_height - frame[0], crops), _starts(new_width - frame[1], crops)
    found = [frames.new_empty(len(frames), *frame, 3) for _ in range(crops)]
    together = frames_in_part(3 * new_height * new_width)  # narrow frames become large ones
    for place in range(0, len(frames), together):
        some = frames[place : place + together]
        resized = frames.new_empty(len(some), new_height, new_width, 3)
        resize_crop(some, (0, 0, height, width), resized, antialias=False)
        for crop, top, left in zip(found, tops, lefts, strict=True):
            cut = resized[:, top : top + frame[0], left : left + frame[1]]
            crop[place : place + together] = cut
    return found


def _starts(spare: int, count: int) -> list[int]:
    """`count` places from 0 to `spare`, evenly spaced; one alone is in the middle."""
    return [int(spare / (count - 1) * k) for k in range(count)] if count > 1 else [spare // 2]


def erase_box(frame: tuple[int, int], config: AugmentConfig, rng: np.random.Generator) -> Box:
    """Draw the box that random erasing takes from a view, in pixels of the frame; empty: none.

    Source: Zhong et al., 2017, as in VideoMAE V2: ten tries for a box inside the frame.
    """
    if rng.random() >= config.erase_prob:
        return 0, 0, 0, 0
    height, width = frame
    low, high = (math.log(bound) for bound in config.erase_aspect)
    for _ in range(10):
        pixels = height * width * rng.uniform(config.erase_area[0], config.erase_area[1])
        ratio = math.exp(rng.uniform(low, high))
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < h < height and 0 < w < width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    return 0, 0, 0, 0


def mirror(frames: Tensor) -> Tensor:
    """Left becomes right: (T, H, W, 3) -> same."""
    return torch.flip(frames, dims=(2,))
