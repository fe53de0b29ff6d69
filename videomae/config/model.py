"""Settings of the network: its sizes, its position embedding, and the token grid of a clip."""

import math
from dataclasses import dataclass
from enum import Enum

from videomae.config.clip import MOST_TOKENS, ClipConfig
from videomae.config.settings import check, check_bounds, setting


class Positions(Enum):
    """The kinds of position embedding; videomae.model.positions makes them."""

    sincos_1d = "sincos_1d"
    sincos_3d = "sincos_3d"
    learned = "learned"


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the vision transformer and of the decoder that pre-training adds to it."""

    name: str = setting(on_page=True)
    """Name of the model preset, for logs and reports."""
    dim: int = setting(at_least=1)
    """Width of the encoder: the size of its token embeddings."""
    depth: int = setting(at_least=1)
    """Number of transformer blocks of the encoder."""
    heads: int = setting(at_least=1)
    """Number of attention heads of the encoder."""
    mlp_dim: int = setting(at_least=1)
    """Hidden width of the encoder's MLPs."""
    patch: int = setting(at_least=1)
    """Height and width of a tubelet, in pixels."""
    decoder_dim: int = setting(at_least=1)
    """Width of the decoder: the size of its token embeddings."""
    decoder_heads: int = setting(at_least=1)
    """Number of attention heads of the decoder."""
    decoder_mlp_dim: int = setting(at_least=1)
    """Hidden width of the decoder's MLPs."""
    decoder_depth: int = setting(4, at_least=1)
    """Number of transformer blocks of the decoder."""
    tubelet: int = setting(2, at_least=1)
    """Number of frames of a tubelet."""
    norm_eps: float = setting(1e-6, above=0)
    """Epsilon of the blocks' LayerNorms and of the one after the encoder."""
    decoder_norm_eps: float = setting(1e-6, above=0)
    """Epsilon of the LayerNorm after the decoder."""
    fc_norm_eps: float = setting(1e-6, above=0)
    """Epsilon of a classifier's LayerNorm before the head."""
    positions: Positions = Positions.sincos_1d
    """Position embedding of the encoder. sincos_1d: sine-cosine of the token's number, as in all
    released models; sincos_3d: sine-cosine of its place in time, height and width; learned: a
    parameter."""
    position_grid: list[int] | None = None
    """Token grid (time, height, width) that the fixed position embedding is made for; for clips of
    another grid it is interpolated. null: the grid of the clip, or of the starting weights."""
    normalise_targets: bool = True
    """Whether the decoder's targets are pixels normalised within their tubelet, or plain pixels."""

    def __post_init__(self) -> None:
        check_bounds(self, "model")
        grid = self.position_grid
        check(
            grid is None or (len(grid) == 3 and min(grid) >= 1),
            f"model.position_grid must be three numbers of tokens, such as [8,14,14], got {grid}",
        )
        check(
            grid is None or self.positions is not Positions.learned,
            "model.position_grid is for fixed positions: leave it out with model.positions=learned",
        )
        for dim, heads in (("dim", "heads"), ("decoder_dim", "decoder_heads")):
            check(
                getattr(self, dim) % getattr(self, heads) == 0,
                f"model.{dim}={getattr(self, dim)} is not a multiple of "
                f"model.{heads}={getattr(self, heads)}",
            )
            check(
                getattr(self, dim) % 2 == 0,
                f"model.{dim}={getattr(self, dim)} must be even: positions are sine-cosine pairs",
            )


def token_grid(model: ModelConfig, clip: ClipConfig) -> tuple[int, int, int]:
    """Return the token grid of a clip: its numbers of tokens along time, height and width.

    Raises:
        ConfigError: the clip does not divide into whole tubelets.
    """
    check(
        clip.frames % model.tubelet == 0,
        f"data.clip.frames={clip.frames} is not a multiple of model.tubelet={model.tubelet}",
    )
    for key, pixels in zip(("size", "width"), clip.frame, strict=True):
        check(
            pixels % model.patch == 0,
            f"data.clip.{key}={pixels} is not a multiple of model.patch={model.patch}; "
            f"the nearest sizes are {pixels // model.patch * model.patch or model.patch} "
            f"and {(pixels // model.patch + 1) * model.patch}",
        )
    height, width = clip.frame
    grid = clip.frames // model.tubelet, height // model.patch, width // model.patch
    check(
        math.prod(grid) <= MOST_TOKENS,
        f"{clip} are {math.prod(grid)} tokens; no memory holds more than about {MOST_TOKENS}",
    )
    return grid
