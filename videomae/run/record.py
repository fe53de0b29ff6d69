"""written.json, the record of the files that this package's commands wrote into a directory.

A name is recorded before its file is written, so that the files of a killed run are known too.
videomae.run.overwrite removes recorded files, and nothing else.
"""

import json
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from videomae.run.files import read_json, write_text
from videomae.run.sidefiles import set_aside

logger = logging.getLogger(__name__)

RECORD = "written.json"
_writing = threading.Lock()
"""Lock for changes of a record, since a second thread writes checkpoints."""


def made(directory: Path, name: str, *, folder: bool = False) -> Path:
    """Record that `name` will be written in `directory`, and return its path.

    A file where a folder is needed, or a folder where a file is needed, is renamed.

    Args:
        name: relative path of a file or a folder, with slashes. A recorded folder includes all that
            it holds.
        folder: whether it is a folder.
    """
    parts = PurePosixPath(name).parts
    above = [directory.joinpath(*parts[:depth]) for depth in range(1, len(parts))]
    for path in (*above, *([directory / name] if folder else [])):
        _make_way(path, folder=True)
    if not folder:
        _make_way(directory / name, folder=False)
    with _writing:
        names = recorded(directory) or []
        if name not in names:
            write_record(directory, [*names, name])
    return directory / name


def _make_way(path: Path, *, folder: bool) -> None:
    """Rename what is at a path if it is not of the kind, file or folder, that will be written."""
    there = os.path.lexists(path)
    if there and not (os.path.isdir(path) if folder else os.path.isfile(path)):
        kind = "folder" if folder else "file"
        if folder or os.path.exists(path):  # a dangling link is replaced by the file
            logger.warning(f"{path} is no {kind}: it is kept as {set_aside(path).name}")


def recorded(directory: Path) -> list[str] | None:
    """Return the names in the record of a directory; None if there is no readable record.

    Names that lead out of the directory are left out, since the record may come from others.
    """
    try:
        names = read_json(directory / RECORD)["names"]
        return [name for name in names if _stays_inside(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(directory: Path, names: Iterable[str]) -> None:
    """Replace the record of a directory, atomically."""
    _make_way(directory / RECORD, folder=False)
    write_text(directory / RECORD, json.dumps({"names": list(names)}, indent=0) + "\n")


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    whole = bool(path.parts) and not path.is_absolute() and "\0" not in name
    return whole and ".." not in path.parts
