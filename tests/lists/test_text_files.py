"""Text files of others: what is in them, what is refused, and how little memory they take."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from videomae.config import ClipConfig, DataConfig, Dataset
from videomae.lists import annotations as annotations_module
from videomae.lists import clips as clips_module
from videomae.lists import names as names_module
from videomae.lists import text_files as text_module
from videomae.lists.annotations import READERS, AnnotationError, csv_rows
from videomae.lists.clips import read_clips, write_without
from videomae.lists.formats import ClipListError
from videomae.lists.names import class_names
from videomae.lists.text_files import (
    MOST_LINE,
    MOST_OBJECT,
    NotTextError,
    json_objects,
    text_lines,
)

DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32))
MB = 2**20


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """Check what the objects of the block take at their most."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MB, f"{peak / MB:.0f} MB"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("a\n\ré\u2028", max_size=20), st.sampled_from([1, 3, 1 << 20]))
def test_lines_are_those_of_the_whole_text(tmp_path: Path, text: str, block: int) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    whole = path.read_text("utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "BLOCK", block)
        assert list(text_lines(path)) == (whole.removesuffix("\n").split("\n") if whole else [])


@pytest.mark.parametrize("before", [0, 3, 400_000])
def test_a_line_without_end_is_refused_by_its_number(tmp_path: Path, before: int) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.mp4\n" * before + "x" * MOST_LINE + "\n" + "b" * 10)
    assert sum(1 for _ in text_lines(path)) == before + 2
    path.write_text("a.mp4\n" * before + "x" * (MOST_LINE + 1) + "\nb.mp4\n")
    said = rf"list\.txt cannot be read \(line {before + 1} has more than 2,097,152 characters\)"
    with pytest.raises(ClipListError, match=said):
        read_clips(path, DATA, labelled=False)


@pytest.mark.parametrize("before", [0, 300_000])
def test_what_is_not_utf8_is_refused_by_its_line(tmp_path: Path, before: int) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"a.mp4\n" * before + b"caf\xe9.mp4\nb.mp4\n")
    with pytest.raises(ClipListError, match=rf"list\.txt .*line {before + 1} is not UTF-8"):
        read_clips(path, DATA, labelled=False)
    with pytest.raises(AnnotationError, match=rf"list\.txt .*line {before + 1} is not UTF-8"):
        list(csv_rows(path))


def test_blank_lines_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n" * 4_000_000 + "a.mp4\n" + " \t\n" * 100_000)
    with at_most(60):
        clips = read_clips(path, DATA, labelled=False)
    assert [(clip.path, clip.line) for clip in clips] == [("a.mp4", 4_000_001)]


