"""Weights out of a training checkpoint: the parts of all processes, put together."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from videomae.files import sha256
from videomae.model.tensors import WeightsError
from videomae.model.weights import MARK, Weights, WeightsInfo, as_json

RUN_FILE = "run.json"
"""What a checkpoint is. It is written last."""
MODEL, AVERAGE = "model.", "average."
"""What the names of the weights begin with, and those of their running mean."""
METADATA = ".metadata"
STORAGE = "torch.distributed.checkpoint"
ALLOWED = {
    (f"{STORAGE}.metadata", "Metadata"),
    (f"{STORAGE}.metadata", "MetadataIndex"),
    (f"{STORAGE}.metadata", "TensorStorageMetadata"),
    (f"{STORAGE}.metadata", "BytesStorageMetadata"),
    (f"{STORAGE}.metadata", "ChunkStorageMetadata"),
    (f"{STORAGE}.metadata", "TensorProperties"),
    (f"{STORAGE}.metadata", "StorageMeta"),
    (f"{STORAGE}.metadata", "_MEM_FORMAT_ENCODING"),
    (f"{STORAGE}.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("torch", "float32"),
    ("torch", "int64"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
}
"""What the metadata of a checkpoint are made of."""


class _MetadataUnpickler(pickle.Unpickler):
    """Makes what metadata are made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{METADATA} holds {module}.{name}, which is refused")
        return super().find_class(module, name)


class CheckpointReader(dcp.FileSystemReader):
    """Reads a checkpoint without running what may be in it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / METADATA).open("rb") as file:
            metadata = _unpickled(file)
        if metadata.storage_meta is None:
            raise ValueError(f"{METADATA} says nothing of the files")
        metadata.storage_meta.load_id = self.load_id
        return metadata


def _unpickled(file: BinaryIO) -> Metadata:
    try:
        metadata = _MetadataUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(f"{METADATA} cannot be read: {error}") from error
    if not isinstance(metadata, Metadata):
        raise ValueError(f"{METADATA} is no metadata of a checkpoint")
    return metadata


def is_checkpoint(path: Path) -> bool:
    """Whether a directory is a complete checkpoint."""
    return (path / RUN_FILE).is_file() and (path / METADATA).is_file()


def as_record(info: WeightsInfo) -> Any:
    """What run.json says of the weights."""
    return json.loads(info.metadata()[MARK])


def hashes(path: Path) -> dict[str, str]:
    """Of the files of a checkpoint but run.json, by name."""
    return {file.name: sha256(file) for file in sorted(path.iterdir()) if file.name != RUN_FILE}


def read_checkpoint(path: Path) -> Weights:
    """The weights of a checkpoint: the running mean, if there is one.

    Raises:
        WeightsError: it is damaged.
    """
    try:
        run: Mapping[str, Any] = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
        found = hashes(path)
        damaged = [name for name, value in run["sha256"].items() if found.get(name) != value]
        if damaged:
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
        dcp.load(state, storage_reader=reader, no_dist=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, CheckpointException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"the checkpoint {path} cannot be read: {reason}") from error
    tensors = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return Weights(path, tuple(path / name for name in run["sha256"]), info, tensors)
