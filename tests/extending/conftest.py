"""A working directory with the little package `mine` in it, as a user of videomae has one."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from videomae.run.extensions import extension
from videomae.video.opening import decoder

MINE = Path(__file__).parent / "mine"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory, in which commands are called; nothing of `mine` has been imported."""
    shutil.copytree(MINE, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Take back all that was imported of `mine`, and of modules that tests wrote."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("mine", "theirs")]:
        del sys.modules[name]
    extension.cache_clear()
    decoder.cache_clear()
