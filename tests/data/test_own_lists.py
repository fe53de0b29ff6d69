"""Lists of a folder of real little videos: scanned, cached, made anew when the folder changes."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import soaked, write_video
from videomae.config import MAX_CLIP_BYTES, ClipConfig, DataConfig, Scan
from videomae.data import own_lists
from videomae.data.own_lists import ListRequest, OwnLists, make_own_lists
from videomae.data.trained_on import seen_in_training
from videomae.lists.clips import read_clips
from videomae.lists.own_folder import OwnFolderError


def request(videos: Path, *, labels: bool = True, val: bool = False, **more: Any) -> ListRequest:
    scan: Scan | None = more.pop("scan", None)
    return ListRequest(videos, scan, MAX_CLIP_BYTES, labels, val, **more)


@pytest.fixture
def folder(videos: Path, tmp_path: Path) -> Path:
    """Two classes of six videos each."""
    for number in range(12):
        path = tmp_path / "mine" / "ab"[number % 2] / f"IMG_{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(videos / f"{number}.mp4", path)
    return tmp_path / "mine"


def lines(lists: OwnLists, part: str) -> set[str]:
    return set(Path(str(lists.file(part))).read_text().splitlines())


def problems(directory: Path) -> dict[str, str]:
    rows = map(json.loads, (directory / "problems.jsonl").read_text().splitlines())
    return {row["what"]: row["kind"] for row in rows}


def test_lists_of_two_classes(folder: Path, tmp_path: Path) -> None:
    make_own_lists(request(folder, val=True), tmp_path / "out")
    lists = OwnLists.read(tmp_path / "out")
    assert Path(lists.class_names).read_text() == "a\nb\n"
    assert [lists.num_videos(part) for part in ("train", "val", "test")] == [8, 2, 2]
    rows = [lines(lists, part) for part in ("train", "val", "test")]
    assert len(set().union(*rows)) == 12
    assert {row[-1] for row in rows[2]} == {"0", "1"}


def test_the_line_on_the_held_out_videos_says_true_numbers(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(12):
        path = tmp_path / "mine" / "ab"[number % 2] / f"place{number % 4}_{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(videos / f"{number}.mp4", path)
    make_own_lists(request(tmp_path / "mine", scan=Scan.off), tmp_path / "out")
    assert OwnLists.read(tmp_path / "out").num_videos("test") == 6
    said = (
        "6 of 12 videos (50%) are held out for test: about 20% of each class, in whole recordings"
    )
    assert f"{said}; names tell 4 recordings" in caplog.text


def test_pre_training_leaves_out_what_a_fine_tuning_tests_on(folder: Path, tmp_path: Path) -> None:
    make_own_lists(request(folder, labels=False), tmp_path / "first")
    make_own_lists(request(folder), tmp_path / "second")
    first, second = OwnLists.read(tmp_path / "first"), OwnLists.read(tmp_path / "second")
    assert lines(first, "train") == lines(second, "train")


def test_broken_videos_are_named_and_left_out(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a" / "cut.mp4").write_bytes((folder / "a" / "IMG_0.mp4").read_bytes()[:900])
    (folder / "b" / "empty.mp4").touch()
    with caplog.at_level(logging.INFO):
        make_own_lists(request(folder), tmp_path / "out")
    assert problems(tmp_path / "out") == {"a/cut.mp4": "broken", "b/empty.mp4": "empty"}
    assert "left out: a/cut.mp4: cannot be opened" in caplog.text
    lists = OwnLists.read(tmp_path / "out")
    assert lists.num_videos("train") + lists.num_videos("test") == 12


def test_a_class_of_broken_videos_stops_the_run(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "b").iterdir():
        path.write_bytes(path.name.encode())
    with pytest.raises(OwnFolderError, match=r"the class b is left without a video \(b/IMG_1\.mp4"):
        make_own_lists(request(folder), tmp_path / "out")
    assert not (tmp_path / "out" / own_lists.STATE).exists()


def test_one_class_or_one_video_is_enough_for_pre_training_alone(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(folder / "b")
    for path in sorted((folder / "a").iterdir())[1:]:
        make_own_lists(request(folder, labels=False), tmp_path / "out")
        path.unlink()
    make_own_lists(request(folder, labels=False), tmp_path / "out")
    assert OwnLists.read(tmp_path / "out").num_videos("train") == 1
    assert caplog.text.count("has one video to train on") == 1
    with pytest.raises(OwnFolderError, match="in one class, a, and fine-tuning needs two"):
        make_own_lists(request(folder), tmp_path / "out")
    with pytest.raises(OwnFolderError, match="in no folders of classes"):
        make_own_lists(request(folder / "a"), tmp_path / "out")


def test_a_class_for_each_video_leaves_nothing_to_test_on(folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        for path in sorted((folder / name).iterdir())[1:]:
            path.unlink()
    with pytest.raises(OwnFolderError, match="no class has a second video"):
        make_own_lists(request(folder), tmp_path / "out")


def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos that are decoded from now on, by name."""
    names: list[str] = []
    real: Callable[..., Any] = own_lists.inspect_resumably

    def inspect(jobs: Iterable[Any], *given: Any, **more: Any) -> Any:
        jobs = dict.fromkeys(jobs)
        names.extend(job.path.name for job in jobs)
        return real(jobs, *given, **more)

    monkeypatch.setattr(own_lists, "inspect_resumably", inspect)
    return names


