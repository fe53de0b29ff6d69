"""The typed schema that Hydra checks yaml files against, and the config object of a command.

Hydra merges the yaml files over the schema, so that unknown keys and wrong types are refused while
the config is composed.
"""

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from videomae.config import (
    ConfigError,
    ConvertConfig,
    CurateConfig,
    DoctorConfig,
    EvaluateConfig,
    ExtractConfig,
    FinetuneConfig,
    PackConfig,
    PredictConfig,
    PrepareConfig,
    PretrainConfig,
    ProbeConfig,
    RecipesConfig,
    ReconstructConfig,
    ReportConfig,
    ScanConfig,
)
from videomae.run.text import redacted_settings

S = TypeVar("S")

COMMANDS = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "reconstruct": ReconstructConfig,
    "probe": ProbeConfig,
    "predict": PredictConfig,
    "extract": ExtractConfig,
    "convert": ConvertConfig,
    "recipes": RecipesConfig,
    "prepare": PrepareConfig,
    "scan": ScanConfig,
    "pack": PackConfig,
    "curate": CurateConfig,
    "doctor": DoctorConfig,
    "report": ReportConfig,
}


def schema(config_class: type) -> DictConfig:
    """Return the Hydra schema of a config class; OmegaConf.to_object makes an object of it."""
    node: DictConfig = OmegaConf.structured(config_class)
    OmegaConf.set_readonly(node, False)  # else Hydra cannot merge yaml over it
    for name, kind in get_type_hints(config_class).items():
        if isinstance(kind, type) and is_dataclass(kind):
            node[name] = schema(kind)  # filled by its group; until then its keys and types
        elif get_origin(kind) is dict:
            # Entries of a frozen class could not be merged over: config_object gives the types.
            node[name]._metadata.element_type = Any
            OmegaConf.set_struct(node[name], False)  # any key of an entry sets, and adds it
    return node


@cache
def register(name: str) -> None:
    """Register the schema of a command with Hydra, as `NAME_schema`, once in a process."""
    ConfigStore.instance().store(name=f"{name}_schema", node=schema(COMMANDS[name]))


def config_object(composed: DictConfig, name: str) -> Any:
    """Return the checked config object of a command, from the config that Hydra composed.

    Raises:
        ConfigError: a setting, or a combination of settings, cannot work.
    """
    try:
        composed = composed.copy()
        _check_keys(composed, COMMANDS[name])
        return OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; --help lists all settings") from error


def section_object(values: Mapping[str, Any], config_class: type[S], place: str) -> S:
    """Return the config object of a section of config.yaml, such as data.

    Args:
        place: name of the section, for errors.

    Raises:
        ConfigError: a setting cannot work.
        OmegaConfBaseException: there is no such setting, or a value is of another type.
    """
    node = cast(DictConfig, OmegaConf.merge(schema(config_class), values))
    _check_keys(node, config_class, f"{place}.")
    return cast(S, OmegaConf.to_object(node))


def _check_keys(composed: DictConfig, config_class: type, prefix: str = "") -> None:
    """Check that a config has only keys of its schema, and only finite numbers.

    A + on the command line can add other keys.

    Raises:
        ConfigError: it has others.
    """
    kinds = get_type_hints(config_class)
    for key, value in composed.items():
        if key not in kinds:
            raise ConfigError(f"there is no setting {prefix}{key!s}; --help lists all of them")
        kind = kinds[str(key)]
        if get_origin(kind) is dict:
            for name in value:
                value[name] = _typed(value[name], get_args(kind)[1], f"{prefix}{key}.{name}")
        elif isinstance(value, DictConfig):
            _check_keys(value, kind, f"{prefix}{key}.")
        for number in value if isinstance(value, ListConfig) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{prefix}{key} must be finite, got {value}")


def _typed(entry: Any, config_class: type, place: str) -> DictConfig:
    """Return an entry of a group with free names, such as data.sources, as its config class.

    Raises:
        ConfigError: it is not a group of that class's settings.
    """
    if not isinstance(entry, DictConfig):
        raise ConfigError(f"{place}={entry} is no group of settings: give {place}.KEY=VALUE")
    _check_keys(entry, config_class, f"{place}.")
    try:
        return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(config_class), entry))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{place}.{error.full_key}: {reason}; --help says more") from error


def composition() -> dict[str, str]:
    """Return the files that Hydra usually writes to .hydra/, text by name; empty outside a
    command."""
    if not HydraConfig.initialized():
        return {}
    cfg = HydraConfig.get()
    return {
        ".hydra/hydra.yaml": _yaml(OmegaConf.create({"hydra": cfg})),
        ".hydra/overrides.yaml": _yaml(cfg.overrides.task),
    }


def as_yaml(config: object) -> str:
    """Return a config object as the text of config.yaml, with secrets masked."""
    return _yaml(OmegaConf.structured(config))


def _yaml(node: Any) -> str:
    values = OmegaConf.to_container(node, enum_to_str=True)
    return OmegaConf.to_yaml(OmegaConf.create(redacted_settings(values)))
