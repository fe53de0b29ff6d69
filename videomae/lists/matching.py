"""Annotated rows and located videos to the lines of clip lists, and what is wrong with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videomae.lists.annotations import Annotations, Row
from videomae.lists.locate import Found, Index, Located
from videomae.lists.published import PARTS, UNUSED
from videomae.lists.walk import ADVICE, Below, printable

IN_TWO_PARTS = "in_two_parts"
"""The kind of problem that no list may be written with."""


class Problem(NamedTuple):
    """Something that was left out of the lists, or that is not in them."""

    kind: str
    what: str
    """The video or the class, printable; of files that are only counted: their ending."""
    where: str
    """File and line that name it, the list that lacks it, or what is wrong with it."""
    num_files: int = 1


class Entry(NamedTuple):
    """One line of a list to be."""

    video: Found
    row: Row


@dataclass(frozen=True)
class Lists:
    """What is to be written."""

    entries: dict[tuple[int | None, str], list[Entry]]
    """By split and part."""
    problems: list[Problem]

    def of_kind(self, kind: str) -> list[Problem]:
        """The problems of one kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def videos(self) -> list[Found]:
        """The videos of all lists, each once."""
        found = {entry.video: None for entries in self.entries.values() for entry in entries}
        return list(found)

    def without(self, damaged: Mapping[str, str]) -> "Lists":
        """These lists without some videos, by path, and why each is left out."""
        kept = {
            key: [entry for entry in entries if entry.video.path not in damaged]
            for key, entries in self.entries.items()
        }
        entries = {key: own for key, own in kept.items() if own}
        named = [Problem("damaged", path, why) for path, why in damaged.items()]
        return Lists(entries, self.problems + named)


def match(annotations: Annotations, located: Located, root: Path) -> Lists:
    """Find the video of every annotated row, and return the lists of all splits.

    What no list can hold, or what is left over, is among their problems.
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
            video = index.of(row)
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
    return Lists(entries, list(problems.values()))


def _clash(first: Row, second: Row) -> str:
    """What is wrong with two rows of one video."""
    if first.part != second.part:
        return IN_TWO_PARTS
    return "duplicate" if first.label == second.label else "two_classes"


def _is_empty(root: Path, video: Found) -> bool:
    """Whether a video file holds nothing, or is no longer there."""
    try:
        return video.frames is None and (root / video.path).stat().st_size == 0
    except (OSError, ValueError):
        return True


def classes_without_videos(annotations: Annotations, lists: Lists) -> Iterable[Problem]:
    """Each class that a list lacks, once, of the lists that are not empty as a whole."""
    found: dict[str, Problem] = {}
    for split in annotations.splits:
        for part in PARTS:
            there = {entry.row.label for entry in lists.entries.get((split, part), [])}
            where = part if split is None else f"{part} of split {split}"
            for label, name in enumerate(annotations.classes):
                if there and label not in there:
                    problem = Problem("class_without_videos", printable(name), where)
                    found.setdefault(name, problem)
    return found.values()


def left_out(below: Below) -> list[Problem]:
    """Problems that count the files which were left out as no videos, by reason and ending."""
    return [
        Problem(each.reason, each.ending, f"such as {each.example}", each.num_files)
        for each in below.left_out
    ]
