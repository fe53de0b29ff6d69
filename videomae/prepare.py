"""Make clip lists of a data set from its official annotation files and its videos.

    python -m videomae.prepare dataset=ucf101 videos=DIR annotations=DIR out=DIR
    python -m videomae.prepare dataset=folders videos=DIR out=DIR val_fraction=0.1
    python -m videomae.prepare dataset=csv videos=DIR annotations=FILE out=DIR test_fraction=0.2

dataset is ucf101, hmdb51, k400, k600, k710, ssv2, or one of your own: folders (one per class, with
train, val and test above them or without), or csv (rows path,class name or path,class number).
Annotation files are read as they come; videos, or folders of extracted frames, are found wherever
they lie below videos=DIR. Written are out/split1/train.txt and test.txt (hmdb51 and ucf101: splits
1 to 3), out/train.txt and val.txt (the others), and out/classes.txt, whose line i names class i. To
train on them:

    python -m videomae.finetune +exp=ucf101 data.prepared=DIR data.split=1 weights=W

Counts are compared with the published ones; what is missing, extra, empty or listed twice is left
out and named in out/problems.jsonl, which also counts the files that are no videos. A video in both
train and test is an error.

    scan=quick|strict                 quick: leave out videos whose first, middle or last frame
                                      cannot be read; strict: decode all of each, as
                                      videomae.scan does. The same command goes on
    workers=N timeout_s=600           processes of a scan; a video that takes longer is left out
    val_groups=N                      ucf101: so many groups of each class go from train to val
    val_fraction=F test_fraction=F    your own: shares of each class that go to val and test
    seed=N                            chooses them
    strict=true                       counts other than the published ones are an error
    overwrite=true                    replace the lists in out
"""

import json
import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from videomae.config import ConfigError, Dataset, PrepareConfig, Scan, UserError
from videomae.lists.annotations import (
    PARTS,
    PUBLISHED,
    READERS,
    TRAIN,
    UNUSED,
    VAL,
    Annotations,
)
from videomae.lists.divide import divided
from videomae.lists.locate import Found, Located, locate
from videomae.lists.matching import (
    IN_TWO_PARTS,
    Entry,
    Lists,
    classes_without_videos,
    left_out,
    match,
)
from videomae.lists.own import of_folders, read_csv
from videomae.lists.prepared import CLASSES, FILE_NAME, Prepared, PreparedList
from videomae.lists.walk import is_utf8, nothing_in, printable, told
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.console import Facts, log_to_console
from videomae.run.cores import available_cores
from videomae.run.files import sha256, write_text
from videomae.run.record import made, recorded
from videomae.video.inspecting import QUICK, STRICT, Job, inspect_resumably

logger = logging.getLogger("videomae.prepare")

PROBLEMS = "problems.jsonl"
LISTS = (*(f"{part}.txt" for part in PARTS), *(f"split*/{part}.txt" for part in PARTS))
"""What the lists in a prepared directory are named."""


class PrepareError(UserError):
    """Annotations and videos that no lists can be made of."""


@log_to_console()
def prepare(config: PrepareConfig) -> None:
    """Write the lists of config.dataset."""
    more = () if config.dataset is Dataset.folders else ("annotations",)
    require(config, "dataset", "videos", "out", *more)
    assert config.dataset is not None
    out, root = Path(str(config.out)), Path(str(config.videos))
    check_place("out", out)
    if os.path.exists(out / FILE_NAME) and not config.overwrite:
        raise ConfigError(f"out={out} holds prepared lists already: overwrite=true replaces them")
    if strange := [name for name in _lists_in(out) if name not in _lists_of_ours(out)]:
        raise ConfigError(
            f"out={out} holds lists that were not prepared here ({', '.join(strange)}): choose "
            "another out, or move them away"
        )
    if not os.path.isdir(root):
        raise ConfigError(f"videos={root} is a file: give the folder below which the videos lie")
    located, annotations = _read(config, root)
    lists = match(divided(annotations, config), located, root)
    _check_found(lists, annotations, root)
    if config.scan is not Scan.off and not lists.of_kind(IN_TWO_PARTS):  # which is an error anyway
        lists = _without_damaged(lists, located, config, root, out)
    problems = [*lists.problems, *classes_without_videos(annotations, lists)]
    lists = replace(lists, problems=problems)
    file, counted = out / PROBLEMS, left_out(located.below)
    lines = (json.dumps(each._asdict()) + "\n" for each in problems + counted)
    write_text(file, "".join(lines))
    _report(lists, annotations, located, config.dataset, file)
    _check_lists(lists, annotations, config, file)
    _write(lists, annotations, located, config, out)
    splits = " data.split=1" if None not in annotations.splits else ""
    logger.info(f"{out}: lists written; use them with data.prepared={out}{splits}")


def _read(config: PrepareConfig, root: Path) -> tuple[Located, Annotations]:
    """Find the videos, and read their annotations.

    Raises:
        AnnotationError: the annotations cannot be read, or make no sense.
        PrepareError: there are none, or no videos.
    """
    assert config.dataset is not None
    file, annotations = Path(str(config.annotations)), None
    if config.dataset is Dataset.csv:
        annotations = read_csv(file, root)
    elif config.dataset is not Dataset.folders:
        annotations = READERS[config.dataset](file)
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


