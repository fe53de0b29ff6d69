"""Lists of clips: what each line means, and what each wrong line says."""

from dataclasses import replace
from pathlib import Path

import pytest

from videomae.config import ClipConfig, DataConfig, ListFormat, UserError
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip, ClipListError
from videomae.lists.names import class_names

DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32))
FOLDERS = replace(DATA, frame_template="img_{:05}.jpg")
FORM_NAMES = (
    "video",
    "video_label",
    "video_start_total",
    "frames_start_total",
    "frames_total_label",
)


def clips_of(
    folder: Path, text: str, data: DataConfig = DATA, *, labelled: bool = False
) -> list[Clip]:
    """The clips of a list that holds exactly these characters."""
    path = folder / "list.txt"
    path.write_bytes(text.encode())
    return read_clips(path, data, labelled=labelled)


def error_of(
    folder: Path, text: str, data: DataConfig = DATA, *, labelled: bool = False, key: str = "data.b"
) -> str:
    """What a user is told about a list that holds exactly these characters."""
    path = folder / "list.txt"
    path.write_bytes(text.encode())
    with pytest.raises(ClipListError) as error:
        read_clips(path, data, labelled=labelled, key=key)
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a.mp4", "a.mp4", None),
        ("two words.mp4", "two words.mp4", None),
        ("two  blanks.mp4", "two  blanks.mp4", None),
        ("#basketball/x.mp4", "#basketball/x.mp4", None),
        ("#basketball/x y.mp4 3", "#basketball/x y.mp4", 3),
        ("/elsewhere/a.mp4", "/elsewhere/a.mp4", None),
        ("été/日本.mp4", "été/日本.mp4", None),
        ("a.mp4 0", "a.mp4", 0),
        ("a.mp4 400", "a.mp4", 400),
        ("a.mp4\t7", "a.mp4", 7),
        ("take 2/two  words.mp4 12", "take 2/two  words.mp4", 12),
        ("7", "7", None),
        ("7 8", "7", 8),
        ("a.mp4 3.5", "a.mp4 3.5", None),
        ("a.mp4 v3", "a.mp4 v3", None),
        ("a.mp4 0 -1", "a.mp4", None),
        ("two words.mp4 0 -1", "two words.mp4", None),
        ("take 2 0 -1", "take 2", None),
    ],
)
def test_auto_goes_by_the_whole_numbers_that_end_a_line(
    tmp_path: Path, line: str, path: str, label: int | None
) -> None:
    assert clips_of(tmp_path, line + "\n") == [Clip(path, 1, label)]


@pytest.mark.parametrize(
    ("form", "line", "clip"),
    [
        ("video", "a.mp4", Clip("a.mp4", 1)),
        ("video", "take 2", Clip("take 2", 1)),
        ("video", "a.mp4 0 -1", Clip("a.mp4 0 -1", 1)),
        ("video_label", "a.mp4 3", Clip("a.mp4", 1, 3)),
        ("video_label", "take 2 3", Clip("take 2", 1, 3)),
        ("video_label", "#x y.mp4 3", Clip("#x y.mp4", 1, 3)),
        ("video_start_total", "a.mp4 0 -1", Clip("a.mp4", 1)),
        ("video_start_total", "take 2 0 -1", Clip("take 2", 1)),
        ("frames_start_total", "d 1 30", Clip("d", 1, None, 1, 30)),
        ("frames_start_total", "take 2 0 30", Clip("take 2", 1, None, 0, 30)),
        ("frames_start_total", "d 5 1", Clip("d", 1, None, 5, 1)),
        ("frames_total_label", "d 30 4", Clip("d", 1, 4, 1, 30)),
        ("frames_total_label", "take 2 30 0", Clip("take 2", 1, 0, 1, 30)),
    ],
)
def test_a_named_format_takes_that_many_numbers_and_leaves_the_rest_to_the_path(
    tmp_path: Path, form: str, line: str, clip: Clip
) -> None:
    assert clips_of(tmp_path, line, replace(FOLDERS, list_format=ListFormat[form])) == [clip]


