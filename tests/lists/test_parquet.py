"""Clip lists in Parquet: what a row means, and files that are damaged or made to do harm."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import write_list
from videomae.config import MULTILABEL, REGRESSION, ClipConfig, DataConfig
from videomae.lists import parquet
from videomae.lists.clips import ClipList, read_clips, write_without
from videomae.lists.formats import Clip, ClipListError
from videomae.lists.overlaps import num_overlapping

DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32), classes=20)
MANY = replace(DATA, target=MULTILABEL)
VALUES = replace(DATA, target=REGRESSION)


def write(target: Path, /, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), target)
    return target


def read(path: Path, data: DataConfig = DATA, *, labelled: bool = False) -> ClipList:
    return read_clips(path, data, labelled=labelled)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return tmp_path / "list.parquet"


def test_rows_are_lines(listed: Path) -> None:
    write(
        listed,
        embedding=[[0.5]] * 4,
        path=["a b.mp4", "# c.mp4", " d ", "a b.mp4"],
        start_frame=pa.array([None, 7, 0, 30], pa.int32()),
        end_frame=pa.array([None, 9, None, None], pa.uint64()),
        label=pa.array([3, 0, None, 19], pa.uint8()),
    )
    assert read(listed) == [
        Clip("a b.mp4", 1, 3),
        Clip("# c.mp4", 2, 0, start_frame=7, end_frame=9),
        Clip(" d ", 3),
        Clip("a b.mp4", 4, 19, start_frame=30),
    ]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_text_of_every_type_is_read(listed: Path, kind: Any) -> None:
    write(listed, path=pa.array(["é.mp4", "b.mp4", "é.mp4"]).cast(kind))
    assert [clip.path for clip in read(listed)] == ["é.mp4", "b.mp4", "é.mp4"]


def test_rows_are_the_same_however_they_are_grouped(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"{number % 7}.mp4" for number in range(1000)]
    table = pa.table({"path": paths, "label": [n % 20 for n in range(1000)]})
    pq.write_table(table, listed, row_group_size=37)
    whole = read(listed, labelled=True)
    monkeypatch.setattr(parquet, "ROWS", 10)
    assert read(listed, labelled=True) == whole
    assert [clip.line for clip in whole] == list(range(1, 1001))


@pytest.mark.parametrize(
    ("data", "labels", "targets"),
    [
        (MANY, [[3, 17], [], [0]], ["3,17", "-", "0"]),
        (MANY, pa.array([[1, 2]] * 3, pa.list_(pa.int8(), 2)), ["1,2"] * 3),
        (VALUES, [0.5, -2.0, 1e-5], ["0.5", "-2", "0.00001"]),
        (VALUES, [1, -2, 3], ["1", "-2", "3"]),
        (VALUES, [[0.1, 2.0], [3.0, -4.5], [0.0, 7.0]], ["0.1,2", "3,-4.5", "0,7"]),
    ],
)
def test_labels_that_are_lists_or_numbers_are_targets(
    listed: Path, tmp_path: Path, data: DataConfig, labels: Any, targets: list[str]
) -> None:
    names = ["a.mp4", "b.mp4", "c.mp4"]
    found = read(write(listed, path=names, label=labels), data, labelled=True)
    form = "video_labels" if data is MANY else "video_values"
    lines = write_list(
        tmp_path / "list.txt", [" ".join(e) for e in zip(names, targets, strict=True)]
    )
    text = replace(data, list_format=type(data.list_format)[form])
    assert found == list(read_clips(lines, text, labelled=True))
    assert read(listed)  # where no label is needed


def test_folders_of_frames_begin_with_the_first_frame(listed: Path) -> None:
    data = replace(DATA, frame_template="{:05}.jpg", first_frame=3)
    write(listed, path=["f", "g", "h"], start_frame=[2, None, 4], end_frame=[9, None, None])
    assert read(listed, data) == [
        Clip("f", 1, start=5, total=7),
        Clip("g", 2, start=3),
        Clip("h", 3, start=7),
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a", None]}, "row 2: path is null"),
        ({"path": ["a", ""]}, "row 2: path is empty"),
        ({"path": ["a", "b" * 40_000]}, "row 2: path has more than 32,768 bytes"),
        ({"path": [1, 2]}, "column path is of type int64: write it as text"),
        ({"path": [b"a", b"b"]}, "column path is of type binary"),
        ({"video": ["a", "b"]}, "has no column path (it has video)"),
        ({"path": ["a", "b"], "start_frame": [0, -3]}, "row 2: '-3' is no start_frame"),
        (
            {"path": ["a", "b"], "start_frame": [0, 1 << 40]},
            f"row 2: '{1 << 40}' is no start_frame",
        ),
        ({"path": ["a", "b"], "end_frame": [4, 0]}, "row 2: '0' is no end_frame"),
        ({"path": ["a", "b"], "start_frame": [0, 9], "end_frame": [5, 9]}, "row 2: frames 9 to 9"),
        ({"path": ["a", "b"], "start_frame": [0, 9], "end_frame": [5, 3]}, "row 2: frames 9 to 3"),
        ({"path": ["a", "b"], "start_frame": [0.0, 1.5]}, "column start_frame is of type double"),
        ({"path": ["a", "b"], "end_frame": ["1", "2"]}, "column end_frame is of type string"),
        ({"path": pa.array([], pa.string())}, "lists no clip"),
    ],
)
def test_rows_that_cannot_be_are_named(listed: Path, columns: Any, said: str) -> None:
    write(listed, **columns)
    with pytest.raises(ClipListError) as error:
        read(listed)
    assert str(error.value).replace(str(listed), "").find(said) >= 0


@pytest.mark.parametrize(
    ("data", "labels", "said"),
    [
        (DATA, None, "has no column label: data.target=class needs one of whole numbers"),
        (DATA, ["x", "y"], "column label is of type string: data.target=class needs whole numbers"),
        (DATA, [True, False], "column label is of type bool"),
        (DATA, [1, None], "row 2: label is null, and data.target=class needs one of each row: "),
        (DATA, [1, 20], "list.parquet: row 2: label 20 of 'b' lies outside the 20 classes"),
        (DATA, [0.5, 1.0], "column label is of type double: data.target=class needs whole numbers"),
        (DATA, [[1], [2]], "data.target=class needs whole numbers"),
        (MANY, [1, 2], "data.target=multilabel needs lists of whole numbers"),
        (MANY, [[1], None], "row 2: label is null"),
        (MANY, [[1], [2, -1]], "row 2: label '[2, -1]': give numbers of classes, from 0"),
        (MANY, [[1], [2, None]], "row 2: label '[2, None]': give numbers of classes"),
        (MANY, [[1], [2, 20]], "list.parquet: row 2: 2,20 of 'b' lies outside the 20 classes"),
        (VALUES, [1.0, float("nan")], "row 2: label 'nan': give finite numbers"),
        (VALUES, [1.0, None], "row 2: label is null"),
        (VALUES, [[1.0], []], "row 2: label has no number"),
        (
            VALUES,
            [[1.0], [1.0, 2.0]],
            "list.parquet: row 2: 1,2 of 'b' are 2 numbers, the first line",
        ),
        (VALUES, [1.0, 1e31], "list.parquet: row 2: 1e+31 of 'b' holds a number beyond 1e+30"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(
    listed: Path, data: DataConfig, labels: Any, said: str
) -> None:
    write(listed, path=["a", "b"], **({} if labels is None else {"label": labels}))
    with pytest.raises(ClipListError) as error:
        read(listed, data, labelled=True)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "labels",
    [["x", "y"], [True, False], [0.5, None], [None, None], [-3, 10**12], [["a"], []], [[-1], None]],
)
def test_labels_that_nothing_learns_are_not_looked_at(listed: Path, labels: Any) -> None:
    assert [clip.path for clip in read(write(listed, path=["a", "b"], label=labels))] == ["a", "b"]


def test_bytes_that_are_no_text_are_named(listed: Path) -> None:
    broken = pa.array([b"a.mp4", b"\xff.mp4"]).view(pa.string())
    write(listed, path=broken)
    with pytest.raises(ClipListError, match="path of one of the rows 1 to 2 is not UTF-8"):
        read(listed)


def test_a_name_that_stands_for_several_columns_is_refused(listed: Path) -> None:
    pq.write_table(pa.table([["a"], ["b"]], names=["path", "path"]), listed)
    with pytest.raises(ClipListError, match="several columns path"):
        read(listed)


def test_a_file_that_was_cut_short_is_refused_wherever_it_was_cut(listed: Path) -> None:
    content = write(listed, path=[f"{number}.mp4" for number in range(200)]).read_bytes()
    for size in range(0, len(content), 7):
        listed.write_bytes(content[:size])
        with pytest.raises(ClipListError, match="it may be cut short; copy it again"):
            read(listed)


def varint(number: int) -> bytes:
    """A whole number as Thrift's compact protocol writes it."""
    left, found = number << 1, b""
    while left >= 0x80:
        found, left = found + bytes([left & 0x7F | 0x80]), left >> 7
    return found + bytes([left])


