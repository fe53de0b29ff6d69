"""Official annotation files, as they come, to rows: which video, which class, train or test.

Nothing here looks at a video. One function for each data set, all in READERS; what they read:

    ucf101    classInd.txt, trainlist0N.txt, testlist0N.txt        splits 1 to 3
    hmdb51    CLASS_test_splitN.txt                                splits 1 to 3
    k400 k600 *train*.csv, *val*.csv: label,youtube_id,time_start,time_end,split[,is_cc]
    k710      train.csv, val.csv: "path label"; label_map_k710.txt if it is there
    ssv2      *labels.json, *train.json, *validation.json

Your own data sets are read by videomae.lists.own.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from videomae.config import Dataset, UserError
from videomae.lists.published import SPLITS, TEST, TRAIN, UNUSED, VAL
from videomae.lists.text_files import NotTextError, json_objects, short_text, text_lines
from videomae.run.extensions import extension, is_extension
from videomae.run.files import parse_json

MOST_ROWS = 2**20
"""Rows of the longest file that is read; of the published ones Kinetics-710 has most, 658,340."""
MOST_LABELS = 2**22
"""Characters of the longest file that numbers the classes."""
MOST_CLASSES = 100_000
"""Numbers from here on are no classes, but something else."""


class AnnotationError(UserError):
    """Annotation files that are missing, malformed, or contradict each other."""


class Row(NamedTuple):
    """One annotated video."""

    path: str
    """As annotated, or as officially named; below the folder of videos."""
    stems: tuple[str, ...]
    """File names without their ending, likeliest first; none: only `path` itself will do."""
    folders: tuple[str, ...]
    """Folders that it may lie in; they tell videos of one name apart."""
    label: int
    part: str
    """One of PARTS, or UNUSED."""
    place: str
    """Where it is annotated: file and line."""


@dataclass(frozen=True)
class Annotations:
    """The content of the annotation files of a data set."""

    classes: list[str]
    """Entry i is the name of class i."""
    splits: dict[int | None, list[Row]]
    """By the split's number; None: there is one only."""
    files: list[Path] = field(default_factory=list)
    """Annotation files that were read."""
    class_folders: bool = True
    """Whether a folder named as a class holds videos of this class only."""
    notes: list[str] = field(default_factory=list)
    """Lines for people on how they were read."""


def read_ucf101(folder: Path) -> Annotations:
    """UCF101. The folder names the class: HandstandPushups holds v_HandStandPushups_g01_c01.avi."""
    index = _one(folder, "classInd.txt")
    labels: dict[str, int] = {}
    for place, line in _lines(index):
        number, _, name = line.partition(" ")
        if number != str(len(labels) + 1) or not name.strip():
            raise AnnotationError(f"{place}: expected '{len(labels) + 1} CLASS', got {line!r}")
        labels[name.strip()] = len(labels)
    splits: dict[int | None, list[Row]] = {}
    files = [index]
    for split in SPLITS:
        lists = {part: _some(folder, f"{part}list{split:02}.txt") for part in (TRAIN, TEST)}
        if not any(lists.values()):
            continue
        splits[split] = []
        for part in lists:
            files.append(_one(folder, f"{part}list{split:02}.txt"))
            splits[split] += [
                _ucf101_row(place, line, part, labels) for place, line in _lines(files[-1])
            ]
    if not splits:
        raise AnnotationError(f"annotations={folder} holds no trainlist01.txt and testlist01.txt")
    return Annotations(list(labels), splits, files)


