"""Pre-training on several lists at once, each with its own root, stride and form of its lines."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from tests.conftest import composed, write_list
from tests.test_commands import call
from tests.train import PRETRAIN, assert_same_run, json_lines, train
from videomae.config import ConfigError, PretrainConfig
from videomae.data.checks import training_clips
from videomae.lists.formats import Clip, ClipListError
from videomae.pretrain import pretrain
from videomae.run.files import sha256
from videomae.run.schema import COMMANDS, config_object, schema
from videomae.train.resuming import CheckpointError
from videomae.train.stopping import TooManyBadVideos
from videomae.video.folder import FrameFolder
from videomae.video.interface import Part
from videomae.video.pyav import PyAVVideo

FILMS, FOLDERS = 6, 5
"""Videos of the two sources: files at stride 3, folders of frames at stride 2."""
FILMS_LIST = ["# of films", *(f"{number}.mp4" for number in range(FILMS))]
FOLDERS_LIST = [f"walk{number} 1 12" for number in range(FOLDERS)]


class Place(NamedTuple):
    """Where the lists and the videos are."""

    here: Path
    films: Path
    folders: Path


@pytest.fixture
def place(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Two lists, and a root for each; the working directory is another one."""
    folders = tmp_path / "folders"
    for number in range(FOLDERS):
        (folders / f"walk{number}").mkdir(parents=True)
        for frame in range(1, 13):
            grey = np.full((40, 48, 3), 20 * frame, np.uint8)
            Image.fromarray(grey).save(folders / f"walk{number}" / f"{frame:03}.png")
    write_list(tmp_path / "films.txt", FILMS_LIST)
    write_list(tmp_path / "folders.txt", FOLDERS_LIST)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return Place(tmp_path, videos, folders)


def overrides(place: Place, *more: str) -> list[str]:
    """Of a pre-training run on both sources: 11 videos in batches of 4, as in tests.train."""
    return [
        *PRETRAIN,
        f"data.sources.films.train_list={place.here / 'films.txt'}",
        f"data.sources.films.root={place.films}",
        "data.sources.films.stride=3",
        f"data.sources.folders.train_list={place.here / 'folders.txt'}",
        f"data.sources.folders.root={place.folders}",
        "data.sources.folders.list_format=frames_start_total",
        'data.sources.folders.frame_template="{:03}.png"',
        *more,
    ]


def config_of(place: Place, *more: str) -> PretrainConfig:
    config = composed("pretrain", *overrides(place, *more))
    assert isinstance(config, PretrainConfig)
    return config


def test_each_source_is_read_from_its_root_at_its_stride(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[Path, list[int]]] = []
    for kind in (PyAVVideo, FrameFolder):

        def note(self: PyAVVideo, numbers: Sequence[int], parts=kind.parts) -> Iterator[Part]:  # type: ignore[no-untyped-def]
            read.append((self.path, list(numbers)))
            return parts(self, numbers)

        monkeypatch.setattr(kind, "parts", note)
    directory = train(config_of(place, "output_dir=run"))

    found = {root: [i for path, i in read if path.parent == root] for root in place[1:]}
    assert len(found[place.films]) + len(found[place.folders]) == len(read) == 6 * 4
    assert len(found[place.films]) >= 9  # in each of 3 epochs all but 3 of the 11
    assert len(found[place.folders]) >= 6
    assert {tuple(np.diff(indices)) for indices in found[place.films]} == {(3, 3, 3)}
    assert {tuple(np.diff(indices)) for indices in found[place.folders]} == {(2, 2, 2)}
    assert {path for path, _ in read} == {
        *(place.films / f"{number}.mp4" for number in range(FILMS)),
        *(place.folders / f"walk{number}" for number in range(FOLDERS)),
    }
    assert (directory / "weights.safetensors").exists()


def test_the_clips_are_those_of_the_lists_one_after_the_other(place: Place) -> None:
    films, folders = "data.sources.films", "data.sources.folders"
    assert training_clips(config_of(place).data, labelled=False) == [
        *(Clip(f"{n}.mp4", n + 2, source=films) for n in range(FILMS)),
        *(Clip(f"walk{n}", n + 1, None, 1, 12, folders) for n in range(FOLDERS)),
    ]


