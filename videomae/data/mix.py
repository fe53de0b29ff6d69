"""Mixup, CutMix and random erasing of normalised clips: drawn on the CPU, applied on the device.

All frames of a clip, and all views of a block of videos, have one mixing strength and one box.
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
    """Partner, weights and box with which each of V views is mixed."""

    partner: Tensor
    """Index of the view that each view is mixed with, (V,) int64."""
    own: Tensor
    """Weight of each view's own pixels (mixup), (V,) float32; 1 in CutMix."""
    box: Tensor
    """Top, left, height and width of the partner's pixels (CutMix), (V, 4) int64; zeros: none."""
    label: Tensor
    """Weight of each view's own label, (V,) float32."""


def block_of(config: AugmentConfig, global_batch: int) -> int:
    """Return how many videos form a block: config.mix_block, or fewer if the batch needs it.

    A block divides the global batch. It is 1 if neither mixup nor CutMix is used.
    """
    if not (config.mixup or config.cutmix):
        return 1
    return max(d for d in range(1, config.mix_block + 1) if global_batch % d == 0)


def group_of(block: int) -> int:
    """Return how many videos of a block form a group, which a micro-batch must not split.

    Videos of a group are mixed with one another. An even block has groups of two. An odd block is
    one group: the views of its middle video are mixed with each other, as in the source.
    """
    return 2 if block % 2 == 0 else block


class Mixing:
    """Random draws of mixup and CutMix, which depend on (seed, step, place in the global batch).

    The views of a block of videos are mixed at one strength: the first view of a group with the
    last, and so on. Source: timm's Mixup in batch mode, as VideoMAE V2 uses it, where a block is
    one group: the batch of one GPU. In even blocks neighbours are partners here; the order of the
    videos is random, so every pair of videos is equally likely.
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
        """Draw the mix of a micro-batch.

        Args:
            step: the optimiser step, from 1.
            first: place of its first video in the global batch; whole groups follow.
            valid: (V,) bool, False where a video could not be read: its views are not mixed.
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
        """Draw the weight of the own pixels, the partner's box and the weight of the own label."""
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
    """Fill the box of each view with normal noise, other noise in every frame (random erasing).

    (V, 3, T, H, W), (V, 4) -> (V, 3, T, H, W)
    """
    return torch.where(inside(box, clip), torch.randn_like(clip), clip)


def mixed(clip: Tensor, mix: Mix) -> Tensor:
    """Mix views by mixup or CutMix: (V, 3, T, H, W) -> (V, 3, T, H, W)."""
    other = clip[mix.partner]
    own = mix.own[:, None, None, None, None]
    return torch.where(inside(mix.box, clip), other, own * clip + (1 - own) * other)


def inside(box: Tensor, clip: Tensor) -> Tensor:
    """Mark the pixels inside each view's box: (V, 4) -> (V, 1, 1, H, W) bool."""
    top, left, height, width = box[:, :, None].unbind(1)  # each (V, 1)
    rows = torch.arange(clip.shape[-2], device=clip.device)
    columns = torch.arange(clip.shape[-1], device=clip.device)
    row = (rows >= top) & (rows < top + height)
    column = (columns >= left) & (columns < left + width)
    return (row[:, :, None] & column[:, None, :])[:, None, None]
