"""Imports of the rooms that lie at the bottom point one way."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAY_IMPORT = {
    "lists": {"config", "files", "lists", "typed"},
    "video": {"config", "files", "lists", "typed", "video"},
}
"""The rooms and modules of videomae that those of a room may import."""


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_nothing_from_above(room: str) -> None:
    modules = sorted((ROOT / "videomae" / room).glob("*.py"))
    assert len(modules) > 5
    for module in modules:
        imported = set(re.findall(r"^\s*(?:from|import) videomae\.(\w+)", module.read_text(), re.M))
        assert imported <= MAY_IMPORT[room], Path(module).name