def test_first_frame_is_the_start_of_folders_whose_line_has_none(tmp_path: Path) -> None:
    data = replace(FOLDERS, list_format=ListFormat.frames_total_label, first_frame=0)
    assert clips_of(tmp_path, "d 30 4", data)[0].start == 0
    stated = replace(data, list_format=ListFormat.frames_start_total)
    assert clips_of(tmp_path, "d 7 30", stated)[0].start == 7


def test_comments_and_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    text = "# a heading\n\na.mp4\n   \n# b.mp4\n#b.mp4\n\nc.mp4"
    expected = [Clip("a.mp4", 3), Clip("#b.mp4", 6), Clip("c.mp4", 8)]
    assert clips_of(tmp_path, text) == expected


def test_windows_line_ends_are_no_part_of_a_clip(tmp_path: Path) -> None:
    text = "# a heading\r\n\r\na b.mp4 1\r\nc.mp4\r\n"
    assert clips_of(tmp_path, text) == [Clip("a b.mp4", 3, 1), Clip("c.mp4", 4)]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0c"])
def test_only_a_line_end_ends_a_line(tmp_path: Path, separator: str) -> None:
    """File names made of titles hold such characters; str.splitlines breaks lines at them."""
    name = f"one{separator}clip.mp4"
    assert clips_of(tmp_path, f"{name}\nb.mp4\n") == [Clip(name, 1), Clip("b.mp4", 2)]


@pytest.mark.parametrize(
    ("form", "line", "expected"),
    [
        ("video_label", "a.mp4", "path label"),
        ("video_label", "two words.mp4", "path label"),
        ("video_label", "3", "path label"),
        ("video_label", "a.mp4 3.5", "path label"),
        ("video_label", "a.mp4 three", "path label"),
        ("video_start_total", "a.mp4", "path 0 -1"),
        ("video_start_total", "a.mp4 0", "path 0 -1"),
        ("video_start_total", "0 -1", "path 0 -1"),
        ("video_start_total", "a.mp4 0 x", "path 0 -1"),
        ("video_start_total", "a.mp4 1 30", "frames_start_total"),
        ("frames_start_total", "d", "folder start total"),
        ("frames_start_total", "d 30", "folder start total"),
        ("frames_start_total", "d 1 0", "folder start total"),
        ("frames_start_total", "d 1 -1", "folder start total"),
        ("frames_start_total", "d -1 30", "folder start total"),
        ("frames_total_label", "d 30", "folder total label"),
        ("frames_total_label", "d 0 4", "folder total label"),
        ("frames_total_label", "d 30 x", "folder total label"),
    ],
)
def test_a_malformed_line_is_named_with_its_place_and_the_expected_form(
    tmp_path: Path, form: str, line: str, expected: str
) -> None:
    data = replace(FOLDERS, list_format=ListFormat[form])
    good = {"video_label": "a.mp4 0", "video_start_total": "a.mp4 0 -1"}.get(form, "d 1 1")
    message = error_of(tmp_path, f"# a heading\n\n{good}\n{line}\n", data)
    assert f"{tmp_path / 'list.txt'}:4:" in message
    assert repr(line) in message
    assert expected in message


@pytest.mark.parametrize("line", ["a.mp4 3 4", "a.mp4 0 16", "a.mp4 -1 0", "two words 1 -1"])
def test_auto_does_not_guess_what_two_other_numbers_mean(tmp_path: Path, line: str) -> None:
    message = error_of(tmp_path, f"a.mp4\n{line}\n", FOLDERS)
    assert f"{tmp_path / 'list.txt'}:2:" in message
    assert repr(line) in message
    assert "data.list_format" in message
    for name in FORM_NAMES:
        assert f"{name} (" in message