def _ucf101_row(place: str, line: str, part: str, labels: dict[str, int]) -> Row:
    """ "CLASS/v_CLASS_gNN_cNN.avi 1", counted from 1; the number is left out in test lists."""
    found = re.fullmatch(r"(([^/]+)/(v_[^/]+)\.avi)(?:\s+(\d+))?", line)
    if found is None:
        raise AnnotationError(f"{place}: expected 'CLASS/v_CLASS_gNN_cNN.avi', got {line!r}")
    path, name, stem, number = found.groups()
    if name not in labels:
        raise AnnotationError(f"{place}: {name!r} is no class of classInd.txt")
    if number is not None and number.lstrip("0") != str(labels[name] + 1):
        raise AnnotationError(
            f"{place}: {path} has label {number}, but classInd.txt numbers {name!r} "
            f"{labels[name] + 1}"
        )
    renamed = re.sub(r"^v_[^_]+", f"v_{name}", stem)
    stems = tuple(dict.fromkeys((stem, renamed)))
    return Row(path, stems, (name,), labels[name], part, place)


def ucf101_group(path: str) -> str:
    """The group of a UCF101 video: those of one group and class were cut from one recording."""
    found = re.search(r"_(g\d+)_c\d+", path)
    return found[1] if found else ""


def read_hmdb51(folder: Path) -> Annotations:
    """HMDB51. Classes are numbered in alphabetical order, as no file of it numbers them."""
    pattern = re.compile(r"(.+)_test_split(\d)\.txt")
    found = {
        (match[1], int(match[2])): path
        for path in _some(folder, "*_test_split*.txt")
        if (match := pattern.fullmatch(path.name))
    }
    if not found:
        raise AnnotationError(f"annotations={folder} holds no CLASS_test_split1.txt")
    classes = sorted({name for name, _ in found})
    splits: dict[int | None, list[Row]] = {}
    for split in sorted({split for _, split in found}):
        splits[split] = []
        for label, name in enumerate(classes):
            if (name, split) not in found:
                raise AnnotationError(
                    f"annotations={folder} lacks {name}_test_split{split}.txt, which the other "
                    "classes have"
                )
            splits[split] += _hmdb51_rows(found[name, split], name, label)
    return Annotations(classes, splits, sorted(found.values()))


def _hmdb51_rows(file: Path, name: str, label: int) -> Iterator[Row]:
    """Lines "video.avi K", where K is 1: train, 2: test, 0: neither."""
    parts = {"0": UNUSED, "1": TRAIN, "2": TEST}
    for place, line in _lines(file):
        video, _, number = line.rpartition(" ")
        if number not in parts or not video.strip():
            raise AnnotationError(f"{place}: expected 'video.avi 0|1|2', got {line!r}")
        video = video.strip()
        stems = (video.removesuffix(".avi"),)
        yield Row(f"{name}/{video}", stems, (name,), label, parts[number], place)


def read_kinetics(folder: Path) -> Annotations:
    """Kinetics-400 and -600. Classes are the training labels, in alphabetical order."""
    files = {
        TRAIN: _one(folder, "*train*.csv"),
        VAL: _one(folder, "*val*.csv"),
    }
    if tests := _some(folder, "*test*.csv"):  # no list is made of it, but its videos are known
        files[UNUSED] = tests[0]
    classes = sorted({row["label"] for _, row in _kinetics_rows(files[TRAIN])} - {""})
    labels = {name: label for label, name in enumerate(classes)}
    rows = []
    for part, file in files.items():
        for place, row in _kinetics_rows(file):
            label = labels.get(row["label"], -1)
            if label < 0 and part != UNUSED:
                raise AnnotationError(
                    f"{place}: {row['label']!r} is no class of {files[TRAIN].name}"
                )
            rows.append(_kinetics_row(place, row, label, part))
    return Annotations(classes, {None: rows}, list(files.values()))


