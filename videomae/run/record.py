"""The record that an output directory keeps of what our commands wrote into it: names, no contents.

A name is added before the thing itself is written, so that what a killed run leaves is known too.
videomae.run.overwrite removes what is recorded, and nothing else.
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
"""Held while a record is changed: checkpoints are written by a thread of their own."""


def made(directory: Path, name: str, *, folder: bool = False) -> Path:
    """Record that `name` is about to be written in `directory`, and return its path.

    What lies there, or where one of its folders belongs, and is of another kind is set aside.

    Args:
        name: of a file or a folder, relative, with slashes. Whatever a folder holds counts as ours.
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
    """Set aside what is no folder, or no file, where one is to be written."""
    there = os.path.lexists(path)
    if there and not (os.path.isdir(path) if folder else os.path.isfile(path)):
        kind = "folder" if folder else "file"
        if folder or os.path.exists(path):  # a dangling link is replaced by the file
            logger.warning(f"{path} is no {kind}: it is kept as {set_aside(path).name}")


def recorded(directory: Path) -> list[str] | None:
    """The names in the record of a directory; None where there is none that can be read.

    A name that would lead out of the directory is left out: the record may come from others.
    """
    try:
        names = read_json(directory / RECORD)["names"]
        return [name for name in names if _stays_inside(name)]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(directory: Path, names: Iterable[str]) -> None:
    """Replace the record of a directory at once."""
    _make_way(directory / RECORD, folder=False)
    write_text(directory / RECORD, json.dumps({"names": list(names)}, indent=0) + "\n")


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    whole = bool(path.parts) and not path.is_absolute() and "\0" not in name
    return whole and ".." not in path.parts
