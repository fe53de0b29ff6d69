"""Clip lists in columns: they say line by line what parse_line says, and are sequences of Clip."""

import pickle
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import write_list
from videomae.config import CLASS, MULTILABEL, ClipConfig, DataConfig, ListFormat
from videomae.lists import clips as clips_module
from videomae.lists import text_files as text_module
from videomae.lists.clips import NONE, ClipList, read_clips
from videomae.lists.formats import Clip, ClipListError, parse_line
from videomae.lists.plain import BLANK
from videomae.lists.targets import FORMATS, labels_of, values_of

DATA = DataConfig(
    clip=ClipConfig(frames=4, stride=2, size=32), frame_template="{:05}.jpg", first_frame=3
)
PIECES = (
    *("a", "B.mp4", "été", "日本", "/", "#", "# ", "_", "\0", "\ufeff", "\u200b", "😀", ".", "x-5"),
    *("0", "7", "12", "007", "-1", "-0", "-", "+3", "3.5", "9" * 18, "9" * 19, "-" + "9" * 18),
    *("٣", "३", "²"),  # digits to Python, but for the last
    *"   \t\x0b\x0c\x1c\x1f\x85\xa0\u2003\u3000",
    "  ",
    *(" 0 -1", " 5", " 1 30", " 30 4", ".mp4", " 3,17", " -", " 0.5,-2", " 1e-5", ",", "e30"),
)
LINES = st.one_of(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), st.text(max_size=12))
TEXTS = st.tuples(
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\n", "\r\n", "\r"])), max_size=6),
    LINES,
).map(lambda drawn: drawn[0] + "".join(line + end for line, end in drawn[1]) + drawn[2])


def one_by_one(path: Path, data: DataConfig, *, labelled: bool) -> list[Clip] | str:
    """The clips of a list, read line by line, or how what is wrong with it begins."""
    try:
        clips = [
            parse_line(line, number, path, data, "data")
            for number, line in enumerate(path.read_text("utf-8-sig").split("\n"), start=1)
            if line.strip() and not line.startswith("# ")
        ]
    except ClipListError as error:
        return str(error)
    if not clips:
        return f"data.train_list={path} lists no clip"
    if labelled and data.target != CLASS:
        return wrong_target(clips, path, data) or clips
    for clip in clips if labelled else ():
        if clip.label is None:
            return f"{path}:{clip.line}: expected 'path label', got {clip.path!r} without a label"
        if data.classes is not None and not 0 <= clip.label < data.classes:
            return f"{path}:{clip.line}: label {clip.label} of {clip.path!r} lies outside"
    return clips


def wrong_target(clips: list[Clip], path: Path, data: DataConfig) -> str | None:
    """How what is wrong with the classes or numbers of a list begins."""
    for clip in clips:
        text = f"{path}:{clip.line}: {clip.target} of {clip.path!r} "
        if data.target == MULTILABEL:
            if any(number >= (data.classes or 10**9) for number in labels_of(clip.target)):
                return f"{text}lies outside"
        elif len(values_of(clip.target)) != len(values_of(clips[0].target)):
            return f"{text}are {len(values_of(clip.target))} numbers"
        elif any(abs(value) > 1e30 for value in values_of(clip.target)):
            return f"{text}holds a number beyond 1e+30"
    if data.target == MULTILABEL and not any(labels_of(clip.target) for clip in clips):
        return f"{path}:{clips[0].line}: - of {clips[0].path!r} and all other lines name no class"
    return None