def _kinetics_rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV with a header, by column."""
    needed = ("youtube_id", "time_start", "time_end")
    rows = csv_rows(file)
    _, names = next(rows, ("", []))
    header = [name.strip() for name in names]
    if not set(needed) <= set(header):
        raise AnnotationError(
            f"{file}:1: expected the columns label,{','.join(needed)}, got {','.join(header)}"
        )
    for place, cells in rows:
        row = dict(zip(header, map(str.strip, cells), strict=False))
        if not any(row.values()):
            continue
        if len(cells) < len(header) - 1:  # is_cc may be left out
            raise AnnotationError(f"{place}: expected {','.join(header)}, got {','.join(cells)}")
        yield place, {"label": ""} | row


def _kinetics_row(place: str, row: dict[str, str], label: int, part: str) -> Row:
    """ID_000010_000020.mp4 in a folder of its class, as the official tools name it.

    ID_10_20.mp4 and ID.mp4 are found too.
    """
    try:
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        raise AnnotationError(
            f"{place}: time_start and time_end must be seconds, got {row['time_start']!r} and "
            f"{row['time_end']!r}"
        ) from None
    name = row["label"].replace(" ", "_").replace('"', "")
    stem = f"{row['youtube_id']}_{start:06}_{end:06}"
    folders = (name, part) if name else (part,)
    path = "/".join([*folders[:1], f"{stem}.mp4"])
    stems = (stem, f"{row['youtube_id']}_{start}_{end}", row["youtube_id"])
    return Row(path, stems, folders, label, part, place)


def read_k710(folder: Path) -> Annotations:
    """Kinetics-710 as VideoMAE V2 lists it. Without a label map, classes go by their number."""
    files = [_one(folder, "train.csv"), _one(folder, "val.csv")]
    rows = []
    for part, file in zip((TRAIN, VAL), files, strict=True):
        for place, line in _lines(file):
            path, _, number = line.rpartition(" ")
            if not path.strip("/ ") or not is_class(number):
                raise AnnotationError(f"{place}: expected 'path label', got {line!r}")
            *folders, name = path.strip().lstrip("/").split("/")
            stem = name.rpartition(".")[0] or name
            inside = "/".join([*folders, name])
            rows.append(Row(inside, (stem,), tuple(folders), int(number), part, place))
    count = max((row.label for row in rows), default=-1) + 1
    classes = [str(label) for label in range(count)]
    if maps := _some(folder, "*label_map*.txt"):
        classes = [line for _, line in _lines(maps[0])]
        files.append(maps[0])
        if len(classes) < count:
            row = next(row for row in rows if row.label >= len(classes))
            raise AnnotationError(
                f"{row.place}: label {row.label} lies outside the {len(classes)} classes of "
                f"{maps[0]}"
            )
    return Annotations(classes, {None: rows}, files, class_folders=False)


def read_ssv2(folder: Path) -> Annotations:
    """Something-Something V2. Templates have brackets, [something], that the labels lack."""
    index = _one(folder, "*labels.json")
    numbers = _numbers(index)
    if not isinstance(numbers, dict) or not all(is_class(str(n)) for n in numbers.values()):
        raise AnnotationError(f"{index}: expected an object of template: number")
    classes = sorted(numbers, key=lambda name: int(numbers[name]))
    if [int(numbers[name]) for name in classes] != list(range(len(classes))):
        raise AnnotationError(f"{index}: the labels must be numbered 0 to {len(classes) - 1}")
    labels = {_unbracketed(name): label for label, name in enumerate(classes)}
    files = {TRAIN: _one(folder, "*train.json"), VAL: _one(folder, "*validation.json")}
    rows = []
    for part, file in files.items():
        for place, entry in _entries(file):
            template = _unbracketed(str(entry.get("template", "")))
            if template not in labels:
                raise AnnotationError(f"{place}: {template!r} is no class of {index.name}")
            rows.append(_ssv2_row(place, entry, labels[template], part))
    for file in _some(folder, "*test.json"):
        files[UNUSED] = file
        rows += [_ssv2_row(place, entry, -1, UNUSED) for place, entry in _entries(file)]
    return Annotations(classes, {None: rows}, [index, *files.values()])


def _ssv2_row(place: str, entry: dict[str, Any], label: int, part: str) -> Row:
    return Row(f"{entry['id']}.webm", (str(entry["id"]),), (), label, part, place)


def _unbracketed(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()


def _entries(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each object, with an id, in a JSON list."""
    number = 0
    try:
        for number, entry in enumerate(json_objects(file), start=1):
            place = f"{file}: entry {number}"
            _check_row(number, place)
            if "id" not in entry:
                raise AnnotationError(f'{place}: expected an object with an "id"')
            yield place, entry
    except OSError as error:
        raise _unreadable(file, error) from error
    except NotTextError as error:
        raise AnnotationError(
            f'{file}: is no JSON list of objects, each with an "id" ({error}, after entry {number})'
        ) from error


