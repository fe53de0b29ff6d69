"""Settings of a clip: the number of frames, their stride, height and width."""

from dataclasses import dataclass

from videomae.config.settings import check, check_bounds, setting

MOST_TOKENS = 1_000_000
"""Largest number of tokens of a clip: more is a typing error, or a malformed file."""


@dataclass(frozen=True)
class ClipConfig:
    """Size of the clips that a model takes: frames, stride, height and width."""

    frames: int = setting(at_least=1, on_page=True)
    """Number of frames of a clip."""
    stride: int = setting(at_least=1, on_page=True)
    """Distance between two frames of a clip, in frames of the video."""
    size: int = setting(at_least=1, on_page=True)
    """Height of a clip's frames, in pixels, and their width where data.clip.width is null."""
    width: int | None = setting(None, at_least=1, on_page=True)
    """Width of a clip's frames, in pixels; null: equal to the height."""

    def __post_init__(self) -> None:
        check_bounds(self, "data.clip")
        for name, value in (("frames", self.frames), ("size", self.size), ("width", self.width)):
            check(
                value is None or value <= MOST_TOKENS,
                f"data.clip.{name} must be at most {MOST_TOKENS}, got {value}",
            )

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of a frame, in pixels."""
        return self.size, self.size if self.width is None else self.width

    def __str__(self) -> str:
        height, width = self.frame
        return f"{self.frames} frames of {height} x {width} px"
