"""Clip lists from text to Parquet and back."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import write_list
from tests.test_commands import call


@pytest.mark.parametrize(
    ("form", "lines", "labels"),
    [
        ("video", ["a b.mp4", "take 2", "#x.mp4"], None),
        ("auto", ["a b.mp4 3", "c.mp4", "#x.mp4 -1"], [3, None, -1]),
        ("video_label", ["a b.mp4 3", "take 2 0"], [3, 0]),
        ("video_labels", ["a.mp4 3,17", "b.mp4 -", "c.mp4 0"], [[3, 17], [], [0]]),
        ("video_values", ["a.mp4 0.5", "b.mp4 -2"], [0.5, -2.0]),
        ("video_values", ["a.mp4 0.1,1e-7", "b.mp4 -2,3"], [[0.1, 1e-7], [-2.0, 3.0]]),
    ],
)
def test_a_list_becomes_parquet_and_text_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, lines: list[str], labels: Any
) -> None:
    source = write_list(tmp_path / "list.txt", ["# a comment", *lines])
    middle, back = tmp_path / "list.parquet", tmp_path / "back.txt"
    assert call("convert", f"list={source}", f"target={middle}", f"list_format={form}") == 0
    assert "clips" in capsys.readouterr().out
    table = pq.read_table(middle).to_pydict()
    assert table.get("label") == labels
    if form == "auto":  # some lines have no label
        assert call("convert", f"list={middle}", f"target={back}") == 2
        assert "row 2: label is null" in capsys.readouterr().err
        return
    assert call("convert", f"list={middle}", f"target={back}") == 0
    assert f"to be read with list_format={form}" in capsys.readouterr().out
    again = tmp_path / "again.parquet"
    assert call("convert", f"list={back}", f"target={again}", f"list_format={form}") == 0
    assert pq.read_table(again).to_pydict() == table


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a", "b"], "start_frame": [0, 5]}, "row 2: b (frames 5 to the end) is a range"),
        ({"path": ["a\nb", "c"]}, "line 1: 'a\\nb' would be 'a'"),
        ({"path": ["a", "# b"]}, "would hold 1 of 2 clips"),
        ({"path": [" a"]}, "line 1: ' a' would be 'a'"),
    ],
)
def test_what_no_text_can_hold_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: Any, said: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    target = tmp_path / "list.txt"
    assert call("convert", f"list={tmp_path / 'list.parquet'}", f"target={target}") == 2
    assert said in capsys.readouterr().err
    assert not target.exists()


def test_a_target_is_not_replaced_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_list(tmp_path / "list.txt", ["a.mp4"])
    target = tmp_path / "list.parquet"
    target.write_bytes(b"mine")
    given = (f"list={source}", f"target={target}")
    assert call("convert", *given) == 2
    assert target.read_bytes() == b"mine"
    assert call("convert", *given, "overwrite=true") == 0
    assert pq.read_table(target).to_pydict() == {"path": ["a.mp4"]}
    assert call("convert", f"list={source}", f"target={tmp_path / 'other.txt'}") == 2
    assert "of the same kind" in capsys.readouterr().err
