"""What lies in the directory of a training checkpoint beside its tensors: run.json, and hashes."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from videomae.run.directory import RUN_FILE
from videomae.run.files import inside, read_json, sha256
from videomae.weights.weights import MARK, WeightsInfo, is_link

METADATA = ".metadata"
"""The table of contents of a checkpoint, written after its tensors."""
DATA = ".distcp"
"""The suffix of a checkpoint's files of tensors."""
SAID = {"step": int, "samples": int, "identity": dict, "weights": dict, "sha256": dict}
"""What run.json says, and of which types."""


def is_checkpoint(path: Path) -> bool:
    """Whether a directory is a complete checkpoint."""
    return (path / RUN_FILE).is_file() and (path / METADATA).is_file()


def as_record(info: WeightsInfo) -> Any:
    """What run.json says of the weights."""
    return json.loads(info.metadata()[MARK])


def written_by(rank: int) -> Callable[[str], bool]:
    """Whether the process of that rank wrote the file of a checkpoint that has this name."""
    return lambda name: name.startswith(f"__{rank}_") and name.endswith(DATA)


def hashes(path: Path, chosen: Callable[[str], bool]) -> dict[str, str]:
    """Of the chosen files of a checkpoint, by name; run.json is none of them."""
    files = [file for file in sorted(path.iterdir()) if file.name != RUN_FILE]
    return {file.name: sha256(file) for file in files if chosen(file.name)}


def read_run_file(path: Path) -> dict[str, Any]:
    """run.json of a checkpoint: see SAID; sha256 is of the other files, by name.

    Raises:
        ValueError: it says something else.
        OSError: it cannot be read.
    """
    run = read_json(path / RUN_FILE)
    if not isinstance(run, dict) or any(type(run.get(key)) is not SAID[key] for key in SAID):
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
    """The files of a checkpoint that do not hold what they held, or that it does not know.

    Args:
        recorded: SHA-256 by name, of run.json.
        rank: of `world` processes, each of which reads its share of the files it knows.
    """
    found = {file.name for file in path.iterdir() if file.suffix == DATA or file.name == METADATA}
    mine = sorted(recorded)[rank::world]
    changed = [name for name in mine if not _is_whole(path, name, recorded[name])]
    return sorted([*changed, *(found - recorded.keys())])


def data_file(directory: Path, name: str) -> Path:
    """A file of a checkpoint.

    Raises:
        ValueError: it is no regular file in the directory itself.
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