@pytest.mark.long
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    TEXTS,
    st.sampled_from(ListFormat),
    st.booleans(),
    st.sampled_from([None, 10]),
    st.sampled_from([1, 9, 1 << 20]),
)
def test_a_list_says_what_its_lines_say_one_by_one(
    tmp_path: Path, text: str, form: ListFormat, labelled: bool, classes: int | None, block: int
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    target = {form: target for target, form in FORMATS.items()}.get(form, CLASS)
    data = replace(DATA, list_format=form, classes=classes, target=target)
    expected = one_by_one(path, data, labelled=labelled)
    with patch.object(text_module, "BLOCK", block):
        if isinstance(expected, str):
            with pytest.raises(ClipListError) as error:
                read_clips(path, data, labelled=labelled)
            assert str(error.value).startswith(expected)
        else:
            clips = read_clips(path, data, labelled=labelled)
            assert list(clips) == [clips[index] for index in range(len(clips))] == expected


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("video", ["tag/7123456789012345678.mp4", "two words/日本 3", "#x/été.mp4", "7"]),
        ("auto", ["tag/7123456789012345678.mp4", "été/two words.mp4", "#x/y.mp4 3", "a.mp4 0 -1"]),
        ("video_label", ["a.mp4 0", "two words/日本 3 12", "take 2 -7", "a.mp4\t400"]),
        ("video_start_total", ["a.mp4 0 -1", "two words/日本 3 0 -1"]),
        ("frames_start_total", ["7 1 30", "two words/日本 0 5"]),
        ("frames_total_label", ["7 30 1", "two words/日本 5 0"]),
        ("video_labels", ["a.mp4 0,12", "two words/日本 3 12", "take 2\t-"]),
        ("video_values", ["a.mp4 0,-1.5", "two words/日本 3 .5,1e-3", "take 2\t7.,1E20"]),
    ],
)
def test_plain_lines_are_read_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, lines: list[str]
) -> None:
    path = write_list(tmp_path / "list.txt", ["# comments are not looked at either", *lines])
    data = replace(DATA, list_format=ListFormat[form])
    expected = one_by_one(path, data, labelled=False)
    monkeypatch.setattr(clips_module, "parse_line", None)
    assert read_clips(path, data, labelled=False) == expected


def test_blanks_are_those_of_python() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    found = pc.match_substring_regex(pa.array(characters), f"^[{BLANK}]$")
    assert found.to_pylist() == [character.isspace() for character in characters]


# A sequence

NUMBERS = st.none() | st.integers(-3, 300) | st.integers(NONE + 1, -NONE - 1)
CLIPS = st.lists(
    st.builds(
        Clip,
        path=st.text(max_size=5),
        line=st.integers(1, 1 << 40),
        label=NUMBERS,
        start=NUMBERS,
        total=NUMBERS,
        source=st.sampled_from(["data", "data.sources.a", "data.sources.b"]),
        target=st.sampled_from(["", "3,17", "-", "0.5"]),
        start_frame=st.integers(0, 1 << 31),
        end_frame=st.none() | st.integers(1, 1 << 31),
    ),
    max_size=6,
)


@settings(max_examples=100)
@given(CLIPS, CLIPS, st.slices(6), st.data())
def test_it_is_the_sequence_of_its_clips(
    some: list[Clip], more: list[Clip], index: slice, data: st.DataObject
) -> None:
    clips = ClipList.of(some)
    assert clips == some
    assert (clips == more) == (some == more)
    assert clips[index] == some[index]
    assert ClipList.joined([clips, ClipList.of(more)]) == some + more
    assert pickle.loads(pickle.dumps(clips)) == some
    if some:
        places = data.draw(st.lists(st.integers(0, len(some) - 1)))
        assert clips.take(places) == [some[place] for place in places]
        assert clips[-1] == some[-1]
    with pytest.raises(IndexError):
        clips[len(some)]


def test_an_iteration_goes_on_past_what_it_makes_at_once() -> None:
    many = [Clip(f"{number}.mp4", number + 1) for number in range(2 * clips_module.ROWS + 3)]
    assert list(ClipList.of(many)) == many


def test_videos_are_told_apart_by_source_path_and_range() -> None:
    clips = ClipList.of(
        [
            Clip("a.mp4", 1, source="x"),
            Clip("b.mp4", 2, source="x"),
            Clip("a.mp4", 3, source="x"),
            Clip("b.mp4", 1, source="y"),
            Clip("b.mp4", 2, source="y"),
            Clip("b.mp4", 3, source="y", start_frame=5),
            Clip("b.mp4", 4, source="y", start_frame=5, end_frame=9),
            Clip("b.mp4", 5, source="y", start_frame=5),
        ]
    )
    assert clips.files().tolist() == [0, 1, 0, 2, 2, 3, 4, 3]


def test_clips_shared_with_another_list_are_counted_by_path() -> None:
    train = ClipList.of([Clip("a.mp4", 1, 0), Clip("b.mp4", 2, 1)])
    test = ClipList.of([Clip("b.mp4", 1, 0), Clip("c.mp4", 2, 1), Clip("b.mp4", 3, 1)])
    assert test.num_shared(train) == 2
    assert test.num_shared(ClipList.of([])) == 0


def test_columns_of_one_number_take_no_memory() -> None:
    clips = [Clip("0123456789", number, number % 100, None, None) for number in range(30_000)]
    assert ClipList.of(clips).columns.nbytes < len(clips) * (10 + 8 + 2 + 1) + 100