@pytest.mark.long
def test_lines_that_are_not_plain_cost_as_little_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some at a time are objects of Python, never all of them."""
    monkeypatch.setattr(text_module, "BLOCK", 2**14)
    monkeypatch.setattr(clips_module, "PARSED", 2**12)
    path = tmp_path / "list.txt"
    path.write_text(" a\n" * 100_000)
    with at_most(12):
        clips = read_clips(path, DATA, labelled=False)
    assert len(clips) == 100_000
    assert clips[-1].line == 100_000


def test_a_list_is_copied_line_by_line(tmp_path: Path) -> None:
    path, target = tmp_path / "list.txt", tmp_path / "clean.txt"
    path.write_text("\n" * 1_000_000 + "a.mp4\nb.mp4\nc.mp4")
    with at_most(2):
        write_without(target, path, {1_000_002}, "one left out")
    assert target.read_text() == "# one left out\n" + "\n" * 1_000_000 + "a.mp4\nc.mp4\n"


def test_names_of_classes_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "names.txt"
    path.write_text("a\nb\n" + "\n" * 200)
    data = replace(DATA, classes=2, class_names=str(path))
    assert class_names(data) == ["a", "b"]
    monkeypatch.setattr(names_module, "MOST_NAMES", 100)
    with pytest.raises(ClipListError, match=r"names\.txt cannot be read .*more than 100 char"):
        class_names(data)


# JSON

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=5)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OBJECTS, st.sampled_from([None, 1]), st.booleans(), st.sampled_from([1, 7, 1 << 16]))
def test_objects_are_those_of_the_whole_document(
    tmp_path: Path, objects: list[Any], indent: int | None, ascii_only: bool, most: int
) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(objects, indent=indent, ensure_ascii=ascii_only) + "\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "PIECE", most)
        assert list(json_objects(path)) == objects


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"line 1: expected \["),
        ("{}", r"line 1: expected \["),
        ("[\n{},\n1]", "line 3: expected an object"),
        ("[{},]", "line 1: expected an object"),
        ("[\n\n{}\n{}]", r"line 4: expected \]"),
        ("[{}", r"line 1: expected \]"),
        ("[{}]\n[]", "line 2: expected the end"),
        ('[{"a": 1,\n"b" 2}]', "line 2: Expecting ':' delimiter"),
        ('[{"a": 1},\n{"b', "line 2: Unterminated string"),
        ('[\n{"a": ' + "[" * 60_000, "line 2: "),
        ('[\n{"a": ' + "9" * 60_000 + "}]", "line 2: .*digits"),
        ('[{},\n{"a": "' + "x" * 3 * MOST_OBJECT + '"}]', "line 2: .*more than 65,536 characters"),
    ],
)
def test_what_is_no_list_of_objects_is_refused_by_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(NotTextError, match=said):
        list(json_objects(path))


def test_a_list_of_objects_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    dense = '{"id":0,"a":[' + ",".join(["{}"] * 1000) + "]}"
    path.write_text("[" + ",\n".join([dense] * 1000) + "]")  # of 3 MB; parsed they take 90
    with at_most(3):
        assert sum(1 for _ in json_objects(path)) == 1000


# Annotations

ANNOTATIONS: dict[str, tuple[str, Callable[[int], str]]] = {
    "ucf101": ("classInd.txt", lambda count: "".join(f"{n + 1} c{n}\n" for n in range(count))),
    "hmdb51": ("clap_test_split1.txt", lambda count: "a.avi 1\n" * count),
    "k400": ("train.csv", lambda count: "label,youtube_id,time_start,time_end\n" * count),
    "k710": ("train.csv", lambda count: "a.mp4 1\n" * count),
    "ssv2": ("train.json", lambda count: "[" + ",".join(['{"id":0}'] * count) + "]"),
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_files_of_more_rows_than_any_has_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, content = ANNOTATIONS[name]
    for each in ("trainlist01.txt", "testlist01.txt", "val.csv", "validation.json"):
        (tmp_path / each).write_text("[]" if each.endswith("json") else "")
    (tmp_path / "labels.json").write_text('{"": "0"}')
    monkeypatch.setattr(annotations_module, "MOST_ROWS", 50)
    (tmp_path / file).write_text(content(51))
    reader = READERS[Dataset[name]]
    with pytest.raises(AnnotationError, match=rf"{file}.*: more than 50 rows.* data\.train_list"):
        reader(tmp_path)


def test_blank_rows_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("\n" * 300_000 + "a.mp4,x\n")
    with at_most(30):
        assert list(csv_rows(path)) == [(f"{path}:300001", ["a.mp4", "x"])]


def test_the_numbers_of_classes_are_no_large_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.json").write_text("[]")
    (tmp_path / "labels.json").write_text(json.dumps({f"template {n}": str(n) for n in range(99)}))
    reader = READERS[Dataset.ssv2]
    assert len(reader(tmp_path).classes) == 99
    monkeypatch.setattr(annotations_module, "MOST_LABELS", 1000)
    with pytest.raises(AnnotationError, match=r"labels\.json cannot be read .*more than 1,000"):
        reader(tmp_path)
