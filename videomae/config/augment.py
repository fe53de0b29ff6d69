"""Settings of data augmentation: crops, RandAugment, Mixup, CutMix, random erasing."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, setting


class CropKind(Enum):
    """The ways to choose a training crop; videomae.data.augment explains them."""

    multi_scale = "multi_scale"
    random_resized = "random_resized"


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of data augmentation: how training views are cropped, changed and mixed."""

    crop: CropKind
    """Kind of random crop. multi_scale: for pre-training; random_resized: for fine-tuning."""
    antialias: bool
    """Whether resizing to a smaller size averages the source pixels (antialiasing). VideoMAE's own
    code does so in pre-training."""
    scales: list[float] = setting(factory=lambda: [1.0, 0.875, 0.75, 0.66])
    """Crop sides for crop=multi_scale, as shares of the frame's short side, largest first."""
    area: list[float] = setting(factory=lambda: [0.08, 1.0])
    """Smallest and largest crop area for crop=random_resized, as shares of the frame's area."""
    aspect: list[float] = setting(factory=lambda: [3 / 4, 4 / 3])
    """Smallest and largest aspect ratio (width / height) for crop=random_resized."""
    rand_ops: int = setting(0, at_least=0, finetuning_only=True)
    """Number of RandAugment operations drawn for each view; 0: no RandAugment."""
    rand_prob: float = setting(0.5, at_least=0, at_most=1)
    """Probability that a drawn RandAugment operation is applied."""
    rand_level: float = setting(7.0, at_least=0, at_most=10)
    """Mean strength of the RandAugment operations, from 0 to 10."""
    rand_spread: float = setting(0.5, at_least=0)
    """Standard deviation of the strength of the RandAugment operations."""
    mixup: float = setting(0.0, at_least=0, finetuning_only=True)
    """Mixup alpha: a view's own weight is drawn from Beta(alpha, alpha); 0: no Mixup."""
    cutmix: float = setting(0.0, at_least=0, finetuning_only=True)
    """CutMix alpha: the share of area that a view keeps is drawn from Beta(alpha, alpha); 0: no
    CutMix."""
    mix_prob: float = setting(1.0, at_least=0, at_most=1)
    """Probability that a block of videos is mixed (Mixup or CutMix)."""
    switch_prob: float = setting(0.5, at_least=0, at_most=1)
    """Probability of CutMix, rather than Mixup, where both are on."""
    mix_block: int = setting(2, at_least=1)
    """Number of videos that are mixed with one weight: the largest number up to this that divides
    the global batch. Each video is mixed with another one of its block; in a block of odd size the
    views of the middle video are mixed with each other. 1: each video's own views are mixed."""
    erase_prob: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True)
    """Probability that a view gets random erasing."""
    erase_area: list[float] = setting(factory=lambda: [0.02, 1 / 3])
    """Smallest and largest area for random erasing, as shares of the frame's area."""
    erase_aspect: list[float] = setting(factory=lambda: [0.3, 1 / 0.3])
    """Smallest and largest height / width for random erasing."""
    transform: str | None = setting(None, new=True, on_page=True)
    """Your own augmentation, as package.module:Name, in place of RandAugment, crop and mirroring;
    see docs/extending.md. Mixup, CutMix and random erasing are still done as set here."""

    def __post_init__(self) -> None:
        check_bounds(self, "augment")
        check(
            len(self.scales) > 0
            and all(0 < scale <= 1 for scale in self.scales)
            and self.scales == sorted(self.scales, reverse=True),
            f"augment.scales must be numbers in (0, 1], largest first, got {self.scales}",
        )
        _check_range("area", self.area, 1.0)
        _check_range("aspect", self.aspect, float("inf"))
        _check_range("erase_area", self.erase_area, 1.0)
        _check_range("erase_aspect", self.erase_aspect, float("inf"))


def _check_range(name: str, bounds: list[float], most: float) -> None:
    check(
        len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= most,
        f"augment.{name} must be two numbers, least and most, in (0, {most}], got {bounds}",
    )
