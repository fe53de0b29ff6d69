"""Position embeddings of tokens, fixed or learned, for clips of any duration and size."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videomae.config import ClipConfig, ConfigError, ModelConfig, Positions, token_grid

Grid = tuple[int, int, int]
"""Number of tokens along time, height and width."""
MAX_POSITIONS = 2**26
"""Largest number of values in a position table: 20 times ViT-giant's for 16 frames of 224 px."""


def register_positions(module: nn.Module, config: ModelConfig, clip: ClipConfig) -> None:
    """Register `pos_embed`, (1, N, D), in an encoder: a parameter, or a buffer that is not saved.

    Learned positions are the parameter, fixed positions the buffer.
    """
    if config.positions is Positions.learned:
        tokens = math.prod(token_grid(config, clip))
        module.pos_embed = nn.Parameter(torch.zeros(1, tokens, config.dim))
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
    else:
        module.register_buffer("pos_embed", fixed_positions(config, clip), persistent=False)


def fixed_positions(config: ModelConfig, clip: ClipConfig, *, decoder: bool = False) -> Tensor:
    """Return the fixed positions of the encoder's or the decoder's tokens, (1, N, D) float32.

    They are computed for config.position_grid, and interpolated to the clip's grid if it differs.
    """
    dim = config.decoder_dim if decoder else config.dim
    kind = config.positions
    if kind is Positions.learned:  # the decoder's positions are fixed in any case
        kind = Positions.sincos_1d
    grid = token_grid(config, clip)
    time, height, width = config.position_grid or grid
    made_for = (time, height, width)
    return interpolated(position_table(kind, made_for, dim), made_for, grid)


def check_positions(config: ModelConfig, clip: ClipConfig) -> None:
    """Check that a model's position tables hold at most MAX_POSITIONS values.

    Raises:
        ConfigError: a table would hold more.
    """
    for grid in (token_grid(config, clip), config.position_grid or ()):
        _check_size(math.prod(grid), config.dim)
        _check_size(math.prod(grid), config.decoder_dim)


def _check_size(tokens: int, dim: int) -> None:
    if tokens * dim > MAX_POSITIONS:
        raise ConfigError(
            f"positions of {tokens:,} tokens, each {dim:,} wide, are more than {MAX_POSITIONS:,} "
            "numbers: choose clips of fewer frames or pixels"
        )


def position_table(kind: Positions, grid: Grid, dim: int) -> Tensor:
    """Return the fixed position of each token, (1, N, D) float32, computed in float64 on the CPU.

    sincos_1d encodes the token's number. Source: VideoMAE, after "Attention is all you need".
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
    """Interpolate positions from one token grid to another: (1, N, D) -> (1, N', D).

    The interpolation is bicubic within each time step, then linear over time. Source: VideoMAE V2's
    fine-tuning, for the fixed positions of 16 frames of 224 px and for positions from a file.
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
    return torch.arange(
        count, dtype=torch.float64, device="cpu"
    )  # even inside a meta device context


def _sincos(number: Tensor, dim: int, base: float) -> Tensor:
    """Return (N, dim): the sine of number / base^(2i/dim) in column 2i, its cosine in 2i + 1."""
    rate = base ** (-_numbers(dim)[::2] / dim)
    angle = number[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
