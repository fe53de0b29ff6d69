"""From pixels to tokens: tubelets, their embedding, their positions.

Tokens are numbered time-major everywhere: all of the first time step row by row, then the next.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """The tokens at `indices`: (B, N, ...), (B, K) int64 -> (B, K, ...)."""
    shape = indices.shape + tokens.shape[2:]
    return tokens.gather(1, indices.view(*indices.shape, *[1] * (tokens.ndim - 2)).expand(shape))


def sincos_positions(num_tokens: int, dim: int) -> Tensor:
    """Fixed sine-cosine position of each token, (1, N, D), over the one-dimensional token number.

    Source: VideoMAE, after "Attention is all you need": angle n / 10000^(2i/D), sine at column 2i
    and cosine at 2i + 1. Computed in float64, returned in float32.
    """
    number = torch.arange(num_tokens, dtype=torch.float64)
    rate = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = number[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).float()[None]


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
