"""A folder of one's own videos: its classes, its parts, and what cannot be used and why.

data.videos=FOLDER names it. Other ways to lists are python -m videomae.prepare, whose rules for
folders are in videomae.lists.own, and lists that one writes.
"""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from videomae.config import UserError
from videomae.lists.matching import Problem
from videomae.lists.own import SPLIT_NAMES
from videomae.lists.published import PARTS, TRAIN
from videomae.lists.walk import (
    ADVICE,
    IMAGES,
    UNLISTABLE,
    FolderContents,
    nothing_in,
    printable,
    walk,
)
from videomae.run.files import sha256

UNLABELLED = "unlabelled"
"""The one class of a folder without folders of classes."""
Stamp = tuple[int, int]
"""Size of a file in bytes and its modification time in ns."""


class OwnFolderError(UserError):
    """A folder of videos that no run can be made of."""


@dataclass(frozen=True)
class OwnVideo:
    """One usable video of a folder."""

    path: str
    """Path relative to the folder's root, with slashes."""
    class_name: str
    part: str
    """train, val or test, as a folder above the classes says; train where none does."""
    stamp: Stamp


@dataclass(frozen=True)
class OwnFolder:
    """The videos of a folder, by class and part."""

    root: Path
    """Folder that holds the classes, or the splits: the one given, or a folder inside it."""
    videos: list[OwnVideo]
    class_depth: int
    """How many folders of a path are those of split and class."""
    below: FolderContents
    """Everything that was found, and the files that are no videos."""
    classes: list[str] = field(default_factory=list)
    """All that the folder holds, usable videos of it or not; empty: it is unlabelled."""
    parts: list[str] = field(default_factory=list)
    """Parts that folders of splits stand for; empty: there are none."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Lines for people on how the folder was read."""

    @property
    def labelled(self) -> bool:
        """Whether the videos lie in folders of classes."""
        return len(self.classes) > 0

    def without(self, kind: str, reasons: dict[str, str]) -> "OwnFolder":
        """Return the folder without some videos, by path, each a problem of that kind."""
        problems = [Problem(kind, printable(path), why) for path, why in reasons.items()]
        kept = [video for video in self.videos if video.path not in reasons]
        return replace(self, videos=kept, problems=self.problems + problems)


def read_own_folder(root: Path) -> OwnFolder:
    """Find the videos of a folder, their classes and their parts.

    Raises:
        OwnFolderError: there are none.
    """
    below = walk(root)
    images = [(folder, name) for folder, names in below.images.items() for name in names]
    below.leave_out_images()
    paths = [path for path in below.videos if _is_listable(path, below)]
    if not paths:
        raise OwnFolderError(f"data.videos={root} holds no video: {_instead(below, images)}")
    inner = [path.split("/") for path in paths]
    top = _lone_top(inner)
    notes = []
    if top:
        root = root.joinpath(*top)
        inner = [path[len(top) :] for path in inner]
        notes.append(f"all videos lie in {'/'.join(top)}/: the folders in it are the classes")
    parts = _splits({path[0] for path in inner if len(path) > 1})
    folder = OwnFolder(root, [], 0, below, parts=list(dict.fromkeys(parts.values())), notes=notes)
    problems = [Problem(why, name, ADVICE[why]) for name, why in below.unusable.items()]
    if parts:
        said = ", ".join(f"{name}/ is {part}" for name, part in parts.items())
        notes.append(f"the top folders are splits: {said}")
    return _with_videos(replace(folder, problems=problems), inner, parts)


def _with_videos(folder: OwnFolder, inner: Sequence[list[str]], parts: dict[str, str]) -> OwnFolder:
    """Return the folder with its videos, given the parts of their paths."""
    skip = 1 if parts else 0
    labelled = any(len(path) > skip + 1 for path in inner)
    named = _class_names([path[skip] for path in inner if len(path) > skip + 1])
    spellings = defaultdict(list)
    for spelling, name in named.items():
        spellings[name].append(spelling)
    notes = [
        f"the folders {' '.join(f'{each}/' for each in own)} are one class, {name}"
        for name, own in spellings.items()
        if len(own) > 1
    ]
    if labelled:
        notes += _notes_of_recordings(inner, skip + 1)
    videos, problems = [], _no_classes(folder.root, inner, parts) if labelled else []
    for path in inner:
        whole = "/".join(path)
        stamp = _stamp(folder.root / whole)
        if stamp is None:
            problems.append(Problem("went_away", printable(whole), "while the folder was read"))
        elif stamp[0] == 0:
            problems.append(Problem("empty", printable(whole), "holds no byte"))
        elif labelled and len(path) <= skip + 1:
            why = "move it into the folder of its class, or leave it"
            problems.append(Problem("in_no_class", printable(whole), why))
        else:
            name = named[path[skip]] if labelled else UNLABELLED
            videos.append(OwnVideo(whole, name, parts.get(path[0], TRAIN), stamp))
    return replace(
        folder,
        videos=videos,
        class_depth=skip + labelled,
        classes=sorted(spellings),
        problems=folder.problems + problems,
        notes=folder.notes + notes,
    )


