"""Lists made from a folder of one's own videos: scanned, split, and kept beside the run.

RUN/prepared/folder.json       the folder's state when the lists were made, written last
RUN/prepared/train.txt ...     as python -m videomae.prepare writes them
RUN/prepared/problems.jsonl    every file that was left out, and why
RUN/prepared/scan_strict.jsonl, scan_quick.jsonl    results of the scan, one line per video
"""

import hashlib
import json
import logging
import os
import shlex
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path

from videomae.config import Dataset, PrepareConfig, Scan
from videomae.data.own_parts import TEST_SHARE, seen_by, with_parts
from videomae.data.trained_on import SIZES, STATE
from videomae.lists.annotations import Annotations, Row
from videomae.lists.locate import Located, LocatedVideo
from videomae.lists.matching import Entry, MatchedLists, left_out
from videomae.lists.own_folder import (
    UNLABELLED,
    OwnFolder,
    OwnFolderError,
    check_not_empty,
    in_words,
    read_own_folder,
    stamps_of,
    without_copies,
)
from videomae.lists.prepared import CLASSES, Prepared, read_prepared
from videomae.lists.prepared_files import check_unprepared, write_lists
from videomae.lists.preparing import PROBLEMS, write_problems
from videomae.lists.published import PARTS, TRAIN
from videomae.lists.walk import printable, told, walk
from videomae.run.console import Facts
from videomae.run.cores import available_cores
from videomae.run.files import read_json, write_text
from videomae.run.record import made
from videomae.video.inspecting import QUICK, STRICT, Job, inspect_resumably

logger = logging.getLogger(__name__)

VERSION = 2
"""Version of the rules by which a folder becomes lists."""
QUICK_FROM = 1000
"""Number of videos from which on a scan is quick unless a setting says otherwise."""
NAMED = 20
"""Problems that are named at the start; problems.jsonl names all."""
AGAIN = "A new run looks at the folder again (overwrite=true, or another name=)"
"""Advice for a folder that changed while it was scanned."""
TIMEOUT_S = 600.0
"""Seconds after which a video counts as broken."""


@dataclass(frozen=True)
class OwnLists:
    """Lists of a folder of videos, ready for a run."""

    directory: Path
    """Directory that the lists lie in."""
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
    if request.labels and len(folder.classes) < 2:
        raise _too_few_classes(folder, _write_problems(folder, directory))
    mode = request.scan or (Scan.quick if len(folder.videos) >= QUICK_FROM else Scan.strict)
    seen = seen_by(request.earlier, folder)
    state = _state(folder, request, mode, seen)
    if _recorded_state(directory) == state:
        logger.info(f"{directory}: the folder has not changed: its lists are used again")
        _tell(OwnLists.read(directory), [])
        if num := len((directory / PROBLEMS).read_text(encoding="utf-8").splitlines()):
            left = in_words(num, "line")
            logger.info(f"all that was left out, as before: {directory / PROBLEMS} ({left})")
        return
    classes = in_words(len(folder.classes), "class") if folder.labelled else ""
    logger.info(
        f"data.videos={request.videos}: {in_words(len(folder.videos), 'video')}"
        + (f" in {classes}" if classes else ", without classes")
    )
    for line in (*folder.notes, *told(folder.below.left_out)):
        logger.info(line)
    folder = _looked_at(folder, request, mode, directory)
    _write_problems(folder, directory)
    check_not_empty(folder)
    folder = with_parts(folder, seen, labels=request.labels, val=request.val)
    _write(folder, request.videos, directory)
    sizes = {video.path: video.stamp[0] for video in folder.videos if video.part == TRAIN}
    facts = state | {"labelled": folder.labelled, SIZES: sizes}
    write_text(made(directory, STATE), json.dumps(facts) + "\n")
    lists = OwnLists.read(directory)
    _tell(lists, [f"{each.what}: {each.where}" for each in folder.problems])
    if lists.num_videos(TRAIN) == 1:
        logger.warning(
            f"data.videos={request.videos} has one video to train on: what is learned from it says "
            "little of others. Add videos"
        )


