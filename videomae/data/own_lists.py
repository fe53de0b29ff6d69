"""MatchedLists made from a folder of one's own videos: scanned, split, and kept beside the run.

RUN/prepared/folder.json       the folder's state when the lists were made, written last
RUN/prepared/train.txt ...     as python -m videomae.prepare writes them
RUN/prepared/problems.jsonl    every file that was left out, and why
RUN/prepared/scan_strict.jsonl, scan_quick.jsonl    results of the scan, one line per video
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from videomae.config import Dataset, PrepareConfig, Scan
from videomae.data.own_parts import TEST_SHARE, Seen, seen_by, with_parts
from videomae.lists.annotations import Annotations, Row
from videomae.lists.locate import Located, LocatedVideo
from videomae.lists.matching import Entry, MatchedLists, left_out
from videomae.lists.own_folder import (
    UNLABELLED,
    OwnFolder,
    OwnFolderError,
    check_not_empty,
    read_own_folder,
    stamps_of,
    without_copies,
)
from videomae.lists.prepared import CLASSES, Prepared, read_prepared
from videomae.lists.prepared_files import check_unprepared, write_lists
from videomae.lists.preparing import write_problems
from videomae.lists.published import PARTS
from videomae.lists.walk import told
from videomae.run.console import Facts
from videomae.run.cores import available_cores
from videomae.run.files import read_json, write_text
from videomae.run.record import made
from videomae.video.inspecting import QUICK, STRICT, Job, inspect_resumably

logger = logging.getLogger(__name__)

STATE = "folder.json"
"""The file that says which state of the folder the lists were made from."""
VERSION = 2
"""Version of the rules by which a folder becomes lists."""
QUICK_FROM = 1000
"""Number of videos from which on a scan is quick unless a setting says otherwise."""
NAMED = 20
"""Problems that are named at the start; problems.jsonl names all."""
TIMEOUT_S = 600.0
"""Seconds after which a video counts as broken."""


@dataclass(frozen=True)
class OwnLists:
    """MatchedLists of a folder of videos, ready for a run."""

    directory: Path
    """Where they lie."""
    prepared: Prepared
    labelled: bool

    @classmethod
    def read(cls, directory: Path) -> "OwnLists":
        """Read what `make_own_lists` wrote.

        Raises:
            OwnFolderError: it is not there, or damaged.
        """
        try:
            labelled = bool(read_json(directory / STATE)["labelled"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OwnFolderError(
                f"{directory / STATE} cannot be read ({error}): remove {directory}, and the same "
                "command makes the lists again"
            ) from error
        return cls(directory, read_prepared(directory), labelled)

    def file(self, part: str) -> str | None:
        """Return the path of the list of a part; None where it has none."""
        for each in self.prepared.lists:
            if each.part == part:
                return str(self.directory / each.file)
        return None

    @property
    def class_names(self) -> str:
        """Path of the file that names the classes."""
        return str(self.directory / CLASSES)

    def num_videos(self, part: str) -> int:
        """Return the number of videos of a part."""
        return sum(each.videos for each in self.prepared.lists if each.part == part)


@dataclass(frozen=True)
class ListRequest:
    """A request for the lists of a folder."""

    videos: Path
    """Folder of the videos."""
    scan: Scan | None
    max_clip_bytes: int
    """Bytes of memory that reading a video may take."""
    labels: bool
    """Whether the videos must have classes, as in fine-tuning."""
    val: bool
    """Whether a validation list is wanted."""
    earlier: Path | None = None
    """Directory of the lists that the starting weights were trained on. Its scan of unchanged files
    is taken over, and what was trained on there is not tested on."""


def make_own_lists(request: ListRequest, directory: Path) -> None:
    """Make the lists of a folder, unless those that are there are of its present state.

    Raises:
        OwnFolderError: the folder holds no videos, a class or a split is left empty, or classes
            are wanted and there are fewer than two.
    """
    check_unprepared(directory, overwrite=True)
    folder = read_own_folder(request.videos)
    if request.labels:
        _check_labelled(folder)
    mode = request.scan or (Scan.quick if len(folder.videos) >= QUICK_FROM else Scan.strict)
    seen = seen_by(request.earlier, folder)
    state = _state(folder, request, mode, seen)
    if _recorded_state(directory) == state:
        logger.info(f"{directory}: the folder has not changed: its lists are used again")
        _tell(OwnLists.read(directory), [])
        return
    logger.info(
        f"data.videos={request.videos}: {len(folder.videos):,} videos"
        + (f" in {len(folder.classes):,} classes" if folder.labelled else ", without classes")
    )
    for line in (*folder.notes, *told(folder.below.left_out)):
        logger.info(line)
    if mode is not Scan.off:
        folder = _without_broken(folder, request, mode, directory)
    folder = _without_changed(without_copies(folder), request.videos)
    check_not_empty(folder)
    folder = with_parts(folder, seen, labels=request.labels, val=request.val)
    _write(folder, request.videos, directory)
    write_text(made(directory, STATE), json.dumps(state | {"labelled": folder.labelled}) + "\n")
    _tell(OwnLists.read(directory), [f"{each.what}: {each.where}" for each in folder.problems])


def _check_labelled(folder: OwnFolder) -> None:
    """Check that there are at least two classes.

    Raises:
        OwnFolderError: saying which there are.
    """
    if len(folder.classes) >= 2:
        return
    one = f"in one class, {folder.classes[0]}" if folder.labelled else "in no folders of classes"
    raise OwnFolderError(
        f"data.videos={folder.root}: its {len(folder.videos):,} videos lie {one}, and fine-tuning "
        "needs two classes at least: make a folder per class, as in videos/jump/1.mp4 and "
        "videos/run/2.mp4. Pre-training needs no classes: python -m videomae.pretrain data.videos="
    )


def _state(folder: OwnFolder, request: ListRequest, mode: Scan, seen: Seen) -> dict[str, object]:
    """Return what tells whether lists are of a folder's present state."""
    files = sorted((video.path, *video.stamp) for video in folder.videos)
    found = [str(folder.root.resolve()), files, sorted(seen.paths)]
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return {"version": VERSION, "files": digest, "scan": mode.name, "val": request.val}


