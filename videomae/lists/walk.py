"""What lies below a folder: its videos, folders of extracted frames, and what is left out and why.

The one walk of prepare, predict and extract. Its rules:

    files whose names end as VIDEOS says      taken, also where they are links
    folders                                   entered, also where they are links; each once, so that
                                              no link leads round in circles
    hidden files and folders (.x, ._x.mp4)    left out, and counted
    other files                               left out, and counted by their ending
    empty folders                             counted
    broken links, names that are not UTF-8,   left out, and named one by one
    folders that cannot be read
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from videomae.lists.clips import Clip, ClipListError

ENDINGS = (
    # phones, cameras, the web
    ".mp4 .m4v .mov .qt .3gp .3g2 .mj2 .f4v .avi .divx .mkv .mk3d .webm .wmv .asf .flv .gif .insv "
    # MPEG: programme and transport streams, discs, camcorders, raw streams
    ".mpg .mpeg .mpe .mpv .mpeg1 .mpeg2 .mpeg4 .m1v .m2v .m2p .vob .tod .ts .mts .m2ts .m2t "
    ".h264 .264 .h265 .265 .hevc "
    # other containers and raw streams that FFmpeg reads
    ".ogv .ogm .rm .rmvb .mxf .dv .nut .y4m .ivf .obu .mjpeg .mjpg .wtv .ismv .amv"
)
VIDEOS = tuple(ENDINGS.split())
"""How the names of video files end, in lower case."""
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
"""How the names of images end, of which a folder of extracted frames consists."""
FOLDER, NO_ENDING = "folder", "no ending"
"""Values of LeftOut.ending for a folder, and for a file without an ending."""
HIDDEN, NO_VIDEO, NO_FILE, LINKED_AGAIN = "hidden", "not_a_video", "not_a_file", "linked_again"
EMPTY = "empty"
"""Reasons for which something is left out and counted: see LeftOut."""
BROKEN_LINK, UNREADABLE = "broken_link", "folder_cannot_be_read"
UNLISTABLE = "name_no_list_can_hold"
ADVICE = {
    BROKEN_LINK: "a link that leads nowhere: mend or remove it",
    UNREADABLE: "a folder that cannot be read: mend its permissions",
    UNLISTABLE: "a name that is not UTF-8, holds a line end or ends in a blank: rename it",
}
"""Reasons for which something is left out and named: what is wrong with it, and what to do."""
ENDINGS_SHOWN = 8
"""Endings that a line for people names at most."""


class LeftOut(NamedTuple):
    """Files, or folders, that were left out for one reason and have one ending."""

    reason: str
    ending: str
    """In lower case, with its dot; or FOLDER, or NO_ENDING."""
    num_files: int
    example: str
    """The first of them, below the folder, printable."""


@dataclass
class Below:
    """What lies below a folder; paths are relative to it, with slashes."""

    videos: list[str] = field(default_factory=list)
    """Video files, folder by folder, in the order of their names."""
    images: dict[str, list[str]] = field(default_factory=dict)
    """By folder, the names of the images in it; "" is the folder itself."""
    unusable: dict[str, str] = field(default_factory=dict)
    """What cannot be used, by its printable path: a key of ADVICE."""
    counts: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """By reason and ending, what was left out: how many, and the first of them."""

    @property
    def left_out(self) -> list[LeftOut]:
        """The files that were left out and counted, by reason, most frequent endings first."""
        found = [LeftOut(*key, *value) for key, value in self.counts.items()]
        return sorted(found, key=lambda each: (each.reason, -each.num_files, each.ending))

    def leave_out(self, reason: str, path: str, *, folder: bool = False) -> None:
        """Count a file, or a folder, as left out."""
        ending = FOLDER if folder else printable(_ending(path) or NO_ENDING)
        count, first = self.counts.get((reason, ending), (0, printable(path)))
        self.counts[reason, ending] = count + 1, first

    def leave_out_images(self) -> None:
        """Count all images as left out."""
        for folder, names in self.images.items():
            for name in names:
                self.leave_out(NO_VIDEO, _joined(folder, name))
        self.images.clear()


def walk(root: Path) -> Below:
    """Look at everything below `root`.

    Folders that are links come last, so that a folder that is reached by several paths goes by
    the one without links.
    """
    below = Below()
    seen: set[tuple[int, int]] = set()
    waiting, links = [""], list[str]()  # the last of `waiting` is next
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            status = os.stat(root / folder)
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            below.unusable[printable(folder or ".")] = UNREADABLE
            continue
        if (status.st_dev, status.st_ino) in seen:
            below.leave_out(LINKED_AGAIN, folder, folder=True)
            continue
        seen.add((status.st_dev, status.st_ino))
        if not entries and folder:
            below.leave_out(EMPTY, folder, folder=True)
        inner: list[str] = []
        for entry in entries:
            _sort_out(entry, _joined(folder, entry.name), below, inner, links)
        waiting += reversed(inner)
    below.videos.sort(key=lambda path: path.split("/"))
    return below


def _sort_out(
    entry: "os.DirEntry[str]", path: str, below: Below, folders: list[str], links: list[str]
) -> None:
    """Put one entry of a folder where it belongs."""
    kind, ending = _kind(entry), _ending(path)
    if entry.name.startswith("."):
        below.leave_out(HIDDEN, path, folder=kind == FOLDER)
    elif kind == FOLDER:
        (links if entry.is_symlink() else folders).append(path)
    elif kind == BROKEN_LINK:
        below.unusable[printable(path)] = BROKEN_LINK
    elif kind == NO_FILE:
        below.leave_out(NO_FILE, path)
    elif ending in IMAGES:
        below.images.setdefault(path.rpartition("/")[0], []).append(entry.name)
    elif ending not in VIDEOS:
        below.leave_out(NO_VIDEO, path)
    elif is_utf8(path):
        below.videos.append(path)
    else:
        below.unusable[printable(path)] = UNLISTABLE


def _kind(entry: "os.DirEntry[str]") -> str | None:
    """FOLDER, BROKEN_LINK, NO_FILE (a pipe, a device), or None for a file."""
    try:
        if entry.is_dir():
            return FOLDER
        if entry.is_file():
            return None
    except OSError:  # a link to itself, or into a folder that cannot be read
        return BROKEN_LINK
    return BROKEN_LINK if entry.is_symlink() else NO_FILE


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_utf8(path: str) -> bool:
    """Whether a path that the system gave can be written to a text file."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str) -> str:
    """Return a path as any terminal and any text file can show it.

    Bytes that are not UTF-8, line ends and other control characters are written as escapes.
    """
    text = path.encode("utf-8", "backslashreplace").decode()
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f]", lambda found: found[0].encode("unicode_escape").decode(), text
    )


