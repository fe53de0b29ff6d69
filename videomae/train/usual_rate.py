"""The learning rate that a run would have without the command line's optim.*: that of its recipe.

videomae.train.guards compares the run's own rate with it.
"""

from typing import NamedTuple

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from videomae.config import TrainConfig
from videomae.run.given import SMALL
from videomae.run.overrides import split
from videomae.train.fitting import amount_for
from videomae.train.schedule import LR_UNIT


class UsualRate(NamedTuple):
    """A peak learning rate, and the batch that it is meant for."""

    lr: float
    batch: int
    """Videos per step."""
    source: str
    """Where both are from, in words."""


def usual_rate(config: TrainConfig, num_videos: int) -> UsualRate | None:
    """Return the rate of a run's recipe: of the exp, of the default settings or, with data.videos,
    of the settings that are fitted; None outside of a command, where nothing tells.

    Args:
        num_videos: length of the training list.
    """
    recipe = _recipe()
    if recipe is None:
        return None
    exp = HydraConfig.get().runtime.choices.get("exp")
    if config.data.videos is not None and (exp in (None, SMALL) or recipe.batch > num_videos):
        amount = amount_for(config, config.model)
        return UsualRate(amount.lr, amount.lr_batch, "the settings for a folder of videos")
    return recipe


def _recipe() -> UsualRate | None:
    """Compose this process's command again without its overrides of optim.*, and return its rate.

    None outside of a command, or if the rate is not a number.
    """
    if not (HydraConfig.initialized() and GlobalHydra.instance().is_initialized()):
        return None
    hydra, words = HydraConfig.get(), []
    for word in hydra.overrides.task:
        found = split(word)
        if found is None or not found.key.startswith("optim."):
            words.append(word)
    optim = compose(hydra.job.config_name, words).optim
    batch, base_lr, lr = (
        OmegaConf.select(optim, name, default=None) for name in ("global_batch", "base_lr", "lr")
    )
    if not batch or (base_lr is None and lr is None):
        return None
    exp = hydra.runtime.choices.get("exp")
    source = f"+exp={exp}" if exp else "the default settings"
    return UsualRate(base_lr * batch / LR_UNIT if lr is None else lr, batch, source)
