"""How training views are cut from the frames, changed and mixed."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, setting


class CropKind(Enum):
    """How a training crop is chosen; see videomae.data.augment."""

    multi_scale = "multi_scale"
    random_resized = "random_resized"


@dataclass(frozen=True)
class AugmentConfig:
    """How a training view is cut from the frames."""

    crop: CropKind
    """multi_scale: pre-training's; random_resized: fine-tuning's."""
    antialias: bool
    """Whether shrinking averages over the source pixels. The reference does so in pre-training."""
    scales: list[float] = setting(factory=lambda: [1.0, 0.875, 0.75, 0.66])
    """multi_scale: sides of the crop as shares of the frame's short side, largest first."""
    area: list[float] = setting(factory=lambda: [0.08, 1.0])
    """random_resized: least and most area of the crop, as shares of the frame's."""
    aspect: list[float] = setting(factory=lambda: [3 / 4, 4 / 3])
    """random_resized: least and most width over height of the crop."""
    rand_ops: int = setting(0, at_least=0, finetuning_only=True)
    """RandAugment: operations drawn for each view; 0: none."""
    rand_prob: float = setting(0.5, at_least=0, at_most=1)
    """RandAugment: chance of each of them to be done."""
    rand_level: float = setting(7.0, at_least=0, at_most=10)
    """RandAugment: mean of their level, from 0 to 10."""
    rand_spread: float = setting(0.5, at_least=0)
    """RandAugment: standard deviation of the level."""
    mixup: float = setting(0.0, at_least=0, finetuning_only=True)
    """Mixup: both parameters of the beta distribution of a view's own weight; 0: none."""
    cutmix: float = setting(0.0, at_least=0, finetuning_only=True)
    """CutMix: both parameters of the beta distribution of the share of a view's own area; 0: none.
    """
    mix_prob: float = setting(1.0, at_least=0, at_most=1)
    """Chance of a block of videos to be mixed."""
    switch_prob: float = setting(0.5, at_least=0, at_most=1)
    """Chance of CutMix where both are on."""
    mix_block: int = setting(2, at_least=1)
    """Videos that are mixed at one strength; the most up to this that divide the global batch. Of
    an even number each is mixed with a neighbour; of an odd one the middle video's views are mixed
    with each other. 1: the views of each video."""
    erase_prob: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True)
    """Random erasing: chance of each view."""
    erase_area: list[float] = setting(factory=lambda: [0.02, 1 / 3])
    """Random erasing: least and most area, as shares of the frame's."""
    erase_aspect: list[float] = setting(factory=lambda: [0.3, 1 / 0.3])
    """Random erasing: least and most height over width."""
    transform: str | None = setting(None, new=True)
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
