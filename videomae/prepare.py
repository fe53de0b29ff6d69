"""Make clip lists of a data set from its official annotation files and its videos.

    python -m videomae.prepare dataset=ucf101 videos=DIR annotations=DIR out=DIR
    python -m videomae.prepare dataset=folders videos=DIR out=DIR val_fraction=0.1
    python -m videomae.prepare dataset=csv videos=DIR annotations=FILE out=DIR test_fraction=0.2

dataset is ucf101, hmdb51, k400, k600, k710, ssv2, or one of your own: folders (one per class), or
csv (rows path,class name). Annotation files are read as they come; videos, or folders of extracted
frames, are found wherever they lie below videos=DIR. Written are out/split1/train.txt and test.txt
(hmdb51 and ucf101: splits 1 to 3), out/train.txt and val.txt (the others), and out/classes.txt,
whose line i names class i. To train on them:

    python -m videomae.finetune +exp=ucf101 data.prepared=DIR data.split=1 weights=W

Counts are compared with the published ones; what is missing, extra, empty or listed twice is left
out and named in out/problems.jsonl. A video in both train and test is an error.

    val_groups=N                      ucf101: so many groups of each class go from train to val
    val_fraction=F test_fraction=F    your own: shares of each class that go to val and test
    seed=N                            chooses them
    strict=true                       counts other than the published ones are an error
    overwrite=true                    replace the lists in out
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from videomae.checks import check_place, require
from videomae.config import ConfigError, Dataset, PrepareConfig, UserError
from videomae.files import sha256, write_text
from videomae.lists.annotations import (
    PARTS,
    PUBLISHED,
    READERS,
    TEST,
    TRAIN,
    UNUSED,
    VAL,
    Annotations,
    Row,
    of_folders,
    ucf101_group,
)
from videomae.lists.clips import VIDEOS
from videomae.lists.locate import Found, Index, Located, locate
from videomae.lists.prepared import CLASSES, FILE_NAME, Prepared, PreparedList
from videomae.report.console import Say
from videomae.schema import command

PROBLEMS = "problems.jsonl"
LISTS = (*(f"{part}.txt" for part in PARTS), *(f"split*/{part}.txt" for part in PARTS))
"""What the lists in a prepared directory are named."""


class PrepareError(UserError):
    """Annotations and videos that no lists can be made of."""


class Problem(NamedTuple):
    """Something that was left out of the lists, or that is not in them."""

    kind: str
    what: str
    """The video, or the class."""
    where: str
    """File and line that name it, or the list that lacks it."""


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


def prepare(config: PrepareConfig) -> None:
    """Write the lists of config.dataset."""
    needed = {"dataset": config.dataset, "videos": config.videos, "out": config.out}
    if config.dataset is not Dataset.folders:
        needed["annotations"] = config.annotations
    require(needed)
    assert config.dataset is not None
    out, root, say = Path(str(config.out)), Path(str(config.videos)), Say(enabled=True)
    check_place("out", out)
    if (out / FILE_NAME).exists() and not config.overwrite:
        raise ConfigError(f"out={out} holds prepared lists already: overwrite=true replaces them")
    if not root.is_dir():
        raise ConfigError(f"videos={root} is a file: give the folder below which the videos lie")
    if config.dataset is Dataset.folders:
        located = locate(root)
        annotations = of_folders([video.path for video in located.videos])
    else:
        annotations = READERS[config.dataset](Path(str(config.annotations)))
        located = locate(root)
    if not located.videos:
        raise PrepareError(
            f"videos={root} holds no video: looked for {' '.join(VIDEOS)} and folders of frames"
        )
    lists = match(_moved(annotations, config), located, root)
    _check_found(lists, annotations, root)
    problems = out / PROBLEMS
    write_text(problems, "".join(json.dumps(each._asdict()) + "\n" for each in lists.problems))
    _report(lists, annotations, config.dataset, problems, say)
    _check_lists(lists, config, problems)
    _write(lists, annotations, located, config, out)
    splits = " data.split=1" if None not in annotations.splits else ""
    say.line(f"{out}: lists written; use them with data.prepared={out}{splits}")


def match(annotations: Annotations, located: Located, root: Path) -> Lists:
    """The lists of all splits, and what is wrong with them."""
    index = Index(located.videos, annotations.classes if annotations.class_folders else ())
    problems: dict[tuple[str, str], Problem] = {}
    used: set[str] = set()

    def note(kind: str, what: str, where: str) -> None:
        problems.setdefault((kind, what), Problem(kind, what, where))

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
            elif not _is_listable(video.path):
                note("name_no_list_can_hold", ascii(video.path), row.place)
            else:
                entries.setdefault((split, row.part), []).append(Entry(video, row))
        for name, where in _without_videos(annotations, split, entries):
            note("class_without_videos", name, where)
    for video in located.videos:
        if video.path not in used:
            note("extra", video.path, "")
    return Lists(entries, list(problems.values()))


def _clash(first: Row, second: Row) -> str:
    """What is wrong with two rows of one video."""
    if first.part != second.part:
        return "in_two_parts"
    return "duplicate" if first.label == second.label else "two_classes"


def _is_empty(root: Path, video: Found) -> bool:
    return video.frames is None and (root / video.path).stat().st_size == 0


def _is_listable(path: str) -> bool:
    """Whether a line can hold the path."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return not set("\n\r") & set(path)


