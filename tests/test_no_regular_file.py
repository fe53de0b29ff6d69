"""Pipes, devices and folders in the place of files: refused by name, and never waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import composed
from tests.test_commands import call
from videomae.config import UserError
from videomae.lists.annotations import csv_rows
from videomae.lists.clips import read_clips
from videomae.lists.names import read_names
from videomae.lists.prepared import read_prepared
from videomae.run.record import recorded
from videomae.run.sidefiles import mended_object, mended_rows
from videomae.weights.saved import data_file

DATA = composed("pretrain", "model=vit_tiny").data
THINGS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": os.mkdir,
}
READERS: dict[str, Callable[[Path], object]] = {
    "x.txt": lambda path: read_clips(path, DATA, labelled=False),
    "classes.txt": lambda path: read_names(str(path), 3, "data.class_names", "classes"),
    "x.csv": lambda path: list(csv_rows(path)),
    "prepared.json": lambda path: read_prepared(path.parent),
}


@pytest.mark.parametrize("thing", THINGS.values(), ids=THINGS)
@pytest.mark.parametrize("name", READERS)
def test_it_is_refused_by_name(tmp_path: Path, name: str, thing: Callable[[Path], object]) -> None:
    thing(tmp_path / name)
    with pytest.raises(UserError, match=name):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("thing", THINGS.values(), ids=THINGS)
def test_a_run_sets_it_aside(tmp_path: Path, thing: Callable[[Path], object]) -> None:
    for name in ("best.json", "metrics.jsonl", "written.json"):
        thing(tmp_path / name)
    assert mended_object(tmp_path / "best.json", lambda _: True) is None
    assert mended_rows(tmp_path / "metrics.jsonl", lambda _: True) == []
    assert (tmp_path / "metrics.jsonl.damaged").exists()
    assert recorded(tmp_path) is None


@pytest.mark.parametrize("thing", THINGS.values(), ids=THINGS)
@pytest.mark.parametrize("command", ["scan", "pack"])
def test_progress_is_refused_by_name(
    videos: Path,
    tmp_path: Path,
    command: str,
    thing: Callable[[Path], object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "list.txt").write_text("0.mp4\n")
    (tmp_path / "out").mkdir()
    thing(tmp_path / "out/progress.jsonl")
    given = (f"list={tmp_path / 'list.txt'}", f"root={videos}", f"out={tmp_path / 'out'}")
    assert call(command, *given, "workers=1") == 2
    assert "progress.jsonl" in capsys.readouterr().err


def test_links_in_a_circle_lead_to_no_file_of_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises((OSError, ValueError)):
        data_file(tmp_path, "a").stat()
