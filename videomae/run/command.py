"""The decorator that makes a function a command: --help, settings from Hydra, error messages.

This module does not import torch, so that --help and typing errors answer fast.
"""

import errno
import inspect
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, TypeVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import videomae
from videomae.config import ConfigError, EvaluateConfig, TrainConfig, UserError, config_dir
from videomae.config.settings import all_settings
from videomae.run.garbage import collection
from videomae.run.given import check_rates, given, remember
from videomae.run.interrupts import ending_imports
from videomae.run.launcher import ProcessLost, tell_torchrun
from videomae.run.overrides import check_names, check_readable, did_you_mean, literal, options_last
from videomae.run.schema import COMMANDS, config_object, register
from videomae.run.text import MASKED, redacted, redacted_yaml, secrets_given, shown

C = TypeVar("C")
UNUSABLE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO),
    errno.EEXIST,
)
"""Error numbers of the system for a path that cannot be a regular file."""
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""Error numbers of the system for a disk that is full or that the user may not write to."""
FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable with which Hydra raises an error instead of printing its last lines."""
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""Part of torch's error message where the CPU memory is full."""


def command(name: str) -> Callable[[Callable[[C], None]], Callable[[], None]]:
    """Return a decorator that makes a Hydra command of a function, which takes the command's
    config.

    An error that the user can correct ends the command with status 2 and a message, without a
    traceback.
    """
    config_class = COMMANDS[name]
    trains = _trains(config_class)
    go_on = _how_to_go_on(name)

    def decorate(function: Callable[[C], None]) -> Callable[[], None]:
        typed: list[str] = []
        begun = False

        def run(composed: DictConfig) -> None:
            nonlocal begun
            begun = True
            sys.argv[1:] = typed  # what is recorded, and said to go on with
            try:
                config = config_object(composed, name)
                remember(config, HydraConfig.get())
                if trains:
                    check_rates(config.optim, given(config))
                with collection(on=True):
                    function(config)
            except KeyboardInterrupt:
                print(f"interrupted{go_on}", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            except Exception as error:
                _end(error, go_on)

        def main() -> None:
            typed[:] = words = sys.argv[1:]
            open_streams()
            said = ending_imports(lambda: f"interrupted{go_on if begun else ''}")
            with said, collection(on=False):
                answer(words)

        def answer(words: list[str]) -> None:
            try:
                if {"--help", "-h"} & set(words):
                    _print_help(function, config_class, words)
                elif "--version" in words:
                    print(f"videomae {videomae.__version__}")
                else:
                    _compose(name, words, run)
            except BrokenPipeError:
                quit_silently()
            except (UserError, OSError) as error:
                _end(error, "")
            except KeyboardInterrupt:  # while the settings were read: nothing has begun
                print("interrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)

        return main

    return decorate


def _trains(config_class: type) -> bool:
    """Return whether a config class is that of a training."""
    return issubclass(config_class, TrainConfig) and config_class is not EvaluateConfig


def _how_to_go_on(name: str) -> str:
    """Return what is said of a command that was cut off; empty: it begins anew."""
    if _trains(COMMANDS[name]):
        kept = "Complete checkpoints are kept"
        return f". {kept}: resume=auto goes on from the newest, or starts anew"
    if name in ("scan", "pack", "prepare", "curate"):
        return ". What is done is kept: the same command goes on"
    return ""


def _print_help(function: Callable[[C], None], config_class: type, words: list[str]) -> None:
    """Print the docstring of a command's module, and its settings."""
    from videomae.run.manual import print_manual

    print_manual(inspect.getdoc(inspect.getmodule(function)) or "", config_class, words)


def _compose(name: str, words: list[str], run: Callable[[DictConfig], None]) -> None:
    """Compose the config of a command from its command line, and call `run` with it.

    With --cfg and the like it is printed instead.

    Raises:
        ConfigError: it cannot be composed.
    """
    config_class = COMMANDS[name]
    check_names(words, config_class)
    register(name)
    sys.argv[1:] = literal(options_last(words), config_class)
    check_readable(sys.argv[1:])
    places = {"config_path": str(config_dir()), "config_name": name}
    start = hydra.main(version_base="1.3", **places)(run)
    err = cast(TextIO, Redacting(sys.stderr, redacted))
    out = cast(TextIO, Redacting(sys.stdout, redacted_yaml))  # --cfg prints YAML
    with redirect_stderr(err), redirect_stdout(out), _errors_of_composing(config_class):
        start()
        sys.stdout.flush()


@contextmanager
def _errors_of_composing(config_class: type) -> Iterator[None]:
    """Turn Hydra's errors of a block, which it prints and ends with, into errors of this package.

    Raises:
        ConfigError: a config or an override is wrong, a yaml file cannot be read, or Slurm refuses
            the jobs of a sweep.
    """
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"  # Hydra raises its errors then
    try:
        yield
    except (CompactHydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        if before == "1":
            raise
        said = [str(error)]
        if isinstance(error.__cause__, OmegaConfBaseException):
            said.append(str(error.__cause__))
        text = re.sub(r"\n\s*(?:object|reference)_type=.*", "", "\n".join(said))
        for value in secrets_given(sys.argv[1:]):
            text = text.replace(value, MASKED)
        if found := re.search(r"Key '.*' not in .*\n\s*full_key: ([\w.]+)$", text):
            group = found[1] == "exp"  # the settings of an exp's file are taken as its own section
            names = [each.key for each in all_settings(config_class)]
            head = "; the first line of an exp's file must be '# @package _global_'"
            text += head if group else did_you_mean(found[1], names)
        if "Could not delete" in text:
            text += " --cfg job prints all that is set"
        raise ConfigError(f"the settings cannot be read: {text}") from error
    except Exception as error:
        if type(error).__name__ == "UncompletedJobError":  # submitit's
            raise UserError(f"a job of this sweep ended without a result:\n{error}") from error
        if type(error).__name__ != "FailedJobError":
            raise
        raise ConfigError(
            f"Slurm takes no job of this sweep; hydra.launcher.* are what it is asked for:\n{error}"
        ) from error
    finally:
        if before is None:
            os.environ.pop(FULL_ERROR, None)
        else:
            os.environ[FULL_ERROR] = before


def quit_silently() -> None:
    """End the process, whose output nobody reads any more, as of --help | head -1."""
    _drop(sys.stdout)  # Python flushes it at exit
    sys.exit(1)


def _drop(stream: TextIO) -> None:
    """Let the rest of a stream, which nobody reads any more, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_streams() -> None:
    """Let stdout and stderr go nowhere where they are closed, as by >&-: Python has None then."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _end(error: Exception, go_on: str) -> None:
    """Print an error and end the process: status 2 if the user can correct it, else 1."""
    message = _what_to_do(error, go_on)
    said = shown(message or "".join(traceback.format_exception(error)))
    if not isinstance(error, ProcessLost):  # a consequence of what another tells
        tell_torchrun(said)
    print(said, file=sys.stderr)
    sys.exit(1 if message is None else 2)


class Redacting:
    """A text stream that masks secrets, as Hydra's own messages may repeat the command line.

    When nobody reads it any more, as of a command's output | head -1, the command goes on.

    Args:
        stream: the stream that the masked text is written to.
        mask: masks a text further, after the secrets of the command line.
    """

    def __init__(self, stream: TextIO, mask: Callable[[str], str]) -> None:
        self.stream = stream
        self.mask = mask
        self.given = secrets_given(sys.argv[1:])

    def write(self, text: str) -> int:
        """Write a text with its secrets masked; return the number of characters written."""
        for value in self.given:
            text = text.replace(value, MASKED)
        try:
            return self.stream.write(self.mask(text))
        except BrokenPipeError:
            _drop(self.stream)
            return len(text)

    def flush(self) -> None:
        """Pass on what has been written."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            _drop(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _what_to_do(error: Exception, go_on: str) -> str | None:
    """Return the message for an error that the user can correct; None for any other error."""
    if isinstance(error, UserError):
        return f"error: {error}"
    if isinstance(error, OSError) and error.errno in STORAGE:
        return f"error: {error}: make room or mend the permissions{go_on}"
    if isinstance(error, FileNotFoundError) and _has_no_folder(error.filename):
        return f"error: {error}: its folder went away meanwhile: put it back{go_on}"
    if isinstance(error, OSError) and error.errno in UNUSABLE:
        return f"error: {error}: give another name, or move away what is there{go_on}"
    if type(error).__name__ == "OutOfMemoryError" or NO_MEMORY in str(error):
        said = next(line for line in str(error).splitlines() if line.strip())
        more = " or run.recompute=full" if "resume=auto" in go_on else ""
        return f"error: {said} Set a smaller run.device_batch{more}{go_on}"
    return None


def _has_no_folder(path: object) -> bool:
    """Return whether the folder of a file does not exist."""
    return isinstance(path, str | os.PathLike) and not os.path.isdir(os.path.dirname(path) or ".")
