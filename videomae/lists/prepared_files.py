"""Writing of the files of a prepared data set, and checks of those that they replace.

python -m videomae.prepare uses it; videomae.lists.prepared reads the files for a run.
"""

import os
from dataclasses import replace
from pathlib import Path

from videomae.config import ConfigError, PrepareConfig
from videomae.lists.annotations import Annotations
from videomae.lists.locate import Located
from videomae.lists.matching import Entry, MatchedLists
from videomae.lists.prepared import CLASSES, FILE_NAME, Prepared, PreparedList
from videomae.lists.published import PARTS, PUBLISHED
from videomae.run.files import sha256, write_text
from videomae.run.record import made, recorded

LISTS = (*(f"{part}.txt" for part in PARTS), *(f"split*/{part}.txt" for part in PARTS))
"""Patterns of the names of lists in a prepared directory."""


def check_unprepared(out: Path, *, overwrite: bool) -> None:
    """Check that lists may be written to a directory.

    Args:
        overwrite: whether they may replace those that prepare has written there.

    Raises:
        ConfigError: it holds lists that must not be replaced.
    """
    if os.path.exists(out / FILE_NAME) and not overwrite:
        raise ConfigError(f"out={out} holds prepared lists already: overwrite=true replaces them")
    if strange := [name for name in lists_in(out) if name not in lists_of_ours(out)]:
        raise ConfigError(
            f"out={out} holds lists that were not prepared here ({', '.join(strange)}): choose "
            "another out, or move them away"
        )


def lists_in(out: Path) -> list[str]:
    """Return the files of a directory that have the names of prepared lists."""
    found = (path for pattern in (*LISTS, CLASSES) for path in out.glob(pattern))
    return sorted(path.relative_to(out).as_posix() for path in found)


def lists_of_ours(out: Path) -> list[str]:
    """Return the lists of a directory that prepare wrote, by its record.

    In a directory without a record, all lists count if there is a prepared.json.
    """
    there = lists_in(out)
    names = recorded(out)
    if names is None:
        return there if os.path.isfile(out / FILE_NAME) else []
    return [name for name in there if name in names]


def write_lists(
    lists: MatchedLists,
    annotations: Annotations,
    located: Located,
    config: PrepareConfig,
    out: Path,
) -> None:
    """Write the lists and classes.txt, then prepared.json, which makes the directory valid."""
    assert config.dataset is not None
    before = lists_of_ours(out)
    files = [PreparedList(split, part, 0, None, "").file for split, part in lists.entries]
    for name in dict.fromkeys([*before, *files, CLASSES]):
        made(out, name)
    (out / FILE_NAME).unlink(missing_ok=True)
    for name in before:
        (out / name).unlink(missing_ok=True)
    write_text(out / CLASSES, "".join(f"{name}\n" for name in annotations.classes))
    written = []
    for (split, part), entries in lists.entries.items():
        published = PUBLISHED.get(config.dataset, {}).get(split, {}).get(part)
        one = PreparedList(split, part, len(entries), published, "")
        write_text(out / one.file, "".join(f"{_line(entry)}\n" for entry in entries))
        written.append(replace(one, sha256=sha256(out / one.file)))
    prepared = Prepared(
        dataset=str(config.dataset),
        root=str(Path(str(config.videos)).resolve()),
        classes=len(annotations.classes),
        list_format=located.list_format.name,
        frame_template=located.frame_template,
        first_frame=located.first_frame,
        lists=written,
        annotations={str(path): sha256(path) for path in annotations.files},
        settings={
            "seed": config.seed,
            "val_groups": config.val_groups,
            "val_fraction": config.val_fraction,
            "test_fraction": config.test_fraction,
        },
    )
    write_text(out / FILE_NAME, prepared.as_json())


def _line(entry: Entry) -> str:
    """Return the line of a list: path label, or folder total label."""
    path, frames = entry.video.path, entry.video.frames
    if path[0].isspace() or path.startswith("# "):
        path = f"./{path}"  # else a comment, or stripped
    return f"{path} {entry.row.label}" if frames is None else f"{path} {frames} {entry.row.label}"
