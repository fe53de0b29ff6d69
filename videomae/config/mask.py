"""Settings of masking: which tokens the encoder does not see and the decoder rebuilds."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, setting


class MaskKind(Enum):
    """The kinds of encoder mask; videomae.data.mask draws them."""

    tube = "tube"
    random = "random"


@dataclass(frozen=True)
class MaskConfig:
    """Settings of the encoder mask and of the decoder mask."""

    kind: MaskKind = setting(on_page=True)
    """Kind of encoder mask. tube: the same patches in every time step; random: any tokens."""
    ratio: float = setting(above=0, below=1, on_page=True)
    """Share of the tokens that are masked, that is, hidden from the encoder; their number is
    rounded down."""
    decoder_ratio: float = setting(on_page=True)
    """Share of the tokens that the decoder does not rebuild, chosen by running-cell masking: 0.25,
    0.5 or 0.75. 0: the decoder rebuilds all masked tokens."""

    def __post_init__(self) -> None:
        check_bounds(self, "mask")
        check(
            self.decoder_ratio in (0, 0.25, 0.5, 0.75),
            "mask.decoder_ratio must be 0, 0.25, 0.5 or 0.75 (a running cell holds four tokens), "
            f"got {self.decoder_ratio}",
        )


def check_mask(mask: MaskConfig, grid: tuple[int, int, int], section: str = "mask.") -> None:
    """Check that a mask fits the token grid: the encoder and the decoder both have tokens left.

    Args:
        grid: numbers of tokens along time, height and width.
        section: prefix of the settings' names in error messages.

    Raises:
        ConfigError: the ratio hides no token or all of them, or the grid does not divide into
            running cells of 2 x 2 tokens.
    """
    t, h, w = grid
    tokens = h * w if mask.kind is MaskKind.tube else t * h * w
    masked = int(mask.ratio * tokens)
    check(
        0 < masked < tokens,
        f"{section}ratio={mask.ratio} hides {masked} of {tokens} places; "
        "it must hide at least one and leave at least one",
    )
    check(
        mask.decoder_ratio == 0 or (h % 2 == 0 and w % 2 == 0),
        f"mask.decoder_ratio={mask.decoder_ratio} tiles the frame with cells of 2 x 2 tokens, "
        f"but the grid is {h} x {w}: choose data.clip.size / model.patch even, "
        "or mask=tube (no decoder mask)",
    )
