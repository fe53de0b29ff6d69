"""What the one walk over a folder takes, follows, leaves out and counts."""

import os
from pathlib import Path

import pytest

from videomae.lists.formats import ClipListError
from videomae.lists.walk import ADVICE, VIDEOS, LeftOut, clips_below, printable, told, walk


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("ending", VIDEOS)
def test_every_ending_is_that_of_a_video_in_any_letter_case(ending: str, tmp_path: Path) -> None:
    touch(tmp_path / f"a{ending}")
    touch(tmp_path / "deep" / f"b{ending.upper()}")
    assert walk(tmp_path).videos == [f"a{ending}", f"deep/b{ending.upper()}"]
    assert walk(tmp_path).left_out == []


def test_what_people_have_is_among_the_endings() -> None:
    given = ".mts .m2ts .ts .ogv .gif .vob .asf .mpeg2 .m2v .mxf .3g2 .f4v .divx .dv .rm .rmvb"
    assert {*given.split(), *[".qt", ".mpe", ".m1v", ".mjpeg", ".mjpg", ".y4m"]} < set(VIDEOS)
    assert len(set(VIDEOS)) == len(VIDEOS)


def test_what_is_left_out_is_counted_by_reason_and_ending(tmp_path: Path) -> None:
    for name in ("a.mp4", "._a.mp4", "b/._x.mp4", ".hidden/c.mp4", ".DS_Store"):
        touch(tmp_path / name)
    for name in ("b/notes.TXT", "README", "more.txt", "cover.jpg"):
        touch(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    below = walk(tmp_path)
    assert below.videos == ["a.mp4"]
    assert below.images == {"": ["cover.jpg"]}
    below.leave_out_images()
    assert below.left_out == [
        LeftOut("hidden", ".mp4", 2, "._a.mp4"),
        LeftOut("hidden", "folder", 1, ".hidden"),
        LeftOut("hidden", "no ending", 1, ".DS_Store"),
        LeftOut("not_a_file", ".mp4", 1, "pipe.mp4"),
        LeftOut("not_a_video", ".txt", 2, "more.txt"),
        LeftOut("not_a_video", ".jpg", 1, "cover.jpg"),
        LeftOut("not_a_video", "no ending", 1, "README"),
    ]
    lines = list(told(below.left_out))
    expected = "left out: 4 files that are no videos (2 .txt, 1 .jpg, 1 without an ending), such as"
    assert (len(lines), lines[2]) == (3, f"{expected} more.txt")
    assert lines[0].startswith(
        "left out: 4 hidden files and folders (2 .mp4, 1 folder, 1 without an ending)"
    )
    many = [LeftOut("not_a_video", f".{n}", 1, f"x.{n}") for n in range(20)]
    assert "and 12 other endings" in next(told(many))


def test_empty_folders_are_counted(tmp_path: Path) -> None:
    for name in ("a/none", "none", "a"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "a/x.mp4").touch()
    found = [(each.reason, each.ending, each.num_files) for each in walk(tmp_path).left_out]
    assert found == [("empty", "folder", 2)]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "z/real.mp4")
    touch(tmp_path / "outside/more/far.mp4")
    (root / "a_link").symlink_to(root / "z")  # before z in the alphabet
    (root / "z/up").symlink_to(root)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out/back").symlink_to(root / "z")
    (root / "file.mp4").symlink_to(tmp_path / "outside/more/far.mp4")
    below = walk(root)
    assert below.videos == ["file.mp4", "out/more/far.mp4", "z/real.mp4"]
    assert [(each.reason, each.num_files) for each in below.left_out] == [("linked_again", 3)]
    assert below.unusable == {}


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "good.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "unmounted").symlink_to("/no/such/disk")
    (tmp_path / "itself.mp4").symlink_to(tmp_path / "itself.mp4")
    (tmp_path / "locked").mkdir()
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    for name in (folder + b"/x.mp4", folder + b"/x.t\xe9t"):
        open(name, "w").close()
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    below = walk(tmp_path)
    assert below.videos == ["good.mp4"]
    assert below.unusable == {
        "gone.mp4": "broken_link",
        "itself.mp4": "broken_link",
        "unmounted": "broken_link",
        "locked": "folder_cannot_be_read",
        r"caf\udce9/x.mp4": "name_no_list_can_hold",
    }
    assert below.left_out == [LeftOut("not_a_video", r".t\udce9t", 1, r"caf\udce9/x.t\udce9t")]
    selection = clips_below(tmp_path)
    assert [clip.path for clip in selection.clips] == ["good.mp4"]
    assert selection.unusable["gone.mp4"] == ADVICE["broken_link"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("é/ 日本\u3000.mp4", "é/ 日本\u3000.mp4"),
        ("a\udcff.mp4", r"a\udcff.mp4"),
        ("two\nlines\x1b[31m", r"two\nlines\x1b[31m"),
    ],
)
def test_any_name_can_be_printed(path: str, shown: str) -> None:
    assert printable(path) == shown
    assert printable(path).encode().decode().isprintable() or "\u3000" in shown


def test_a_folder_without_a_video_is_an_error_that_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path / "a/clips.zip")
    (tmp_path / "b").symlink_to("/no/such/disk")
    with pytest.raises(ClipListError) as error:
        clips_below(tmp_path)
    for words in (
        f"video={tmp_path} holds no video",
        ".mp4",
        "1 file that is no video (1 .zip)",
        "b: a link that leads",
    ):
        assert words in str(error.value)
