"""Settings that the command line gives: those that a user chose, as opposed to defaults.

A setting that nobody chose may be fitted to the data; one that was given stays as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hydra.core.hydra_config import HydraConfig

from videomae.config import ConfigError, OptimConfig
from videomae.run.overrides import split

SMALL = "small"
"""The exp whose numbers are fitted to the data; other exps decide theirs."""


@dataclass(frozen=True)
class Given:
    """The settings and groups that the command line names, and the exp that it chooses."""

    keys: frozenset[str] = frozenset()
    """Dotted names of settings, and of groups such as model in model=vit_small."""
    exp: str | None = None
    """The name of the chosen exp; None: there is none."""

    def has(self, key: str) -> bool:
        """Tell whether a setting was given, by itself or with its group."""
        parts = key.split(".")
        return any(".".join(parts[:count]) in self.keys for count in range(1, len(parts) + 1))


def given_of(overrides: Iterable[str], exp: str | None) -> Given:
    """Return what the words of a command line give."""
    found = (split(word) for word in overrides)
    keys = {each.key.removeprefix("/").partition("@")[0] for each in found if each}
    return Given(frozenset(keys - {"exp"}), exp)


def given() -> Given:
    """Return what the command line of this process gives; nothing outside a command."""
    if not HydraConfig.initialized():
        return Given()
    cfg = HydraConfig.get()
    return given_of(cfg.overrides.task, cfg.runtime.choices.get("exp"))


def check_rates(optim: OptimConfig, told: Given) -> None:
    """Check that the command line does not give optim.base_lr where optim.lr replaces it.

    Raises:
        ConfigError: it does.
    """
    if optim.lr is None or "optim.base_lr" not in told.keys:
        return
    by_exp = "" if "optim.lr" in told.keys else f" (of +exp={told.exp})"
    raise ConfigError(
        f"optim.lr={optim.lr:g}{by_exp} and optim.base_lr={optim.base_lr:g} both say the learning "
        "rate: leave one of the two out; optim.lr=null lets optim.base_lr decide"
    )
