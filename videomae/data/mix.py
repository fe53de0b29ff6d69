"""Mixup, CutMix and random erasing of normalised clips, drawn on the CPU, done on the device.

One strength and one box hold for all frames of a clip, and for all views of a block of videos.
Within a block, groups of videos exchange their pixels.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import AugmentConfig, TrainConfig
from videomae.data.streams import Stream, random_stream

if TYPE_CHECKING:
    from videomae.data.augment import Box


class Mix(NamedTuple):
    """Which view each of V views is mixed with, and how."""

    partner: Tensor
    """(V,) int64: its place among the V."""
    own: Tensor
    """(V,) float32: the weight of its own pixels (mixup); 1 in CutMix."""
    box: Tensor
    """(V, 4) int64: top, left, height, width of what the partner puts there (CutMix); or empty."""
    label: Tensor
    """(V,) float32: the weight of its own label."""


def block_of(config: AugmentConfig, global_batch: int) -> int:
    """Videos in a block: as many as asked for, or the most below that divide the global batch."""
    if not (config.mixup or config.cutmix):
        return 1
    return max(d for d in range(1, config.mix_block + 1) if global_batch % d == 0)


def group_of(block: int) -> int:
    """Videos of a block that are mixed with one another, which a micro-batch must not part.

    Pairs where the block is even. An odd block is one group: the views of its middle video are
    mixed with each other, as in the source.
    """
    return 2 if block % 2 == 0 else block


class Mixing:
    """Draws of mixup and CutMix, a function of (seed, step, place in the global batch).

    The views of a block of videos are mixed at one strength: the first of a group's views with its
    last, and so on. Source: timm's Mixup in batch mode, as VideoMAE V2 uses it, where a block is
    what one GPU takes in, and one group. In even blocks here neighbours are partners; the order of
    the videos is random, so every pair of them is as likely.
    """

    def __init__(
        self, config: AugmentConfig, block: int, frame: tuple[int, int], repeats: int, seed: int
    ) -> None:
        self.config = config
        self.block = block
        self.frame = frame
        self.repeats = repeats
        self.seed = seed

    def draw(self, step: int, first: int, valid: Tensor) -> Mix:
        """The mix of a micro-batch.

        Args:
            step: from 1.
            first: place of its first video in the global batch; whole groups follow.
            valid: (V,) bool: False where a video could not be read. Its views are mixed with none.
        """
        views, group = torch.arange(len(valid)), group_of(self.block) * self.repeats
        assert len(valid) % group == 0  # Plan.of has checked it
        partner = views.view(-1, group).flip(1).flatten()
        blocks = (first + views // self.repeats) // self.block
        numbers, sizes = blocks.unique_consecutive(return_counts=True)
        streams = (random_stream(self.seed, Stream.mix, step, each) for each in numbers.tolist())
        owns, boxes, labels = zip(*map(self._strength, streams), strict=True)
        own = torch.tensor(owns, dtype=torch.float32).repeat_interleave(sizes)
        box = torch.tensor(boxes).repeat_interleave(sizes, 0)
        label = torch.tensor(labels, dtype=torch.float32).repeat_interleave(sizes)
        alone = ~(valid & valid[partner])
        own[alone], label[alone], box[alone] = 1.0, 1.0, 0
        return Mix(partner, own, box, label)

    def _strength(self, rng: np.random.Generator) -> "tuple[float, Box, float]":
        """Weight of the own pixels, box of the partner's, weight of the own label."""
        config, empty = self.config, (0, 0, 0, 0)
        if rng.random() >= config.mix_prob:
            return 1.0, empty, 1.0
        both = config.mixup > 0 and config.cutmix > 0
        cut = rng.random() < config.switch_prob if both else config.cutmix > 0
        if not cut:
            own = float(rng.beta(config.mixup, config.mixup))
            return own, empty, own
        share = float(rng.beta(config.cutmix, config.cutmix))
        height, width = self.frame
        sides = [int(side * math.sqrt(1 - share)) for side in self.frame]
        middle = int(rng.integers(height)), int(rng.integers(width))
        top, left = (max(0, m - side // 2) for m, side in zip(middle, sides, strict=True))
        bottom, right = (
            min(most, m + side // 2)
            for m, side, most in zip(middle, sides, self.frame, strict=True)
        )
        box = (top, left, bottom - top, right - left)
        return 1.0, box, 1 - box[2] * box[3] / (height * width)


def mixing_of(config: TrainConfig) -> Mixing | None:
    """Return what draws mixup and CutMix in a run; None: it has neither."""
    augment, data = config.augment, config.data
    if not (augment.mixup or augment.cutmix):
        return None
    block = block_of(augment, config.optim.global_batch)
    return Mixing(augment, block, data.clip.frame, data.repeats, config.seed)


def erase(clip: Tensor, box: Tensor) -> Tensor:
    """Normal noise in the box of each view, another in each frame: (V, 3, T, H, W), (V, 4)."""
    return torch.where(inside(box, clip), torch.randn_like(clip), clip)


def mixed(clip: Tensor, mix: Mix) -> Tensor:
    """Mixed views: (V, 3, T, H, W) -> same."""
    other = clip[mix.partner]
    own = mix.own[:, None, None, None, None]
    return torch.where(inside(mix.box, clip), other, own * clip + (1 - own) * other)


def inside(box: Tensor, clip: Tensor) -> Tensor:
    """Whether a pixel lies in its view's box: (V, 4) -> (V, 1, 1, H, W) bool."""
    top, left, height, width = box[:, :, None].unbind(1)  # each (V, 1)
    rows = torch.arange(clip.shape[-2], device=clip.device)
    columns = torch.arange(clip.shape[-1], device=clip.device)
    row = (rows >= top) & (rows < top + height)
    column = (columns >= left) & (columns < left + width)
    return (row[:, :, None] & column[:, None, :])[:, None, None]
