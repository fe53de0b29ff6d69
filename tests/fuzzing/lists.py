"""Clip lists, prepared directories, annotation files, names of classes and maps of heads."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests import miniatures
from tests.conftest import write_list
from tests.fuzzing.base import RIGHT, Result, Target
from tests.fuzzing.decoding import DATA
from tests.fuzzing.sizes import annotation_attacks, json_attacks, list_attacks
from tests.fuzzing.weights import make_official
from tests.miniatures import Miniature
from videomae.config import Dataset, ListFormat, PrepareConfig
from videomae.lists.clips import read_clips
from videomae.lists.names import class_names
from videomae.lists.prepared import read_prepared, with_prepared
from videomae.prepare import prepare
from videomae.weights.formats import read_weights
from videomae.weights.load import pick_classes
from videomae.weights.weights import Kind

FORMS = {
    ListFormat.auto: "{name}.mp4 {label}",
    ListFormat.video: "folder {label}/{name}.mp4",
    ListFormat.video_label: "folder/{name}.mp4 {label}",
    ListFormat.video_start_total: "{name}.mp4 0 -1",
    ListFormat.frames_start_total: "frames {label}/{name} 1 {total}",
    ListFormat.frames_total_label: "frames/{name} {total} {label}",
}
MINIATURES: dict[str, Callable[[Path], Miniature]] = {
    "ucf101": partial(miniatures.ucf101, splits=1),
    "hmdb51": partial(miniatures.hmdb51, splits=1),
    "k400": miniatures.kinetics,
    "k600": partial(miniatures.kinetics, dataset="k600", is_cc=True),
    "k710": miniatures.k710,
    "ssv2": miniatures.ssv2,
    "csv": miniatures.csv,
}
MAP = "map.json"


def make_list(form: ListFormat) -> None:
    """A list of twenty lines, a comment among them."""
    lines = [
        FORMS[form].format(name=f"v{number}", label=number % 3, total=8 + number)
        for number in range(20)
    ]
    write_list(Path("list.txt"), ["# a comment", *lines])


def read(form: ListFormat) -> Result:
    """The clips of a list; facts: how many there are."""
    data = replace(DATA, list_format=form, frame_template="img_{:05}.jpg")
    labelled = form in (ListFormat.auto, ListFormat.video_label, ListFormat.frames_total_label)
    clips = read_clips("list.txt", data, labelled=labelled)
    assert all(clip.path for clip in clips)
    assert len(clips.files()) == len(clips)
    return Result(RIGHT, len(clips))


def more(facts: Any, expected: Any) -> str | None:
    """Whether a list has many more entries than lines could be added."""
    return f"{facts} clips in place of {expected}" if facts > expected + 1500 else None


def write_nothing(path: Path, *_: object, **__: object) -> Path:
    """In the place of a video, whose content nobody reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    return path


def make_miniature(name: str) -> None:
    """A data set under official names, with its annotation files."""
    with patch("tests.miniatures.write_clip", write_nothing):
        mini = MINIATURES[name](Path())
    Path("settings.json").write_text(json.dumps(mini.overrides))


def prepare_it() -> Result:
    """Prepare the data set; facts: how many lists there are."""
    given = dict(text.split("=", 1) for text in json.loads(Path("settings.json").read_text()))
    prepare(PrepareConfig(**given | {"dataset": Dataset[given["dataset"]], "out": "lists"}))
    return read_directory()


def make_prepared() -> None:
    """A prepared directory."""
    make_miniature("ucf101")
    prepare_it()


def read_directory() -> Result:
    """All lists of a prepared directory, and the names of its classes."""
    prepared = read_prepared(Path("lists"))
    count = 0
    for split in prepared.splits or [None]:
        data = replace(DATA, classes=None, prepared="lists", split=split and str(split))
        data = with_prepared(data)
        assert len(class_names(data)) == data.classes
        for key in ("train_list", "val_list", "test_list"):
            if (path := getattr(data, key)) and os.path.exists(path):
                count += len(read_clips(path, data, labelled=True, key=f"data.{key}"))
    return Result(RIGHT, count)


def make_names() -> None:
    """Names of three classes, a classifier, and a map of its head."""
    Path("names.txt").write_text("run\nsit down\njümp\n")
    make_official(Kind.classifier)
    Path(MAP).write_text("[2, 0]")


def read_names() -> Result:
    """The names of classes, and the map."""
    names = class_names(replace(DATA, class_names="names.txt"))
    assert len(set(names)) == 3
    weights = pick_classes(read_weights("weights.pth", num_heads=2), MAP)
    return Result(RIGHT, len(weights.tensors["head.weight"]))


TARGETS = (
    *(
        Target(
            "lists",
            form.name,
            partial(make_list, form),
            partial(read, form),
            ("list.txt",),
            absurd=more,
            attacks=list_attacks("list.txt") if form is ListFormat.auto else (),
        )
        for form in FORMS
    ),
    *(
        Target(
            "lists",
            f"annotations of {name}",
            partial(make_miniature, name),
            prepare_it,
            ("annotations/*", "own.csv", "ucfTrainTestlist/*", "test*_splits/*", "l*s/*.*"),
            named=("annotations", "ucfTrainTestlist", "testTrain", "labels", "lists", "own"),
            attacks=annotation_attacks("labels/something-something-v2-test.json")
            if name == "ssv2"
            else (),
        )
        for name in MINIATURES
    ),
    Target(
        "lists",
        "prepared",
        make_prepared,
        read_directory,
        ("lists/*", "lists/split1/*"),
        named=("lists",),
        attacks=json_attacks("lists/prepared.json"),
    ),
    Target(
        "lists",
        "names",
        make_names,
        read_names,
        ("names.txt", MAP),
        attacks=list_attacks("names.txt"),
    ),
)