def _recorded_state(directory: Path) -> dict[str, object] | None:
    """Return the state that the lists of a directory were made from, as `_state` says it."""
    try:
        found = read_json(directory / STATE)
        found.pop("labelled")
        prepared = read_prepared(directory)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    whole = all(os.path.isfile(directory / each.file) for each in prepared.lists)
    return dict(found) if whole else None


def _without_broken(
    folder: OwnFolder, request: ListRequest, mode: Scan, directory: Path
) -> OwnFolder:
    """Return the folder without the videos that cannot be decoded."""
    progress = directory / f"scan_{mode.name}.jsonl"
    earlier = request.earlier / progress.name if request.earlier else None
    if earlier is not None and earlier.is_file() and not progress.exists():
        write_text(progress, earlier.read_text(encoding="utf-8"))
    made(directory, progress.name)
    jobs = {Job((folder.root / video.path).absolute()): video.path for video in folder.videos}
    command = STRICT if mode is Scan.strict else QUICK
    cores = available_cores()
    logger.info(f"scanning them ({mode.name}, data.scan) in {cores} processes: {progress}")
    found = inspect_resumably(
        jobs, progress, cores, TIMEOUT_S, command, max_bytes=request.max_clip_bytes
    )
    broken = {path: str(found[job].error) for job, path in jobs.items() if not found[job].ok}
    return folder.without("broken", broken)


def _without_changed(folder: OwnFolder, videos: Path) -> OwnFolder:
    """Return the folder without the videos that changed or went while they were looked at."""
    now = stamps_of(folder.root, (video.path for video in folder.videos))
    changed = {
        video.path: "went away while it was scanned" if stamp is None else "changed meanwhile"
        for video in folder.videos
        if (stamp := now[video.path]) != video.stamp
    }
    if changed:
        logger.warning(
            f"data.videos={videos} changed while it was scanned: {len(changed):,} files are left "
            "out. A new run looks at them again"
        )
    return folder.without("changed", changed)


def _write(folder: OwnFolder, videos: Path, directory: Path) -> None:
    """Write the lists, the classes and the problems."""
    classes = folder.classes or [UNLABELLED]
    labels = {name: label for label, name in enumerate(classes)}
    entries: dict[tuple[int | None, str], list[Entry]] = {}
    for video in sorted(folder.videos, key=lambda each: PARTS.index(each.part)):
        row = Row(video.path, (), (), labels[video.class_name], video.part, video.path)
        found = LocatedVideo(video.path, Path(video.path).stem)
        entries.setdefault((None, video.part), []).append(Entry(found, row))
    config = PrepareConfig(
        dataset=Dataset.folders,
        videos=str(folder.root),
        out=str(directory),
        test_fraction=TEST_SHARE,
    )
    located = Located([entry.video for own in entries.values() for entry in own], folder.below)
    write_problems(directory, folder.problems + left_out(folder.below))
    made(directory, "problems.jsonl")
    annotations = Annotations(classes, {None: [e.row for own in entries.values() for e in own]})
    write_lists(MatchedLists(entries, folder.problems), annotations, located, config, directory)


def _tell(lists: OwnLists, problems: list[str]) -> None:
    """Log what is in the lists, and name what is not."""
    rows = [
        (each.part, f"{each.videos:,}", str(lists.directory / each.file))
        for each in lists.prepared.lists
    ]
    if lists.labelled:
        rows.insert(0, ("classes", f"{lists.prepared.classes:,}", lists.class_names))
    logger.info(Facts("own videos", rows))
    for line in problems[:NAMED]:
        logger.info(f"left out: {line}")
    if problems:
        more = f"{len(problems) - NAMED:,} more, and " if len(problems) > NAMED else ""
        logger.info(f"{more}all that was left out: {lists.directory / 'problems.jsonl'}")