def _without_videos(
    annotations: Annotations,
    split: int | None,
    entries: Mapping[tuple[int | None, str], list[Entry]],
) -> Iterable[tuple[str, str]]:
    """(class, list) of each class that a list lacks; lists that would be empty are left out."""
    for part in PARTS:
        there = {entry.row.label for entry in entries.get((split, part), [])}
        for label, name in enumerate(annotations.classes):
            if there and label not in there:
                yield name, f"{part} of split {split}" if split else part


def _moved(annotations: Annotations, config: PrepareConfig) -> Annotations:
    """With the training videos in val and test that the config asks for."""
    if not (config.val_groups or config.val_fraction or config.test_fraction):
        return annotations
    choose = _by_group if config.val_groups else _by_class
    splits = {
        split: [row._replace(part=part) for row, part in choose(rows, config)]
        for split, rows in annotations.splits.items()
    }
    return replace(annotations, splits=splits)


def _by_group(rows: list[Row], config: PrepareConfig) -> list[tuple[Row, str]]:
    """Whole groups of UCF101, the same numbers of every class."""
    groups = {ucf101_group(row.path) for row in rows if row.part == TRAIN}
    if config.val_groups >= len(groups):
        raise ConfigError(
            f"val_groups={config.val_groups} leaves nothing of the {len(groups)} training groups"
        )
    chosen = _shuffled(groups, config.seed)[: config.val_groups]
    return [
        (row, VAL if row.part == TRAIN and ucf101_group(row.path) in chosen else row.part)
        for row in rows
    ]


def _by_class(rows: list[Row], config: PrepareConfig) -> list[tuple[Row, str]]:
    """A share of each class, at least one video of it, of which one at least stays in train."""
    by_label = defaultdict(list)
    for row in rows:
        if row.part == TRAIN:
            by_label[row.label].append(row.path)
    parts: dict[str, str] = {}
    for part, share in ((TEST, config.test_fraction), (VAL, config.val_fraction)):
        if share and any(row.part == part for row in rows):
            raise ConfigError(f"{part}_fraction={share}: there is a folder {part} already")
        for paths in by_label.values():
            left = [path for path in _shuffled(paths, config.seed) if path not in parts]
            count = min(max(1, round(share * len(set(paths)))), len(left) - 1) if share else 0
            parts.update(dict.fromkeys(left[:count], part))
    return [(row, parts.get(row.path, row.part)) for row in rows]


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """In an order that depends on the seed and each name alone, on every machine."""
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())


def _check_found(lists: Lists, annotations: Annotations, root: Path) -> None:
    """PrepareError where no annotated video is there, as with a wrong folder."""
    if not lists.entries:
        rows = [row for rows in annotations.splits.values() for row in rows]
        first = next((row for row in rows if row.part != UNUSED), rows[0])
        raise PrepareError(
            f"none of the {len({row.path for row in rows}):,} annotated videos can be listed: the "
            f"first is {first.path} ({first.place}). Is videos={root} right?"
        )


def _report(
    lists: Lists, annotations: Annotations, dataset: Dataset, problems: Path, say: Say
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
    say.table(f"{dataset.name}: videos", rows)
    counts = Counter(problem.kind for problem in lists.problems)
    for kind, count in counts.items():
        first = next(problem for problem in lists.problems if problem.kind == kind)
        where = f" ({first.where})" if first.where else ""
        say.line(f"{count:,} {kind.replace('_', ' ')}, such as {first.what}{where}")
    if counts:
        say.line(f"all of them: {problems}")


def _check_lists(lists: Lists, config: PrepareConfig, problems: Path) -> None:
    """PrepareError for what must not be written."""
    twice = [problem for problem in lists.problems if problem.kind == "in_two_parts"]
    if twice:
        raise PrepareError(
            f"{len(twice):,} video(s) in two of train, val and test of one split, such as "
            f"{twice[0].what} ({twice[0].where}); {problems} names all. No list was written"
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


def _write(
    lists: Lists, annotations: Annotations, located: Located, config: PrepareConfig, out: Path
) -> None:
    """Write everything; prepared.json, without which the rest does not count, last."""
    assert config.dataset is not None
    (out / FILE_NAME).unlink(missing_ok=True)
    for pattern in LISTS:
        for old in out.glob(pattern):
            old.unlink()
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
    path = f"./{path}" if path.startswith(("# ", " ")) else path  # else a comment, or stripped
    return f"{path} {entry.row.label}" if frames is None else f"{path} {frames} {entry.row.label}"


main = command("prepare")(prepare)

if __name__ == "__main__":
    main()
