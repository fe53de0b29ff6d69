"""Settings and places that are looked at before a command begins; nothing is written yet."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from videomae.config import ConfigError, Precision, RunConfig
from videomae.run.files import DOES_NOT_EXIST, why_missing

MEANINGS = {
    "data.train_list": ("the clip list to train on", "/path/to/train.txt"),
    "data.test_list": ("the clip list to evaluate on", "/path/to/test.txt"),
    "data.val_list": ("the clip list to choose the best weights on", "/path/to/val.txt"),
    "data.root": ("the folder that the list's paths are relative to", "/path/to/videos"),
    "data.classes": ("how many classes the labels have", "101"),
    "weights": ("the weights to start from", "/path/to/weights.safetensors"),
    "target": ("what is written", "/path/to/converted.safetensors"),
    "format": ("how it is written", "videomae"),
    "dataset": ("what the lists are made of", "ucf101"),
    "videos": ("the folder below which the videos lie", "/path/to/videos"),
    "annotations": ("the data set's own annotation files", "/path/to/annotations"),
    "out": ("the directory that is written", "/path/to/out"),
    "runs": ("the runs to report on, as a quoted glob", "'outputs/*'"),
    "video": ("the video file to look at", "/path/to/video.mp4"),
}
MEANINGS |= {
    "list": ("a clip list", "/path/to/list.txt"),
    "root": MEANINGS["data.root"],
    **{f"probe.{n}": MEANINGS[f"data.{n}"] for n in ("train_list", "test_list", "root", "classes")},
}
UNCHECKED = (
    "data.classes",
    "probe.classes",
    "weights",
    "target",
    "format",
    "dataset",
    "out",
    "runs",
)
"""Settings that are no path, or one that is checked where it is used."""


def require(settings: Mapping[str, object]) -> None:
    """Check that these settings, given by their names, are set, and that their paths exist.

    Raises:
        ConfigError: naming all that is missing, and the overrides that give it.
    """
    rows = []
    for key, value in settings.items():
        meaning, example = MEANINGS[re.sub(r"^data\.sources\..*\.", "data.", key)]
        if value is None:
            rows.append(f"  {key} is not set: {meaning}; give {key}={example}")
        elif key not in UNCHECKED and (reason := why_missing(str(value))):
            rows.append(f"  {key}={value} {reason}: {meaning}")
    if rows:
        tips = {
            "  data.sources.": "A source that is left out needs nothing: '~data.sources.NAME'",
            "  data.t": "data.prepared=DIR gives lists and root: python -m videomae.prepare --help",
        }
        rows += [tip for key, tip in tips.items() if any(row.startswith(key) for row in rows)]
        raise ConfigError("not enough to start with:\n" + "\n".join(rows))


def check_place(key: str, path: Path) -> None:
    """Check that a directory can be made, or filled, at `path`.

    Raises:
        ConfigError: naming the setting.
    """
    there = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if os.path.isdir(there) else "is a file"
        raise ConfigError(f"{key}={path}: {there} {what}; choose another {key}")
    reason = why_missing(path)
    if reason and (os.path.islink(path) or reason != DOES_NOT_EXIST):
        raise ConfigError(f"{key}={path} {reason} and cannot be made; choose another {key}")


def check_precision(run: RunConfig) -> None:
    """Check that what is not an evaluation does not run in fp16.

    Raises:
        ConfigError: it would.
    """
    if run.precision is Precision.fp16:
        raise ConfigError(
            "run.precision=fp16 is for evaluate and predict: small gradients vanish in it, and "
            "features are kept in bf16 or float32; leave run.precision at auto"
        )
