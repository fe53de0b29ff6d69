"""Masks over the tokens of a clip: (N,) bool, time-major, True = masked."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from videomae.config import MaskConfig, MaskKind

Grid = tuple[int, int, int]
"""Number of tokens along time, height and width."""


@dataclass(frozen=True)
class Masking:
    """The random masks of a view, as the configuration defines them for a token grid."""

    config: MaskConfig
    grid: Grid

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw the encoder mask and the decoder mask, both (N,) bool, True = masked.

        The decoder mask is None if config.decoder_ratio is 0.
        """
        make = tube_mask if self.config.kind is MaskKind.tube else random_mask
        encoder_mask = make(self.grid, self.config.ratio, rng)
        if self.config.decoder_ratio == 0:
            return encoder_mask, None
        phase = int(rng.integers(4))
        return encoder_mask, running_cell_mask(self.grid, self.config.decoder_ratio, phase)

    def num_tokens(self) -> tuple[int, int]:
        """Return how many tokens the encoder sees and the decoder rebuilds, equal in all views."""
        hidden, dropped = self.draw(np.random.default_rng(0))
        decoded = hidden if dropped is None else ~dropped
        return int((~hidden).sum()), int(decoded.sum())


def tube_mask(grid: Grid, ratio: float, rng: np.random.Generator) -> Tensor:
    """Draw one spatial mask and repeat it at every time step (tube masking).

    So a masked patch is never visible at another time step.

    Returns:
        (N,) bool, time-major. True = masked: hidden from the encoder.
    """
    t, h, w = grid
    return random_mask((1, h, w), ratio, rng).repeat(t)


def random_mask(grid: Grid, ratio: float, rng: np.random.Generator) -> Tensor:
    """Draw a mask over all tokens, independent of their time step (random masking).

    Returns:
        (N,) bool, time-major. True = masked: hidden from the encoder.
    """
    t, h, w = grid
    num_masked = int(ratio * t * h * w)  # rounds down, as the released checkpoints did
    return torch.from_numpy(rng.permutation(t * h * w) < num_masked)


@cache  # there are four, and each is needed for every view
def running_cell_mask(grid: Grid, ratio: float, phase: int) -> Tensor:
    """Mask the same tokens in each cell of 2 x 2 tokens; the pattern rotates from step to step.

    Args:
        grid: height and width must be even.
        ratio: share of a cell that is masked: 0.25, 0.5 or 0.75.
        phase: which of the four patterns comes first; one is drawn for each view.

    Returns:
        (N,) bool, time-major. True = masked: the decoder does not rebuild it.

    Source: VideoMAE V2, running-cell masking of the decoder.
    """
    t, h, w = grid
    cell = torch.arange(4) < round(4 * ratio)
    steps = [cell.roll(-1 - phase - step).view(2, 2).repeat(h // 2, w // 2) for step in range(t)]
    return torch.stack(steps).flatten()
