"""The list of mistakes is about the source and the tests as they are."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.mutants.campaign import changed, try_mistake
from tests.mutants.mistakes import MISTAKES, Mistake


def test_each_mistake_changes_one_place_of_the_source() -> None:
    for mistake in MISTAKES:
        right = (ROOT / mistake.file).read_text()
        wrong = changed(right, mistake)
        assert wrong != right
        if mistake.file.endswith(".py"):
            ast.parse(wrong)


def test_each_is_noticed_by_a_test_that_there_is() -> None:
    for mistake in MISTAKES:
        file, name = mistake.test.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_mistake_is_listed_twice() -> None:
    assert len({mistake.what for mistake in MISTAKES}) == len(MISTAKES)
    assert len({(mistake.file, mistake.new) for mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize(("new", "status"), [("a - b", 1), ("b + a", 0), ("a +", 2)])
def test_a_mistake_is_noticed_where_its_test_fails_and_nowhere_else(
    tmp_path: Path, new: str, status: int
) -> None:
    """A failing test is one that ran: a file that cannot be imported proves nothing."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "added.py").write_text("def added(a, b):\n    return a + b\n")
    (tmp_path / "tests" / "test_added.py").write_text(
        "from added import added\n\ndef test_sum():\n    assert added(2, 3) == 5\n"
    )
    mistake = Mistake("a", "added.py", "a + b", new, "test_added.py::test_sum")
    assert try_mistake(tmp_path, mistake)[0] == status
    assert "return a + b" in (tmp_path / "added.py").read_text()


def test_what_is_not_there_once_is_told() -> None:
    mistake = Mistake("a", "x.py", "a", "b", "test_x.py::test_x")
    for text in ("", "a a"):
        with pytest.raises(ValueError, match="mend the list"):
            changed(text, mistake)
