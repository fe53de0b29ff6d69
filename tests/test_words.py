"""Docstrings stand alone: nobody has to read the line above to understand one.

A reader lands on a docstring from a search or an editor's pop-up. So it may not begin with words
that lean on something else, and one class name stands for one class in the whole package.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "videomae"
LEANING = re.compile(r"(Of|The same|Likewise|That of|Those of|What)\b")
"""Beginnings of docstrings that need the line above to be understood."""
FEWEST_WORDS = 2
OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
"""Nodes whose first statement may be a docstring."""
ASSIGNMENTS = (ast.Assign, ast.AnnAssign)
"""Statements below which the docstring of an attribute may stand."""


def checked() -> list[Path]:
    """The modules whose docstrings are checked."""
    return sorted(PACKAGE.rglob("*.py"))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring: of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        statements = body if isinstance(body, list) else []
        documented = list(pairwise(statements))
        if statements and isinstance(node, OWNERS):
            documented.insert(0, (node, statements[0]))
        for owner, statement in documented:
            value = statement.value if isinstance(statement, ast.Expr) else None
            text = value.value if isinstance(value, ast.Constant) else None
            if isinstance(owner, (*OWNERS, *ASSIGNMENTS)) and isinstance(text, str):
                yield statement.lineno, text.strip()


def faults(source: str) -> list[str]:
    """Line and beginning of every docstring that does not stand alone."""
    return [
        f"{line}: {text.splitlines()[0][:80] if text else ''}"
        for line, text in docstrings(ast.parse(source))
        if LEANING.match(text) or len(text.split()) < FEWEST_WORDS
    ]


def class_names(path: Path) -> list[str]:
    """Every class that a module defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("path", checked(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_docstrings_stand_alone(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        '"""What a run needs."""',
        'WIDTHS = (32, 64)\n"""Of heads."""',
        'class Part:\n    """Of a model."""',
        'class Mix:\n    own: float\n    """Likewise."""',
        'def f():\n    """The same, of a classifier."""',
        'if f:\n    async def g():\n        """Those of f."""',
        'class A:\n    def __init__(self):\n        self.b = 1\n        """That of A."""',
        '"""Bytes."""',
    ],
)
def test_a_leaning_docstring_is_found_wherever_it_stands(source: str) -> None:
    assert faults(source)


def test_a_plain_docstring_passes() -> None:
    assert not faults('"""Office hours."""\nSIZE = 1\n"""Bytes of one batch, at most."""')


def test_a_class_name_stands_for_one_class() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in class_names(path):
            places.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    assert {name: where for name, where in places.items() if where[1:]} == {}
