"""The search for video files and folders of frames below a folder, and what it leaves out.

prepare, predict and extract use it. Its rules:

    files with an extension of VIDEOS         taken, links to files too
    folders                                   entered, links to folders too; each folder once, so
                                              that links cannot form a loop
    hidden files and folders (.x, ._x.mp4)    left out, and counted
    other files                               left out, and counted by their extension
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

from videomae.lists.formats import Clip, ClipListError

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
"""File extensions of videos, in lower case."""
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
"""File extensions of the images in a folder of extracted frames, in lower case."""
FOLDER, NO_ENDING = "folder", "no ending"
"""Values of LeftOut.ending for a folder, and for a file without an extension."""
HIDDEN, NO_VIDEO, NO_FILE, LINKED_AGAIN = "hidden", "not_a_video", "not_a_file", "linked_again"
EMPTY, FLOW = "empty", "optical_flow"
"""Reasons for which a file or folder is left out and counted: values of LeftOut.reason."""
NOUNS = {
    HIDDEN: ("hidden file or folder", "hidden files and folders"),
    NO_VIDEO: ("file that is no video", "files that are no videos"),
    NO_FILE: ("pipe or device", "pipes and devices"),
    LINKED_AGAIN: ("folder that is linked again", "folders that are linked again"),
    EMPTY: ("empty folder", "empty folders"),
    FLOW: ("image of optical flow", "images of optical flow"),
}
"""Noun for one, and for several, of what is left out for each of these reasons."""
BROKEN_LINK, UNREADABLE = "broken_link", "folder_cannot_be_read"
UNLISTABLE = "name_no_list_can_hold"
ADVICE = {
    BROKEN_LINK: "a link that leads nowhere: mend or remove it",
    UNREADABLE: "a folder that cannot be read: mend its permissions",
    UNLISTABLE: "a name that is not UTF-8, holds a line end or ends in a blank: rename it",
}
"""Advice for each reason for which a file or folder is left out and named."""
ENDINGS_SHOWN = 8
"""Largest number of extensions that a log line names."""


class LeftOut(NamedTuple):
    """Files or folders with one extension that were left out for one reason, and their number."""

    reason: str
    ending: str
    """File extension in lower case, with its dot; or FOLDER, or NO_ENDING."""
    num_files: int
    example: str
    """Path of the first of them, relative to the folder, printable."""


@dataclass
class FolderContents:
    """The content of a folder and its subfolders; paths are relative to it, with slashes."""

    videos: list[str] = field(default_factory=list)
    """Paths of the video files, folder by folder, in the order of their names."""
    images: dict[str, list[str]] = field(default_factory=dict)
    """Names of the images in each folder, by its path; "" is the folder itself."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Reason, a key of ADVICE, for each file or folder that cannot be used, by its printable
    path."""
    counts: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """Number and first path of the files left out, by reason and extension."""

    @property
    def left_out(self) -> list[LeftOut]:
        """Files that were left out and counted, by reason, most frequent extensions first."""
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


def walk(root: Path) -> FolderContents:
    """Return the content of `root` and all its subfolders.

    Links to folders are followed last, so that a folder that has several paths gets the one without
    links.
    """
    below = FolderContents()
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
    entry: "os.DirEntry[str]",
    path: str,
    below: FolderContents,
    folders: list[str],
    links: list[str],
) -> None:
    """Add one entry of a folder to the list that it belongs to."""
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
    """Return the kind of an entry: FOLDER, BROKEN_LINK, NO_FILE (pipe, device), or None for a
    file."""
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
    """Return whether a path from the system is valid UTF-8, so that a text file can hold it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(path: str) -> str:
    """Return a path with bytes that are not UTF-8 and control characters as escapes."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return re.sub(
        r"[\x00-\x1f\x7f-\x9f]", lambda found: found[0].encode("unicode_escape").decode(), text
    )


def told(left_out: Sequence[LeftOut]) -> Iterator[str]:
    """Yield a log line for each reason for which files were left out."""
    for reason, group in groupby(left_out, key=lambda each: each.reason):
        parts = list(group)
        shown = ", ".join(map(_counted, parts[:ENDINGS_SHOWN]))
        more = len(parts) - ENDINGS_SHOWN
        shown += f", and {more} other endings" if more > 0 else ""
        kinds = "" if reason in (EMPTY, LINKED_AGAIN) else f" ({shown})"
        count = sum(part.num_files for part in parts)
        noun = NOUNS[reason][count != 1]
        yield f"left out: {count:,} {noun}{kinds}, such as {parts[0].example}"


def _counted(part: LeftOut) -> str:
    """Return the number of files of an extension, such as "3 .txt"."""
    words = {FOLDER: "folder" if part.num_files == 1 else "folders", NO_ENDING: "without an ending"}
    return f"{part.num_files:,} {words.get(part.ending, part.ending)}"


@dataclass(frozen=True)
class Selection:
    """The videos that a setting names: one file, or all below a folder."""

    root: Path
    clips: list[Clip]
    unusable: dict[str, str] = field(default_factory=dict)
    """Advice for each file or folder that cannot be used, by its printable path."""
    left_out: Sequence[LeftOut] = ()
    """Files that were left out, counted by reason and extension."""


def clips_below(path: Path, key: str = "video") -> Selection:
    """Return the clip of a video file, or the sorted clips of all videos below a folder.

    Args:
        key: the setting that names the path, for errors.

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


def nothing_in(below: FolderContents) -> str:
    """Return the part of an error that says that there is no video, and what was found instead."""
    there = [*told(below.left_out)]
    there += [f"{name}: {ADVICE[reason]}" for name, reason in below.unusable.items()][:1]
    return "; ".join([f"no file below it ends in {' '.join(VIDEOS)}", *there])