def _check_found(lists: Lists, annotations: Annotations, root: Path) -> None:
    """Check that some annotated video can be listed, which none can with a wrong folder.

    Raises:
        PrepareError: naming the first of them, and why it cannot.
    """
    if not lists.entries:
        rows = [row for rows in annotations.splits.values() for row in rows]
        first = next((row for row in rows if row.part != UNUSED), rows[0])
        why = {problem.what: problem.kind for problem in lists.problems}.get(first.path, "missing")
        raise PrepareError(
            f"none of the {len({row.path for row in rows}):,} annotated videos can be listed: the "
            f"first is {printable(first.path)} ({first.place}; {why}). Is videos={root} right?"
        )


def _without_damaged(
    lists: Lists, located: Located, config: PrepareConfig, root: Path, out: Path
) -> Lists:
    """Scan the videos of the lists, and return the lists without those that cannot be decoded.

    Raises:
        PrepareError: there are no others.
    """

    def job(video: Found) -> Job:
        path = root.absolute() / video.path
        if video.frames is None:
            return Job(path)
        assert located.frame_template is not None
        return Job(path, (located.frame_template, located.first_frame, video.frames))

    jobs = {job(video): video.path for video in lists.videos()}
    found = inspect_resumably(
        jobs,
        out / f"scan_{config.scan.name}.jsonl",
        config.workers or available_cores(),
        config.timeout_s,
        STRICT if config.scan is Scan.strict else QUICK,
        max_bytes=config.max_clip_bytes,
    )
    damaged = {path: str(found[job].error) for job, path in jobs.items() if not found[job].ok}
    if len(damaged) == len(jobs):
        path, why = next(iter(damaged.items()))
        raise PrepareError(
            f"none of the {len(jobs):,} videos can be decoded, such as {path}: {why}. "
            "python -m videomae.doctor says what is there to decode with; scan=off lists them all"
        )
    return lists.without(damaged)


def _report(
    lists: Lists,
    annotations: Annotations,
    located: Located,
    dataset: Dataset,
    problems: Path,
) -> None:
    """Print counts beside the published ones, then the problems by kind with the first of each."""
    rows = [("classes", f"{len(annotations.classes):,}", "")]
    for split in annotations.splits:
        for part in PARTS:
            found = len(lists.entries.get((split, part), []))
            published = PUBLISHED.get(dataset, {}).get(split, {}).get(part)
            if found or published:
                note = "" if published is None else f"published: {published:,}"
                if published not in (None, found):
                    note += f" ({found - published:+,})"
                name = part if split is None else f"split {split} {part}"
                rows.append((name, f"{found:,}", note))
    logger.info(Facts(f"{dataset.name}: videos", rows))
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


def _check_lists(
    lists: Lists, annotations: Annotations, config: PrepareConfig, problems: Path
) -> None:
    """PrepareError for what must not be written."""
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


def _lists_in(out: Path) -> list[str]:
    """The files of a directory that are named as prepared lists are."""
    found = (path for pattern in (*LISTS, CLASSES) for path in out.glob(pattern))
    return sorted(path.relative_to(out).as_posix() for path in found)


def _lists_of_ours(out: Path) -> list[str]:
    """Those that prepare wrote: by the record, or of before there were records all, where there is
    a prepared.json."""
    there = _lists_in(out)
    names = recorded(out)
    if names is None:
        return there if os.path.isfile(out / FILE_NAME) else []
    return [name for name in there if name in names]


def _write(
    lists: Lists, annotations: Annotations, located: Located, config: PrepareConfig, out: Path
) -> None:
    """Write everything; prepared.json, without which the rest does not count, last."""
    assert config.dataset is not None
    before = _lists_of_ours(out)
    files = [PreparedList(split, part, 0, None, "").file for split, part in lists.entries]
    for name in dict.fromkeys([*before, *files, CLASSES]):
        made(out, name)
    (out / FILE_NAME).unlink(missing_ok=True)
    for name in before:
        (out / name).unlink(missing_ok=True)
    write_text(out / CLASSES, "".join(f"{name}\n" for name in annotations.classes))
    written = []
    for (split, part), entries in lists.entries.items():
        published = PUBLISHED.get(config.dataset, {}).get(split, {}).get(part)
        one = PreparedList(split, part, len(entries), published, "")
        write_text(out / one.file, "".join(f"{_line(entry)}\n" for entry in entries))
        written.append(replace(one, sha256=sha256(out / one.file)))
    prepared = Prepared(
        dataset=config.dataset.name,
        root=str(Path(str(config.videos)).resolve()),
        classes=len(annotations.classes),
        list_format=located.list_format.name,
        frame_template=located.frame_template,
        first_frame=located.first_frame,
        lists=written,
        annotations={str(path): sha256(path) for path in annotations.files},
        settings={
            "seed": config.seed,
            "val_groups": config.val_groups,
            "val_fraction": config.val_fraction,
            "test_fraction": config.test_fraction,
        },
    )
    write_text(out / FILE_NAME, prepared.as_json())


def _line(entry: Entry) -> str:
    """path label, or folder total label."""
    path, frames = entry.video.path, entry.video.frames
    if path[0].isspace() or path.startswith("# "):
        path = f"./{path}"  # else a comment, or stripped
    return f"{path} {entry.row.label}" if frames is None else f"{path} {frames} {entry.row.label}"


main = command("prepare")(prepare)

if __name__ == "__main__":
    main()
