"""Atomic writing of files, safe reading of JSON, and SHA-256. Standard library only."""

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
"""Size limit of a JSON document that is read, in bytes; parsing may take 35 times as much
memory."""
MOST_LINE = 2**22
"""Size limit of a line of JSON that is read, in bytes."""
DOES_NOT_EXIST = "does not exist"
SYSTEM_SAYS = re.compile(r"\(os error (\d+)\)")
"""Pattern of the system's error number in error messages of libraries written in Rust."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` when the block ends without an error.

    The data are synced to disk before the file is renamed: a crash leaves the old file or the new.

    Raises:
        OSError: the system refuses; also instead of another library's error, such as that of
            safetensors, that only quotes the system's.
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
    """Add a path to errors of the system that name none, such as a full disk, in the block."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _temporary(name: str, process: str) -> str:
    """Return the temporary name of a file, which keeps its suffix."""
    stem, suffix = os.path.splitext(name)
    return f".{stem}.{process}{suffix}"


def remove_temporaries(directory: Path, names: Iterable[str]) -> None:
    """Remove the temporary files that killed processes left; the names may hold * as in a glob."""
    for name in names:
        for path in directory.glob(_temporary(name, "[0-9]*")):
            path.unlink(missing_ok=True)


def why_missing(path: str | Path) -> str | None:
    """Return why a path does not exist or cannot be accessed; None where it exists."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return DOES_NOT_EXIST
    except (OSError, ValueError) as error:  # a name too long, a folder not to be entered, a NUL
        return f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
    return None


def _umask() -> int:
    """Return the umask of the process; the system only tells it when it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str) -> None:
    """Append a text to a file, in UTF-8.

    Raises:
        OSError: the system refuses; the error names the file.
    """
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def inside(directory: Path, name: str) -> Path:
    """Return the path of a file in a directory, given a name from an untrusted file.

    Raises:
        ValueError: the name leads out of the directory, or to something that is no regular file.
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
    """Return a path after a check that it is a regular file, or that nothing is there.

    Reading a pipe or a device might never end.

    Raises:
        OSError: it is a pipe, a device, a folder or a socket.
    """
    if path.exists() and not path.is_file():
        code = errno.EISDIR if path.is_dir() else errno.ENXIO
        raise OSError(code, "is no regular file", str(path))
    return path


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """Return the value of a JSON file.

    Args:
        most: size limit of the file, in bytes.

    Raises:
        ValueError: it is not JSON, or exceeds the limit.
        OSError: it cannot be read.
    """
    with regular(path).open("rb") as file:
        content = file.read(most + 1)
    return parse_json(content, most)


def parse_json(content: bytes | str, most: int = MOST_JSON) -> Any:
    """Return the value of a JSON document.

    Args:
        most: size limit of the document, in bytes (of a str: in characters).

    Raises:
        ValueError: it is not JSON, nests too deep, or exceeds the limit.
    """
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes of JSON")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("JSON that nests too deep") from error


def whole_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines that is appended to; none if there is no file.

    An incomplete last line, which a killed process leaves, is removed from the file, so that it can
    be appended to. Lines that are not JSON objects are skipped.

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
    """Return the JSON object in a line; None if the line is anything else."""
    try:
        value = parse_json(line, MOST_LINE)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
