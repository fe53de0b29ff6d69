"""What the tests of the models share: a small geometry, random parameters, tokens found by hand."""

import torch
from torch import Tensor, nn

from videomae.config import ClipConfig, ModelConfig

CONFIG = ModelConfig(
    name="small",
    dim=16,
    depth=3,
    heads=2,
    mlp_dim=24,
    patch=4,
    decoder_dim=8,
    decoder_heads=4,
    decoder_mlp_dim=12,
    decoder_depth=2,
)
CLIP = ClipConfig(frames=4, stride=3, size=12)
GRID = (2, 3, 3)
TOKENS = 18


def random_clip(batch: int = 2, seed: int = 0, clip: ClipConfig = CLIP) -> Tensor:
    """(B, 3, T, H, W) of about the spread of normalised pixels."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, clip.frames, clip.size, clip.size, generator=rng)


def random_mask(num_masked: int, batch: int = 2, seed: int = 0) -> Tensor:
    """(B, N) bool with `num_masked` True in every row, in other places in each."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(batch, TOKENS, generator=rng).argsort(1) < num_masked


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Every parameter at random, biases and norms too, so that none is lost unnoticed."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.3)


def block(pixels: Tensor, token: int, patch: int = CONFIG.patch, tubelet: int = 2) -> Tensor:
    """The pixels of one token: (..., T, H, W) -> a view (..., tubelet, patch, patch)."""
    height, width = pixels.shape[-2] // patch, pixels.shape[-1] // patch
    time, place = divmod(token, height * width)
    row, column = divmod(place, width)
    return pixels[
        ...,
        time * tubelet : (time + 1) * tubelet,
        row * patch : (row + 1) * patch,
        column * patch : (column + 1) * patch,
    ]


def paint(clip: Tensor, mask: Tensor, value: float) -> Tensor:
    """A copy of the clips in which the tokens that `mask` (B, N) marks have this value."""
    painted = clip.clone()
    for row, tokens in enumerate(mask):
        for token in tokens.nonzero().flatten().tolist():
            block(painted[row], token).fill_(value)
    return painted
