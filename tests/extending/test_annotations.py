"""Annotation files of a form of one's own, read by prepare."""

import json
from pathlib import Path

import pytest

from tests.test_commands import call

LABELS = {
    "train": {"clips/0.mp4": "run", "clips/1.mp4": "jump", "clips/2.mp4": "run"},
    "test": {"clips/3.mp4": "jump", "clips/4.mp4": "run"},
}


def prepare(place: Path, videos: Path, dataset: str) -> int:
    words = [f"dataset={dataset}", f"videos={videos}", f"annotations={place}", "out=lists"]
    return call("prepare", *words)


def test_a_reader_of_ones_own_makes_the_lists(place: Path, videos: Path) -> None:
    (place / "labels.json").write_text(json.dumps(LABELS))
    assert prepare(place, videos, "mine.annotations:read") == 0
    lists = place / "lists"
    assert (lists / "classes.txt").read_text().split() == ["jump", "run"]
    assert (lists / "train.txt").read_text().splitlines() == ["0.mp4 1", "1.mp4 0", "2.mp4 1"]
    assert (lists / "test.txt").read_text().splitlines() == ["3.mp4 0", "4.mp4 1"]
    assert json.loads((lists / "prepared.json").read_text())["dataset"] == "mine.annotations:read"


def test_what_it_cannot_read_is_an_error_in_one_piece(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(place, videos, "mine.annotations:read") == 2
    assert "labels.json cannot be read" in capsys.readouterr().err
    assert prepare(place, videos, "mine.annotations:other") == 2
    assert "dataset=mine.annotations:other: " in capsys.readouterr().err
    assert prepare(place, videos, "ucf") == 2
    assert "dataset=ucf must be one of ucf101, hmdb51" in capsys.readouterr().err
    assert not (place / "lists").exists()


WRONG = """
from mine.annotations import *

def made(label=0, part="train", stems=("0",)):
    return Annotations(["run"], {None: [Row("clips/0.mp4", stems, (), label, part, "line 7")]})

def nothing(folder): made()
def too_high(folder): return made(label=5)
def negative(folder): return made(label=-1)
def name(folder): return made(label="run")
def part(folder): return made(part="tarin")
def text(folder): return made(stems="0")
def rows(folder): return Annotations(["run"], {None: [("clips/0.mp4", 0)]})
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "returns NoneType, not videomae.lists.annotations.Annotations"),
        ("too_high", "clips/0.mp4 (line 7) has label 5: it must be the number of one of the 1"),
        ("negative", "has label -1"),
        ("name", "has label 'run'"),
        ("part", "has part 'tarin': it must be one of train, val, test"),
        ("text", "stems and folders must be tuples"),
        ("rows", "gives ('clips/0.mp4', 0) as a row"),
    ],
)
def test_what_a_reader_returns_is_checked(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    module = f"wrong_{name}"  # one that no test has imported before
    (place / "mine" / f"{module}.py").write_text(WRONG)
    assert prepare(place, videos, f"mine.{module}:{name}") == 2
    told = capsys.readouterr().err
    assert f"error: dataset=mine.{module}:{name}" in told
    assert said in told
    assert not (place / "lists").exists()
