"""What hides tokens from the encoder and from the decoder."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, setting


class MaskKind(Enum):
    """What hides tokens from the encoder; see videomae.data.mask."""

    tube = "tube"
    random = "random"


@dataclass(frozen=True)
class MaskConfig:
    """What the encoder does not see, and what the decoder need not rebuild."""

    kind: MaskKind = setting(on_page=True)
    """tube: the same places in every time step; random: any tokens."""
    ratio: float = setting(above=0, below=1, on_page=True)
    """Share of the tokens hidden from the encoder (rounded down)."""
    decoder_ratio: float = setting(on_page=True)
    """Share of the tokens dropped for the decoder by the running cell: 0.25, 0.5 or 0.75.
    0: none is dropped, the decoder rebuilds all that the encoder did not see."""

    def __post_init__(self) -> None:
        check_bounds(self, "mask")
        check(
            self.decoder_ratio in (0, 0.25, 0.5, 0.75),
            "mask.decoder_ratio must be 0, 0.25, 0.5 or 0.75 (a running cell holds four tokens), "
            f"got {self.decoder_ratio}",
        )


def check_mask(mask: MaskConfig, grid: tuple[int, int, int], section: str = "mask.") -> None:
    """Check that masking leaves the encoder and the decoder something to do.

    Args:
        section: what the settings' names start with.

    Raises:
        ConfigError: the ratio hides nothing or everything, or the running cell does not tile.
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