def test_a_command_takes_sources_and_the_run_directory_tells_them(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("pretrain", *overrides(place, "output_dir=run", "max_steps=1")) == 0
    said = capsys.readouterr().err
    assert "11 videos // 4" in said
    assert json.loads(Path("run/environment.json").read_text())["sha256"] == {
        f"data.sources.{name}.train_list": sha256(place.here / f"{name}.txt")
        for name in ("films", "folders")
    }
    again = OmegaConf.merge(schema(COMMANDS["pretrain"]), OmegaConf.load("run/config.yaml"))
    assert OmegaConf.is_dict(again)
    expected = config_of(place, "output_dir=run", "max_steps=1")
    assert config_object(again, "pretrain") == expected  # type: ignore[arg-type]
    assert call("report", "runs=run", "out=report") == 0
    assert "films + folders" in Path("report/report.html").read_text()


def test_a_list_of_another_length_than_the_published_one_is_said(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for published, is_said in (("12", True), ("11", False), ("null", False)):
        more = (f"output_dir=run{published}", "max_steps=1", f"data.num_train={published}")
        train(config_of(place, *more))
        said = " ".join(capsys.readouterr().err.split())
        words = "the training list holds 11 videos, the published one 12 (data.num_train)"
        assert (words in said) == is_said


# What is missing or wrong


def test_what_each_source_lacks_is_named_together(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "~data.sources.instagram",
        "data.sources.webvid.train_list=/no/list.txt",
        f"data.sources.webvid.root={place.films}",
    ]
    assert call("pretrain", "data=hybrid", *given) == 2
    said = capsys.readouterr().err
    rows = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    expected = [
        f"data.sources.{name}.{setting}"
        for name in ("k710", "ssv2", "ava")
        for setting in ("train_list", "root")
    ]
    assert [row.split()[0] for row in rows[:-1]] == expected
    for row, key in zip(rows, expected, strict=False):
        assert row.startswith(f"{key} is not set: ")
        assert f"; give {key}=" in row
    assert rows[-1].startswith("data.sources.webvid.train_list=/no/list.txt does not exist")
    assert "'~data.sources.NAME'" in said
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.train_list=x",
            r"data\.sources \(films, folders\) take the place of data\.train_list=x: leave",
        ),
        ("data.root=x", r"take the place of data\.root=x: leave out one of the two"),
        ("data.sources.films.strides=3", r"no setting data\.sources\.films\.strides"),
        ("data.sources.films.stride=many", r"data\.sources\.films\.stride: Value 'many'"),
        ("data.sources.films.stride=0", r"data\.sources\.films\.stride must be at least 1"),
        ("data.sources.films.first_frame=-1", r"data\.sources\.films\.first_frame must be"),
        ("data.sources.more=x.txt", r"data\.sources\.more=x\.txt is no group of settings: give"),
        ("data.sources.folders.frame_template=x", r"data\.sources\.folders\.frame_template must"),
        (
            "data.sources.folders.frame_template=null",
            r"data\.sources\.folders\.list_format=frames_start_total .* set data\.sources\.folders",
        ),
    ],
)
def test_settings_of_a_source_that_cannot_work_are_named_in_full(
    place: Place, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(place, override)


def test_sources_are_for_pretraining(place: Place) -> None:
    for command in ("finetune", "evaluate"):
        with pytest.raises(ConfigError, match=r"data\.sources \(x\) are for pre-training"):
            composed(command, "data.sources.x.train_list=list.txt")


@pytest.mark.parametrize("plus", ["", "+"])
def test_a_source_is_added_and_left_out_on_the_command_line(place: Place, plus: str) -> None:
    films = f"{plus}data.sources.more.train_list={place.here / 'films.txt'}"
    root = f"{plus}data.sources.more.root={place.films}"
    config = config_of(place, films, root, "~data.sources.films")
    assert list(config.data.sources) == ["folders", "more"]
    clips = training_clips(config.data, labelled=False)
    assert Counter(clip.source for clip in clips) == {
        "data.sources.folders": FOLDERS,
        "data.sources.more": FILMS,
    }


def test_wrong_lines_and_roots_are_named_with_their_source(place: Place) -> None:
    wrong_root = config_of(place, f"data.sources.films.root={place.folders}")
    with pytest.raises(ConfigError, match=r"5|6 videos of data\.sources\.films\.train_list") as e:
        pretrain(wrong_root)
    assert f"Are data.sources.films.root={place.folders} and data.sources.films.list_format" in str(
        e.value
    )
    unclear = config_of(place, "data.sources.folders.list_format=auto")
    with pytest.raises(ClipListError, match=r":1: .*set data\.sources\.folders\.list_format to"):
        pretrain(unclear)
    (place.here / "films.txt").write_text("\n")
    with pytest.raises(ClipListError, match=r"data\.sources\.films\.train_list=.* lists no clip"):
        pretrain(config_of(place))
    assert list(Path.cwd().iterdir()) == []


# Unreadable videos


def test_files_of_one_name_in_two_sources_are_two(place: Place, videos: Path) -> None:
    """Both sources hold a broken 1.mp4, and only the second's 0.mp4 is broken too."""
    for name, broken in (("a", (1,)), ("b", (0, 1))):
        (place.here / name).mkdir()
        for number in range(FILMS):
            path = place.here / name / f"{number}.mp4"
            if number in broken:
                path.write_text("no video")
            else:
                path.symlink_to(videos / f"{number}.mp4")
    films = place.here / "films.txt"
    both = [
        setting
        for name in ("a", "b")
        for setting in (
            f"data.sources.{name}.train_list={films}",
            f"data.sources.{name}.root={place.here / name}",
        )
    ]
    overrides = (*PRETRAIN, *both, "optim.global_batch=12", "max_steps=1")
    with pytest.raises(TooManyBadVideos, match="3 of the 12 videos tried"):
        train(composed("pretrain", *overrides, "data.max_bad_fraction=0.2", "output_dir=strict"))
    overrides = (*overrides, "data.max_bad_fraction=1", "output_dir=run")
    directory = train(composed("pretrain", *overrides))

    def found() -> set[tuple[str, int, str]]:
        rows = json_lines(directory / "bad_files.jsonl")
        assert len(rows) == 3
        return {(row["source"], row["line"], row["path"]) for row in rows}

    expected = {
        ("data.sources.a", 3, "1.mp4"),
        ("data.sources.b", 2, "0.mp4"),
        ("data.sources.b", 3, "1.mp4"),
    }
    assert found() == expected
    assert json_lines(directory / "metrics.jsonl")[-1]["num_bad"] == 3
    train(composed("pretrain", *overrides, "resume=auto"))  # writes those that it knows of anew
    assert found() == expected


# Going on


def test_a_run_on_sources_goes_on_as_if_it_had_never_stopped(place: Place) -> None:
    straight = train(config_of(place, "output_dir=straight"))
    stopped = train(config_of(place, "output_dir=stopped", "max_steps=3"))
    (place.here / "moved").symlink_to(place.folders)
    moved = f"data.sources.folders.root={place.here / 'moved'}"
    train(config_of(place, "output_dir=stopped", "resume=auto", moved))
    assert_same_run(straight, stopped)


def test_other_sources_are_another_run(place: Place) -> None:
    train(config_of(place, "output_dir=run", "max_steps=1"))
    swapped = write_list(place.here / "swapped.txt", FILMS_LIST[::-1])
    folders = [given for given in overrides(place) if "folders" in given]
    rest = [given for given in overrides(place) if "folders" not in given]
    go_on = ("output_dir=run", "resume=auto", "max_steps=2")
    for given, key in (
        (overrides(place, "data.sources.films.stride=2"), r"data\.sources\.films\.stride: 3 there"),
        (overrides(place, "~data.sources.films"), r"data\.sources: \['films', 'folders'\] there"),
        ([*folders, *rest], r"data\.sources: .* there, \['folders', 'films'\] here"),
        (
            overrides(place, f"data.sources.films.train_list={swapped}"),
            r"sha256\(data\.sources\.films\.train_list\)",
        ),
    ):
        with pytest.raises(CheckpointError, match=key):
            train(composed("pretrain", *given, *go_on))


def test_help_shows_the_settings_of_a_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert call("pretrain", "--help") == 0
    said = capsys.readouterr().out
    for setting in ("train_list", "root", "stride", "list_format", "frame_template", "first_frame"):
        assert f"\n data.sources.NAME.{setting} " in said
