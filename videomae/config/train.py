"""Pre-training, fine-tuning and evaluation, as whole commands."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.augment import AugmentConfig
from videomae.config.data import DataConfig
from videomae.config.lists import ListConfig
from videomae.config.mask import MaskConfig, check_mask
from videomae.config.model import ModelConfig, token_grid
from videomae.config.optim import OptimConfig
from videomae.config.run import RunConfig
from videomae.config.settings import (
    all_settings,
    check,
    check_bounds,
    check_name,
    check_seed,
    find,
    setting,
)


class WhichWeights(Enum):
    """last: of the last step; best: of the evaluation with the best top-1 on data.val_list."""

    last = "last"
    best = "best"


@dataclass(frozen=True)
class TrainConfig:
    """What pre-training and fine-tuning have in common."""

    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    optim: OptimConfig
    run: RunConfig = setting(may_change=True)
    name: str = setting("unnamed", may_change=True)
    """The run's name; every exp sets one."""
    output_dir: str = setting("outputs/${name}", is_path=True, may_change=True, often=True)
    """Where the run writes; see docs/run_directory.md."""
    seed: int = setting(0, on_page=True, often=True)
    """Everything random follows from it."""
    max_steps: int | None = setting(None, at_least=1, may_change=True, on_page=True, often=True)
    """Stop after this step, with a checkpoint; the schedule stays that of optim.epochs."""
    resume: str = setting("never", is_path=True, may_change=True, often=True)
    """never: start anew; auto: go on from the newest checkpoint, if any; or a checkpoint's path."""
    overwrite: bool = setting(False, may_change=True, often=True)
    """Let a new run replace the one that output_dir already holds."""
    weights: str | None = setting(
        None,
        is_path=True,
        example="/path/to/weights.safetensors",
        may_change=True,
        on_page=True,
        often=True,
    )
    """Starting weights of any released kind; see docs/weights.md."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_seed(self.seed)
        check_bounds(self)
        if self.data.videos is None:  # else the warm-up is fitted to the epochs
            self.optim.check_warmup()
        token_grid(self.model, self.data.clip)


@dataclass(frozen=True)
class EpochProbeConfig(ListConfig):
    """The k-NN probe of a pre-training under way; what is learned does not depend on it."""

    every_epochs: int = setting(0, at_least=0)
    """Epochs between two probes; 0: none."""
    test_list: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/test.txt"
    )
    """Labelled clip list that is classified; the neighbours are those of probe.train_list."""
    classes: int | None = setting(None, at_least=2, example="101")
    """How many classes the labels have."""
    k: int = setting(20, at_least=1)
    """Neighbours that vote."""

    def __post_init__(self) -> None:
        self.check_lines("probe")


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """python -m videomae.pretrain"""

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
        own: type = type(self)
        for known in all_settings(own):
            check(
                not known.rules.finetuning_only or not find(self, known.key)[0],
                f"{known.key} has no meaning in pre-training; leave it at its default",
            )


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """python -m videomae.finetune"""

    name: str = setting("finetune", may_change=True)
    """The run's name; every exp of a recipe sets one."""
    head_map: str | None = setting(None, is_path=True, may_change=True)
    """JSON list: which row of the weights' head becomes class i; null: the head is kept or new."""
    eval_every: int = setting(0, at_least=0, may_change=True, often=True)
    """Epochs between two evaluations on data.val_list, one centre view of each video; 0: none."""
    test_weights: WhichWeights = setting(WhichWeights.last, may_change=True)
    """Which weights are evaluated on data.test_list in the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            not self.data.sources,
            f"data.sources ({', '.join(self.data.sources)}) are for pre-training: choose a "
            "labelled data set, such as data=k400, and give data.train_list and data.root",
        )
        check(
            self.eval_every > 0 or self.test_weights is WhichWeights.last,
            "test_weights=best needs eval_every=1, or more, and data.val_list to choose them on",
        )


@dataclass(frozen=True)
class EvaluateConfig(FinetuneConfig):
    """python -m videomae.evaluate: takes every fine-tuning exp, and ignores how it trains."""

    output_dir: str = setting(
        "outputs/${name}/evaluation", is_path=True, may_change=True, often=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data.check_no_videos()
