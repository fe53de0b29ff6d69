"""Settings of the commands pretrain, finetune and evaluate."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.augment import AugmentConfig
from videomae.config.data import CLASS, MULTILABEL, REGRESSION, DataConfig
from videomae.config.lists import ListConfig
from videomae.config.mask import MaskConfig, check_mask
from videomae.config.model import ModelConfig, token_grid
from videomae.config.optim import OptimConfig
from videomae.config.run import RunConfig
from videomae.config.settings import (
    USES,
    all_settings,
    check,
    check_bounds,
    check_name,
    check_seed,
    find,
    setting,
)

SCRATCH = "scratch"
"""Value of `weights` that means random weights."""


class WhichWeights(Enum):
    """The weights that a fine-tuning can test.

    last: those after the last step; best: those with the best result on data.val_list,
    its top-1 or the first metric of another data.target.
    """

    last = "last"
    best = "best"


@dataclass(frozen=True)
class TrainConfig:
    """Settings that pre-training and fine-tuning share."""

    model: ModelConfig = setting(from_weights_in=("evaluate",))
    data: DataConfig = setting()
    augment: AugmentConfig = setting(no_effect_in=USES)
    optim: OptimConfig = setting(no_effect_in=USES)
    run: RunConfig = setting(may_change=True)
    name: str = setting("unnamed", may_change=True)
    """Name of the run; every exp sets one."""
    output_dir: str = setting("outputs/${name}", is_path=True, may_change=True, often=True)
    """Output directory of the run; see docs/run_directory.md."""
    seed: int = setting(0, on_page=True, often=True, no_effect_in=USES)
    """Random seed of everything that is random in a run."""
    max_steps: int | None = setting(
        None, at_least=1, may_change=True, on_page=True, often=True, no_effect_in=USES
    )
    """Step after which training stops with a checkpoint; the schedule still spans optim.epochs.
    null: no such limit."""
    resume: str = setting("never", is_path=True, may_change=True, often=True, no_effect_in=USES)
    """Checkpoint to resume from. never: start a new run; auto: the newest checkpoint of output_dir,
    if there is one; or the path of a checkpoint."""
    overwrite: bool = setting(False, may_change=True, often=True)
    """Whether a new run replaces the run that output_dir already holds."""
    weights: str | None = setting(
        None,
        is_path=True,
        example="/path/to/weights.safetensors",
        may_change=True,
        on_page=True,
        often=True,
    )
    """Weights to start from, of any released kind; see docs/weights.md."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_seed(self.seed)
        check_bounds(self)
        if self.data.videos is None:  # else the warm-up is fitted to the epochs
            self.optim.check_warmup()
        token_grid(self.model, self.data.clip)


@dataclass(frozen=True)
class EpochProbeConfig(ListConfig):
    """Settings of the k-NN probe during pre-training, which does not change the training."""

    every_epochs: int = setting(0, at_least=0)
    """Number of epochs between two k-NN probes; 0: no probe."""
    test_list: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/test.txt"
    )
    """Labelled clip list of the videos that the probe classifies; their neighbours are the videos
    of probe.train_list."""
    classes: int | None = setting(None, at_least=2, example="101")
    """How many classes the labels have."""
    k: int = setting(20, at_least=1)
    """Number of nearest neighbours that vote."""

    def __post_init__(self) -> None:
        self.check_lines("probe")


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """Settings of python -m videomae.pretrain."""

    name: str = setting("pretrain", may_change=True)
    """The run's name; every exp of a recipe sets one."""
    mask: MaskConfig = setting(kw_only=True)
    probe: EpochProbeConfig = setting(factory=EpochProbeConfig, may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mask(self.mask, token_grid(self.model, self.data.clip))
        check(
            not self.data.hflip,
            "data.hflip must be false in pre-training, which never mirrors: give data.hflip=false",
        )
        check(
            self.data.target == CLASS,
            f"data.target={self.data.target} has no meaning in pre-training; leave it out",
        )
        own: type = type(self)
        for known in all_settings(own):
            check(
                not known.rules.finetuning_only or not find(self, known.key)[0],
                f"{known.key} has no meaning in pre-training; leave it at its default",
            )

    def required(self) -> list[str]:
        """Name the settings that pre-training cannot do without, unless data.videos makes lists."""
        parts = self.data.parts()
        return [f"{section}.{name}" for section in parts for name in ("train_list", "root")]


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Settings of python -m videomae.finetune."""

    name: str = setting("finetune", may_change=True)
    """The run's name; every exp of a recipe sets one."""
    head_map: str | None = setting(None, is_path=True, may_change=True)
    """JSON list whose entry i is the row of the weights' head that becomes class i; null: the head
    is kept, or replaced by a new one where the classes differ."""
    eval_every: int = setting(0, at_least=0, may_change=True, often=True, no_effect_in=USES)
    """Number of epochs between two evaluations on data.val_list, with one centre view of each
    video; 0: no evaluation."""
    test_weights: WhichWeights = setting(WhichWeights.last, may_change=True, no_effect_in=USES)
    """Weights that are evaluated on data.test_list at the end: last or best."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data.check_no_sources()
        check(
            self.eval_every > 0 or self.test_weights is WhichWeights.last,
            "test_weights=best needs eval_every=1, or more, and data.val_list to choose them on",
        )
        check(
            self.data.target != REGRESSION or self.optim.label_smoothing == 0,
            f"optim.label_smoothing={self.optim.label_smoothing} is for classes, not for "
            f"data.target={REGRESSION}: give optim.label_smoothing=0",
        )

    def required(self) -> list[str]:
        """Name the settings that fine-tuning cannot do without, unless data.videos makes lists."""
        val = ["data.val_list"] if self.eval_every else []
        classes = ["data.classes"] if self.data.target in (CLASS, MULTILABEL) else []
        return ["data.train_list", *val, "data.test_list", "data.root", *classes, "weights"]


@dataclass(frozen=True)
class EvaluateConfig(FinetuneConfig):
    """Settings of python -m videomae.evaluate: those of a fine-tuning, so that it takes the exps of
    one. Model, clip, sampling and classes are those of the weights."""

    name: str = setting("evaluate", may_change=True)
    """Name of the evaluation; every exp of a recipe sets one. Without one, and without an exp, it
    is that of the run whose directory weights= names."""

    weights: str | None = setting(
        None,
        is_path=True,
        example="/path/to/weights.safetensors",
        may_change=True,
        on_page=True,
        often=True,
    )
    """Weights of a fine-tuned classifier to evaluate, of any released kind; see docs/weights.md."""
    output_dir: str = setting(
        "outputs/${name}/evaluation", is_path=True, may_change=True, often=True
    )
    """Output directory of the results. Without a name, and without an exp, it is evaluation/ in the
    directory of the run that weights= names."""

    def __post_init__(self) -> None:
        check_name(self.name)
        self.data.check_no_sources()
        self.data.check_no_videos()

    def required(self) -> list[str]:
        """Name the settings that an evaluation cannot do without."""
        return ["data.test_list", "data.root", "weights"]
