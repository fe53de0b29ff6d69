"""Settings fitted to the number of videos: model, clip, batch, epochs, warm-up, rate, augmentation.

They are for data.videos=FOLDER, where no recipe knows how many videos there are. What the command
line gives stays, and so does an exp other than `small`, unless its batch is more than the videos.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from videomae.config import (
    AugmentConfig,
    ClipConfig,
    FinetuneConfig,
    MaskConfig,
    MaskKind,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    TrainConfig,
)
from videomae.model.presets import preset
from videomae.run.given import SMALL, Given
from videomae.train.schedule import LR_UNIT
from videomae.weights.weights import WeightsInfo

S = TypeVar("S")
C = TypeVar("C", bound=TrainConfig)

CPU_MODEL, CPU_CLIP = "vit_tiny", ClipConfig(frames=8, stride=4, size=64)
"""Defaults for a folder of videos where there is no GPU."""
SMALL_DIM = 256
"""Models narrower than this are trained as the demo is: high rates, few steps."""
SMALL_SIZE = 64
"""Frames of at most this many pixels are masked at random: a tube would hide all that moves."""
LIGHT_BELOW = 1000
"""Number of training videos below which fine-tuning takes crops alone."""


@dataclass(frozen=True)
class Amount:
    """How long a stage trains a model, and how fast."""

    share: int
    """A batch is the power of two below one in this many videos."""
    most: int
    """Largest batch."""
    steps: int
    """Optimiser steps that are aimed at."""
    epochs: tuple[int, int]
    """Fewest and most epochs."""
    lr: float
    """Peak learning rate at the batch `lr_batch`; it goes with the square root of the batch."""
    lr_batch: int


PRETRAINING = {
    True: Amount(share=8, most=32, steps=1500, epochs=(8, 100), lr=1e-3, lr_batch=16),
    False: Amount(share=8, most=256, steps=20_000, epochs=(200, 800), lr=3e-4, lr_batch=256),
}
FINETUNING = {
    True: Amount(share=4, most=64, steps=300, epochs=(10, 60), lr=1e-3, lr_batch=32),
    False: Amount(share=4, most=64, steps=600, epochs=(30, 100), lr=2.5e-4, lr_batch=64),
}
"""By whether the model is small. The demo's settings are the measure of the small ones."""


