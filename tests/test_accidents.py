"""What happens to a run by accident: clocks, files that become others, odd lists and terminals."""

import io
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from rich.text import Text

from tests.conftest import write_list, write_video
from tests.train import finetuning, json_lines, metrics, pretraining, train
from videomae.run import console
from videomae.run.console import Facts, SafeConsole, log_to_console
from videomae.train.resuming import find_checkpoint


def test_a_clock_that_was_set_back_makes_no_older_checkpoint_the_newest(
    videos: Path, tmp_path: Path
) -> None:
    run = train(pretraining(videos, tmp_path / "run", "run.checkpoint_every=1", max_steps=2))
    steps = run / "checkpoints"
    for number, path in enumerate((steps / "step_2", steps / "step_1", steps / "last")):
        for each in (*path.glob("*"), path):
            os.utime(each, (number, number))
    (steps / "last").unlink()
    assert find_checkpoint(steps, "auto") == steps / "step_2"
    os.utime(run / "metrics.jsonl", (2**33, 2**33))
    train(pretraining(videos, run, "run.checkpoint_every=1", max_steps=3, resume="auto"))
    assert [row["step"] for row in metrics(run)] == [1, 2, 3]


def test_a_video_that_becomes_another_during_a_run_is_read_as_it_is(
    videos: Path, tmp_path: Path
) -> None:
    """Shorter, of another size, then no video at all: a bad file at the most."""
    root = tmp_path / "videos"
    names = [f"{number}.mp4" for number in range(4)]
    for number, name in enumerate(names):
        write_video(root / name, seed=number)
    listed = write_list(tmp_path / "list.txt", names * 8)
    run = tmp_path / "run"

    def go_on(max_steps: int) -> None:
        given = ("optim.global_batch=4", "data.max_bad_fraction=0.5")
        settings = {"train_list": listed, "max_steps": max_steps, "resume": "auto"}
        train(pretraining(root, run, *given, **settings))

    go_on(1)
    write_video(root / "0.mp4", frames=5, height=96, width=32, seed=9)
    go_on(3)
    assert not (run / "bad_files.jsonl").exists()
    (root / "0.mp4").write_bytes(b"no video")
    go_on(6)
    assert [row["path"] for row in json_lines(run / "bad_files.jsonl")] == ["0.mp4"]
    assert metrics(run)[-1]["step"] == 6


def test_a_million_lines_of_one_video_are_a_list(videos: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("0.mp4\n" * 1_000_000)
    run = train(pretraining(videos, tmp_path / "run", train_list=listed, max_steps=1))
    assert len(metrics(run)) == 1


@pytest.mark.parametrize("repeats", [1, 3])
def test_odd_numbers_of_views_are_mixed(videos: Path, tmp_path: Path, repeats: int) -> None:
    given = ("augment.mixup=0.8", "augment.cutmix=1.0", f"data.repeats={repeats}")
    run = train(finetuning(videos, tmp_path / "run", *given, "optim.global_batch=3", max_steps=2))
    assert len(metrics(run)) == 2


def test_a_terminal_of_20_columns_shows_all_of_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    narrow = SafeConsole(file=file, width=20, highlight=False)
    monkeypatch.setattr(console, "console", narrow)
    value, how = "1,234,567,890,123", "from_one_long_word_without_blanks"
    with log_to_console():
        logging.getLogger("videomae").info(Facts("run", [("clips in an epoch", value, how)]))
    shown = file.getvalue()
    assert "…" not in shown
    assert all(len(line) <= 20 for line in shown.splitlines())
    assert Counter(value + how) <= Counter(shown)


def test_without_colours_none_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", "xterm-256color")
        file = io.StringIO()
        SafeConsole(file=file, force_terminal=True, width=80).print(Text("x", style="red"))
        said.append(file.getvalue())
    assert said == ["\x1b[31mx\x1b[0m\n", "x\n"]