def test_an_unchanged_folder_is_not_scanned_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    names = scanned(monkeypatch)
    shutil.copyfile(folder / "a" / "IMG_0.mp4", folder / "a" / "copy.mp4")
    (folder / "b" / "IMG_1.mp4").write_bytes(b"broken")
    make_own_lists(request(folder), tmp_path / "out")
    assert len(names) == 13
    caplog.clear()
    before = (tmp_path / "out" / "train.txt").read_bytes()
    make_own_lists(request(folder), tmp_path / "out")
    assert len(names) == 13
    assert "problems.jsonl (2 lines)" in caplog.text
    write_video(folder / "a" / "new.mp4", seed=40)
    make_own_lists(request(folder), tmp_path / "out")
    assert len(names) == 27
    assert (tmp_path / "out" / "train.txt").read_bytes() != before
    make_own_lists(request(folder, val=True), tmp_path / "out")  # a list more
    assert OwnLists.read(tmp_path / "out").num_videos("val") == 2


def test_a_folder_that_changes_while_it_is_scanned(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = own_lists.inspect_resumably

    def inspect(*given: Any, **more: Any) -> Any:
        found = real(*given, **more)
        (folder / "a" / "IMG_0.mp4").unlink()
        write_video(folder / "b" / "IMG_1.mp4", frames=20)
        return found

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(own_lists, "inspect_resumably", inspect)
        make_own_lists(request(folder), tmp_path / "out")
    assert "changed while it was scanned: 2 files" in caplog.text
    assert problems(tmp_path / "out") == {"a/IMG_0.mp4": "changed", "b/IMG_1.mp4": "changed"}
    make_own_lists(request(folder), tmp_path / "out")  # looks at what is there now
    assert problems(tmp_path / "out") == {}
    lists = OwnLists.read(tmp_path / "out")
    assert lists.num_videos("train") + lists.num_videos("test") == 11


def test_a_folder_that_grows_while_it_is_scanned(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = own_lists.inspect_resumably

    def inspect(*given: Any, **more: Any) -> Any:
        (folder / "b" / "IMG_1.mp4").unlink()  # which the scan then finds broken
        for name in ("a/new.mp4", "c/1.mp4", "c/2.mp4"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / "a" / "IMG_0.mp4", folder / name)
        return real(*given, **more)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(own_lists, "inspect_resumably", inspect)
        make_own_lists(request(folder), tmp_path / "out")
    assert "changed while it was scanned: 1 file is left out. A new run" in caplog.text
    said = "does not use 3 new videos, such as a/new.mp4 (new folders: c). A new run looks at"
    assert said in caplog.text
    assert problems(tmp_path / "out") == {
        "b/IMG_1.mp4": "changed",
        "a/new.mp4": "added",
        "c/1.mp4": "added",
        "c/2.mp4": "added",
    }
    lists = OwnLists.read(tmp_path / "out")
    assert lists.num_videos("train") + lists.num_videos("test") == 11


def test_too_few_classes_say_what_was_left_out_and_the_whole_command(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "b").rename(folder / "b\nb")
    with pytest.raises(OwnFolderError, match=r"b\\nb/IMG_1\.mp4: a name that is") as error:
        make_own_lists(request(folder), tmp_path / "out")
    assert str(error.value).endswith(f"python -m videomae.pretrain data.videos={folder}")
    assert len(problems(tmp_path / "out")) == 7


@pytest.mark.parametrize(
    ("scan", "quick_from", "file"),
    [
        (None, 1000, "scan_strict.jsonl"),
        (None, 12, "scan_quick.jsonl"),
        (Scan.strict, 12, "scan_strict.jsonl"),
        (Scan.off, 12, None),
    ],
)
def test_the_scan_is_strict_below_a_thousand_videos_and_as_asked(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scan: Scan | None,
    quick_from: int,
    file: str | None,
) -> None:
    monkeypatch.setattr(own_lists, "QUICK_FROM", quick_from)
    make_own_lists(request(folder, scan=scan), tmp_path / "out")
    found = [path.name for path in (tmp_path / "out").glob("scan_*")]
    assert found == ([file] if file else [])


def test_the_scan_of_an_earlier_run_is_taken_over(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_own_lists(request(folder, labels=False), tmp_path / "first")
    with caplog.at_level(logging.INFO):
        make_own_lists(request(folder, earlier=tmp_path / "first"), tmp_path / "second")
    assert "12 of 12 videos are done already" in caplog.text


def made(videos: Path, out: Path, earlier: Path | None = None) -> OwnLists:
    """Lists of a folder; with `earlier`, those of a fine-tuning from that pre-training."""
    make_own_lists(request(videos, labels=earlier is not None, earlier=earlier), out)
    return OwnLists.read(out)


def test_a_fine_tuning_of_an_unchanged_folder_tests_on_the_videos_held_out_before(
    folder: Path, tmp_path: Path
) -> None:
    first = made(folder, tmp_path / "first")
    second = made(folder, tmp_path / "second", tmp_path / "first")
    for part in ("train", "test"):
        assert lines(first, part) == lines(second, part)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen videos that come to the two classes of `folder` later."""
    root = tmp_path_factory.mktemp("later")
    for name in "ab":
        (root / name).mkdir()
    for number in range(24):
        write_video(root / "ab"[number % 2] / f"IMG_{number + 100}.mp4", seed=number + 100)
    return root


@pytest.mark.parametrize("way", ["moved", "renamed", *soaked("stays", "copied")])
def test_after_clips_were_added_no_video_that_pre_training_saw_is_tested_on(
    folder: Path, later: Path, tmp_path: Path, way: str
) -> None:
    first = made(folder, tmp_path / "first")
    shutil.copytree(later, folder, dirs_exist_ok=True)
    unaware = made(folder, tmp_path / "unaware")
    assert lines(unaware, "test") & lines(first, "train"), "the names happen to show nothing"
    if way == "moved":
        folder = folder.rename(tmp_path / "elsewhere")
    if way == "copied":
        folder = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    trained = lines(first, "train")
    if way == "renamed":  # all files of one class, and the folder of the other
        for path in [*(folder / "a").iterdir()]:
            path.rename(path.with_name(f"new {path.name}"))
        (folder / "b").rename(folder / "c")
        trained = {f"a/new {line[2:]}" if line[0] == "a" else f"c{line[1:]}" for line in trained}
    second = made(folder, tmp_path / "second", tmp_path / "first")
    assert len(trained & (lines(second, "train") | lines(second, "test"))) == len(trained)
    assert not lines(second, "test") & trained
    assert second.num_videos("test") == unaware.num_videos("test")


def test_where_only_seen_videos_are_left_to_test_on_it_is_said(
    folder: Path, tmp_path: Path
) -> None:
    first = made(folder, tmp_path / "run" / "prepared")
    for line in lines(first, "test"):
        (folder / line.rpartition(" ")[0]).unlink()
    write_video(folder / "b" / "IMG_200.mp4", seed=200)
    second = made(folder, tmp_path / "second", tmp_path / "run" / "prepared")
    tested = lines(second, "test")
    assert "b/IMG_200.mp4 1" in tested
    (known,) = tested & lines(first, "train")
    data = DataConfig(clip=ClipConfig(frames=1, stride=1, size=1))
    clips = read_clips(second.file("test"), data, labelled=False)
    (seen,) = seen_in_training(str(tmp_path / "run"), clips, str(folder))
    assert seen == (tmp_path / "run", 1, known.rpartition(" ")[0])
    said = seen.message("data.test_list", len(clips)).text
    assert "1 of the 2 videos of data.test_list were trained on by" in said


def test_the_same_paths_in_another_folder_were_not_seen(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "first")
    other = tmp_path / "other"
    for number, path in enumerate(sorted(folder.rglob("*.mp4"))):
        write_video(other / path.relative_to(folder), seed=number + 100, frames=30)
    second = made(other, tmp_path / "second", tmp_path / "first")
    assert lines(second, "test") == lines(made(other, tmp_path / "unaware"), "test")


def test_lists_are_made_anew_where_the_weights_have_seen_other_videos(
    folder: Path, tmp_path: Path
) -> None:
    first = made(folder, tmp_path / "first")
    for line in lines(first, "test"):
        (folder / line.rpartition(" ")[0]).unlink()
    for number in range(4):
        write_video(folder / "ab"[number % 2] / f"IMG_{number + 100}.mp4", seed=number + 100)
    made(folder, tmp_path / "out")
    second = made(folder, tmp_path / "out", tmp_path / "first")
    assert not lines(second, "test") & lines(first, "train")
