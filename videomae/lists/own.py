"""Your own videos to annotated rows: a folder for each class, or a CSV file of paths and classes.

The other data sets, and what a row is, are in videomae.lists.annotations.
"""

import os
import re
from collections import Counter
from pathlib import Path

from videomae.lists.annotations import (
    MOST_CLASSES,
    AnnotationError,
    Annotations,
    Row,
    csv_rows,
    is_class,
)
from videomae.lists.published import TEST, TRAIN, VAL
from videomae.lists.walk import VIDEOS

SPLIT_NAMES = {
    name: part
    for part, names in {
        TRAIN: ("train", "training"),
        VAL: ("val", "valid", "validation"),
        TEST: ("test", "testing"),
    }.items()
    for name in names
}
"""How folders that are splits are named, in any letter case, and the part that each is."""
NUMBER = re.compile(r"([0-9]+)(\.0+)?")
"""A class that is given by its number; pandas writes 2.0 for it where another row has none."""
SHOWN = 10
"""Missing numbers that a note names."""


def of_folders(videos: list[str]) -> Annotations:
    """Annotate videos that lie in a folder per class, with folders of splits above or without.

    Args:
        videos: paths below the folder of videos, with slashes.

    Raises:
        AnnotationError: a video lies in no class, or in no split though there are some.
    """
    inner = [path.split("/") for path in videos]
    tops = sorted({path[0] for path in inner if len(path) > 1})
    parts = {top: SPLIT_NAMES[top.casefold()] for top in tops if top.casefold() in SPLIT_NAMES}
    _check_places(inner, list(parts))
    skip = 1 if parts else 0
    classes = sorted({path[skip] for path in inner})
    labels = {name: label for label, name in enumerate(classes)}
    rows = [
        Row("/".join(path), (), (), labels[path[skip]], parts.get(path[0], TRAIN), "/".join(path))
        for path in inner
    ]
    notes = []
    if parts:
        said = ", ".join(f"{top}/ is {part}" for top, part in parts.items())
        notes.append(f"the top folders are splits: {said}")
    if len(classes) == 1:
        folder = inner[0][: skip + 1]
        notes.append(
            f"there is one class only, {classes[0]}: if the classes are the folders inside it, "
            f"give videos=.../{'/'.join(folder)}"
        )
    return Annotations(classes, {None: rows}, notes=notes)


def _check_places(videos: list[list[str]], splits: list[str]) -> None:
    """Check that every video lies in the folder of a class, and in a split if there are `splits`.

    Args:
        videos: the parts of their paths.

    Raises:
        AnnotationError: naming the first that does not, and what to do.
    """
    there = ", ".join(f"{split}/" for split in splits)
    rename = f"; if {there} means a class here, rename it, or use dataset=csv"
    for path in videos:
        if splits and (len(path) == 1 or path[0] not in splits):
            raise AnnotationError(
                f"{'/'.join(path)} lies in no split, though there is {there}: move it into a "
                f"split, or away from there; the folder of a split is named {' '.join(SPLIT_NAMES)}"
                f"{rename}"
            )
    for path in videos:
        if splits and len(path) == 2:
            raise AnnotationError(
                f"{'/'.join(path)} lies in the split {path[0]}/, but in no folder of a class: "
                f"move it into the folder of its class, or away from there{rename}"
            )
        if len(path) == 1:
            raise AnnotationError(
                f"{path[0]} lies in no folder: dataset=folders takes a folder for each class; "
                "move it into one, or away from there"
            )


def read_csv(file: Path, root: Path) -> Annotations:
    """Read your own rows path,class name, after a header or without.

    Classes that are whole numbers keep their numbers; others are numbered by the alphabet.

    Args:
        root: the folder of the videos, which tells a header from a row, and absolute paths.

    Raises:
        AnnotationError: the file cannot be read, or a row is malformed.
    """
    named: list[tuple[str, str, str]] = []
    for place, cells in csv_rows(file):
        words = [cell.strip() for cell in cells]
        if not any(words):
            continue
        if len(words) != 2 or not all(words):
            raise AnnotationError(f"{place}: expected 'path,class name', got {','.join(cells)!r}")
        named.append((place, _inside(words[0], root), words[1]))
    notes = []
    if named and _is_header(named, root):
        place, path, name = named.pop(0)
        notes.append(f"{place}: '{path},{name}' is taken for a header, as it names no video")
    if not named:
        raise AnnotationError(f"annotations={file} names no video: expected rows path,class name")
    numbers = _numbers(named)
    if numbers:
        classes = [str(number) for number in range(max(numbers.values()) + 1)]
        notes.append(_note_of_numbers(set(numbers.values())))
    else:
        classes = sorted({name for _, _, name in named})
        numbers = {name: label for label, name in enumerate(classes)}
    rows = [Row(path, (), (), numbers[name], TRAIN, place) for place, path, name in named]
    return Annotations(classes, {None: rows}, [file], class_folders=False, notes=notes)


def _inside(path: str, root: Path) -> str:
    """The path relative to `root` where it lies below it, without ./ and the like."""
    path = os.path.normpath(path)
    for folder in (os.path.abspath(root), os.path.realpath(root)):
        if path.startswith(f"{folder}/"):
            return path[len(folder) + 1 :]
    return path


def _is_header(named: list[tuple[str, str, str]], root: Path) -> bool:
    """Whether the first of the (place, path, class) names columns.

    It does where it names no video, by its ending or as a folder of frames, and has a class of its
    own that is no number.
    """
    _, path, name = named[0]
    if os.path.splitext(path)[1].lower() in VIDEOS or os.path.exists(root / path):
        return False
    alone = Counter(name for _, _, name in named)[name] == 1
    return path.lower() == "path" or (alone and len(named) > 1 and not NUMBER.fullmatch(name))


def _numbers(named: list[tuple[str, str, str]]) -> dict[str, int]:
    """The number that each class is named by; none where some class is no whole number.

    Raises:
        AnnotationError: a number cannot be a class.
    """
    signed = re.compile(f"-?{NUMBER.pattern}")
    if not all(signed.fullmatch(name) for _, _, name in named):
        return {}
    numbers = {}
    for place, _, name in named:
        found = NUMBER.fullmatch(name)
        if found is None or not is_class(found[1]):
            raise AnnotationError(
                f"{place}: the class {name} is no number from 0 to {MOST_CLASSES - 1:,}: number "
                "the classes from 0, or give them names"
            )
        numbers[name] = int(found[1])
    return numbers


def _note_of_numbers(given: set[int]) -> str:
    """Say how many classes there are that go by whole numbers, and which are in no row."""
    count = max(given) + 1
    missing = sorted(set(range(count)) - given)
    shown = " ".join(map(str, missing[:SHOWN]))
    if len(missing) > SHOWN:
        shown += f" and {len(missing) - SHOWN:,} more"
    gaps = f"; no row has {shown}" if missing else ""
    return f"the classes are whole numbers, which stay: {count:,} of them, from 0{gaps}"
