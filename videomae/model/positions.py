"""Where a token is: fixed or learned vectors, for any number of frames, height and width."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videomae.config import ClipConfig, ConfigError, ModelConfig, Positions, token_grid

Grid = tuple[int, int, int]
"""Tokens along time, height and width."""
MOST_POSITIONS = 2**26
"""Numbers in a table of positions: 20 times those of ViT-giant for 16 frames of 224 px."""


def register_positions(module: nn.Module, config: ModelConfig, clip: ClipConfig) -> None:
    """Give an encoder its pos_embed, (1, N, D): a parameter if learned, else not in its files."""
    if config.positions is Positions.learned:
        tokens = math.prod(token_grid(config, clip))
        module.pos_embed = nn.Parameter(torch.zeros(1, tokens, config.dim))
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
    else:
        module.register_buffer("pos_embed", fixed_positions(config, clip), persistent=False)


def fixed_positions(config: ModelConfig, clip: ClipConfig, *, decoder: bool = False) -> Tensor:
    """The fixed positions of the encoder's tokens, or of the decoder's: (1, N, D) float32.

    They are made for config.position_grid, and interpolated where the clip's tokens are others.
    """
    dim = config.decoder_dim if decoder else config.dim
    kind = config.positions
    if kind is Positions.learned:  # of the encoder only
        kind = Positions.sincos_1d
    grid = token_grid(config, clip)
    time, height, width = config.position_grid or grid
    made_for = (time, height, width)
    return interpolated(position_table(kind, made_for, dim), made_for, grid)


def check_positions(config: ModelConfig, clip: ClipConfig) -> None:
    """Check that a model's positions are of a size that can be.

    Raises:
        ConfigError: no memory is meant to hold them.
    """
    for grid in (token_grid(config, clip), config.position_grid or ()):
        _check_size(math.prod(grid), config.dim)
        _check_size(math.prod(grid), config.decoder_dim)


def _check_size(tokens: int, dim: int) -> None:
    if tokens * dim > MOST_POSITIONS:
        raise ConfigError(
            f"positions of {tokens:,} tokens, each {dim:,} wide, are more than {MOST_POSITIONS:,} "
            "numbers: choose clips of fewer frames or pixels"
        )


def position_table(kind: Positions, grid: Grid, dim: int) -> Tensor:
    """The fixed position of each token: (1, N, D) float32, computed in float64 on the CPU.

    sincos_1d is over the token's number. Source: VideoMAE, after "Attention is all you need".
    sincos_3d gives 3/8 of the columns to the row, 3/8 to the column and the rest to the time step,
    each over its own coordinate with base 100; small models on small grids learn faster with it.
    """
    _check_size(math.prod(grid), dim)
    if kind is Positions.sincos_1d:
        return _sincos(_numbers(math.prod(grid)), dim, base=10_000).float()[None]
    space = dim * 3 // 16 * 2  # even
    axes = torch.meshgrid(*map(_numbers, grid), indexing="ij")
    time, row, column = (axis.flatten() for axis in axes)
    parts = ((time, dim - 2 * space), (row, space), (column, space))
    return torch.cat([_sincos(axis, columns, base=100) for axis, columns in parts], 1).float()[None]


def interpolated(positions: Tensor, grid: Grid, to: Grid) -> Tensor:
    """Positions of one grid of tokens for another: (1, N, D) -> (1, N', D).

    Bicubic over each time step, then linear over time. Source: VideoMAE V2's fine-tuning, which
    does so to the fixed positions of 16 frames of 224 px as to those that a file holds.
    """
    t, h, w = grid
    if (h, w) != to[1:]:
        frames = rearrange(positions, "1 (t h w) d -> t d h w", t=t, h=h, w=w)
        frames = F.interpolate(frames, to[1:], mode="bicubic", align_corners=False)
        positions = rearrange(frames, "t d h w -> 1 (t h w) d")
    if t != to[0]:
        lines = rearrange(positions, "1 (t n) d -> n d t", t=t)
        lines = F.interpolate(lines, to[0], mode="linear", align_corners=False)
        positions = rearrange(lines, "n d t -> 1 (t n) d")
    return positions


def _numbers(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64, device="cpu")  # real on a meta device, too


def _sincos(number: Tensor, dim: int, base: float) -> Tensor:
    """(N, dim): sine of number / base^(2i/dim) in column 2i, its cosine in column 2i + 1."""
    rate = base ** (-_numbers(dim)[::2] / dim)
    angle = number[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
