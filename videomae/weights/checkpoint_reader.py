"""Read a directory of torch.distributed.checkpoint without running any code in it.

The metadata file is a pickle. An unpickler that allows only the operations and names of such
metadata turns it into inert records. Each number of the records is checked against the files, and
only then converted to torch's metadata. A checkpoint of this project holds only tensors: any other
object is refused.
"""

import io
import math
import pickle
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from videomae.weights.archive import check_archive
from videomae.weights.saved import METADATA, damaged_files, data_file, read_run_file
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import MARK, Weights, WeightsInfo, as_json, check_info

MODEL, AVERAGE = "model.", "average."
"""Prefixes of the names of the weights, and of their running mean."""
STORAGE = "torch.distributed.checkpoint"
NAMES = (
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
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("builtins", "getattr"),  # a member of an enum, as Python 3.11.0 to 3.11.3 pickle it
)
"""Classes and functions, by module and name, that metadata may refer to."""
DTYPES = {("torch", "float32"): torch.float32, ("torch", "int64"): torch.int64}
"""Dtypes, by module and name, that tensors of a checkpoint may have."""
OPERATIONS = (
    pickle.PROTO,
    pickle.FRAME,
    pickle.STOP,
    pickle.MARK,
    pickle.MEMOIZE,
    pickle.BINGET,
    pickle.LONG_BINGET,
    pickle.BINPUT,
    pickle.LONG_BINPUT,
    pickle.GLOBAL,
    pickle.STACK_GLOBAL,
    pickle.NEWOBJ,
    pickle.REDUCE,
    pickle.BUILD,
    pickle.NONE,
    pickle.NEWTRUE,
    pickle.NEWFALSE,
    pickle.BININT,
    pickle.BININT1,
    pickle.BININT2,
    pickle.LONG1,
    pickle.BINUNICODE,
    pickle.SHORT_BINUNICODE,
    pickle.EMPTY_TUPLE,
    pickle.TUPLE,
    pickle.TUPLE1,
    pickle.TUPLE2,
    pickle.TUPLE3,
    pickle.EMPTY_LIST,
    pickle.APPEND,
    pickle.APPENDS,
    pickle.EMPTY_DICT,
    pickle.SETITEM,
    pickle.SETITEMS,
)
"""Pickle operations that metadata use; no other operation is executed."""
MOST_METADATA = 2**23
"""Bytes of metadata that are always allowed; larger ones may be 1/256 of the tensors' bytes."""
LARGEST, MOST_DIMS = 2**62, 8
"""Largest number in metadata, and largest number of dimensions of a tensor."""


class Record:
    """Inert stand-in for an object in the metadata: its arguments and state, without behaviour."""

    args: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *args: object) -> None:
        self.args = args

    def __setstate__(self, state: object) -> None:
        self.state = state


RECORDS: dict[tuple[str, str], type[Record]] = {key: type(key[1], (Record,), {}) for key in NAMES}


class _MetadataUnpickler(pickle._Unpickler):
    """Unpickler in Python that makes records only; C's would allocate any size a pickle claims."""

    dispatch = {  # noqa: RUF012 - the base class has it so
        operation[0]: pickle._Unpickler.dispatch[operation[0]] for operation in OPERATIONS
    }

    def find_class(self, module: str, name: str) -> Any:
        key = (module, name)
        found = RECORDS.get(key) or DTYPES.get(key)
        if found is None:
            raise pickle.UnpicklingError(f"{METADATA} holds {module}.{name}, which is refused")
        return found


