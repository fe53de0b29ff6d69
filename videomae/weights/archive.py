"""Check a file of torch.save before it is loaded, so that loading takes no more memory than the
file.

torch.load(weights_only=True) runs no code of a file, but obeys it otherwise: it unpacks compressed
entries, makes byte arrays of any length, and copies as often as the file says.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import SEEK_END
from typing import IO

DEEPEST = 100
"""Depth of nested tuples, at most: hashing them takes a stack of the same depth."""
MOST_COPIED = 2**26
"""Number of values and characters that all calls of a pickle together may copy."""
MOST_PICKLE = 2**22
"""Bytes of a pickle, at most; that of ViT-giant has 100,000."""
CALLS = ("REDUCE", "NEWOBJ", "BUILD")
"""Names of the pickle operations that call a function."""
PICKLES = 5
"""Number of pickles in a file from before PyTorch 1.6: three of header, content, storage names."""


def check_archive(file: IO[bytes]) -> None:
    """Check that a zip file is as torch.save writes it: whole entries, none of them compressed.

    Raises:
        ValueError: reading the file might take far more memory than its size.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries, start = archive.infolist(), archive.start_dir
            if start != _directory_start(file):
                raise ValueError("its table of contents is not where torch.save puts it")
            for entry in entries:
                if {entry.compress_type, entry.compress_size - entry.file_size} != {0}:
                    raise ValueError(f"its entry {entry.filename[:80]!r} is compressed")
            size, promised = file.seek(0, SEEK_END), sum(entry.file_size for entry in entries)
            if promised > size:
                raise ValueError(f"its entries are {promised:,} bytes large, all of it {size:,}")
            for entry in entries:
                if entry.filename.endswith("data.pkl"):
                    _check_length(entry.file_size)
                    check_pickle(io.BytesIO(archive.read(entry)))
    except (zipfile.BadZipFile, NotImplementedError, struct.error) as error:
        raise ValueError(f"it is no zip file: {error}") from error


def _directory_start(file: IO[bytes]) -> int | None:
    """Return where a zip file without a comment says that its table of contents begins.

    torch uses this position, Python the one computed from the table's end.
    """
    end = file.seek(0, SEEK_END)
    file.seek(max(0, end - 98))
    tail = file.read().rjust(98, b"\0")
    if tail[76:80] != b"PK\x05\x06":
        return None
    if tail[56:60] != b"PK\x06\x07":
        return int.from_bytes(tail[92:96], "little")
    if int.from_bytes(tail[64:72], "little") != end - 98:
        return None
    return int.from_bytes(tail[48:56], "little")


def check_old_file(file: IO[bytes]) -> None:
    """Check the pickles of a file from before PyTorch 1.6.

    Raises:
        ValueError: a pickle fails check_pickle.
    """
    for _ in range(PICKLES):
        check_pickle(file)


@dataclass(slots=True)
class _Value:
    """Size and depth of a value that a pickle would make."""

    size: int = 1
    """Number of values in it, itself included, and of characters of text."""
    depth: int = 0
    """Depth of nested tuples."""


def check_pickle(file: IO[bytes]) -> None:
    """Follow the operations of a pickle without executing them.

    Raises:
        ValueError: the pickle would make a byte array, nest tuples too deep, or copy too much.
    """
    stack, memo, copied = list[_Value | None](), dict[int, _Value](), 0  # None: a mark
    start = file.tell()
    for operation, argument, place in pickletools.genops(file):
        _check_length((place or 0) - start)
        name = operation.name
        if name == "GLOBAL" and str(argument).split()[-1:] == ["bytearray"]:
            raise ValueError("it holds a bytearray, which is refused")
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = _top(stack)
            continue
        if name in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise ValueError("it recalls what it has not made")
            stack.append(memo[int(argument or 0)])
            continue
        taken = _taken(stack, operation.stack_before)
        size = sum(value.size for value in taken)
        if name in CALLS:
            copied += size
            if copied > MOST_COPIED:
                raise ValueError("it copies more than any weights need")
        if name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
            taken[0].size = size
            stack.append(taken[0])
        elif operation.stack_after:
            made = _Value(size + (len(argument) if isinstance(argument, str | bytes) else 1))
            if name.startswith("TUPLE"):
                made.depth = 1 + max((value.depth for value in taken), default=0)
            if made.depth > DEEPEST:
                raise ValueError(f"it nests tuples more than {DEEPEST} deep")
            stack.append(None if name == "MARK" else made)


def _check_length(length: int) -> None:
    """Check that a pickle has at most MOST_PICKLE bytes."""
    if length > MOST_PICKLE:
        raise ValueError(f"its pickle is longer than {MOST_PICKLE:,} bytes, as none of weights is")


def _top(stack: Sequence[_Value | None]) -> _Value:
    if not stack or (top := stack[-1]) is None:
        raise ValueError("it keeps what it has not made")
    return top


def _taken(stack: list[_Value | None], kinds: Sequence[pickletools.StackObject]) -> list[_Value]:
    """Pop the values that an operation takes from the stack; a mark means all values above it.

    Raises:
        ValueError: the stack holds fewer values.
    """
    taken = list[_Value]()
    count = len(kinds)
    if pickletools.markobject in kinds:
        while stack and (value := stack.pop()) is not None:
            taken.append(value)
        count = kinds.index(pickletools.markobject)
    for _ in range(count):
        if not stack or (value := stack.pop()) is None:
            raise ValueError("it takes what it has not made")
        taken.append(value)
    return taken[::-1]