@dataclass
class Fitting:
    """A config on its way to one that fits a folder of videos."""

    config: TrainConfig
    given: Given
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, value and reason of each setting, for people."""

    @property
    def has_recipe(self) -> bool:
        """Whether an exp has decided the numbers."""
        return self.given.exp not in (None, SMALL)

    def but_given(self, current: S, found: S, prefix: str) -> S:
        """Return `found` with those settings of `current` that the command line gives."""
        kept = {
            each.name: getattr(current, each.name)
            for each in fields(current)  # type: ignore[arg-type]  # a section of settings
            if self.given.has(f"{prefix}.{each.name}")
        }
        return replace(found, **kept)  # type: ignore[type-var]

    def say(self, key: str, value: object, why: str) -> None:
        """Note a setting; one that the command line gives is said to be given."""
        self.rows.append((key, str(value), "as given" if self.given.has(key) else why))


def fitted(
    config: C,
    given: Given,
    num_videos: int,
    *,
    world: int,
    on_gpu: bool,
    weights: WeightsInfo | None,
) -> tuple[C, list[tuple[str, str, str]]]:
    """Return the config with the settings that nobody gave fitted, and a row on each for people.

    Args:
        num_videos: length of the training list.
        world: training processes, which share a batch.
        weights: description of the starting weights, if there are any.
    """
    fitting = Fitting(config, given)
    model, clip = _model_and_clip(fitting, on_gpu, weights)
    sections: dict[str, Any] = {
        "model": model,
        "data": replace(config.data, clip=clip, repeats=_repeats(fitting)),
        "optim": _optim(fitting, model, num_videos, world),
        "augment": _augment(fitting, num_videos),
    }
    sections["optim"].check_warmup()
    if isinstance(config, PretrainConfig):
        sections["mask"] = _mask(fitting, config.mask, clip)
    return replace(config, **sections), fitting.rows


def _model_and_clip(
    fitting: Fitting, on_gpu: bool, weights: WeightsInfo | None
) -> tuple[ModelConfig, ClipConfig]:
    """Return the model and the clip: of the weights, else of the exp, else for the device."""
    config = fitting.config
    model, clip = config.model, config.data.clip
    why = f"+exp={fitting.given.exp}"
    if fitting.has_recipe:
        pass
    elif weights is not None:
        model = fitting.but_given(model, weights.model, "model")
        clip = fitting.but_given(clip, weights.clip, "data.clip")
        why = "of the weights"
    elif fitting.given.exp is None and not on_gpu:
        usual = f"a GPU would take {model.name}, {clip}"
        model = fitting.but_given(model, preset(CPU_MODEL), "model")
        clip = fitting.but_given(clip, CPU_CLIP, "data.clip")
        why = f"there is no GPU; {usual}"
    elif fitting.given.exp is None:
        why = "the default"
    fitting.say("model", model.name, why)
    fitting.say("data.clip", f"{clip}, {clip.stride} apart", why)
    return model, clip


def _repeats(fitting: Fitting) -> int:
    """Return the views of each video: four in pre-training, as in the recipes of V2."""
    repeats = fitting.config.data.repeats
    if fitting.has_recipe or fitting.given.has("data.repeats"):
        return repeats
    return 4 if isinstance(fitting.config, PretrainConfig) else repeats


def _optim(fitting: Fitting, model: ModelConfig, num_videos: int, world: int) -> OptimConfig:
    """Return the optimiser's settings for so many videos."""
    optim, given = fitting.config.optim, fitting.given
    if fitting.has_recipe and optim.global_batch <= num_videos:
        return optim
    small = model.dim < SMALL_DIM
    finetuning = isinstance(fitting.config, FinetuneConfig)
    amount = amount_for(fitting.config, model)
    batch = optim.global_batch
    if not given.has("optim.global_batch"):
        batch = _batch(num_videos, amount, world)
    steps = max(1, num_videos // batch)
    least, most = amount.epochs
    epochs = optim.epochs
    if not given.has("optim.epochs"):
        epochs = min(most, max(least, math.ceil(amount.steps / steps)))
    warmup = min(epochs / 10, optim.warmup_epochs)
    lr = min(amount.lr, amount.lr * math.sqrt(batch / amount.lr_batch))
    found = replace(
        optim,
        lr=None,
        global_batch=batch,
        epochs=epochs,
        warmup_epochs=warmup,
        base_lr=float(f"{lr * LR_UNIT / batch:.4g}"),
        clip_grad=optim.clip_grad if finetuning else 1.0,
        drop_path=0.0 if small else optim.drop_path,
    )
    found = fitting.but_given(optim, found, "optim")
    fitting.say(
        "optim.global_batch", batch, f"1 in {amount.share} of {num_videos:,}, as a power of 2"
    )
    passes = f"about {amount.steps:,} steps of {steps:,} an epoch, {least} to {most} epochs"
    fitting.say("optim.epochs", epochs, passes)
    fitting.say(
        "optim.warmup_epochs",
        f"{found.warmup_epochs:g}",
        f"a tenth of the epochs, at most {optim.warmup_epochs:g}",
    )
    rate = f"lr {lr:.3g}: {amount.lr:g} x sqrt({batch} / {amount.lr_batch}), at most {amount.lr:g}"
    if found.lr is None:
        fitting.say("optim.base_lr", f"{found.base_lr:g}", rate)
    else:
        fitting.say("optim.lr", f"{found.lr:g}", rate)
    return found


def amount_for(config: TrainConfig, model: ModelConfig) -> Amount:
    """Return how long and how fast a model is trained in the stage of a config."""
    stage = FINETUNING if isinstance(config, FinetuneConfig) else PRETRAINING
    return stage[model.dim < SMALL_DIM]


def _batch(num_videos: int, amount: Amount, world: int) -> int:
    """Return the videos of a step, which the processes can share."""
    part = max(1, num_videos // amount.share)
    batch = min(amount.most, 2 ** (part.bit_length() - 1))
    return max(world, batch // world * world)


def _augment(fitting: Fitting, num_videos: int) -> AugmentConfig:
    """Return the augmentation: crops alone where there are few videos to classify."""
    augment = fitting.config.augment
    few = isinstance(fitting.config, FinetuneConfig) and num_videos < LIGHT_BELOW
    if fitting.has_recipe or not few:
        return augment
    light = replace(augment, rand_ops=0, mixup=0.0, cutmix=0.0, erase_prob=0.0, area=[0.7, 1.0])
    fitting.say("augment", "crops alone", f"fewer than {LIGHT_BELOW:,} videos")
    return fitting.but_given(augment, light, "augment")


def _mask(fitting: Fitting, mask: MaskConfig, clip: ClipConfig) -> MaskConfig:
    """Return the masking: at random where frames are so small that a tube hides what moves."""
    if fitting.has_recipe or max(clip.frame) > SMALL_SIZE:
        return mask
    fitting.say("mask", "random, 75 %", f"frames of {SMALL_SIZE} px or less")
    light = MaskConfig(kind=MaskKind.random, ratio=0.75, decoder_ratio=mask.decoder_ratio)
    return fitting.but_given(mask, light, "mask")
