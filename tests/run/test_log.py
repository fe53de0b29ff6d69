"""The run directory: what is refused, removed, cut and written."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from videomae.lists.clips import Clip
from videomae.run import directory, environment
from videomae.run.bad_files import TEST, BadFile, add_bad_files
from videomae.run.console import Say
from videomae.run.directory import RunExistsError, alone
from videomae.run.environment import _commit, write_environment
from videomae.run.log import RunLog, logged
from videomae.train.health import read_bad_files

LOUD = Say(enabled=True)


@contextmanager
def run_log(directory: Path, *, step: int = 0, bad: tuple[BadFile, ...] = ()) -> Iterator[RunLog]:
    directory.mkdir(exist_ok=True)
    with LOUD.bar("test", total=10) as bar:
        log = RunLog(directory, LOUD, bar, step=step, bad=bad)
        try:
            yield log
        finally:
            log.close()


def row(step: int, loss: float = 1.0) -> dict[str, float | None]:
    return {
        "step": step,
        "loss": loss,
        "lr": 0.1,
        "clips_per_s": 10.0,
        "data_s": 0.1,
        "step_s": 0.2,
    }


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_only_one_run_at_a_time_is_in_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "run"
    with (
        alone(directory, LOUD),
        pytest.raises(RunExistsError, match="another process is training"),
        alone(directory, LOUD),
    ):
        pass
    with alone(directory, LOUD), alone(directory, Say(enabled=False)):  # another rank
        pass


def test_a_file_system_without_locks_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(directory.fcntl, "flock", unsupported)
    with alone(tmp_path, LOUD):
        pass


def test_environment_says_what_a_run_ran_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    write_environment(tmp_path, torch.device("cpu"), {"data.train_list": "ab12"})
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert torch.__version__.startswith(facts["versions"]["torch"])
    assert facts["versions"]["numpy"] == np.__version__
    assert (facts["device"], facts["processes"]) == ("cpu", 8)
    assert facts["sha256"] == {"data.train_list": "ab12"}
    assert {"commit", "python", "platform", "command"} <= facts.keys()


def test_environment_remembers_what_the_run_ran_on_before(tmp_path: Path) -> None:
    found = []
    for value in ("a", "b", "c"):
        write_environment(tmp_path, torch.device("cpu"), {"weights": value})
        found.append(json.loads((tmp_path / "environment.json").read_text()))
    assert "before" not in found[0]
    last = found[-1]
    before = last.pop("before")
    assert [one["sha256"]["weights"] for one in (*before, last)] == ["a", "b", "c"]
    assert all(one.keys() == last.keys() for one in before)


def test_the_commit_is_that_of_the_checkout() -> None:
    commit = _commit()
    top = Path(environment.__file__).parents[2]
    if not (top / ".git").exists():
        assert commit is None
        return
    assert commit is not None
    head = os.popen(f"git -C '{top}' rev-parse HEAD").read().strip()
    assert commit.removesuffix("-dirty") == head


def test_rows_are_objects_on_lines_of_their_own_and_numbers_that_are_not_finite_are_null(
    tmp_path: Path,
) -> None:
    with run_log(tmp_path) as log:
        log.metrics(row(1, loss=0.5))
        log.metrics(row(2, loss=float("nan")))
        log.metrics(row(3, loss=float("inf")))
    rows = lines(tmp_path / "metrics.jsonl")
    assert [found["loss"] for found in rows] == [0.5, None, None]
    assert rows[0] == row(1, loss=0.5)
    assert logged(tmp_path, "loss") == ([1], [0.5])
    assert logged(tmp_path, "nothing") == ([], [])


def test_going_on_cuts_what_was_logged_later(tmp_path: Path) -> None:
    with run_log(tmp_path) as log:
        for step in (1, 2, 3, 4):
            log.metrics(row(step, loss=step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    with run_log(tmp_path, step=2) as log:
        assert [found["step"] for found in lines(tmp_path / "metrics.jsonl")] == [1, 2]
        log.metrics(row(3, loss=30))
    assert logged(tmp_path, "loss") == ([1, 2, 3], [1, 2, 30])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 30)]


def test_a_new_run_starts_empty_files(tmp_path: Path) -> None:
    with run_log(tmp_path):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert (tmp_path / "bad_files.jsonl").read_text() == ""


def test_bad_files_come_back_by_their_line(tmp_path: Path) -> None:
    clips = [Clip("a.mp4", 2), Clip("b.mp4", 5), Clip("c d.mp4", 6)]
    bad = [BadFile(2, "c d.mp4", 6, "cut off"), BadFile(0, "a.mp4", 2, "gone")]
    with run_log(tmp_path) as log:
        log.bad_files(bad)
    add_bad_files(tmp_path, [BadFile(1, "b.mp4", 5, "of the test list")], TEST, LOUD)
    rows = lines(tmp_path / "bad_files.jsonl")
    assert rows[0] == {"path": "c d.mp4", "line": 6, "error": "cut off", "list": "train"}
    assert [found["list"] for found in rows] == ["train", "train", "test"]
    assert read_bad_files(tmp_path, clips) == {file.video: file for file in bad}
    assert read_bad_files(tmp_path / "elsewhere", clips) == {}


def test_going_on_keeps_the_bad_files_known_then(tmp_path: Path) -> None:
    early, late = BadFile(0, "a.mp4", 2, "gone"), BadFile(1, "b.mp4", 5, "gone")
    with run_log(tmp_path) as log:
        log.bad_files([early, late])
    with run_log(tmp_path, step=3, bad=(early,)):
        pass
    assert [found["path"] for found in lines(tmp_path / "bad_files.jsonl")] == ["a.mp4"]


def test_only_the_main_process_writes_and_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = Say(enabled=False)
    with silent.bar("test", total=10) as bar:
        log = RunLog(tmp_path, silent, bar, step=0)
        log.metrics(row(1))
        log.bad_files([BadFile(0, "a.mp4", 1, "gone")])
        log.image("picture", np.zeros((2, 2, 3), np.uint8), 1)
        log.progress(1, 1.0, 0.5)
        log.close()
    silent.line("nothing")
    silent.table("nothing", [("a", "b", "c")])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_what_is_said_is_said_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a/long/path/" + 20 * "with spaces and [brackets] " + "end"
    LOUD.line(path)
    LOUD.table("title", [("videos per step", "1,024", "8 x 4 x 32")])
    said = capsys.readouterr()
    assert said.out == ""
    assert path in said.err
    for words in ("title", "videos per step", "1,024", "8 x 4 x 32"):
        assert words in said.err
