# mine/annotations.py
"""dataset=mine.annotations:read: a folder with labels.json, {"train": {"VIDEO": "CLASS", ...}}."""

import json
from pathlib import Path

from videomae.lists.annotations import AnnotationError, Annotations, Row
from videomae.lists.published import TEST, TRAIN


def read(folder: Path) -> Annotations:
    file = folder / "labels.json"
    try:
        parts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{file} cannot be read: {error}") from error
    classes = sorted({name for part in (TRAIN, TEST) for name in parts[part].values()})
    rows = [
        Row(
            path=path,
            stems=(Path(path).stem,),  # the names that the file may have, without their ending
            folders=(),  # where it may lie; it is found anywhere below the folder of videos
            label=classes.index(name),
            part=part,
            place=f"{file}: {path}",
        )
        for part in (TRAIN, TEST)
        for path, name in parts[part].items()
    ]
    return Annotations(classes, {None: rows}, files=[file], class_folders=False)
