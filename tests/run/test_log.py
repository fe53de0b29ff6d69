"""The run directory: what is refused, removed, cut and written."""

import errno
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT
from videomae.lists.formats import Clip
from videomae.run import console, directory, environment
from videomae.run.bad_files import TEST, BadFile, add_bad_files
from videomae.run.console import Facts, log_to_console, progress_bar
from videomae.run.directory import RunExistsError, alone
from videomae.run.environment import write_environment
from videomae.run.log import GuardMessage, RunLog, logged
from videomae.train.stopping import read_bad_files

logger = logging.getLogger("videomae.test")


@contextmanager
def run_log(directory: Path, *, step: int = 0, bad: tuple[BadFile, ...] = ()) -> Iterator[RunLog]:
    directory.mkdir(exist_ok=True)
    with log_to_console(), progress_bar("test", total=10) as bar:
        log = RunLog(directory, bar, is_main=True, step=step, bad=bad)
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
        alone(directory),
        pytest.raises(RunExistsError, match="another process is training"),
        alone(directory),
    ):
        pass
    with alone(directory), alone(directory, is_main=False):  # another rank
        pass


def test_a_file_system_without_locks_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(directory.fcntl, "flock", unsupported)
    with alone(tmp_path):
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
    commit = environment.commit()
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
    # TensorBoard orders files by name: by the second, and then "10" comes before "9".
    time.sleep(1.1)
    with run_log(tmp_path, step=2) as log:
        assert [found["step"] for found in lines(tmp_path / "metrics.jsonl")] == [1, 2]
        log.metrics(row(3, loss=30))
    assert logged(tmp_path, "loss") == ([1, 2, 3], [1, 2, 30])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 30)]


def test_a_run_without_damage_or_warnings_writes_no_file_of_them(tmp_path: Path) -> None:
    names = ("bad_files.jsonl", "spikes.jsonl", "warnings.jsonl")
    for name in names:
        (tmp_path / name).write_text("")  # as earlier versions left them
    with run_log(tmp_path) as log:
        log.bad_files([])
    add_bad_files(tmp_path, [], TEST)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert not [name for name in names if (tmp_path / name).exists()]


def test_a_guard_is_heard_once_a_run_in_the_log_the_file_and_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early, late = (GuardMessage(name, f"{name} is wrong", "optim.lr") for name in ("early", "late"))
    with run_log(tmp_path) as log:
        for step, finding in ((2, early), (3, None), (4, early), (5, late)):
            log.warn(step, finding)
    said = capsys.readouterr().err
    assert said.count("step 2: early is wrong") == said.count("early is wrong") == 1
    rows = lines(tmp_path / "warnings.jsonl")
    assert rows[0] == {"step": 2, "guard": "early", "text": "early is wrong", "setting": "optim.lr"}
    assert [found["step"] for found in rows] == [2, 5]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (event,) = events.Tensors("warnings/early/text_summary")
    assert (event.step, event.tensor_proto.string_val) == (2, [b"early is wrong"])

    with run_log(tmp_path, step=3) as log:
        log.warn(4, early)
        assert [found["guard"] for found in lines(tmp_path / "warnings.jsonl")] == ["early"]
        log.warn(6, late)
    assert [found["step"] for found in lines(tmp_path / "warnings.jsonl")] == [2, 6]


