"""Configs of commands in Python, composed as a command composes them from its command line."""

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import open_dict

from videomae.config import ConfigError, config_dir
from videomae.run.given import remember
from videomae.run.overrides import check_names, did_you_mean, literal
from videomae.run.schema import COMMANDS, config_object, register


def config_for(command: str, overrides: Sequence[str] = ()) -> Any:
    """Return the config object that python -m videomae.COMMAND OVERRIDES works with.

    Args:
        command: name of the command, such as pretrain.
        overrides: words of the command line, such as "+exp=small" and "data.videos=FOLDER".

    Raises:
        ConfigError: there is no such command or setting, or a value cannot work.
    """
    if command not in COMMANDS:
        near = did_you_mean(command, list(COMMANDS))
        raise ConfigError(f"there is no command {command}{near}; there are {' '.join(COMMANDS)}")
    words = list(overrides)
    check_names(words, COMMANDS[command])
    register(command)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            words = literal(words, COMMANDS[command])
            composed = compose(command, overrides=words, return_hydra_config=True)
    except HydraException as error:
        raise ConfigError(str(error)) from error
    hydra = composed.hydra
    with open_dict(composed):
        del composed["hydra"]
    config = config_object(composed, command)
    remember(config, hydra)
    return config