@pytest.mark.parametrize("label", [-1, 5, 400])
def test_a_label_outside_the_classes_is_refused(tmp_path: Path, label: int) -> None:
    data = replace(DATA, classes=5)
    message = error_of(tmp_path, f"a.mp4 4\nb c.mp4 {label}\n", data, labelled=True)
    for part in (f"{tmp_path / 'list.txt'}:2:", "'b c.mp4'", f"label {label}", "0..4", "classes"):
        assert part in message
    assert clips_of(tmp_path, "a.mp4 0\nb.mp4 4\n", data, labelled=True)[1].label == 4


def test_labels_do_not_matter_where_none_are_wanted(tmp_path: Path) -> None:
    data = replace(DATA, classes=5)
    assert clips_of(tmp_path, "a.mp4 77\nb.mp4\n", data)[0].label == 77


@pytest.mark.parametrize("line", ["b c.mp4", "b c.mp4 0 -1"])
def test_a_clip_without_a_label_is_refused_where_one_is_wanted(tmp_path: Path, line: str) -> None:
    message = error_of(tmp_path, f"a.mp4 0\n{line}\n", replace(DATA, classes=5), labelled=True)
    for part in (f"{tmp_path / 'list.txt'}:2:", "'b c.mp4'", "path label"):
        assert part in message


def test_a_missing_list_is_named_with_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "none.txt"
    with pytest.raises(ClipListError) as error:
        read_clips(path, DATA, labelled=False, key="data.test_list")
    assert f"data.test_list={path}" in str(error.value)
    assert isinstance(error.value, UserError)
    with pytest.raises(ClipListError, match=r"data\.train_list"):  # a folder, and the usual setting
        read_clips(tmp_path, DATA, labelled=False)


@pytest.mark.parametrize("text", ["", "\n\n", "# a.mp4\n", "  \r\n"])
def test_an_empty_list_is_an_error_that_shows_the_formats(tmp_path: Path, text: str) -> None:
    message = error_of(tmp_path, text, key="data.test_list")
    assert f"data.test_list={tmp_path / 'list.txt'}" in message
    for name in FORM_NAMES:
        assert f"{name} (" in message


def test_a_list_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("a.mp4\nété.mp4\n".encode("latin-1"))
    with pytest.raises(ClipListError) as error:
        read_clips(path, DATA, labelled=False)
    assert str(path) in str(error.value)


def test_frame_folders_need_a_template(tmp_path: Path) -> None:
    for form in (ListFormat.frames_start_total, ListFormat.frames_total_label):
        with pytest.raises(UserError, match="frame_template"):
            replace(DATA, list_format=form)
        data = replace(FOLDERS, list_format=form)
        assert clips_of(tmp_path, "d 30 4", data)[0].total is not None


def test_class_names_are_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("dance\r\n  sing \r\nété\r\n\r\n".encode())
    data = replace(DATA, classes=3, class_names=str(path))
    assert class_names(data) == ["dance", "sing", "été"]


def test_without_a_file_classes_go_by_their_numbers() -> None:
    assert class_names(replace(DATA, classes=3)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "different", "lines"),
    [("a\nb\n", 2, 2), ("a\nb\nc\nd\n", 4, 4), ("a\nb\na\n", 2, 3), ("", 0, 0)],
)
def test_class_names_must_name_each_class_once(
    tmp_path: Path, text: str, different: int, lines: int
) -> None:
    path = tmp_path / "names.txt"
    path.write_text(text)
    with pytest.raises(ClipListError) as error:
        class_names(replace(DATA, classes=3, class_names=str(path)))
    message = str(error.value)
    assert f"data.class_names={path}" in message
    assert f"{different} different" in message
    assert f"{lines} lines" in message
    assert "data.classes is 3" in message


def test_class_names_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    with pytest.raises(ClipListError, match=r"data\.class_names"):
        class_names(replace(DATA, classes=3, class_names=str(path)))
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ClipListError, match=r"data\.class_names"):
        class_names(replace(DATA, classes=3, class_names=str(path)))
