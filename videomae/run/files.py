"""Files that are written whole or not at all, and their hashes. Standard library only."""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_JSON = 2**24
"""Bytes of the largest JSON document that is read; a hostile one takes 35 times as much."""
MOST_LINE = 2**22
"""Bytes of the longest line of JSON that is read."""
DOES_NOT_EXIST = "does not exist"
SYSTEM_SAYS = re.compile(r"\(os error (\d+)\)")
"""What errors of libraries in Rust end with."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The data reach the disk before the name does, so that a crash leaves the old file or the new.

    Raises:
        OSError: the system refuses; also where the block's own error only says so, as that of
            safetensors does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f"{os.getpid()}{secrets.randbelow(10**9):09}"  # other hosts have the same process ids
    temporary = path.with_name(_temporary(path.name, own))
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers make private files
        temporary.replace(path)
    except Exception as error:
        said = SYSTEM_SAYS.search(str(error))
        if said and not isinstance(error, OSError):
            raise OSError(int(said[1]), os.strerror(int(said[1])), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name a path in an error of the system that names none, as that of a full disk, while the
    block runs."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _temporary(name: str, process: str) -> str:
    """What a file is called until it is whole. Its suffix still tells what it is."""
    stem, suffix = os.path.splitext(name)
    return f".{stem}.{process}{suffix}"


def remove_temporaries(directory: Path, names: Iterable[str]) -> None:
    """Remove what killed processes left of files of those names, in which * may stand for any."""
    for name in names:
        for path in directory.glob(_temporary(name, "[0-9]*")):
            path.unlink(missing_ok=True)


def why_missing(path: str | Path) -> str | None:
    """Say why there is nothing at a path, or nothing that can be looked at; None where there is."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return DOES_NOT_EXIST
    except (OSError, ValueError) as error:  # a name too long, a folder not to be entered, a NUL
        return f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
    return None


def _umask() -> int:
    """What the user takes from the permissions of new files; reading it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Replace the file at once."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str) -> None:
    """Add to the end of a file.

    Raises:
        OSError: the system refuses; it names the file.
    """
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def inside(directory: Path, name: str) -> Path:
    """The regular file of that name in a directory, as a file of others calls it.

    Raises:
        ValueError: the name leads elsewhere, or to no regular file.
    """
    plain = (
        name not in ("", ".", "..") and not set("/\\\0") & set(name) and len(name.encode()) <= 255
    )
    if not plain:
        raise ValueError(f"{name[:80]!r} is not the name of a file in {directory}")
    path = directory / name
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    return path


def regular(path: Path) -> Path:
    """Return a path, unless what lies there is no regular file: nobody waits for a pipe's writer,
    or reads a device that never ends.

    Raises:
        OSError: it is a pipe, a device, a folder or a socket.
    """
    if path.exists() and not path.is_file():
        code = errno.EISDIR if path.is_dir() else errno.ENXIO
        raise OSError(code, "is no regular file", str(path))
    return path


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value of a JSON file.

    Args:
        most: bytes that it may have.

    Raises:
        ValueError: it holds none, or is larger than any that is meant to be read.
        OSError: it cannot be read.
    """
    with regular(path).open("rb") as file:
        content = file.read(most + 1)
    return parse_json(content, most)


def parse_json(content: bytes | str, most: int = MOST_JSON) -> Any:
    """The value of a JSON document.

    Args:
        most: bytes that it may have.

    Raises:
        ValueError: it is none, nests too deep, or is larger than any that is meant to be read.
    """
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes of JSON")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("JSON that nests too deep") from error


def whole_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines that grows by appending; empty where there is none.

    What a killed writer left of a line is cut off, so that the file can be appended to. A line that
    is no object, as damage makes it, is left out.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return []
    content = regular(path).read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [row for row in map(json_object, whole.split(b"\n")) if row is not None]


def json_object(line: bytes) -> dict[str, Any] | None:
    """The object in a line of JSON; None: it is none."""
    try:
        value = parse_json(line, MOST_LINE)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