def test_bad_files_come_back_by_their_line(tmp_path: Path) -> None:
    clips = [Clip("a.mp4", 2), Clip("b.mp4", 5), Clip("c d.mp4", 6)]
    bad = [BadFile(2, "c d.mp4", 6, "cut off"), BadFile(0, "a.mp4", 2, "gone")]
    with run_log(tmp_path) as log:
        log.bad_files(bad)
    add_bad_files(tmp_path, [BadFile(1, "b.mp4", 5, "of the test list")], TEST)
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
    with log_to_console(is_main=False), progress_bar("test", total=10) as bar:
        log = RunLog(tmp_path, bar, is_main=False, step=0)
        log.metrics(row(1))
        log.bad_files([BadFile(0, "a.mp4", 1, "gone")])
        log.warn(1, GuardMessage("guard", "wrong", "optim.lr"))
        log.image("picture", np.zeros((2, 2, 3), np.uint8), 1)
        log.progress(1, 1.0, 0.5)
        log.close()
        logger.info("nothing")
        logger.info(Facts("nothing", [("a", "b", "c")]))
        assert capsys.readouterr() == ("", "")
        logger.warning("a file of this process")
    assert capsys.readouterr().err.endswith(" a file of this process\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_is_said_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a/long/path/" + 20 * "with spaces and [brackets] " + "end"
    rows = [("videos per step", "1,024", "8 x 4 x 32"), ("[hd]", "[1]", "")]
    with log_to_console():
        logger.info(path)
        logger.info(Facts("title", rows))
    said = capsys.readouterr()
    assert said.out == ""
    assert path in said.err
    for words in ("title", "videos per step", "1,024", "8 x 4 x 32", "[hd]", "[1]"):
        assert words in said.err


TIME = r"(\d\d):(\d\d):(\d\d) "


def test_outside_of_a_terminal_messages_have_the_time_of_day(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with log_to_console():
        logger.info("100% of %s")
        logger.warning("two\nlines")
        logger.info(Facts("title", [("what", "1", "why")]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    for line, words in zip(lines, ("100% of %s", "two", None, "title", None), strict=True):
        found = re.match(TIME, line)
        assert (found is None) == (words is None)
        if found and words:
            assert line[found.end() :].rstrip() == words
            now, then = datetime.now(), [int(part) for part in found.groups()]
            seconds = (now - now.replace(hour=then[0], minute=then[1], second=then[2])).seconds
            assert seconds % (24 * 3600) < 60


def test_on_a_terminal_messages_are_bare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.console, "_force_terminal", True)
    with log_to_console():
        logger.info("some words")
    assert capsys.readouterr().err == "some words\n"


def test_the_log_is_as_it_was_when_a_run_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package, root = logging.getLogger("videomae"), logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # Hydra leaves its own, for the streams of its time
    before = package.level, package.propagate, package.handlers[:]
    with pytest.raises(ValueError, match="some"), log_to_console():
        raise ValueError("some")
    assert (package.level, package.propagate, package.handlers) == before
    logger.info("to nobody")
    assert capsys.readouterr() == ("", "")


def test_the_log_goes_to_handlers_of_others_too() -> None:
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(handler.format(record))  # type: ignore[method-assign]
    package = logging.getLogger("videomae")
    package.addHandler(handler)
    try:
        with log_to_console():
            logger.info(Facts("title", [("what", "1", "why"), ("else", "2", "")]))
    finally:
        package.removeHandler(handler)
    assert found == ["title\nwhat  1  why\nelse  2"]


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock by which progress is measured, and that stands at `now` seconds."""
    clock = SimpleNamespace(now=1000.0, strftime=time.strftime, localtime=time.localtime)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(console, "time", clock)
    return clock


def test_lines_of_steps_say_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 90 s a step from the first to the second; the seconds before the first do not count."""
    clock = stopped_clock(monkeypatch)
    with run_log(tmp_path) as log:
        for step, seconds in ((1, 400.0), (2, 90.0), (3, 90.0)):
            clock.now += seconds
            log.progress(step, 0.5, 0.1)
            log.metrics(row(step))
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(TIME, line) for line in lines)
    assert [
        line[9:].startswith(f"step {n}/10  loss 1.0000  lr 1.00e-01")
        for n, line in zip((1, 2, 3), lines, strict=True)
    ] == [True] * 3
    assert not lines[0].endswith("left")
    assert lines[1].endswith("waiting for data 50%  0:12:00 left")
    assert lines[2].endswith("  0:10:30 left")


def test_other_progress_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 100 of 1000, one in ten seconds: the 101st is the first, after 10 s."""
    clock = stopped_clock(monkeypatch)
    with log_to_console(), progress_bar("scanning", total=1000, done=100) as bar:
        for _ in range(13):
            clock.now += 10.0
            bar.advance()
    lines = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "scanning 106 of 1,000  2:29:00 left",
        "scanning 112 of 1,000  2:28:00 left",
    ]
    with log_to_console(), progress_bar("scanning", total=1000, unit="videos") as bar:
        for _ in range(7):
            clock.now += 10.0
            bar.advance(5)
    (line,) = capsys.readouterr().err.splitlines()
    assert line[9:] == "scanning 30 of 1,000  0.5 videos/s  0:32:20 left"


def test_commands_log_under_the_package_whatever_they_are_run_as() -> None:
    """Of a module that is run, __name__ is __main__: nobody would show what it logs."""
    for path in sorted((ROOT / "videomae").rglob("*.py")):
        text = path.read_text()
        if "getLogger(" in text and '__name__ == "__main__"' in text:
            names = re.findall(r"getLogger\((.*)\)", text)
            parts = path.relative_to(ROOT).with_suffix("").parts
            assert names == [f'"{".".join(parts).removesuffix(".__main__")}"'], path
