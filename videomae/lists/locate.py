"""The videos below a folder, found by walking it once, and matched to annotated rows."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videomae.config import ListFormat
from videomae.lists.annotations import Row
from videomae.lists.clips import VIDEOS

IMAGES = (".jpg", ".jpeg", ".png", ".webp")


class Found(NamedTuple):
    """A video file, or a folder of extracted frames."""

    path: str
    """Below the root, with slashes."""
    stem: str
    """Its name, without the ending of a file."""
    frames: int | None = None
    """Of a folder: how many images it holds."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Those that it lies in."""
        return tuple(self.path.split("/")[:-1])


@dataclass(frozen=True)
class Located:
    """All that is below a folder."""

    videos: list[Found]
    frame_template: str | None = None
    """Of folders of frames: the file name of one."""
    first_frame: int = 1
    """Of folders of frames: the number of the first one."""
    other_frames: tuple[str, ...] = ()
    """Folders of frames that are named or numbered otherwise, or have gaps."""

    @property
    def list_format(self) -> ListFormat:
        """Of the lists of these videos."""
        frames = self.frame_template is not None
        return ListFormat.frames_total_label if frames else ListFormat.video_label


def locate(root: Path) -> Located:
    """Walk `root`, through links too. Folders of images count where there is no video file."""
    files: list[Found] = []
    folders: dict[str, list[str]] = {}
    for place, names in _walk(root):
        inside = place.relative_to(root).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() in VIDEOS:
                files.append(Found(prefix + name, stem))
            elif ending.lower() in IMAGES and prefix:
                folders.setdefault(inside, []).append(name)
    if files or not folders:
        return Located(files)
    return _frame_folders(folders)


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder once, with its files; what is hidden is left out."""
    seen = set()
    for place, subfolders, names in os.walk(root, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(place), sorted(name for name in names if not name.startswith("."))


def _frame_folders(folders: dict[str, list[str]]) -> Located:
    """Those folders that number their frames as most do, without gaps."""
    forms = {path: _numbering(names) for path, names in folders.items()}
    counted = Counter(form for form in forms.values() if form is not None)
    if not counted:
        return Located([], other_frames=tuple(folders))
    usual = counted.most_common(1)[0][0]
    return Located(
        [
            Found(path, path.rpartition("/")[2], len(folders[path]))
            for path, form in forms.items()
            if form == usual
        ],
        *usual,
        other_frames=tuple(path for path, form in forms.items() if form != usual),
    )


def _numbering(names: Sequence[str]) -> tuple[str, int] | None:
    """(template, first number) of the frames of a folder; None where they are not in one series."""
    parts = [re.fullmatch(r"(.*?)(\d+)(\.\w+)", name) for name in names]
    found = [part.groups() for part in parts if part is not None]
    numbers = sorted(int(number) for _, number, _ in found)
    if len(found) != len(names) or len({(before, after) for before, _, after in found}) != 1:
        return None
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    before, number, after = found[0]
    widths = {len(number) for _, number, _ in found}
    place = f"{{:0{len(number)}}}" if len(widths) == 1 and len(number) > 1 else "{}"
    escaped = before.replace("{", "{{").replace("}", "}}")
    return f"{escaped}{place}{after}", numbers[0]


class Index:
    """Finds the video of a row among those that there are.

    Args:
        classes: names of folders that hold videos of one class each; none where folders do not
            tell classes.
    """

    def __init__(self, videos: Iterable[Found], classes: Iterable[str]) -> None:
        self.by_path: dict[str, Found] = {}
        self.by_stem: dict[str, list[Found]] = {}
        for video in videos:
            self.by_path[video.path] = video
            self.by_stem.setdefault(video.stem, []).append(video)
        self.class_folders = {plain(name) for name in classes}

    def of(self, row: Row) -> Found | None:
        """The video at the row's path; else one of its name that is in no other class's folder.

        Of several, the one that shares most folders with the row.
        """
        if row.path in self.by_path:
            return self.by_path[row.path]
        own = {plain(folder) for folder in row.folders}
        for stem in row.stems:
            shared = [
                (len(own & folders), video)
                for video in self.by_stem.get(stem, ())
                if not (folders := {plain(name) for name in video.folders})
                & (self.class_folders - own)
            ]
            if shared:
                return max(shared, key=lambda pair: pair[0])[1]
        return None


def plain(name: str) -> str:
    """A folder's name without case, spaces and punctuation, which copies of a data set vary."""
    return re.sub(r"[\W_]", "", name.casefold())
