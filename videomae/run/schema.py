"""The typed schema under every yaml file, and what makes a function a command.

Imported by the entry points only. Hydra merges the yaml files over the schema, so that unknown keys
and wrong types are refused while the config is composed.
"""

import errno
import inspect
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TextIO, TypeVar, cast, get_args, get_origin, get_type_hints

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from videomae.config import (
    ConfigError,
    ConvertConfig,
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
    TrainConfig,
    UserError,
    config_dir,
)
from videomae.run.manual import print_manual
from videomae.run.parallel import ProcessLost, tell_torchrun
from videomae.run.text import (
    MASKED,
    redacted,
    redacted_settings,
    redacted_yaml,
    secrets_given,
    shown,
)

C = TypeVar("C")
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
    "doctor": DoctorConfig,
    "report": ReportConfig,
}
UNUSABLE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO),
    errno.EEXIST,
)
"""What the system says of a name that no file can have, or that a folder or a pipe has."""
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a disk says that is full or not ours to write."""
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What torch says where the machine's memory is full."""


def schema(config_class: type) -> DictConfig:
    """A Hydra schema from a frozen dataclass; OmegaConf.to_object(cfg) gives the object back."""
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
def register() -> None:
    """Give Hydra the schema of every command, as `NAME_schema`, once in a process."""
    store = ConfigStore.instance()
    for name, config_class in COMMANDS.items():
        store.store(name=f"{name}_schema", node=schema(config_class))


def command(name: str) -> Callable[[Callable[[C], None]], Callable[[], None]]:
    """Make a Hydra command of a function that takes the whole config of that name.

    What the user can mend ends the command with status 2 and one message, without a traceback.
    """
    register()
    trains = issubclass(COMMANDS[name], TrainConfig) and COMMANDS[name] is not EvaluateConfig
    go_on = ". Complete checkpoints are kept: resume=auto goes on from the newest" if trains else ""
    if name in ("scan", "pack", "prepare"):
        go_on = ". What is done is kept: the same command goes on"

    def decorate(function: Callable[[C], None]) -> Callable[[], None]:
        def run(composed: DictConfig) -> None:
            try:
                function(config_object(composed, name))
            except KeyboardInterrupt:
                print(f"interrupted{go_on}", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            except Exception as error:
                message = _what_to_do(error, go_on)
                said = shown(message or traceback.format_exc())
                if not isinstance(error, ProcessLost):  # a consequence of what another tells
                    tell_torchrun(said)
                print(said, file=sys.stderr)
                sys.exit(1 if message is None else 2)

        def main() -> None:
            if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see videomae.__init__
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if {"--help", "-h"} & set(sys.argv):
                print_manual(inspect.getdoc(inspect.getmodule(function)) or "", COMMANDS[name])
                return
            start = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)(
                run
            )
            err = cast(TextIO, Redacting(sys.stderr, redacted))
            out = cast(TextIO, Redacting(sys.stdout, redacted_yaml))  # --cfg prints YAML
            try:
                with redirect_stderr(err), redirect_stdout(out):
                    start()
            except KeyboardInterrupt:  # while the settings were read: nothing has begun
                print("interrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)

        return main

    return decorate


class Redacting:
    """A stream that masks secrets: Hydra's own messages repeat the command line, or parts of it.

    Args:
        mask: what else than the secrets of the command line is masked in a text.
    """

    def __init__(self, stream: TextIO, mask: Callable[[str], str]) -> None:
        self.stream = stream
        self.mask = mask
        self.given = secrets_given(sys.argv[1:])

    def write(self, text: str) -> int:
        """As that of the stream."""
        for value in self.given:
            text = text.replace(value, MASKED)
        return self.stream.write(self.mask(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _what_to_do(error: Exception, go_on: str) -> str | None:
    """One message for an error that the user can mend, None for another."""
    if isinstance(error, UserError):
        return f"error: {error}"
    if isinstance(error, OSError) and error.errno in STORAGE:
        return f"error: {error}: make room or mend the permissions{go_on}"
    if isinstance(error, FileNotFoundError) and _has_no_folder(error.filename):
        return f"error: {error}: its folder went away meanwhile: put it back{go_on}"
    if isinstance(error, OSError) and error.errno in UNUSABLE:
        return f"error: {error}: give another name, or move away what is there{go_on}"
    if isinstance(error, torch.OutOfMemoryError) or NO_MEMORY in str(error):
        said = next(line for line in str(error).splitlines() if line.strip())
        more = " or run.recompute=full" if "resume=auto" in go_on else ""
        return f"error: {said} Set a smaller run.device_batch{more}{go_on}"
    return None


def _has_no_folder(path: object) -> bool:
    """Whether not even the folder of a file is there."""
    return isinstance(path, str | os.PathLike) and not os.path.isdir(os.path.dirname(path) or ".")


def config_object(composed: DictConfig, name: str) -> Any:
    """The config object of a command, checked.

    Raises:
        ConfigError: a setting, or a combination of settings, cannot work.
    """
    try:
        composed = composed.copy()
        _check_keys(composed, COMMANDS[name])
        return OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; --help lists all settings") from error


def _check_keys(composed: DictConfig, config_class: type, prefix: str = "") -> None:
    """Refuse what a + on the command line has added to the schema, and numbers without end."""
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
    """An entry of a group whose names are free, as its class says."""
    if not isinstance(entry, DictConfig):
        raise ConfigError(f"{place}={entry} is no group of settings: give {place}.KEY=VALUE")
    _check_keys(entry, config_class, f"{place}.")
    try:
        return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(config_class), entry))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{place}.{error.full_key}: {reason}; --help says more") from error


def composition() -> dict[str, str]:
    """What Hydra usually writes to .hydra/, by file name; empty outside a command."""
    if not HydraConfig.initialized():
        return {}
    cfg = HydraConfig.get()
    return {
        ".hydra/hydra.yaml": _yaml(OmegaConf.create({"hydra": cfg})),
        ".hydra/overrides.yaml": _yaml(cfg.overrides.task),
    }


def as_yaml(config: object) -> str:
    """A config object as the yaml that config.yaml holds, secrets masked."""
    return _yaml(OmegaConf.structured(config))


def _yaml(node: Any) -> str:
    values = OmegaConf.to_container(node, enum_to_str=True)
    return OmegaConf.to_yaml(OmegaConf.create(redacted_settings(values)))
