"""Read untrusted files of tensors safely: safetensors, or files of torch.save.

Big files are mapped into memory, not read. No code in them is executed: pickled objects may only be
tensors, plain containers, and the settings that official checkpoints hold.
"""

import argparse
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from videomae.config import UserError
from videomae.weights.archive import check_archive, check_old_file


class WeightsError(UserError):
    """Error: weights cannot be read, or do not fit their purpose."""


class Container(Enum):
    """File format of a file of tensors."""

    safetensors = "safetensors"
    torch = "torch"
    old_torch = "old_torch"
    """Format of torch.save before PyTorch 1.6, which cannot be mapped into memory."""


def _dtype(code: object, *arguments: object) -> np.dtype[Any]:
    """Make a NumPy dtype of plain numbers; others, whose size a file may choose, are refused."""
    if code not in DTYPES:
        raise ValueError(f"a NumPy type {str(code)[:20]!r}, which is refused")
    return np.dtype(str(code))


DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "b1")
_SCALAR = np.float64(0).__reduce__()[0]
ADMITTED: list[Any] = [  # beyond what torch admits by itself: tensors, containers, numbers, text
    argparse.Namespace,  # the settings of a run
    (_dtype, "numpy.dtype"),
    *(type(np.dtype(code)) for code in DTYPES),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # before NumPy 2
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,  # torch.load goes by a file's name
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OSError,
    AssertionError,
    MemoryError,
    OverflowError,
    struct.error,
)
"""Exceptions that torch.load raises for files that are damaged or in another format."""
MOST_HEADER = 2**22
"""Bytes of a safetensors file's table of contents, at most; that of ViT-giant has 60,000."""
BATCH_BYTES = 100_000_000
"""Bytes that are copied from a mapped file before it is mapped anew."""


def container_of(path: Path) -> Container:
    """Recognise the format of a file of tensors by its first bytes.

    Raises:
        WeightsError: the file is in no known format, or cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    unfinished = f"{path} is cut off: it ends before its table of contents; get it again"
    if start.startswith(b"PK\x03\x04"):
        if not zipfile.is_zipfile(path):
            raise WeightsError(unfinished)
        return Container.torch
    if start.startswith(b"\x80\x02"):
        return Container.old_torch
    if start[8:9] == b"{":
        if int.from_bytes(start[:8], "little") + 8 > size:
            raise WeightsError(unfinished)
        return Container.safetensors
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} is a Git LFS pointer of {size} bytes, not the weights: run `git lfs pull` "
            "where it was cloned"
        )
    raise WeightsError(
        f"{path} is no checkpoint: neither a safetensors file nor one of torch.save; it starts "
        f"with {start[:16]!r}; get it again, or give other weights"
    )


def open_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Open a safetensors file; return its metadata and its tensors, mapped into memory.

    Raises:
        WeightsError: the file is damaged.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MOST_HEADER:
            raise WeightsError(
                f"{path} cannot be read as a safetensors file: its table of contents has "
                f"{length:,} bytes, more than the {MOST_HEADER:,} that any weights need"
            )
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as a safetensors file ({error}); it is damaged or "
            "unfinished: get it again, or give other weights"
        ) from error


def open_content(path: Path) -> Any:
    """Open a file of tensors, mapped into memory: torch.save's object, or a dict of tensors.

    Raises:
        WeightsError: the file is no checkpoint, is damaged, or holds objects that are refused.
    """
    container = container_of(path)
    if container is Container.safetensors:
        return open_safetensors(path)[1]
    return open_torch(path, mapped=container is Container.torch)


def open_torch(path: Path, *, mapped: bool) -> Any:
    """Load the object that torch.save wrote, with tensors mapped into memory if `mapped`.

    Raises:
        WeightsError: the file is damaged, or holds objects that are refused.
    """
    try:
        _check(path, mapped, path.stat().st_mtime_ns)
        with torch.serialization.safe_globals(ADMITTED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UNREADABLE as error:
        # torch's own advice, to load without weights_only, would run whatever the file says.
        if foreign := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} is refused: besides weights and settings it holds {foreign[1]}, and "
                "pickled code of others is never run. Ask for a file that holds a state dict"
            ) from error
        reason = str(error).split("WeightsUnpickler error: ")[-1].strip() or type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as a file of torch.save ({reason.splitlines()[0]}); it is "
            "damaged or of another kind: get it again, or ask for a file that holds a state dict"
        ) from error


@lru_cache(maxsize=64)
def _check(path: Path, zipped: bool, changed: int) -> None:
    """Check a file by videomae.weights.archive before it is loaded; once, unless it changes."""
    with path.open("rb") as file:
        (check_archive if zipped else check_old_file)(file)


def copied(
    files: Sequence[Path], open_tensors: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Copy the tensors of files to new memory; floating-point tensors become float32.

    Mapped files are mapped anew after every BATCH_BYTES: that frees the pages already copied, so
    that memory never holds more than one copy of the weights.

    Args:
        files: the files that `open_tensors` opens.

    Raises:
        WeightsError: the tensors are larger than the files, as expanded tensors are.
    """
    mapped = Container.old_torch not in map(container_of, files)
    tensors = open_tensors()
    size, promised = sum(x.stat().st_size for x in files), sum(x.nbytes for x in tensors.values())
    if promised > size:
        raise WeightsError(
            f"{', '.join(map(str, files[:4]))}: {promised:,} bytes of tensors in {size:,} bytes: "
            "they share memory or are expanded; ask for a file that holds each of them in full"
        )
    names, copies, budget = list(tensors), dict[str, Tensor](), BATCH_BYTES
    for name in names:
        if mapped and budget < 0:
            del tensors
            tensors, budget = open_tensors(), BATCH_BYTES
        dtype = torch.float32 if tensors[name].is_floating_point() else None
        copies[name] = tensors[name].to(dtype, copy=True, memory_format=torch.contiguous_format)
        budget -= tensors[name].nbytes
    return copies
