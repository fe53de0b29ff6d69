"""Reading and checking of a data set's annotations and videos for python -m videomae.prepare.

videomae.lists.matching makes the lists, and videomae.lists.prepared_files writes them.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from videomae.config import Dataset, PrepareConfig, UserError
from videomae.lists.annotations import AnnotationError, Annotations, Row, reader_of
from videomae.lists.locate import Located, locate
from videomae.lists.matching import IN_TWO_PARTS, MatchedLists, Problem
from videomae.lists.own import of_folders, read_csv
from videomae.lists.published import CLASSES, PARTS, PUBLISHED, TRAIN, UNUSED, VAL
from videomae.lists.walk import is_utf8, nothing_in, printable, told
from videomae.run.console import Facts
from videomae.run.extensions import is_extension
from videomae.run.files import write_text

logger = logging.getLogger(__name__)

PROBLEMS = "problems.jsonl"


class PrepareError(UserError):
    """An error: no lists can be made of these annotations and videos."""


def read_dataset(config: PrepareConfig, root: Path) -> tuple[Located, Annotations]:
    """Find the videos below `root`, and read their annotations.

    Raises:
        AnnotationError: the annotations cannot be read, or make no sense.
        PrepareError: there are no annotations, or no videos.
    """
    assert config.dataset is not None
    file, annotations = Path(str(config.annotations)), None
    if config.dataset == Dataset.csv:
        annotations = read_csv(file, root)
    elif config.dataset != Dataset.folders:
        annotations = reader_of(config.dataset)(file)
        if is_extension(config.dataset):
            annotations = _checked(annotations, config.dataset)
    located = locate(root)
    if not located.videos:
        frames = "and there is no folder of extracted frames"
        for folder in located.other_frames[:1]:
            frames = f"and the images in {folder} are not numbered in one series"
        raise PrepareError(f"videos={root} holds no video: {nothing_in(located.below)}; {frames}")
    if annotations is None:
        annotations = of_folders([video.path for video in located.videos])
    if not any(annotations.splits.values()):
        raise PrepareError(f"annotations={file} name no video: are they whole?")
    return located, annotations


def _checked(found: object, dataset: str) -> Annotations:
    """Return what a reader of the user's own returns, if lists can be made of it.

    Raises:
        AnnotationError: they cannot.
    """
    if not isinstance(found, Annotations):
        raise AnnotationError(
            f"dataset={dataset} returns {type(found).__name__}, not videomae.lists.annotations."
            "Annotations"
        )
    for row in (row for rows in found.splits.values() for row in rows):
        if not isinstance(row, Row):
            raise AnnotationError(
                f"dataset={dataset} gives {printable(repr(row))} as a row, not videomae.lists."
                "annotations.Row"
            )
        wrong = f"dataset={dataset}: {row.path} ({row.place})"
        if not isinstance(row.label, int) or not 0 <= row.label < len(found.classes):
            raise AnnotationError(
                f"{wrong} has label {row.label!r}: it must be the number of one of the "
                f"{len(found.classes):,} classes, 0 to {len(found.classes) - 1:,}"
            )
        if row.part not in (*PARTS, UNUSED):
            raise AnnotationError(
                f"{wrong} has part {row.part!r}: it must be one of {', '.join((*PARTS, UNUSED))}"
            )
        if not isinstance(row.stems, tuple) or not isinstance(row.folders, tuple):
            raise AnnotationError(f"{wrong}: stems and folders must be tuples of names")
    return found


def check_found(lists: MatchedLists, annotations: Annotations, root: Path) -> None:
    """Check that at least one annotated video can be listed; none can if the folder is wrong.

    Raises:
        PrepareError: none can; the error names the first video and the reason.
    """
    if not lists.entries:
        rows = [row for rows in annotations.splits.values() for row in rows]
        first = next((row for row in rows if row.part != UNUSED), rows[0])
        why = {problem.what: problem.kind for problem in lists.problems}.get(first.path, "missing")
        raise PrepareError(
            f"none of the {len({row.path for row in rows}):,} annotated videos can be listed: the "
            f"first is {printable(first.path)} ({first.place}; {why}). Is videos={root} right?"
        )


def write_problems(out: Path, problems: Iterable[Problem]) -> Path:
    """Write problems.jsonl, a line for each problem, into a directory, and return its path."""
    file = out / PROBLEMS
    write_text(file, "".join(json.dumps(each._asdict()) + "\n" for each in problems))
    return file


def print_counts(
    lists: MatchedLists,
    annotations: Annotations,
    located: Located,
    dataset: str,
    problems: Path,
) -> None:
    """Log the numbers of videos of the lists beside the published ones, and the problems by
    kind."""
    classes = len(annotations.classes)
    rows = [("classes", f"{classes:,}", _beside(CLASSES.get(dataset), classes))]
    for split in annotations.splits:
        for part in PARTS:
            found = len(lists.entries.get((split, part), []))
            published = PUBLISHED.get(dataset, {}).get(split, {}).get(part)
            if found or published:
                name = part if split is None else f"split {split} {part}"
                rows.append((name, f"{found:,}", _beside(published, found)))
    logger.info(Facts(f"{dataset!s}: videos", rows))
    for note in annotations.notes:
        logger.info(note)
    counts = Counter(problem.kind for problem in lists.problems)
    for kind, count in counts.items():
        first = lists.of_kind(kind)[0]
        where = f" ({first.where})" if first.where else ""
        logger.info(f"{count:,} {kind.replace('_', ' ')}, such as {first.what}{where}")
    for line in told(located.below.left_out):
        logger.info(line)
    if counts or located.below.left_out:
        logger.info(f"all of them: {problems}")


def _beside(published: int | None, found: int) -> str:
    """Return a published count, and by how much the found one differs; empty: there is none."""
    if published is None:
        return ""
    return f"published: {published:,}" + f" ({found - published:+,})" * (found != published)


def check_lists(
    lists: MatchedLists, annotations: Annotations, config: PrepareConfig, problems: Path
) -> None:
    """Check that the lists may be written: no video is in two parts, and class names are unique.

    Raises:
        PrepareError: they may not; or strict=true, and a number of videos is not the published one.
    """
    twice = lists.of_kind(IN_TWO_PARTS)
    if twice:
        raise PrepareError(
            f"{len(twice):,} video(s) in two of train, val and test of one split, such as "
            f"{twice[0].what} ({twice[0].where}); {problems} names all. No list was written"
        )
    names = Counter(name.strip() for name in annotations.classes)
    for name in annotations.classes:
        if names[name.strip()] > 1 or not name.strip() or "\n" in name or not is_utf8(name):
            raise PrepareError(
                f"the class {name!r} cannot be told from others: its name, without blanks around "
                "it, is a line of its own in classes.txt. Rename it; no list was written"
            )
    assert config.dataset is not None
    for split, parts in PUBLISHED.get(config.dataset, {}).items():
        for part, published in parts.items():
            found = len(lists.entries.get((split, part), []))
            if part == TRAIN and config.val_groups:
                found += len(lists.entries.get((split, VAL), []))
            if config.strict and found != published:
                name = part if split is None else f"split {split} {part}"
                raise PrepareError(
                    f"{name}: {found:,} videos, published are {published:,} (strict=true); "
                    f"{problems} names what is missing. No list was written"
                )
