"""Matching of annotations with located videos, to the entries of clip lists and to problems."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videomae.lists.annotations import Annotations, Row
from videomae.lists.locate import Index, Located, LocatedVideo
from videomae.lists.published import PARTS, UNUSED
from videomae.lists.walk import ADVICE, FolderContents, printable

IN_TWO_PARTS = "in_two_parts"
"""Kind of problem that prevents the lists from being written."""


class Problem(NamedTuple):
    """A video or a class that is missing from the lists or was left out, and the reason."""

    kind: str
    what: str
    """Name of the video or the class, printable; for files that are only counted, their
    extension."""
    where: str
    """File and line that name the video, the list that lacks the class, or a description."""
    num_files: int = 1


class Entry(NamedTuple):
    """A future line of a clip list: a video and its annotation."""

    video: LocatedVideo
    row: Row


@dataclass(frozen=True)
class MatchedLists:
    """The entries of the clip lists to write, and the problems that were found."""

    entries: dict[tuple[int | None, str], list[Entry]]
    """Entries of each list, by split and part; the split is None where the data set has only
    one."""
    problems: list[Problem]

    def of_kind(self, kind: str) -> list[Problem]:
        """Return the problems of one kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def videos(self) -> list[LocatedVideo]:
        """Return the videos of all lists, each once."""
        found = {entry.video: None for entries in self.entries.values() for entry in entries}
        return list(found)

    def without(self, damaged: Mapping[str, str]) -> "MatchedLists":
        """Return these lists without damaged videos, which become problems.

        Args:
            damaged: reasons, by the paths of the videos.
        """
        kept = {
            key: [entry for entry in entries if entry.video.path not in damaged]
            for key, entries in self.entries.items()
        }
        entries = {key: own for key, own in kept.items() if own}
        named = [Problem("damaged", path, why) for path, why in damaged.items()]
        return MatchedLists(entries, self.problems + named)


def match(annotations: Annotations, located: Located, root: Path) -> MatchedLists:
    """Find the video of every annotation, and return the lists of all splits.

    Their problems name annotations without a video, and videos without an annotation or whose names
    no list can hold.
    """
    index = Index(located.videos, annotations.classes if annotations.class_folders else ())
    problems: dict[tuple[str, str], Problem] = {}
    used: set[str] = set()

    def note(kind: str, what: str, where: str) -> None:
        problems.setdefault((kind, what), Problem(kind, printable(what), where))

    for name, reason in located.below.unusable.items():
        note(reason, name, ADVICE[reason])
    for folder in located.other_frames:
        note("frames_numbered_otherwise", folder, f"most are {located.frame_template}")
    entries: dict[tuple[int | None, str], list[Entry]] = {}
    for split, rows in annotations.splits.items():
        seen: dict[str, Row] = {}
        for row in rows:
            video = index.find(row)
            if video is not None:
                used.add(video.path)
            if row.part == UNUSED:
                continue
            key = row.path if video is None else video.path
            first = seen.setdefault(key, row)
            if first is not row:
                note(_clash(first, row), key, f"{first.place} and {row.place}")
            elif video is None:
                note("missing", row.path, row.place)
            elif _is_empty(root, video):
                note("empty", video.path, row.place)
            else:
                entries.setdefault((split, row.part), []).append(Entry(video, row))
    for video in located.videos:
        if video.path not in used:
            note("extra", video.path, "")
    return MatchedLists(entries, list(problems.values()))


def _clash(first: Row, second: Row) -> str:
    """Return the kind of problem of two annotations of one video."""
    if first.part != second.part:
        return IN_TWO_PARTS
    return "duplicate" if first.label == second.label else "two_classes"


def _is_empty(root: Path, video: LocatedVideo) -> bool:
    """Return whether a video file is empty, or no longer there."""
    try:
        return video.frames is None and (root / video.path).stat().st_size == 0
    except (OSError, ValueError):
        return True


def classes_without_videos(annotations: Annotations, lists: MatchedLists) -> Iterator[Problem]:
    """Return a problem for each class that is missing from a list that is not empty.

    It names every such list.
    """
    labels = {
        part if split is None else f"{part} of split {split}": {
            entry.row.label for entry in lists.entries.get((split, part), [])
        }
        for split in annotations.splits
        for part in PARTS
    }
    filled = {where: there for where, there in labels.items() if there}
    for label, name in enumerate(annotations.classes):
        if lacking := [where for where, there in filled.items() if label not in there]:
            everywhere = len(lacking) == len(filled) > 1
            where = "all lists" if everywhere else ", ".join(lacking)
            yield Problem("class_without_videos", printable(name), where)


def left_out(below: FolderContents) -> list[Problem]:
    """Return problems that count the files that were left out, by reason and extension."""
    return [
        Problem(each.reason, each.ending, f"such as {each.example}", each.num_files)
        for each in below.left_out
    ]
