"""Checks of settings and output paths before a command begins and writes anything."""

import os
import shlex
from pathlib import Path

from videomae.config import (
    SCRATCH,
    ConfigError,
    EvaluateConfig,
    FinetuneConfig,
    Precision,
    PretrainConfig,
    RunConfig,
)
from videomae.config.settings import find
from videomae.run.addresses import is_address
from videomae.run.files import DOES_NOT_EXIST, why_missing


def require(config: object, *keys: str, prepared: Path | None = None) -> None:
    """Check that some settings of a config are set, and that the files they name exist.

    Args:
        keys: dotted names, such as data.train_list.
        prepared: a prepared directory that suits the command, for the error; None: none is known.

    Raises:
        ConfigError: something is missing; the error names all of it, and the overrides to give.
    """
    rows = []
    for key in keys:
        value, known = find(config, key)
        meaning = known.meaning.partition(". ")[0].rstrip(".")
        meaning = meaning[:1].lower() + meaning[1:]
        if value is None:
            rows.append(f"  {key} is not set: {meaning}; give {key}={known.rules.example}")
        elif is_address(value) and known.rules.must_exist:
            if not known.rules.may_be_address:
                rows.append(
                    f"  {key}={value} is an address, where a file here is needed: {meaning}"
                )
        elif known.rules.must_exist and (reason := why_missing(str(value))):
            rows.append(f"  {key}={value} {reason}: {meaning}")
    if rows:
        rows += _missing_weights(config)
        lists = "data.prepared=DIR gives lists and root: python -m videomae.prepare --help"
        given = getattr(getattr(config, "data", None), "prepared", None)
        trains = isinstance(config, PretrainConfig | FinetuneConfig)
        trains = trains and not isinstance(config, EvaluateConfig)
        if trains:
            lists += "; data.videos=FOLDER makes them of your own videos"
        if prepared is not None:
            lists = (
                f"the run of these weights made lists: {shlex.quote(f'data.prepared={prepared}')}"
            )
        tips = {
            "  data.sources.": "A source that is left out needs nothing: '~data.sources.NAME'",
            "  data.t": lists,
        }
        if trains:
            tips["  weights is not set"] = "weights=scratch begins at random weights"
        if given is not None:
            tips["  data.t"] = f"data.prepared={given} gives those that no other setting names"
        rows += [tip for key, tip in tips.items() if any(row.startswith(key) for row in rows)]
        raise ConfigError("not enough to start with:\n" + "\n".join(rows))


def _missing_weights(config: object) -> list[str]:
    """Return a row on the weights if their path does not exist, of a config that has any."""
    weights = getattr(config, "weights", None)
    if weights in (None, SCRATCH) or is_address(weights):
        return []
    reason = why_missing(str(weights))
    return [f"  weights={weights} {reason}"] if reason else []


def check_place(key: str, path: Path) -> None:
    """Check that a directory exists at `path` and is writable, or can be made there.

    Args:
        key: the setting that names the path, for the error.

    Raises:
        ConfigError: neither is the case.
    """
    there = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if os.path.isdir(there) else "is a file"
        raise ConfigError(f"{key}={path}: {there} {what}; choose another {key}")
    reason = why_missing(path)
    if reason and (os.path.islink(path) or reason != DOES_NOT_EXIST):
        raise ConfigError(f"{key}={path} {reason} and cannot be made; choose another {key}")


def check_precision(run: RunConfig) -> None:
    """Check that run.precision is not fp16, which only evaluate and predict support.

    Raises:
        ConfigError: it is fp16.
    """
    if run.precision is Precision.fp16:
        raise ConfigError(
            "run.precision=fp16 is for evaluate and predict: small gradients vanish in it, and "
            "features are kept in bf16 or float32; leave run.precision at auto"
        )
