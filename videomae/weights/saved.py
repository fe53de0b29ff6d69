"""The run.json and the file hashes of a training checkpoint's directory."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from videomae.run.directory import RUN_FILE
from videomae.run.files import inside, read_json, sha256
from videomae.weights.weights import MARK, WeightsInfo, is_link

METADATA = ".metadata"
"""Name of the file with a checkpoint's table of contents, written after its tensors."""
DATA = ".distcp"
"""Suffix of the files with a checkpoint's tensors."""
FIELDS = {"step": int, "samples": int, "identity": dict, "weights": dict, "sha256": dict}
"""Keys of run.json, and the types of their values."""


def is_checkpoint(path: Path) -> bool:
    """Tell whether a directory is a complete checkpoint."""
    return (path / RUN_FILE).is_file() and (path / METADATA).is_file()


def as_record(info: WeightsInfo) -> Any:
    """Return the value of `weights` in run.json that describes the weights."""
    return json.loads(info.metadata()[MARK])


def written_by(rank: int) -> Callable[[str], bool]:
    """Return the function that tells by a file's name whether the process `rank` wrote it."""
    return lambda name: name.startswith(f"__{rank}_") and name.endswith(DATA)


def hashes(path: Path, chosen: Callable[[str], bool]) -> dict[str, str]:
    """Return the SHA-256 of a checkpoint's chosen files, by name, without run.json."""
    files = [file for file in sorted(path.iterdir()) if file.name != RUN_FILE]
    return {file.name: sha256(file) for file in files if chosen(file.name)}


def read_run_file(path: Path) -> dict[str, Any]:
    """Read run.json of a checkpoint, with the keys of FIELDS; sha256 holds hashes by file name.

    Raises:
        ValueError: a key is missing, or a value has another type.
        OSError: the file cannot be read.
    """
    run = read_json(path / RUN_FILE)
    if not isinstance(run, dict) or any(type(run.get(key)) is not FIELDS[key] for key in FIELDS):
        raise ValueError("it says too little")
    parents = run["weights"].get("parents")
    if not isinstance(parents, list) or not all(map(is_link, parents)):
        raise ValueError("it does not say what the run started from")
    if not all(isinstance(digest, str) for digest in run["sha256"].values()):
        raise ValueError("it holds no hashes of the files")
    return run


def damaged_files(
    path: Path, recorded: Mapping[str, str], rank: int = 0, world: int = 1
) -> list[str]:
    """List the files of a checkpoint that are missing, have changed, or are not recorded.

    Args:
        recorded: SHA-256 by file name, from run.json.
        rank: number of this process among `world`, each of which checks its share of the files.
    """
    found = {file.name for file in path.iterdir() if file.suffix == DATA or file.name == METADATA}
    mine = sorted(recorded)[rank::world]
    changed = [name for name in mine if not _is_whole(path, name, recorded[name])]
    return sorted([*changed, *(found - recorded.keys())])


def data_file(directory: Path, name: str) -> Path:
    """Return the path of a checkpoint's file.

    Raises:
        ValueError: the name leads out of the directory, or to something other than a file.
    """
    path = inside(directory, name)
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(directory):
        raise ValueError(f"{path} is a link that leads out of the directory")
    return path


def _is_whole(path: Path, name: str, recorded: str) -> bool:
    try:
        return sha256(data_file(path, name)) == recorded
    except (OSError, ValueError):
        return False
