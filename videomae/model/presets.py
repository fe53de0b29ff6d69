"""The model sizes by name, read from configs/model, for code that runs without Hydra or PyYAML."""

from collections.abc import Mapping
from typing import Any

from videomae.config import ConfigError, ModelConfig, Positions, config_dir


def preset_names() -> list[str]:
    """The names that `preset` takes."""
    return sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """From what a yaml or json file holds."""
    positions = Positions(values.get("positions", ModelConfig.positions))
    return ModelConfig(**{**values, "positions": positions})


def preset(name: str) -> ModelConfig:
    """The model size of that name, such as vit_base.

    Raises:
        ConfigError: there is none.
    """
    path = config_dir() / "model" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"no model preset {name!r}; there are {', '.join(preset_names())}")
    return model_config(flat_yaml(path.read_text()))


def flat_yaml(text: str) -> dict[str, int | float | str]:
    """The numbers and names of a file whose lines are `key: value`."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pairs = (line.partition(":") for line in lines if line)
    return {key.strip(): _value(value.strip()) for key, _, value in pairs}


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