def _unpickled(file: BinaryIO) -> object:
    try:
        return _MetadataUnpickler(file).load()
    except KeyError as error:
        raise ValueError(f"{METADATA} cannot be read: metadata hold no such operation") from error
    except (pickle.UnpicklingError, EOFError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{METADATA} cannot be read: {error}") from error


def _state(value: object, name: str) -> dict[str, Any]:
    """Return the state of a record of class `name`.

    Raises:
        ValueError: `value` is something else.
    """
    if isinstance(value, Record) and type(value).__name__ == name and type(value.state) is dict:
        return value.state
    raise ValueError(f"{METADATA} holds {type(value).__name__} in place of {name}")


def _mapping(value: object, name: str) -> dict[Any, Any]:
    if type(value) is dict:
        return value
    raise ValueError(f"{METADATA} has no {name}")


def _shape(value: object) -> torch.Size:
    """Convert a record of torch.Size, which is a shape or a position in a tensor.

    Raises:
        ValueError: `value` is something else.
    """
    if type(value) is RECORDS["torch", "Size"]:
        args = value.args[0] if len(value.args) == 1 else None
        if type(args) is tuple and len(args) <= MOST_DIMS and all(map(_is_count, args)):
            return torch.Size(args)
    raise ValueError(f"{METADATA} holds {type(value).__name__} in place of a shape")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _tensor(name: object, record: object) -> TensorStorageMetadata:
    """Convert the record of one tensor to torch's metadata.

    Raises:
        ValueError: the record is no tensor's, or its numbers are inconsistent.
    """
    if type(name) is not str:
        raise ValueError(f"{METADATA} holds something without a name")
    if type(record) is not RECORDS[f"{STORAGE}.metadata", "TensorStorageMetadata"]:
        raise ValueError(
            f"{METADATA} declares {name[:200]} as {type(record).__name__}, which torch would "
            "unpickle; a checkpoint of this project holds tensors only"
        )
    state = _state(record, "TensorStorageMetadata")
    properties = getattr(state.get("properties"), "state", None)
    dtype = properties[0] if type(properties) is tuple and properties else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{METADATA} declares {name[:200]} as a tensor of {reprlib.repr(dtype)}")
    shape, parts, chunks = _shape(state.get("size")), state.get("chunks"), []
    for part in parts if type(parts) is list else ():
        place = _state(part, "ChunkStorageMetadata")
        chunk = ChunkStorageMetadata(_shape(place.get("offsets")), _shape(place.get("sizes")))
        ends = [start + size for start, size in zip(chunk.offsets, chunk.sizes, strict=True)]
        if any(end > side for end, side in zip(ends, shape, strict=True)):
            raise ValueError(f"{METADATA} places a part of {name[:200]} outside of {tuple(shape)}")
        chunks.append(chunk)
    if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(shape):
        raise ValueError(f"{METADATA}: the parts of {name[:200]} do not make {tuple(shape)}")
    return TensorStorageMetadata(TensorProperties(dtype), shape, chunks)


def _places(storage: Mapping[object, object]) -> dict[MetadataIndex, _StorageInfo]:
    """Convert the records of the places in files at which the parts of the tensors lie.

    Raises:
        ValueError: a number is out of range, or the data are compressed.
    """
    places = {}
    for key, value in storage.items():
        index, info = _state(key, "MetadataIndex"), _state(value, "_StorageInfo")
        name, file = index.get("fqn"), info.get("relative_path")
        offset, length = info.get("offset"), info.get("length")
        if type(name) is not str or type(file) is not str:
            raise ValueError(f"{METADATA} places something without a name or a file")
        if not (_is_count(offset) and _is_count(length)):
            raise ValueError(
                f"{METADATA} places {name[:200]} at {reprlib.repr((offset, length))} of {file[:80]}"
            )
        if info.get("transform_descriptors"):
            raise ValueError(f"{METADATA}: {name[:200]} is compressed, as no checkpoint here is")
        places[MetadataIndex(name, _shape(index.get("offset")))] = _StorageInfo(
            file, int(offset or 0), int(length or 0)
        )
    return places


def read_metadata(directory: Path) -> Metadata:
    """Read the metadata of a checkpoint, and check them against its files.

    Raises:
        ValueError: the metadata hold something that is refused, or do not fit the files.
        OSError: a file is missing or too short.
    """
    path = data_file(directory, METADATA)
    own, all_of_it = path.stat().st_size, sum(x.stat().st_size for x in directory.glob("*.distcp"))
    if own > max(MOST_METADATA, all_of_it // 256):
        raise ValueError(f"{METADATA} has {own:,} bytes, more than {all_of_it:,} of tensors need")
    with path.open("rb") as file:
        found = _state(_unpickled(file), "Metadata")
    described = _mapping(found.get("state_dict_metadata"), "description of the tensors")
    tensors = {name: _tensor(name, record) for name, record in described.items()}
    places = _places(_mapping(found.get("storage_data"), "places of the tensors"))
    names = {info.relative_path for info in places.values()}
    sizes = {name: data_file(directory, name).stat().st_size for name in names}
    for info in places.values():
        end, size = info.offset + info.length, sizes[info.relative_path]
        if end > size:
            raise OSError(f"{directory / info.relative_path} has {size} of {end} bytes")
    promised = 0
    for name, tensor in tensors.items():
        for chunk in tensor.chunks:
            place = places.get(MetadataIndex(name, chunk.offsets))
            num_bytes = math.prod(chunk.sizes) * tensor.properties.dtype.itemsize
            promised += num_bytes
            if place is None or place.length < num_bytes:
                raise ValueError(f"{METADATA}: the {num_bytes} bytes of {name[:200]} are nowhere")
    if promised > sum(sizes.values()):
        raise ValueError(
            f"{METADATA} promises {promised} bytes, the files have {sum(sizes.values())}"
        )
    return Metadata(dict(tensors), None, places, StorageMeta())


class CheckpointReader(dcp.FileSystemReader):
    """Reader of a checkpoint's tensors, which refuses everything that would be unpickled."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        metadata = read_metadata(Path(self.path))
        assert metadata.storage_meta is not None
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for item in plan.items:
            if item.type is not LoadItemType.TENSOR:
                raise ValueError(f"{item.storage_index.fqn} is no tensor, and is refused")
            target = planner.resolve_tensor(item).detach()
            part = self._part(item)
            if part.shape != target.shape or part.dtype != target.dtype:
                raise ValueError(
                    f"{item.storage_index.fqn} is {tuple(part.shape)} of {part.dtype}, expected "
                    f"{tuple(target.shape)} of {target.dtype}"
                )
            target.copy_(part)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _part(self, item: ReadItem) -> Tensor:
        """Read the slice of a tensor part that `item` asks for, on the CPU."""
        place = self.storage_data[item.storage_index]
        with (Path(self.path) / place.relative_path).open("rb") as file:
            file.seek(place.offset)
            content = io.BytesIO(file.read(place.length))
        check_archive(content)
        content.seek(0)
        tensor = torch.load(content, map_location="cpu", weights_only=True)
        name = item.storage_index.fqn
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided:
            raise ValueError(f"{name} is no tensor that is held in full")
        if tensor.ndim != len(item.lengths):
            raise ValueError(f"{name} has {tensor.ndim} dimensions, expected {len(item.lengths)}")
        for axis, (start, length) in enumerate(
            zip(item.storage_offsets, item.lengths, strict=True)
        ):
            tensor = tensor.narrow(axis, start, length)
        return tensor


def read_checkpoint(path: Path) -> Weights:
    """Read the weights of a checkpoint: the running mean, if there is one.

    Raises:
        WeightsError: the checkpoint is damaged.
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
