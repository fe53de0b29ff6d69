"""Annotations of your own videos: from a folder for each class, or from a CSV file.

videomae.lists.annotations reads those of the published data sets.
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
"""Part of each name that a folder of a split may have, in lower case."""
NUMBER = re.compile(r"([0-9]+)(\.0+)?")
"""Pattern of a class that is a number; pandas writes 2.0 for 2 if another row lacks its class."""
SHOWN = 10
"""Largest number of missing class numbers that a note names."""


def of_folders(videos: list[str]) -> Annotations:
    """Return the annotations of videos in a folder for each class, with or without folders of
    splits.

    Args:
        videos: paths relative to the folder of videos, with slashes.

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
        videos: the names along each path.
        splits: names of the folders of splits.

    Raises:
        AnnotationError: one does not; the error names the first, and what to do.
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
    """Return the annotations of a CSV file with rows path,class name, with or without a header.

    Classes that are whole numbers keep their numbers; others are numbered in alphabetical order.

    Args:
        root: folder of the videos; absolute paths below it become relative, and a first row that
            names no video there may be a header.

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
    """Return a normalised path, relative to `root` if it lies below it."""
    path = os.path.normpath(path)
    for folder in (os.path.abspath(root), os.path.realpath(root)):
        if path.startswith(f"{folder}/"):
            return path[len(folder) + 1 :]
    return path


def _is_header(named: list[tuple[str, str, str]], root: Path) -> bool:
    """Return whether the first of the rows (place, path, class) is a header.

    It is one if it names no video, by its extension or as a folder of frames, and no other row has
    its class, which is not a number.
    """
    _, path, name = named[0]
    if os.path.splitext(path)[1].lower() in VIDEOS or os.path.exists(root / path):
        return False
    alone = Counter(name for _, _, name in named)[name] == 1
    return path.lower() == "path" or (alone and len(named) > 1 and not NUMBER.fullmatch(name))


def _numbers(named: list[tuple[str, str, str]]) -> dict[str, int]:
    """Return the number of each class by its text; empty if a class is not a whole number.

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
    """Return a note on classes that are whole numbers: how many there are, and which have no
    row."""
    count = max(given) + 1
    missing = sorted(set(range(count)) - given)
    shown = " ".join(map(str, missing[:SHOWN]))
    if len(missing) > SHOWN:
        shown += f" and {len(missing) - SHOWN:,} more"
    gaps = f"; no row has {shown}" if missing else ""
    return f"the classes are whole numbers, which stay: {count:,} of them, from 0{gaps}"
