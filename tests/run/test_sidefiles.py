"""Side files of a run: what can be read of a damaged one is kept, and so is the file itself."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videomae.evaluation.scoring import clear_results
from videomae.lists.formats import Clip
from videomae.report.gather import read_run
from videomae.run.bad_files import BadFile
from videomae.run.files import MOST_LINE
from videomae.run.log import logged
from videomae.run.sidefiles import (
    is_any,
    is_bad_file,
    is_best,
    is_environment,
    is_metrics,
    mended_object,
    mended_rows,
    parse_rows,
    read_rows,
    set_aside,
)
from videomae.train.stopping import read_bad_files

ROWS = [{"step": step, "loss": 1 / step} for step in range(1, 9)]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_whole_file_is_read_and_left(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", ROWS)
    assert mended_rows(path, is_metrics) == read_rows(path) == ROWS
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert mended_rows(tmp_path / "none", is_any) == []


def test_a_line_that_a_kill_cut_off_is_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "metrics.jsonl", ROWS)
    path.write_bytes(path.read_bytes()[:-9])
    assert parse_rows(path).cut
    assert mended_rows(path, is_metrics) == ROWS[:-1]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\x00",
        b"[1]",
        b"7",
        b"{}",
        b'{"loss": 1}',
        b'{"step": "1"}',
        b'{"step": -1}',
        b'{"step": 1.5}',
        b'{"step": 1' + b"0" * 400 + b"}",
        b'{"step": 1, "loss": "x"}',
        b'{"step": 1, "loss": [1]}',
        b'{"a":' * 10**4,
        b"\0" * 1000,
    ],
    ids=lambda line: line[:24],
)
def test_what_can_be_read_of_a_damaged_file_is_kept(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "metrics.jsonl", ROWS)
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(damaged := first + b"\n" + line + b"\n" + rest)
    assert logged(tmp_path, "loss")[0] == list(range(1, 9))
    assert mended_rows(path, is_metrics) == ROWS
    (said,) = caplog.messages
    assert f"{path} is damaged in 1 lines, the first is line 2: it is kept as " in said
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
    assert read_rows(path) == ROWS
    assert mended_rows(path, is_metrics) == ROWS  # without a word
    assert len(caplog.messages) == 1


def test_flipped_bits_cost_the_lines_that_they_are_in(tmp_path: Path) -> None:
    whole = written(tmp_path / "metrics.jsonl", ROWS).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        (tmp_path / "metrics.jsonl").write_bytes(content)
        assert len(mended_rows(tmp_path / "metrics.jsonl", is_metrics)) >= len(ROWS) - 2


def test_no_damaged_file_takes_the_place_of_another(tmp_path: Path) -> None:
    names = []
    for number in range(3):
        (tmp_path / "x").write_text(str(number))
        names.append(set_aside(tmp_path / "x").name)
    assert names == ["x.damaged", "x.damaged2", "x.damaged3"]
    assert [(tmp_path / name).read_text() for name in names] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"before": 3}', b'{"before": [3]}']
)
def test_an_object_that_is_damaged_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "environment.json"
    path.write_bytes(content)
    assert mended_object(path, is_environment) is None
    assert (tmp_path / "environment.json.damaged").read_bytes() == content
    assert not path.exists()
    assert mended_object(path, is_environment) is None


def test_a_directory_in_place_of_a_file_is_set_aside(tmp_path: Path) -> None:
    for name in ("rows", "object"):
        (tmp_path / name).mkdir()
    assert mended_rows(tmp_path / "rows", is_any) == []
    assert mended_object(tmp_path / "object", is_best) is None
    assert (tmp_path / "rows.damaged").is_dir()
    assert (tmp_path / "object.damaged").is_dir()


def test_bad_files_whose_rows_are_damaged_are_forgotten_alone(tmp_path: Path) -> None:
    row = {"path": "a.mp4", "line": 2, "error": "gone", "list": "train"}
    odd: list[dict[str, Any]] = [{}, row | {"line": "2"}, row | {"list": 3}, row | {"source": None}]
    path = written(tmp_path / "bad_files.jsonl", [*odd, row])
    clips = [Clip("a.mp4", 2), Clip("b.mp4", 5)]
    assert read_bad_files(tmp_path, clips) == {0: BadFile(0, "a.mp4", 2, "gone")}
    clear_results(tmp_path)
    assert read_rows(path, is_bad_file) == [row]
    assert (tmp_path / "bad_files.jsonl.damaged").exists()


def test_a_report_shows_what_it_can(tmp_path: Path) -> None:
    odd = [{"step": "x"}, {"step": 10**400}, {"step": 3, "loss": "x"}, {"step": 3, "loss": 10**400}]
    written(tmp_path / "metrics.jsonl", [ROWS[0], *odd, *ROWS[1:]])
    written(tmp_path / "bad_files.jsonl", [{"path": 3}, {"path": "a.mp4"}])
    (tmp_path / "results.json").write_text('{"top1": 1' + "0" * 400 + "}")
    (tmp_path / "environment.json").write_text("[" * 10**5)
    (tmp_path / "config.yaml").write_text("[" * 10**4)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/hydra.yaml").write_text("hydra: {runtime: [2001-99-99]}")
    run = read_run(tmp_path)
    assert [point.step for point in run.curves["loss"]] == list(range(1, 9))
    assert [row["path"] for row in run.bad] == ["a.mp4"]
    for name in ("metrics", "bad_files", "results", "environment", "config", "hydra"):
        assert any(f"{name}." in line for line in run.damaged), name
    assert any("line 2 is damaged; 4 lines are left out" in line for line in run.damaged)


def test_a_line_or_a_file_that_takes_too_much_memory_is_damage(tmp_path: Path) -> None:
    dense = '{"step": 9, "loss": [' + '{"":0},' * 600_000 + "0]}"
    path = written(tmp_path / "metrics.jsonl", ROWS)
    path.write_text(path.read_text() + dense + "\n")
    rows = parse_rows(path, is_any)
    assert rows == (ROWS, 9, 1, False)
    (tmp_path / "environment.json").write_text(dense)
    assert mended_object(tmp_path / "environment.json", is_any) is None


@pytest.mark.long
def test_lines_without_end_take_no_more_memory_than_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(ROWS[0]).encode() + b"\n"
    path.write_bytes(good + b"\n" * 300_000 + b"x" * (2 * MOST_LINE) + b"\n" + good)
    tracemalloc.start()
    rows = parse_rows(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == (ROWS[:1] * 2, 2, 300_001, False)
    assert peak < 4 * MOST_LINE
