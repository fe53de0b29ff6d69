"""Files that are written whole or not at all, and their hashes. Standard library only."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DOES_NOT_EXIST = "does not exist"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The data reach the disk before the name does, so that a crash leaves the old file or the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary(path.name, str(os.getpid())))
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers make private files
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def whole_json_lines(path: Path) -> list[Any]:
    """The values in a file of JSON lines that grows by appending; empty where there is none.

    What a killed writer left of a line is cut off, so that the file can be appended to.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
