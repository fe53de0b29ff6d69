"""Files of tensors, whoever wrote them: safetensors, or what torch.save made.

Big files are mapped into memory, not read. Nothing that they hold is executed: of pickled objects
only tensors, plain containers and what official checkpoints keep beside them are admitted.
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
    """A weights file that cannot be read, or does not fit what it is wanted for."""


class Container(Enum):
    """How a file holds its tensors."""

    safetensors = "safetensors"
    torch = "torch"
    old_torch = "old_torch"
    """Of before PyTorch 1.6: it cannot be mapped."""


def _dtype(code: object, *arguments: object) -> np.dtype[Any]:
    """NumPy's, of plain numbers: others may be as large as a file says."""
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
"""What torch.load raises at files that are damaged, or not of its making."""
MOST_HEADER = 2**22
"""Bytes of the largest table of contents of a safetensors file; that of ViT-giant has 60,000."""
BATCH_BYTES = 100_000_000
"""How much is copied from a mapped file before it is mapped anew."""


def container_of(path: Path) -> Container:
    """What kind of file that is, by its first bytes.

    Raises:
        WeightsError: it is none that holds weights, or only a part of one.
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
    """Metadata and mapped tensors.

    Raises:
        WeightsError: it is damaged.
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
    """What a file holds, with mapped tensors: what torch.save was given, or a dict of tensors.

    Raises:
        WeightsError: it is no checkpoint, damaged, or holds objects that are not admitted.
    """
    container = container_of(path)
    if container is Container.safetensors:
        return open_safetensors(path)[1]
    return open_torch(path, mapped=container is Container.torch)


def open_torch(path: Path, *, mapped: bool) -> Any:
    """What torch.save was given, with mapped tensors.

    Raises:
        WeightsError: it is damaged, or holds objects that are not admitted.
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
    """Look at a file before it is loaded, once unless it has changed; see archive."""
    with path.open("rb") as file:
        (check_archive if zipped else check_old_file)(file)


def copied(
    files: Sequence[Path], open_tensors: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors of files in memory of their own; floating-point ones as float32.

    Mapped files are mapped anew now and then: the pages that were copied are let go, so that never
    more than one copy of the weights is held.

    Args:
        files: which `open_tensors` opens.

    Raises:
        WeightsError: the tensors are larger than the files, as expanded ones are.
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
