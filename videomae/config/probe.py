"""Probes of a frozen encoder."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.data import DataConfig
from videomae.config.model import ModelConfig
from videomae.config.run import RunConfig
from videomae.config.settings import check, check_bounds, check_name, check_seed, setting
from videomae.config.use import BothHeadsConfig


class ProbeKind(Enum):
    """What is fitted on frozen features; see videomae.evaluation.probes."""

    knn = "knn"
    linear = "linear"
    attentive = "attentive"


@dataclass(frozen=True)
class ProbesConfig:
    """What is fitted on the features of a frozen encoder, and how."""

    kinds: list[ProbeKind] = setting(factory=lambda: list(ProbeKind), often=True)
    """Any of knn, linear, attentive."""
    views: int = setting(1, at_least=1)
    """Views of a training video, evenly spaced in time; of a test video the middle one is taken."""
    k: int = setting(20, at_least=1)
    """knn: neighbours that vote."""
    temperature: float = setting(0.07, above=0)
    """knn: a neighbour's vote weighs exp(cosine similarity / temperature)."""
    lrs: list[float] = setting(factory=lambda: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
    """Learning rates that are tried; the best on a held-out fifth of the training list is taken."""
    linear_epochs: int = setting(100, at_least=1)
    """Passes of the linear probe over the training features."""
    attentive_epochs: int = setting(20, at_least=1)
    """Passes of the attentive probe over the training features."""
    min_steps: int = setting(1000, at_least=1)
    """A short training list is passed over more often, until there are so many steps."""
    batch: int = setting(64, at_least=1)
    """Views per step."""
    weight_decay: float = setting(0.01, at_least=0)
    """Weight decay of AdamW."""

    def __post_init__(self) -> None:
        check_bounds(self, "probe")
        check(
            len(self.lrs) > 0 and min(self.lrs) > 0,
            f"probe.lrs must be rates above 0, at least one, got {self.lrs}",
        )
        check(
            len(self.kinds) > 0,
            f"probe.kinds must name at least one of {', '.join(kind.name for kind in ProbeKind)}",
        )


@dataclass(frozen=True)
class ProbeConfig(BothHeadsConfig):
    """python -m videomae.probe"""

    model: ModelConfig = setting(kw_only=True)
    data: DataConfig = setting(kw_only=True)
    run: RunConfig = setting(kw_only=True)
    probe: ProbesConfig = setting(factory=ProbesConfig)
    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights of any released kind; scratch: a random encoder, as model= says."""
    name: str = "probe"
    """The result's name."""
    output_dir: str = setting("outputs/${name}", is_path=True, often=True)
    """Where results.json and the features are written."""
    seed: int = 0
    """Draws the held-out fifth, the order of the features and the new heads."""
    overwrite: bool = setting(False, often=True)
    """Replace the results that output_dir holds; its features are kept."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_seed(self.seed)
        self.data.check_no_videos()