def told(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """A line for people on each reason for which something was left out."""
    for reason, group in groupby(left_out, key=lambda each: each.reason):
        parts = list(group)
        shown = ", ".join(f"{part.ending} {part.num_files:,}" for part in parts[:ENDINGS_SHOWN])
        more = len(parts) - ENDINGS_SHOWN
        shown += f", and {more} other endings" if more > 0 else ""
        count = sum(part.num_files for part in parts)
        yield (
            f"left out: {count:,} {reason.replace('_', ' ')} ({shown}), such as {parts[0].example}"
        )


@dataclass(frozen=True)
class Selection:
    """The videos that a setting names: a file, or all below a folder."""

    root: Path
    clips: list[Clip]
    unusable: dict[str, str] = field(default_factory=dict)
    """By its printable path, what is wrong with each thing that is there but cannot be used."""
    left_out: Sequence[LeftOut] = ()
    """Files that are no videos, counted."""


def clips_below(path: Path, key: str = "video") -> Selection:
    """The clip of a video file, or those of all videos below a folder, sorted.

    Args:
        key: the setting that named it, for messages.

    Raises:
        ClipListError: there is no video.
    """
    if not os.path.isdir(path):
        return Selection(path.parent, [Clip(path.name, line=1)])
    below = walk(path)
    below.leave_out_images()
    unusable = {name: ADVICE[reason] for name, reason in below.unusable.items()}
    if not below.videos:
        raise ClipListError(f"{key}={path} holds no video: {nothing_in(below)}")
    clips = [Clip(name, line) for line, name in enumerate(below.videos, start=1)]
    return Selection(path, clips, unusable, below.left_out)


def nothing_in(below: Below) -> str:
    """Say for a message that there is no video, and what else there is."""
    there = [*told(below.left_out)]
    there += [f"{name}: {ADVICE[reason]}" for name, reason in below.unusable.items()][:1]
    return "; ".join([f"no file below it ends in {' '.join(VIDEOS)}", *there])
