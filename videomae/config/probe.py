"""Settings of probes: classifiers that are fitted on the features of a frozen encoder."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.data import CLASS, DataConfig
from videomae.config.model import ModelConfig
from videomae.config.run import RunConfig
from videomae.config.settings import check, check_bounds, check_name, check_seed, setting
from videomae.config.use import BothHeadsConfig


class ProbeKind(Enum):
    """The kinds of probe; videomae.evaluation.probes defines them."""

    knn = "knn"
    linear = "linear"
    attentive = "attentive"


@dataclass(frozen=True)
class ProbesConfig:
    """Settings of the probes of a frozen encoder, and of fitting them."""

    kinds: list[ProbeKind] = setting(factory=lambda: list(ProbeKind), often=True)
    """Kinds of probe to fit: any of knn, linear, attentive."""
    views: int = setting(1, at_least=1)
    """Number of views of a training video, evenly spaced in time; a test video has one, the middle
    one."""
    k: int = setting(20, at_least=1)
    """Number of nearest neighbours that vote (k-NN probe)."""
    temperature: float = setting(0.07, above=0)
    """Temperature of the k-NN probe: a vote has the weight exp(cosine similarity / temperature)."""
    lrs: list[float] = setting(factory=lambda: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
    """Learning rates to try for the linear and the attentive probe; the best one on a held-out
    fifth of the training videos is used."""
    linear_epochs: int = setting(100, at_least=1)
    """Number of epochs of the linear probe: passes over the training features."""
    attentive_epochs: int = setting(20, at_least=1)
    """Number of epochs of the attentive probe: passes over the training features."""
    min_steps: int = setting(1000, at_least=1)
    """Smallest number of steps of fitting: for a short training list, epochs are added until it is
    reached. A smaller one makes the attentive probe faster, which takes minutes on a CPU."""
    batch: int = setting(64, at_least=1)
    """Number of views per step of fitting."""
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
    """Settings of python -m videomae.probe, which fits probes on a frozen encoder."""

    model: ModelConfig = setting(kw_only=True)
    data: DataConfig = setting(kw_only=True)
    run: RunConfig = setting(kw_only=True)
    probe: ProbesConfig = setting(factory=ProbesConfig)
    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights to load, of any released kind; scratch: an encoder of model= with random weights."""
    name: str = "probe"
    """Name of the results, for reports."""
    output_dir: str = setting("outputs/${name}", is_path=True, often=True)
    """Output directory of results.json and of the features."""
    seed: int = 0
    """Random seed for the held-out videos, the order of the features and the initial heads."""
    overwrite: bool = setting(False, often=True)
    """Whether results in output_dir are replaced; the features there are kept."""

    def __post_init__(self) -> None:
        check(
            self.data.target == CLASS,
            f"data.target={self.data.target}: a probe needs one class of each video; "
            "python -m videomae.finetune learns others",
        )
        check_name(self.name)
        check_seed(self.seed)
        self.data.check_no_videos()
