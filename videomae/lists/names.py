"""The names of classes, or of the numbers of a regression: a text file, line i that of number i."""

from pathlib import Path

from videomae.config import DataConfig
from videomae.lists.formats import ClipListError
from videomae.lists.text_files import NotTextError, short_text

MOST_NAMES = 2**23
"""Bytes of a file of names, at most."""


def class_names(data: DataConfig) -> list[str]:
    """The name of each class: from data.class_names, else its number.

    Raises:
        ClipListError: the file cannot be read, or does not name each class once.
    """
    if data.class_names is None:
        return [str(label) for label in range(data.classes or 0)]
    return read_names(data.class_names, data.classes or 0, "data.class_names", "data.classes")


def read_names(path: str, classes: int, key: str, count: str) -> list[str]:
    """The names in a text file, line i that of class i.

    Args:
        classes: how many there must be.
        key: the setting that named the file, for messages.
        count: what said how many there must be, likewise.

    Raises:
        ClipListError: the file cannot be read, or does not name each class once.
    """
    try:
        names = short_text(Path(path), MOST_NAMES).split("\n")
    except (OSError, NotTextError) as error:
        raise ClipListError(f"{key}={path} cannot be read ({error})") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    different = len(set(names) - {""})
    if not len(names) == different == classes:
        raise ClipListError(
            f"{key}={path} names {different} different classes on {len(names)} lines, {count} is "
            f"{classes}: line i must name class i"
        )
    return names
