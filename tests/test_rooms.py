"""Imports point one way: from commands down to config, and never in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import QUICK, ROOT

PACKAGE = ROOT / "videomae"
BELOW = {
    "config": (),
    "run": ("config",),
    "lists": ("run", "config"),
    "video": ("lists", "run", "config"),
    "model": ("run", "config"),
    "weights": ("model", "run", "config"),
    "data": ("video", "lists", "model", "run", "config"),
    "pictures": ("model", "run", "config"),
    "evaluation": ("data", "weights", "pictures", "video", "lists", "model", "run", "config"),
    "train": (
        *("evaluation", "data", "weights", "pictures", "video", "lists", "model", "run"),
        "config",
    ),
    "curate": (
        *("evaluation", "data", "weights", "pictures", "video", "lists", "model", "run"),
        "config",
    ),
    "report": ("evaluation", "data", "weights", "pictures", "video", "lists", "run", "config"),
}
"""The rooms that each room may import, besides itself; a command may import all of them."""
ENTRY = {"report.__main__", "curate.__main__"}
"""Commands that lie in a room."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = modules()


def imported(name: str, *, at_start: bool = False) -> Iterator[str]:
    """The modules of the package that a module imports.

    Args:
        at_start: only those that are imported when it is.
    """
    tree = ast.parse(MODULES[name].read_text())
    for node in tree.body if at_start else ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("videomae"):
            continue
        place = (node.module or "").removeprefix("videomae").lstrip(".")
        for alias in node.names:
            inner = f"{place}.{alias.name}".lstrip(".")
            yield inner if inner in MODULES else place


def test_the_quick_subset_has_tests_of_every_room() -> None:
    for file in QUICK:
        assert (ROOT / "tests" / file).is_file()
    assert BELOW.keys() <= {Path(file).parts[0] for file in QUICK}
    assert "model/test_golden.py" in QUICK


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders == BELOW.keys()


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_nothing_from_above(room: str) -> None:
    allowed = {room, *BELOW[room]}
    for name in MODULES:
        if name.split(".")[0] != room or name in ENTRY:
            continue
        above = {other for other in imported(name) if other.split(".")[0] not in allowed}
        assert not above, f"{name} imports {above}"


def test_only_the_room_of_pictures_imports_matplotlib() -> None:
    for name, path in MODULES.items():
        nodes = ast.walk(ast.parse(path.read_text()))
        direct = [
            each.name for node in nodes if isinstance(node, ast.Import) for each in node.names
        ]
        nodes = ast.walk(ast.parse(path.read_text()))
        direct += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
        drawn = {each for each in direct if each.split(".")[0] == "matplotlib"}
        assert not drawn or name.split(".")[0] == "pictures", name


def test_no_command_is_imported_by_another_or_by_a_room() -> None:
    commands = {name for name in MODULES if name and "." not in name and name not in BELOW}
    for name in MODULES:
        assert not commands & set(imported(name)), name


def test_no_imports_run_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in imported(name, at_start=True):
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())
