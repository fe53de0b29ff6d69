"""The videos or folders of frames below a folder, and the search for the video of an annotation.

prepare uses it. videomae.lists.walk reads the folder itself.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videomae.config import ListFormat
from videomae.lists.annotations import Row
from videomae.lists.walk import FLOW, NO_VIDEO, UNLISTABLE, FolderContents, is_utf8, printable, walk

FLOW_PREFIX = re.compile(r"(flow_?)?[xy]_?|flow_?", re.IGNORECASE)
"""Pattern of the prefix before the number in names of optical flow images: flow_x_, y_ and so
on."""


class LocatedVideo(NamedTuple):
    """A video that was found: a video file, or a folder of extracted frames."""

    path: str
    """Path relative to the root, with slashes."""
    stem: str
    """Name of the file without its extension, or name of the folder."""
    frames: int | None = None
    """Number of frames in a folder of frames; None for a video file."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders that the video lies in, below the root."""
        return tuple(self.path.split("/")[:-1])


@dataclass(frozen=True)
class Located:
    """The videos that were found below a folder, and what was left out."""

    videos: list[LocatedVideo]
    below: FolderContents
    """Everything below the folder; it says what was left out and why."""
    frame_template: str | None = None
    """Pattern of the file names in folders of frames; None where the videos are files."""
    first_frame: int = 1
    """Number of the first frame in folders of frames."""
    other_frames: tuple[str, ...] = ()
    """Folders of frames that are left out: they have other names or numbers, or gaps."""

    @property
    def list_format(self) -> ListFormat:
        """Format of the clip lists of these videos."""
        frames = self.frame_template is not None
        return ListFormat.frames_total_label if frames else ListFormat.video_label


class Series(NamedTuple):
    """The frames of one folder, numbered without gaps."""

    template: str
    """Pattern of the frames' file names, such as img_{:05}.jpg."""
    first: int
    """Number of the first frame."""
    names: list[str]
    """File names of all frames."""


def locate(root: Path) -> Located:
    """Find the videos below `root`; folders of images count as videos if there is no video file."""
    below = walk(root)
    if below.videos or not below.images:
        below.leave_out_images()
        paths = [path for path in below.videos if _is_listable(path, below)]
        return Located([LocatedVideo(path, Path(path).stem) for path in paths], below)
    for name in below.images.pop("", []):
        below.leave_out(NO_VIDEO, name)
    return _frame_folders(below)


def _is_listable(path: str, below: FolderContents) -> bool:
    """Return whether a line of a clip list can hold a path; if not, note it as unusable."""
    listable = is_utf8(path) and path == path.rstrip() and not set("\n\r") & set(path)
    if not listable:
        below.unusable[printable(path)] = UNLISTABLE
    return listable


def _frame_folders(below: FolderContents) -> Located:
    """Return the folders that name and number their frames as most folders do, without gaps."""
    folders = {path: _series(names) for path, names in sorted(below.images.items())}
    counted = Counter(series[:2] for series in folders.values() if series is not None)
    usual = counted.most_common(1)[0][0] if counted else None
    videos, others = [], []
    for path, series in folders.items():
        if not _is_listable(path, below):
            continue
        if series is None or series[:2] != usual:
            others.append(path)
            continue
        videos.append(LocatedVideo(path, path.rpartition("/")[2], len(series.names)))
        for name in set(below.images[path]).difference(series.names):
            below.leave_out(FLOW, f"{path}/{name}")
    template, first = usual or (None, 1)
    return Located(videos, below, template, first, tuple(others))


def _series(names: Sequence[str]) -> Series | None:
    """Return the frames of a folder by their file names, without optical flow images.

    None if the images are not one series that is numbered without gaps.
    """
    numbered: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        found = re.fullmatch(r"(.*?)(\d+)(\.\w+)", name, re.ASCII)
        if found is None:
            return None
        before, number, after = found.groups()
        numbered.setdefault((before, after), {})[number] = name
    if len(numbered) > 1:
        numbered = {
            form: own for form, own in numbered.items() if not FLOW_PREFIX.fullmatch(form[0])
        }
    if len(numbered) != 1:
        return None
    (((before, after), frames),) = numbered.items()
    if not is_utf8(before):
        return None
    numbers = sorted(map(int, frames))
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    width = min(map(len, frames))
    padded = width > 1 and (width == max(map(len, frames)) or any(n[0] == "0" for n in frames))
    place = f"{{:0{width}}}" if padded else "{}"
    if any(place.format(int(number)) != number for number in frames):
        return None
    escaped = before.replace("{", "{{").replace("}", "}}")
    return Series(f"{escaped}{place}{after}", numbers[0], list(frames.values()))


class Index:
    """An index that finds the video of an annotation.

    Args:
        videos: the videos to search.
        classes: names of folders that hold videos of one class each; none if folders do not stand
            for classes.
    """

    def __init__(self, videos: Iterable[LocatedVideo], classes: Iterable[str]) -> None:
        self.by_path: dict[str, LocatedVideo] = {}
        self.by_stem: dict[str, list[LocatedVideo]] = {}
        for video in videos:
            self.by_path[video.path] = video
            self.by_stem.setdefault(video.stem, []).append(video)
        self.class_folders = {plain(name) for name in classes}

    def find(self, row: Row) -> LocatedVideo | None:
        """Return the video of an annotation; None if there is none.

        It is the one at the annotation's path, or one with its name that does not lie in the folder
        of another class; of several, the one that shares most folder names with the annotation.
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
    """Return a folder's name in lower case without spaces and punctuation, in which copies vary."""
    return re.sub(r"[\W_]", "", name.casefold())
