"""Weights out of a training checkpoint: the parts of all processes, put together."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from videomae.run.directory import RUN_FILE
from videomae.run.files import read_json, sha256
from videomae.weights.checkpoint_reader import METADATA, CheckpointReader, data_file
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import MARK, Weights, WeightsInfo, as_json, check_info, is_link

DATA = ".distcp"
"""The suffix of a checkpoint's files of tensors."""
MODEL, AVERAGE = "model.", "average."
"""What the names of the weights begin with, and those of their running mean."""
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


def _is_whole(path: Path, name: str, recorded: str) -> bool:
    try:
        return sha256(data_file(path, name)) == recorded
    except (OSError, ValueError):
        return False


def read_checkpoint(path: Path) -> Weights:
    """The weights of a checkpoint: the running mean, if there is one.

    Raises:
        WeightsError: it is damaged.
    """
    try:
        run = read_run_file(path)
        if damaged := damaged_files(path, run["sha256"]):
            raise ValueError(f"{', '.join(damaged)} missing or damaged")
        info = WeightsInfo.of({MARK: as_json(run["weights"] | {"step": run["step"]})})
        reader = CheckpointReader(path)
        kept = reader.read_metadata().state_dict_metadata
        prefix = AVERAGE if any(name.startswith(AVERAGE) for name in kept) else MODEL
        state: dict[str, Tensor] = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in kept.items()
            if name.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
        }
        shapes = {name.removeprefix(prefix): tuple(x.shape) for name, x in state.items()}
        check_info(info, shapes, path)
        dcp.load(state, storage_reader=reader, no_dist=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, CheckpointException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"the checkpoint {path} cannot be read: {reason}") from error
    tensors = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return Weights(path, tuple(path / name for name in run["sha256"]), info, tensors)
