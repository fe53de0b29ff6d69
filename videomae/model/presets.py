"""Model sizes by name, read from configs/model, for code that runs without Hydra or PyYAML."""

from collections.abc import Mapping
from typing import Any

from videomae.config import ConfigError, ModelConfig, Positions, config_dir


def preset_names() -> list[str]:
    """List the names of all model presets, sorted."""
    return sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))


def model_config(values: Mapping[str, Any]) -> ModelConfig:
    """Make a ModelConfig from the values of a yaml or json file."""
    positions = Positions(values.get("positions", ModelConfig.positions))
    return ModelConfig(**{**values, "positions": positions})


def preset(name: str) -> ModelConfig:
    """Return the model size of that name, such as vit_base.

    Raises:
        ConfigError: there is no preset of that name.
    """
    path = config_dir() / "model" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"no model preset {name!r}; there are {', '.join(preset_names())}")
    return model_config(flat_yaml(path.read_text()))


def flat_yaml(text: str) -> dict[str, int | float | str]:
    """Parse a yaml file whose lines are `key: value`, with numbers and words as values."""
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
