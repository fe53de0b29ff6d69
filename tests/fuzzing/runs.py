"""The files beside a checkpoint in a run directory: the run goes on, and a report is made of it."""

import contextlib
import io
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.fuzzing.base import REFUSED, RIGHT, Change, Result, Target, mutate_one, unequal
from tests.fuzzing.documents import Bait
from tests.fuzzing.sizes import run_attacks, yaml_attacks
from tests.fuzzing.training import train_tiny, tune_tiny
from videomae.config import ReportConfig
from videomae.report.__main__ import report

SIDE = (
    *("environment.json", "metrics.jsonl", "bad_files.jsonl", "spikes.jsonl", "warnings.jsonl"),
    "written.json",
)
PRETRAINED = tuple(f"run/{name}" for name in (*SIDE, "config.yaml", "tensorboard/*"))
TUNED = tuple(
    f"run/{name}"
    for name in (*SIDE, "best.json", "results.json", "predictions.jsonl", "config.yaml")
)
BAD_FILES = (
    '{"list": "train", "path": "1.mp4", "line": 2, "error": "damaged"}\n'
    '{"list": "test", "path": "2.mp4", "line": 3, "error": "empty"}\n'
)
WARNINGS = '{"step": 1, "guard": "low_rate", "text": "too low", "setting": "optim.lr"}\n'
SPIKES = '{"step": 1, "loss": 9.0, "usual": 1.0, "videos": ["1.mp4"]}\n'


def make_pretrained() -> None:
    """A run of two steps that has met a bad file and a spike."""
    train_tiny(2)
    _add_rows()


def make_tuned() -> None:
    """A fine-tuning of two steps, evaluated."""
    tune_tiny(2)
    _add_rows()


def _add_rows() -> None:
    (Path("run") / "bad_files.jsonl").write_text(BAD_FILES)
    (Path("run") / "spikes.jsonl").write_text(SPIKES)
    (Path("run") / "warnings.jsonl").write_text(WARNINGS)


def go_on() -> Result:
    """A third step; facts: a hash of the weights."""
    return Result(RIGHT, train_tiny(3, resume="auto"))


def go_on_tuning() -> Result:
    """A third step of fine-tuning, and the evaluation of its best weights."""
    return Result(RIGHT, tune_tiny(3, resume="auto"))


def look() -> Result:
    """The table and the page of a run; what is damaged is named there, and the status is 1."""
    said = io.StringIO()
    out, err = sys.stdout, sys.stderr
    status: Any = 0
    with contextlib.redirect_stdout(_Both(said, out)), contextlib.redirect_stderr(_Both(said, err)):
        try:
            with patch("videomae.run.environment.commit", lambda: "0"):  # git has files of its own
                report(ReportConfig(runs="run", out="report", samples=1))
        except SystemExit as end:
            status = end.code
    assert Path("report/report.html").stat().st_size > 1000
    if status == 0:
        return Result(RIGHT)
    assert status == 1
    return Result(REFUSED, said=" ".join(said.getvalue().split()))


class _Both(io.TextIOBase):
    """Writes to two places."""

    def __init__(self, *places: Any) -> None:
        self.places = places

    def write(self, text: str) -> int:
        """Write a text to both."""
        for place in self.places:
            place.write(text)
        return len(text)


def mutate(files: tuple[str, ...], rng: random.Random, bait: Bait) -> Change:
    """Mutate one to three files."""
    changes = [mutate_one(files, rng, bait) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    names = dict.fromkeys(file for change in changes for file in change.files)
    return Change("; ".join(change.what for change in changes), tuple(names))


TARGETS = (
    Target(
        "side_files",
        "pre-training",
        make_pretrained,
        go_on,
        attacks=run_attacks("environment.json", "written.json"),
        mutate=partial(mutate, PRETRAINED),
        differs=unequal,
        must_go_on=True,
    ),
    Target(
        "side_files",
        "fine-tuning",
        make_tuned,
        go_on_tuning,
        mutate=partial(mutate, TUNED),
        differs=unequal,
        must_go_on=True,
    ),
    Target(
        "side_files",
        "report",
        make_tuned,
        look,
        attacks=(*run_attacks("results.json", "environment.json"), *yaml_attacks()),
        mutate=partial(mutate, TUNED),
        named=("run",),
    ),
)
