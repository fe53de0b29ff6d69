"""Scripts end what they have started, by its process id."""

import re

import pytest

from tests.conftest import ROOT

BY_NAME = re.compile(r"\b(pkill|killall|pidof|skill|fuser)\b|pgrep\b(?! -P)|taskkill")


@pytest.mark.parametrize("folder", [".ci", "scripts", "tests"])
def test_no_program_is_ended_by_its_name(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in ("", ".sh", ".py")]
    files = [path for path in files if path.is_file() and path.name != "test_processes.py"]
    files = [path for path in files if ROOT / "tests" / "earlier" not in path.parents]  # data
    assert files
    for path in files:
        found = BY_NAME.findall(path.read_text(encoding="utf-8").replace('["pgrep", "-P"', ""))
        assert found == [], path
