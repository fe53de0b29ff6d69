"""The videos below a folder, or its folders of extracted frames, and their match to annotated rows.

videomae.lists.walk looks at the folder; here is what prepare makes of it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videomae.config import ListFormat
from videomae.lists.annotations import Row
from videomae.lists.walk import NO_VIDEO, UNLISTABLE, Below, is_utf8, printable, walk

FLOW = "optical_flow"
"""Why images are left out that lie beside the frames of a video: a reason of LeftOut."""
OF_FLOW = re.compile(r"(flow_?)?[xy]_?|flow_?", re.IGNORECASE)
"""What stands before the number in the names of such images: flow_x_, flow_y_, x_, y_."""


class Found(NamedTuple):
    """A video file, or a folder of extracted frames."""

    path: str
    """Below the root, with slashes."""
    stem: str
    """Its name, without the ending of a file."""
    frames: int | None = None
    """Of a folder: how many frames it holds."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Those that it lies in."""
        return tuple(self.path.split("/")[:-1])


@dataclass(frozen=True)
class Located:
    """All that is below a folder."""

    videos: list[Found]
    below: Below
    """The rest: what was left out, and why."""
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


class Series(NamedTuple):
    """The frames of a folder, which are numbered without gaps."""

    template: str
    """The file name of one."""
    first: int
    """The number of the first one."""
    names: list[str]
    """The file names of all."""


def locate(root: Path) -> Located:
    """Find the videos below `root`. Folders of images count where there is no video file."""
    below = walk(root)
    if below.videos or not below.images:
        below.leave_out_images()
        paths = [path for path in below.videos if _is_listable(path, below)]
        return Located([Found(path, Path(path).stem) for path in paths], below)
    for name in below.images.pop("", []):
        below.leave_out(NO_VIDEO, name)
    return _frame_folders(below)


def _is_listable(path: str, below: Below) -> bool:
    """Whether a line of a list can hold the path; if not, it is noted as unusable."""
    listable = is_utf8(path) and path == path.rstrip() and not set("\n\r") & set(path)
    if not listable:
        below.unusable[printable(path)] = UNLISTABLE
    return listable


def _frame_folders(below: Below) -> Located:
    """Those folders that number their frames as most do, without gaps."""
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
        videos.append(Found(path, path.rpartition("/")[2], len(series.names)))
        for name in set(below.images[path]).difference(series.names):
            below.leave_out(FLOW, f"{path}/{name}")
    template, first = usual or (None, 1)
    return Located(videos, below, template, first, tuple(others))


def _series(names: Sequence[str]) -> Series | None:
    """The frames of a folder; None where its images are not one series, optical flow aside."""
    numbered: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        found = re.fullmatch(r"(.*?)(\d+)(\.\w+)", name, re.ASCII)
        if found is None:
            return None
        before, number, after = found.groups()
        numbered.setdefault((before, after), {})[number] = name
    if len(numbered) > 1:
        numbered = {form: own for form, own in numbered.items() if not OF_FLOW.fullmatch(form[0])}
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
