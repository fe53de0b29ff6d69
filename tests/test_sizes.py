"""Files, functions and lists of parameters that a reader holds in mind."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "videomae"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_PARAMETERS = 7
"""Without self and cls. The fields of a dataclass are read by their names: they do not count."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(text: str) -> Iterator[Function]:
    """Every function of a file, the inner ones and methods too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield node


def num_lines(function: Function) -> int:
    """Lines from the first, decorators aside, to the last."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def num_parameters(function: Function) -> int:
    """Parameters that a caller can give."""
    given = function.args
    named = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")])


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_too_large_to_be_read(file: str) -> None:
    text = (PACKAGE / file).read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for function in functions(text):
        assert num_lines(function) <= MOST_LINES_OF_A_FUNCTION, function.name
        if Path(file).parts[0] != "config":
            assert num_parameters(function) <= MOST_PARAMETERS, function.name


def test_what_is_counted() -> None:
    text = """
class Some:
    @property
    async def first(self, a, /, b=1, *, c: int = 2, **d) -> None:
        def inner(x): pass

        return None
"""
    assert [(f.name, num_lines(f), num_parameters(f)) for f in functions(text)] == [
        ("first", 4, 3),
        ("inner", 1, 1),
    ]
