"""From pixels to tokens: tubelets, their embedding, their positions.

Tokens are numbered time-major everywhere: all of the first time step row by row, then the next.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videomae.config import Positions


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """The tokens at `indices`: (B, N, ...), (B, K) int64 -> (B, K, ...)."""
    shape = indices.shape + tokens.shape[2:]
    return tokens.gather(1, indices.view(*indices.shape, *[1] * (tokens.ndim - 2)).expand(shape))


def position_table(kind: Positions, grid: tuple[int, int, int], dim: int) -> Tensor:
    """The fixed position of each token: (1, N, D) float32, computed in float64.

    sincos_1d is over the token's number. Source: VideoMAE, after "Attention is all you need".
    sincos_3d gives 3/8 of the columns to the row, 3/8 to the column and the rest to the time step,
    each over its own coordinate with base 100; small models on small grids learn faster with it.
    """
    if kind is Positions.sincos_1d:
        number = torch.arange(math.prod(grid), dtype=torch.float64)
        return _sincos(number, dim, base=10_000).float()[None]
    space = dim * 3 // 16 * 2  # even
    axes = (torch.arange(count, dtype=torch.float64) for count in grid)
    time, row, column = (axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij"))
    parts = ((time, dim - 2 * space), (row, space), (column, space))
    return torch.cat([_sincos(axis, columns, base=100) for axis, columns in parts], 1).float()[None]


def _sincos(number: Tensor, dim: int, base: float) -> Tensor:
    """(N, dim): sine of number / base^(2i/dim) in column 2i, its cosine in column 2i + 1."""
    rate = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = number[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def cut_tubelets(clip: Tensor, patch: int, tubelet: int) -> Tensor:
    """A clip's pixels by token: (B, 3, T, H, W) -> (B, N, tubelet * patch * patch, 3).

    N = (T / tubelet) * (H / patch) * (W / patch); colour last, as the decoder predicts it.
    """
    return rearrange(
        clip, "b c (t u) (h p) (w q) -> b (t h w) (u p q) c", u=tubelet, p=patch, q=patch
    )


class TubeletEmbed(nn.Module):
    """Embed tubelets, any of them in any order: (B, V, tubelet * patch * patch, 3) -> (B, V, D)."""

    def __init__(self, dim: int, patch: int, tubelet: int) -> None:
        super().__init__()
        size = (tubelet, patch, patch)
        self.proj = nn.Conv3d(3, dim, kernel_size=size, stride=size)

    def forward(self, tubelets: Tensor) -> Tensor:
        # The convolution's kernels do not overlap: it is a linear map of each tubelet.
        weight = rearrange(self.proj.weight, "d c u p q -> d (u p q c)")
        return F.linear(tubelets.flatten(2), weight, self.proj.bias)