def _too_few_classes(folder: OwnFolder, problems: Path) -> OwnFolderError:
    """Return the error that there are fewer than two classes, and what was left out."""
    one = f"in one class, {folder.classes[0]}" if folder.labelled else "in no folders of classes"
    count, command = in_words(len(folder.videos), "video"), f"data.videos={folder.root}"
    left = "; ".join(f"{each.what}: {each.where}" for each in folder.problems[:3])
    return OwnFolderError(
        f"data.videos={folder.root}: its {count} "
        f"{'lies' if len(folder.videos) == 1 else 'lie'} {one}, and fine-tuning needs two classes "
        "at least: make a folder per class, as in videos/jump/1.mp4 and videos/run/2.mp4. "
        + (f"What was left out ({left}) is in {problems}. " if left else "")
        + f"Pre-training needs no classes: python -m videomae.pretrain {shlex.quote(command)}"
    )


def _state(
    folder: OwnFolder, request: ListRequest, mode: Scan, seen: Set[str]
) -> dict[str, object]:
    """Return what tells whether lists are of a folder's present state."""
    files = sorted((video.path, *video.stamp) for video in folder.videos)
    found = [str(folder.root.resolve()), files, sorted(seen)]
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    return {"version": VERSION, "files": digest, "scan": mode.name, "val": request.val}


def _recorded_state(directory: Path) -> dict[str, object] | None:
    """Return the state that the lists of a directory were made from, as `_state` says it."""
    try:
        found = read_json(directory / STATE)
        found.pop("labelled")
        found.pop(SIZES, None)  # lists of before have none
        prepared = read_prepared(directory)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    whole = all(os.path.isfile(directory / each.file) for each in prepared.lists)
    return dict(found) if whole else None


def _looked_at(folder: OwnFolder, request: ListRequest, mode: Scan, directory: Path) -> OwnFolder:
    """Return the folder without broken videos, copies, and what changed while it was looked at."""
    broken = {} if mode is Scan.off else _broken(folder, request, mode, directory)
    usable = without_copies(folder.without("broken", broken))
    now = stamps_of(folder.root, (video.path for video in folder.videos))
    changed = {
        video.path: "went away while it was scanned" if stamp is None else "changed meanwhile"
        for video in folder.videos
        if (stamp := now[video.path]) != video.stamp
    }
    if changed:
        names = {printable(path) for path in changed}
        problems = [each for each in usable.problems if each.what not in names]
        usable = replace(usable, problems=problems).without("changed", changed)
        left = f"{in_words(len(changed), 'file')} {'is' if len(changed) == 1 else 'are'} left out"
        logger.warning(
            f"data.videos={request.videos} changed while it was scanned: {left}. {AGAIN}"
        )
    before = set(folder.below.videos)
    added = sorted(set(walk(request.videos).videos) - before)
    if added:
        tops = {path.split("/")[0] for path in before}
        new = sorted({path.split("/")[0] for path in added if "/" in path} - tops)
        folders = f" (new folders: {', '.join(map(printable, new[:NAMED]))})" if new else ""
        logger.warning(
            f"data.videos={request.videos} grew while it was scanned: this run does not use "
            f"{in_words(len(added), 'new video')}, such as {printable(added[0])}{folders}. {AGAIN}"
        )
    return usable.without("added", dict.fromkeys(added, "came while the folder was scanned"))


def _broken(folder: OwnFolder, request: ListRequest, mode: Scan, directory: Path) -> dict[str, str]:
    """Return the videos that cannot be decoded, each with the reason."""
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
    return {path: str(found[job].error) for job, path in jobs.items() if not found[job].ok}


def _write_problems(folder: OwnFolder, directory: Path) -> Path:
    """Write every file that was left out, and return the path of that file."""
    made(directory, PROBLEMS)
    return write_problems(directory, folder.problems + left_out(folder.below))


def _write(folder: OwnFolder, videos: Path, directory: Path) -> None:
    """Write the lists and the classes."""
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
        logger.info(f"{more}all that was left out: {lists.directory / PROBLEMS}")
