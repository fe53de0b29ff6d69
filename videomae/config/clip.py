"""What a model sees of one video."""

from dataclasses import dataclass

from videomae.config.settings import check, check_bounds, setting

MOST_TOKENS = 1_000_000
"""Of a clip; more is a slip, or a file that says what it likes."""


@dataclass(frozen=True)
class ClipConfig:
    """What the model sees of one video."""

    frames: int = setting(at_least=1, on_page=True)
    """Frames per clip."""
    stride: int = setting(at_least=1, on_page=True)
    """Source frames from one sampled frame to the next."""
    size: int = setting(at_least=1, on_page=True)
    """Height of what the model sees, in pixels, and its width where that is not given."""
    width: int | None = setting(None, at_least=1, on_page=True)
    """Width of what the model sees, in pixels; null: as high as wide."""

    def __post_init__(self) -> None:
        check_bounds(self, "data.clip")
        for name, value in (("frames", self.frames), ("size", self.size), ("width", self.width)):
            check(
                value is None or value <= MOST_TOKENS,
                f"data.clip.{name} must be at most {MOST_TOKENS}, got {value}",
            )

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.size, self.size if self.width is None else self.width

    def __str__(self) -> str:
        height, width = self.frame
        return f"{self.frames} frames of {height} x {width} px"