def _notes_of_recordings(inner: Sequence[list[str]], class_depth: int) -> list[str]:
    """Return what to say of folders inside the classes, which are taken for recordings."""
    classes = defaultdict(set)
    for path in inner:
        if len(path) > class_depth + 1:
            classes["/".join(path[class_depth:-1])].add(path[class_depth - 1])
    if not classes:
        return []
    whole = sorted(f"{own}/{name}" for name, owners in classes.items() for own in owners)
    shown = ", ".join(whole[:3]) + ", ..." * (len(whole) > 3)
    note = f"folders inside the classes ({shown}) are taken as recordings, not as classes"
    if shared := sorted(name for name, owners in classes.items() if len(owners) > 1):
        first = f"{shared[0]}/{min(classes[shared[0]])}"
        note += (
            f". {', '.join(shared[:3])}{', ...' * (len(shared) > 3)} lie in several classes: if "
            f"they are the classes, put them on top, as {first}"
        )
    return [note]


def _no_classes(root: Path, inner: Sequence[list[str]], parts: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each folder beside those of the classes in which no video was found."""
    found = {tuple(path[: 2 if parts else 1]) for path in inner}
    problems = []
    for top in parts or [""]:
        try:
            with os.scandir(root / top) as entries:
                names = sorted(each.name for each in entries if each.is_dir())
        except OSError:  # it is named as a folder that cannot be read
            continue
        for name in names:
            if not name.startswith(".") and ((top, name) if top else (name,)) not in found:
                what = printable(f"{top}/{name}/" if top else f"{name}/")
                why = "no video that a list can name was found in it, so that it is no class"
                problems.append(Problem("no_class", what, why))
    return problems


def _is_listable(path: str, below: FolderContents) -> bool:
    """Tell whether a line of a list can hold a path; if not, it is noted as unusable."""
    listable = path == path.rstrip() and not set("\n\r") & set(path)
    if not listable:
        below.unusable[printable(path)] = UNLISTABLE
    return listable


def _instead(below: FolderContents, images: Sequence[tuple[str, str]]) -> str:
    """Say what a folder without videos holds, and what to do."""
    if not images:
        return nothing_in(below)
    return (
        f"it holds {len(images):,} images ({' '.join(IMAGES)}), such as "
        f"{printable('/'.join(filter(None, images[0])))}. Photographs are no videos; if they are "
        "frames of videos, a folder each, make lists by python -m videomae.prepare dataset=folders"
    )


def _lone_top(inner: Sequence[list[str]]) -> list[str]:
    """Return the folders in which all videos lie, above those of their classes."""
    top: list[str] = []
    while True:
        rest = [path[len(top) :] for path in inner]
        first = rest[0][0]
        if first.casefold() in SPLIT_NAMES or not all(
            len(path) > 2 and path[0] == first for path in rest
        ):
            return top
        top.append(first)


def _splits(tops: Iterable[str]) -> dict[str, str]:
    """Return the top folders that are splits, and the part that each is.

    Where only some are named so, they are classes: a class may be called Training.
    """
    parts = {top: SPLIT_NAMES.get(top.casefold()) for top in sorted(tops)}
    named = {top: part for top, part in parts.items() if part is not None}
    pair = TRAIN in named.values() and len(set(named.values())) > 1
    return named if pair or len(named) == len(parts) else {}


def _class_names(folders: Sequence[str]) -> dict[str, str]:
    """Return the class that each folder's name stands for.

    Names that differ in case, in blanks around them or in how accents are encoded are one class, by
    the spelling with most videos.
    """
    counts = Counter(folders)
    spelling: dict[str, str] = {}
    for name, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        spelling.setdefault(_key(name), unicodedata.normalize("NFC", name).strip())
    return {name: spelling[_key(name)] for name in sorted(counts)}


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def stamps_of(root: Path, videos: Iterable[str]) -> dict[str, Stamp | None]:
    """Return size and time of each video as they are now; None: it is gone."""
    return {path: _stamp(root / path) for path in videos}


def without_copies(folder: OwnFolder) -> OwnFolder:
    """Return the folder with one of each set of files with the same bytes: none is in two parts.

    A test video stays, and its copy in train goes. A file whose copy is in another class says
    nothing of either: both go.
    """
    by_size = defaultdict(list)
    for video in folder.videos:
        by_size[video.stamp[0]].append(video)
    by_bytes = defaultdict(list)
    gone: dict[str, str] = {}
    for video in (each for alike in by_size.values() if len(alike) > 1 for each in alike):
        try:
            by_bytes[sha256(folder.root / video.path)].append(video)
        except OSError as error:
            gone[video.path] = error.strerror or str(error)
    folder = folder.without("unreadable", gone)
    copies: dict[str, str] = {}
    ambiguous: dict[str, str] = {}
    for alike in by_bytes.values():
        # "x (1).mp4", as a browser calls a second download, goes and "x.mp4" stays.
        alike.sort(key=lambda video: (-PARTS.index(video.part), len(video.path), video.path))
        classes = {video.class_name for video in alike}
        if len(classes) > 1:
            same = ", ".join(printable(video.path) for video in alike)
            ambiguous |= {video.path: f"the same bytes in two classes: {same}" for video in alike}
        else:
            first = printable(alike[0].path)
            copies |= {video.path: f"the same bytes as {first}" for video in alike[1:]}
    return folder.without("in_two_classes", ambiguous).without("copy", copies)


def check_not_empty(folder: OwnFolder) -> None:
    """Check that no class and no split has lost all its videos.

    Raises:
        OwnFolderError: naming it, and what became of its videos.
    """
    lost = ", ".join(
        f"{count:,} {kind.replace('_', ' ')}"
        for kind, count in Counter(problem.kind for problem in folder.problems).items()
    )
    if not folder.videos:
        first = folder.problems[0] if folder.problems else Problem("", "nothing", lost)
        raise OwnFolderError(
            f"data.videos={folder.root}: no video can be used ({lost}), such as {first.what}: "
            f"{first.where}. Mend some, or give another folder; python -m videomae.doctor says "
            "what is there to decode with"
        )
    there = {video.class_name for video in folder.videos}
    for name in folder.classes:
        if name not in there:
            why = [each for each in folder.problems if _of_class(each.what, name)][:3]
            said = "; ".join(f"{each.what}: {each.where}" for each in why) or lost
            raise OwnFolderError(
                f"data.videos={folder.root}: the class {name} is left without a video ({said}). "
                "Mend one of them, or move the folder away"
            )
    for part in folder.parts:
        if part not in {video.part for video in folder.videos}:
            raise OwnFolderError(
                f"data.videos={folder.root}: the split {part} is left without a video ({lost}). "
                "Mend one of its videos, or move the folder away"
            )
    trained = {video.class_name for video in folder.videos if video.part == TRAIN}
    if folder.parts and folder.labelled and (untrained := sorted(there - trained)):
        raise OwnFolderError(_said_of_untrained(folder, untrained[0]))


def _said_of_untrained(folder: OwnFolder, name: str) -> str:
    """Return the error of a class that has test videos alone, and what became of the others."""
    gone = [
        each
        for each in folder.problems
        if _of_class(each.what, name)
        and SPLIT_NAMES.get(each.what.split("/")[0].casefold()) == TRAIN
    ]
    none = f"data.videos={folder.root}: the class {name} has videos to test on and none"
    if not gone:
        return f"{none} in the split {TRAIN}: add some, or move its folder away"
    said = "; ".join(f"{each.what}: {each.where}" for each in gone[:3]) + "; ..." * (len(gone) > 3)
    return (
        f"{none} left in the split {TRAIN}: {in_words(len(gone), 'file')} there could not be used "
        f"({said}). Add others there, or move the folders of the class away"
    )


def _of_class(path: str, name: str) -> bool:
    return any(_key(folder) == _key(name) for folder in path.split("/")[:-1])


def in_words(count: int, noun: str) -> str:
    """Return a number and its noun, in the plural for all numbers but 1."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"
