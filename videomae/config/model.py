"""The network: its sizes, its positions, and how many tokens a clip becomes."""

import math
from dataclasses import dataclass
from enum import Enum

from videomae.config.clip import MOST_TOKENS, ClipConfig
from videomae.config.settings import check, check_bounds, setting


class Positions(Enum):
    """The table that tells tokens apart; see videomae.model.positions."""

    sincos_1d = "sincos_1d"
    sincos_3d = "sincos_3d"
    learned = "learned"


@dataclass(frozen=True)
class ModelConfig:
    """A vision transformer over tubelets, and the decoder that pre-training adds to it."""

    name: str = setting(on_page=True)
    """The preset's name, for people."""
    dim: int = setting(at_least=1)
    """Width of the encoder."""
    depth: int = setting(at_least=1)
    """Blocks of the encoder."""
    heads: int = setting(at_least=1)
    """Attention heads of the encoder."""
    mlp_dim: int = setting(at_least=1)
    """Hidden width of the encoder's MLPs."""
    patch: int = setting(at_least=1)
    """Side of a tubelet, in pixels."""
    decoder_dim: int = setting(at_least=1)
    """Width of the decoder."""
    decoder_heads: int = setting(at_least=1)
    """Attention heads of the decoder."""
    decoder_mlp_dim: int = setting(at_least=1)
    """Hidden width of the decoder's MLPs."""
    decoder_depth: int = setting(4, at_least=1)
    """Blocks of the decoder."""
    tubelet: int = setting(2, at_least=1)
    """Frames of a tubelet."""
    norm_eps: float = setting(1e-6, above=0)
    """Epsilon of the blocks' LayerNorms and of the one after the encoder."""
    decoder_norm_eps: float = setting(1e-6, above=0)
    """Epsilon of the LayerNorm after the decoder."""
    fc_norm_eps: float = setting(1e-6, above=0)
    """Epsilon of a classifier's LayerNorm before the head."""
    positions: Positions = Positions.sincos_1d
    """sincos_1d: over the token's number, as in all released models; sincos_3d: over its place;
    learned: the encoder's are parameters."""
    position_grid: list[int] | None = None
    """Tokens (time, height, width) that the fixed positions are made for; a clip of other tokens
    sees them interpolated. null: those of the clip, or of the starting weights."""
    normalise_targets: bool = True
    """Whether the decoder predicts pixels normalised within their tubelet, or plain ones."""

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
    """How many tokens a clip has along time, height and width.

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
