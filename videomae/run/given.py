"""Settings that the command line gives: those that a user chose, as opposed to defaults.

A setting that nobody chose may be fitted to the data, or taken from the weights; one that was given
stays as it is.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from videomae.config import ConfigError, OptimConfig, config_dir
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
    groups: frozenset[str] = frozenset()
    """Names in `keys` by which a config of a group was chosen, as by model=vit_small."""
    data: str | None = None
    """The name of the data config, which an exp or the command line chose; None: not known."""
    folders: tuple[Path, ...] = ()
    """Folders of configs that the command line names, by --config-dir or hydra.searchpath."""

    def has(self, key: str) -> bool:
        """Tell whether a setting was given, by itself or with its group."""
        return any(part in self.keys for part in _with_parents(key))

    def itself(self, key: str) -> bool:
        """Tell whether a setting was given by its own value, and not with a config of its group."""
        return any(part in self.keys - self.groups for part in _with_parents(key))


def _with_parents(key: str) -> list[str]:
    """Return the dotted names of a setting and of the sections around it."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def given_of(overrides: Iterable[str], exp: str | None) -> Given:
    """Return what the words of a command line give."""
    found = [each for word in overrides if (each := split(word))]
    values = {each.key.removeprefix("/").partition("@")[0]: each.value or "" for each in found}
    values.pop("exp", None)
    for key, value in list(values.items()):
        if value[:1] == "{":  # a section: its own keys are given, the others of it are not
            del values[key]
            content = OverridesParser.create().parse_override(f"{key}={value}").value()
            values |= dict.fromkeys(_leaves(content, key), "")
    groups = {key for key in values if "." not in key}
    return Given(frozenset(values), exp, frozenset(groups))


def _leaves(content: Any, key: str) -> list[str]:
    """Return the dotted names of the settings that the value of an override holds."""
    if not isinstance(content, dict):
        return [key]
    return [leaf for name, part in content.items() for leaf in _leaves(part, f"{key}.{name}")]


_given: dict[int, Given] = {}
"""Settings that were given for each config object that is alive, by its id."""


def remember(config: object, hydra: HydraConf | DictConfig) -> None:
    """Remember what the command line gave for a config object that Hydra composed.

    Args:
        hydra: the section `hydra` of what Hydra composed.
    """
    choices = hydra.runtime.choices
    told = given_of(hydra.overrides.task, choices.get("exp"))
    paths = [Path(each.path) for each in hydra.runtime.config_sources if each.schema == "file"]
    folders = tuple(path for path in paths if path != config_dir())
    _given[id(config)] = replace(told, data=choices.get("data"), folders=folders)
    weakref.finalize(config, _given.pop, id(config), None)


def given(config: object) -> Given:
    """Return what the command line gave for a config object, as a command's function gets it.

    Nothing is given for an object that nobody composed, nor for one that `replace` has made.
    """
    return _given.get(id(config), Given())


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