READERS: dict[str, Callable[[Path], Annotations]] = {
    Dataset.ucf101: read_ucf101,
    Dataset.hmdb51: read_hmdb51,
    Dataset.k400: read_kinetics,
    Dataset.k600: read_kinetics,
    Dataset.k710: read_k710,
    Dataset.ssv2: read_ssv2,
}
"""Readers of the published data sets; your own are read by videomae.lists.own."""


def reader_of(dataset: str) -> Callable[[Path], Annotations]:
    """Return the reader of a data set: a function that takes the folder `annotations`.

    Args:
        dataset: a published one, or a function of the user's own, package.module:Name.

    Raises:
        ConfigError: it cannot be imported.
    """
    if is_extension(dataset):
        found: Callable[[Path], Annotations] = extension("dataset", dataset)
        return found
    return READERS[dataset]


def is_class(number: str) -> bool:
    """Whether a text is the number of a class, from 0 to MOST_CLASSES - 1."""
    return re.fullmatch("[0-9]{1,18}", number) is not None and int(number) < MOST_CLASSES


def _some(folder: Path, pattern: str) -> list[Path]:
    """Files of that name in the folder; where it has none, in the folders inside it."""
    return sorted(folder.glob(pattern)) or sorted(folder.glob(f"*/{pattern}"))


def _one(folder: Path, pattern: str) -> Path:
    found = _some(folder, pattern)
    if len(found) != 1:
        many = f"several: {', '.join(path.name for path in found[:4])}" if found else "none"
        raise AnnotationError(f"annotations={folder} must hold one {pattern}, it holds {many}")
    return found[0]


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of the lines that are not blank, without what surrounds them."""
    count = 0
    for number, line in enumerate(_text_lines(file), start=1):
        if line.strip():
            count += 1
            _check_row(count, f"{file}:{number}")
            yield f"{file}:{number}", line.strip()


def csv_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(place, cells) of the rows of a file of comma-separated values that are not empty.

    Raises:
        AnnotationError: the file cannot be read, or its quotes make no sense.
    """
    reader = csv.reader(_text_lines(file), skipinitialspace=True, strict=True)
    count = 0
    try:
        for cells in reader:
            if cells:
                count += 1
                _check_row(count, f"{file}:{reader.line_num}")
                yield f"{file}:{reader.line_num}", cells
    except csv.Error as error:
        raise AnnotationError(
            f"{file}:{reader.line_num}: is no row of comma-separated values ({error}): close its "
            "quotes, and double those inside a quoted cell"
        ) from error


def _check_row(number: int, place: str) -> None:
    """Refuse a file of more rows than any has, which would take as much memory."""
    if number > MOST_ROWS:
        raise AnnotationError(
            f"{place}: more than {MOST_ROWS:,} rows, which no annotation file has. A clip list may "
            "have more: write its lines 'path label' yourself, for data.train_list"
        )


def _text_lines(file: Path) -> Iterator[str]:
    try:
        yield from text_lines(file)
    except (OSError, NotTextError) as error:
        raise _unreadable(file, error) from error


def _numbers(file: Path) -> Any:
    """The value of the JSON file that numbers the classes."""
    try:
        return parse_json(short_text(file, MOST_LABELS))
    except (OSError, NotTextError) as error:
        raise _unreadable(file, error) from error
    except ValueError as error:
        raise AnnotationError(f"{file}: is no JSON of annotations ({error})") from error


def _unreadable(file: Path, error: Exception) -> AnnotationError:
    return AnnotationError(f"{file} cannot be read ({error}): give a text file in UTF-8")
