"""Tubelets: cut a clip's pixels into them, and embed each as a token.

Tokens are numbered time-major everywhere: all of the first time step row by row, then the next.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """Gather the tokens at `indices`: (B, N, ...), (B, K) int64 -> (B, K, ...)."""
    shape = indices.shape + tokens.shape[2:]
    return tokens.gather(1, indices.view(*indices.shape, *[1] * (tokens.ndim - 2)).expand(shape))


def cut_tubelets(clip: Tensor, patch: int, tubelet: int) -> Tensor:
    """Cut a clip into tubelets: (B, 3, T, H, W) -> (B, N, tubelet * patch * patch, 3).

    N = (T / tubelet) * (H / patch) * (W / patch). Colour is last, as the decoder predicts it.
    """
    return rearrange(
        clip, "b c (t u) (h p) (w q) -> b (t h w) (u p q) c", u=tubelet, p=patch, q=patch
    )


def cut_frames(frames: Tensor, patch: int, tubelet: int) -> Tensor:
    """Cut decoded frames into tubelets of the same dtype.

    (B, T, H, W, 3) -> (B, N, tubelet * patch * patch, 3), with N and order as in `cut_tubelets`.
    """
    return rearrange(
        frames, "b (t u) (h p) (w q) c -> b (t h w) (u p q) c", u=tubelet, p=patch, q=patch
    )


class TubeletEmbed(nn.Module):
    """Embed any tubelets, in any order: (B, V, tubelet * patch * patch, 3) -> (B, V, D)."""

    def __init__(self, dim: int, patch: int, tubelet: int) -> None:
        super().__init__()
        size = (tubelet, patch, patch)
        self.proj = nn.Conv3d(3, dim, kernel_size=size, stride=size)

    def forward(self, tubelets: Tensor) -> Tensor:
        # The convolution's kernels do not overlap: it is a linear map of each tubelet.
        weight = rearrange(self.proj.weight, "d c u p q -> d (u p q c)")
        return F.linear(tubelets.flatten(2), weight, self.proj.bias)
