"""Folders of one's own videos, good and bad: classes, splits, copies. No file here is decoded."""

from pathlib import Path

import pytest

from videomae.lists.own_folder import (
    OwnFolder,
    OwnFolderError,
    check_not_empty,
    read_own_folder,
    without_copies,
)

SCRIPTS = ("прыжок", "走る", "ركض", "Ἅλμα")
"""Names of classes in four scripts."""


def folder_of(root: Path, *paths: str) -> OwnFolder:
    """The folder after files were written, each with bytes of its own."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return read_own_folder(root)


def classes_of(folder: OwnFolder) -> dict[str, str]:
    return {video.path: video.class_name for video in folder.videos}


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "run/1.mp4", "jump/1.mov", "jump/day 2/b.mp4")
    assert folder.classes == ["jump", "run"]
    assert classes_of(folder) == {
        "jump/1.mov": "jump",
        "jump/day 2/b.mp4": "jump",
        "run/1.mp4": "run",
    }


def test_names_in_four_scripts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, *(f"{name}/{name} 1.mp4" for name in SCRIPTS))
    assert folder.classes == sorted(SCRIPTS)
    assert all(video.path.startswith(video.class_name) for video in folder.videos)


def test_folders_nested_three_deep_are_entered_down_to_the_classes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "data/videos/run/1.mp4", "data/videos/jump/1.mp4")
    assert folder.classes == ["jump", "run"]
    assert folder.root == tmp_path / "data" / "videos"
    assert "data/videos/" in " ".join(folder.notes)


def test_class_folders_that_differ_in_case_or_accents_only_are_one_class(tmp_path: Path) -> None:
    names = ("Jump/1.mp4", "jump/2.mp4", "jump/3.mp4", "caf\u00e9/1.mp4", "cafe\u0301/2.mp4")
    folder = folder_of(tmp_path, *names)
    assert folder.classes == ["caf\u00e9", "jump"]
    assert "the folders Jump/ jump/ are one class, jump" in folder.notes
    assert len(folder.videos) == 5


def test_top_folders_that_are_named_so_are_splits(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Train/a/1.mp4", "Train/b/1.mp4", "test/a/2.mp4", "test/b/2.mp4")
    assert folder.classes == ["a", "b"]
    assert {video.path.split("/")[0]: video.part for video in folder.videos} == {
        "Train": "train",
        "test": "test",
    }


def test_a_class_may_be_called_training(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "training/1.mp4", "match/1.mp4")
    assert folder.classes == ["match", "training"]
    assert not folder.parts


def test_photographs_are_no_videos(tmp_path: Path) -> None:
    with pytest.raises(OwnFolderError, match=r"4 images .* such as cat/IMG_0\.jpg.*prepare"):
        folder_of(tmp_path, *(f"{c}/IMG_{n}.jpg" for c in ("cat", "dog") for n in range(2)))


def test_an_empty_folder_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(OwnFolderError, match=r"holds no video.*1 \.txt"):
        read_own_folder(tmp_path)


def test_a_loose_video_beside_classes_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a/1.mp4", "b/1.mp4", "loose.mp4")
    assert [(each.kind, each.what) for each in folder.problems] == [("in_no_class", "loose.mp4")]


def test_of_the_same_bytes_in_train_and_test_the_test_video_stays(tmp_path: Path) -> None:
    paths = [f"{part}/{c}/{n}.mp4" for part in ("train", "test") for c in "ab" for n in range(3)]
    folder_of(tmp_path, *paths)
    (tmp_path / "train/a/copy.mp4").write_bytes((tmp_path / "test/a/1.mp4").read_bytes())
    (tmp_path / "train/a/again.mp4").write_bytes((tmp_path / "train/a/0.mp4").read_bytes())
    for name in ("x.mp4", "x (1).mp4"):  # as a browser calls a second download
        (tmp_path / "train/a" / name).write_bytes(b"another")
    folder = without_copies(read_own_folder(tmp_path))
    left = {video.path for video in folder.videos}
    assert left == {*paths, "train/a/x.mp4"}
    assert {each.what: each.where for each in folder.problems} == {
        "train/a/copy.mp4": "the same bytes as test/a/1.mp4",
        "train/a/again.mp4": "the same bytes as train/a/0.mp4",
        "train/a/x (1).mp4": "the same bytes as train/a/x.mp4",
    }


def test_the_same_bytes_in_two_classes_say_nothing(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.mp4")
    (tmp_path / "b/2.mp4").write_bytes((tmp_path / "a/2.mp4").read_bytes())
    folder = without_copies(read_own_folder(tmp_path))
    assert {video.path for video in folder.videos} == {"a/1.mp4", "b/1.mp4"}
    assert {each.kind for each in folder.problems} == {"in_two_classes"}


def test_a_class_that_is_left_empty_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a/1.mp4", "b/1.mp4").without("broken", {"b/1.mp4": "no header"})
    with pytest.raises(OwnFolderError, match=r"class b is left without a video \(b/1\.mp4: no hea"):
        check_not_empty(folder)


def test_a_split_that_is_left_empty_is_named(tmp_path: Path) -> None:
    paths = ("train/a/1.mp4", "train/b/1.mp4", "test/a/2.mp4")
    folder = folder_of(tmp_path, *paths).without("broken", {"test/a/2.mp4": "no header"})
    with pytest.raises(OwnFolderError, match="split test is left without a video"):
        check_not_empty(folder)


def test_a_class_with_nothing_to_train_on_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "train/a/1.mp4", "test/a/2.mp4", "test/b/2.mp4")
    with pytest.raises(OwnFolderError, match="class b has videos to test on and none"):
        check_not_empty(folder)


def test_why_a_class_has_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    paths = [f"{part}/{c}/{n}.mp4" for part in ("train", "test") for c in "ab" for n in range(2)]
    folder_of(tmp_path, *paths)
    for number in range(2):
        own, other = (tmp_path / part / f"a/{number}.mp4" for part in ("train", "test"))
        own.write_bytes(other.read_bytes())
    said = (
        r"none left in the split train: 2 files .*train/a/0\.mp4: the same bytes as test/a/0\.mp4"
    )
    with pytest.raises(OwnFolderError, match=said):
        check_not_empty(without_copies(read_own_folder(tmp_path)))


def test_folders_inside_the_classes_are_said_to_be_recordings(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "one", "park/a/1.mp4", "park/2.mp4", "home/c/d/1.mp4")
    said = "folders inside the classes (home/c/d, park/a) are taken as recordings, not as classes"
    assert folder.notes == [said]
    paths = [f"{day}/{c}/{n}.mp4" for day in ("day1", "day2") for c in "ab" for n in range(2)]
    (note,) = folder_of(tmp_path / "two", *paths).notes
    assert "(day1/a, day1/b, day2/a, ...)" in note
    assert (
        "a, b lie in several classes: if they are the classes, put them on top, as a/day1" in note
    )
    assert not folder_of(tmp_path / "three", "a/1.mp4", "b/1.mp4").notes


def test_a_folder_without_a_video_is_no_class_and_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").touch()
    (tmp_path / "line\nend").mkdir()
    (tmp_path / "line\nend" / "1.mp4").write_text("x")
    (tmp_path / ".hidden").mkdir()
    folder = folder_of(tmp_path, "a/1.mp4", "b/1.mp4")
    assert folder.classes == ["a", "b"]
    assert [each.what for each in folder.problems if each.kind == "no_class"] == [
        "cat/",
        "line\\nend/",
    ]


def test_a_folder_without_a_video_in_one_split_is_named(tmp_path: Path) -> None:
    (tmp_path / "train" / "b").mkdir(parents=True)
    folder = folder_of(tmp_path, "train/a/1.mp4", "test/a/2.mp4", "test/b/1.mp4")
    assert [each.what for each in folder.problems] == ["train/b/"]