def claim(path: Path, rows: int, claimed: int) -> None:
    """Make a file of `rows` rows claim another number of them, wherever it says how many."""
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], content[-8 - length : -8]
    header = b"\x16"  # header of the next field, of 64 bits
    footer = footer.replace(header + varint(rows), header + varint(claimed))
    path.write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize("claimed", [10**12, 10**9, 4])
def test_a_file_that_claims_other_numbers_of_rows_is_refused(listed: Path, claimed: int) -> None:
    write(listed, path=["a.mp4", "b.mp4", "c.mp4"])
    claim(listed, 3, claimed)
    with pytest.raises(ClipListError, match=f"{claimed:,} rows|list in Parquet"):
        read(listed)


def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"path": ["a" * (1 << 20)] * 100})
    pq.write_table(table, listed, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    assert listed.stat().st_size < 10**6
    monkeypatch.setattr(parquet, "most_memory", lambda: 1 << 26)
    with pytest.raises(ClipListError, match=r"machine's memory|more than 32,768 bytes"):
        read(listed)


def test_a_small_file_of_large_words_takes_no_more_memory_than_is_allowed(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(listed, path=["a" * 30_000] * 10_000)
    assert listed.stat().st_size < 10**6
    monkeypatch.setattr(parquet, "most_memory", lambda: 1 << 26)
    with pytest.raises(ClipListError, match="more than half of this machine's memory"):
        read(listed)


def test_flipped_bits_never_do_more_than_refuse_a_list(listed: Path) -> None:
    rng = random.Random(0)
    columns = {"path": [f"{n}.mp4" for n in range(50)], "label": [[n % 20] for n in range(50)]}
    content = write(listed, **columns, start_frame=list(range(50))).read_bytes()
    refused = 0
    for _ in range(400):
        flipped = bytearray(content)
        for _ in range(rng.choice([1, 3])):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        listed.write_bytes(flipped)
        try:
            read(listed, MANY, labelled=True)
        except ClipListError:
            refused += 1
    assert 40 < refused < 400


def test_a_list_without_some_rows_keeps_its_columns(listed: Path, tmp_path: Path) -> None:
    schema = pa.schema([("path", pa.string()), ("score", pa.list_(pa.float32()))], {"by": "us"})
    rows = {"path": ["a", "b", "c", "d"], "score": [[0.5], [], None, [1.0, 2.0]]}
    pq.write_table(pa.table(rows, schema=schema), listed, row_group_size=2)
    write_without(tmp_path / "less.parquet", listed, {2, 4}, "not said in Parquet")
    found = pq.read_table(tmp_path / "less.parquet")
    assert found.to_pydict() == {"path": ["a", "c"], "score": [[0.5], None]}
    assert found.schema.metadata[b"by"] == b"us"


def overlapping(spans: Sequence[tuple[str, int, int]]) -> int:
    """How many ranges share a frame with any other."""
    return sum(
        any(
            path == p and start < e and s < end for p, s, e in [*spans[:place], *spans[place + 1 :]]
        )
        for place, (path, start, end) in enumerate(spans)
    )


def test_each_range_that_shares_frames_is_counted(listed: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = rng.integers(0, 30, 12)
        ends = starts + rng.integers(1, 9, 12)
        paths = [str(name) for name in rng.integers(0, 3, 12)]
        clips = read(write(listed, path=paths, start_frame=starts, end_frame=ends))
        spans = list(zip(paths, starts.tolist(), ends.tolist(), strict=True))
        assert num_overlapping(clips) == overlapping(spans)
