"""Batch arithmetic and learning-rate schedule of a run, which are printed at its start."""

from dataclasses import dataclass

from videomae.config import ConfigError, OptimConfig
from videomae.run.rates import warmup_cosine

LR_UNIT = 256
"""Number of videos that base_lr and min_lr refer to; repeats do not count (official rule)."""


def peak_lr(optim: OptimConfig) -> float:
    """Return the peak learning rate: optim.lr, or else optim.base_lr for the global batch."""
    if optim.lr is not None:
        return optim.lr
    return optim.base_lr * (optim.global_batch / LR_UNIT)


def _min_lr(optim: OptimConfig) -> float:
    """Return the learning rate at the end of the schedule.

    Raises:
        ConfigError: it is more than optim.lr, so that the rate would rise.
    """
    floor = optim.min_lr * (optim.global_batch / LR_UNIT)
    if optim.lr is not None and floor > optim.lr:
        raise ConfigError(
            f"optim.lr={optim.lr:g} is less than the rate at the end, {floor:.3g} (optim.min_lr "
            f"{optim.min_lr:g} x {optim.global_batch}/{LR_UNIT}): give a smaller optim.min_lr, "
            "such as 0"
        )
    return floor


def rate_in_words(optim: OptimConfig) -> str:
    """Return how the peak learning rate comes about, for people."""
    if optim.lr is not None:
        return "optim.lr, in place of optim.base_lr"
    return f"optim.base_lr {optim.base_lr:g} x {optim.global_batch}/{LR_UNIT}"


@dataclass(frozen=True)
class Plan:
    """The plan of a run: videos and passes of each step, number of steps, learning rates."""

    num_clips: int
    """Number of videos in the training list."""
    global_batch: int
    """Number of videos per step, over all processes."""
    repeats: int
    """Number of views per video."""
    world: int
    """Number of training processes."""
    micro_batch: int
    """Number of videos per process and forward pass."""
    accumulation: int
    """Number of forward passes per step on each process."""
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    peak_lr: float
    min_lr: float

    @classmethod
    def of(
        cls,
        optim: OptimConfig,
        *,
        num_clips: int,
        repeats: int,
        world: int,
        device_batch: int,
        group: int = 1,
    ) -> "Plan":
        """Make the plan of a run.

        Args:
            group: number of videos that a micro-batch must not split.

        Raises:
            ConfigError: the processes do not divide the global batch, the list is shorter than the
                batch, a micro-batch would split a group, or the rate would rise to its end.
        """
        batch = optim.global_batch
        if batch % world:
            below, above = batch // world * world, (batch // world + 1) * world
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ConfigError(
                f"optim.global_batch={batch} cannot be shared equally by {world} processes; "
                f"the nearest that can: {nearest}"
            )
        steps_per_epoch = num_clips // batch
        if steps_per_epoch == 0:
            raise ConfigError(
                f"the list holds {num_clips} videos, fewer than one step's optim.global_batch="
                f"{batch}: give a longer data.train_list, more data.sources, or a smaller "
                "optim.global_batch"
            )
        share = batch // world
        sizes = range(group, min(share, device_batch) + 1, group)
        fitting = [size for size in sizes if share % size == 0]
        if not fitting:
            remedy = "use fewer processes" if share % group else f"set run.device_batch={group}"
            raise ConfigError(
                f"mixup and CutMix mix {group} videos with one another, which micro-batches of at "
                f"most run.device_batch={device_batch} of {share} videos per process would part: "
                f"{remedy}, or augment.mix_block=1 (the views of each video are mixed)"
            )
        micro_batch = max(fitting)
        return cls(
            num_clips=num_clips,
            global_batch=batch,
            repeats=repeats,
            world=world,
            micro_batch=micro_batch,
            accumulation=share // micro_batch,
            steps_per_epoch=steps_per_epoch,
            total_steps=optim.epochs * steps_per_epoch,
            warmup_steps=int(optim.warmup_epochs * steps_per_epoch),
            peak_lr=peak_lr(optim),
            min_lr=_min_lr(optim),
        )

    @property
    def views_per_step(self) -> int:
        """Number of clips that pass through the model in one step."""
        return self.global_batch * self.repeats

    @property
    def highest_lr(self) -> float:
        """Highest learning rate of the schedule, also where the rate rises to its end."""
        return max(self.peak_lr, self.min_lr)

    def lr(self, step: int) -> float:
        """Return the learning rate of `step`, from 1, for parameters whose lr_scale is 1."""
        return warmup_cosine(
            step - 1,
            peak=self.peak_lr,
            floor=self.min_lr,
            warmup=self.warmup_steps,
            total=self.total_steps,
        )

    def describe(self, optim: OptimConfig) -> list[tuple[str, str, str]]:
        """Return the plan as rows of (name, value, explanation)."""
        batch, epochs, unit = self.global_batch, optim.epochs, f"{self.global_batch}/{LR_UNIT}"
        split = f"{self.world} x {self.accumulation} x {self.micro_batch}"
        steps = self.steps_per_epoch
        return [
            ("videos per step", f"{batch:,}", f"{split}: processes x micro-batches x videos"),
            ("views per step", f"{self.views_per_step:,}", f"{batch:,} videos x {self.repeats}"),
            ("accumulation", f"{self.accumulation}", "micro-batches per process and step"),
            ("steps per epoch", f"{steps:,}", f"{self.num_clips:,} videos // {batch:,}"),
            ("steps", f"{self.total_steps:,}", f"{epochs:,} epochs x {steps:,}"),
            ("warm-up steps", f"{self.warmup_steps:,}", f"{optim.warmup_epochs:g} epochs"),
            ("lr", f"{self.peak_lr:.3g}", rate_in_words(optim)),
            ("min_lr", f"{self.min_lr:.3g}", f"optim.min_lr {optim.min_lr:g} x {unit}"),
        ]
