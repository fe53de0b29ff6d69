"""The directory that python -m videomae.prepare writes, and the settings that a run reads from it.

OUT/prepared.json                  what the lists are, written last
OUT/classes.txt                    line i = name of class i
OUT/split1/{train,val,test}.txt    UCF101, HMDB51; OUT/{train,val,test}.txt for the others
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from videomae.config import ConfigError, DataConfig, ListFormat, is_template
from videomae.config.typed import check_types
from videomae.lists.annotations import MOST_CLASSES
from videomae.lists.published import PARTS, PUBLISHED, TEST, TRAIN, VAL
from videomae.run.files import read_json
from videomae.run.given import Given

FILE_NAME = "prepared.json"
CLASSES = "classes.txt"
NOTHING = Given()
"""A command line that gives no setting."""
OWN_LISTS = "prepared"
"""Name of the folder of a run with the lists that it made of data.videos."""
CUSTOM = "custom"
"""Name of the data config that stands for no data set."""
ALL = "all"
"""Value of data.split that stands for every split in turn."""


@dataclass(frozen=True)
class PreparedList:
    """A clip list in a prepared directory."""

    split: int | None
    """Number of the split; None: the data set has only one."""
    part: str
    """Part of the data set: train, val or test."""
    videos: int
    published: int | None
    """Number of videos of the published list; None: there is none."""
    sha256: str

    def __post_init__(self) -> None:
        if not (self.split is None or type(self.split) is int) or self.part not in PARTS:
            raise ValueError(f"split {self.split!r}, part {self.part!r} name no list")

    @property
    def file(self) -> str:
        """Path of the list, relative to the prepared directory."""
        return f"{self.part}.txt" if self.split is None else f"split{self.split}/{self.part}.txt"


@dataclass(frozen=True)
class Prepared:
    """The content of prepared.json."""

    dataset: str
    root: str
    """Absolute path of the folder of the videos."""
    classes: int
    list_format: str
    """Format of all lists: the name of a ListFormat."""
    frame_template: str | None
    first_frame: int
    lists: list[PreparedList]
    annotations: dict[str, str]
    """SHA-256 of the annotation files, by path."""
    settings: dict[str, float]
    """Settings of prepare that decided which videos were moved to val and test."""

    @property
    def splits(self) -> list[int]:
        """Numbers of the splits; empty where the data set has only one."""
        return sorted({each.split for each in self.lists if each.split is not None})

    def as_json(self) -> str:
        """Return the text of prepared.json."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_prepared(directory: Path) -> Prepared:
    """Read the prepared.json of a directory.

    Raises:
        ConfigError: there is none, or prepare did not write it.
    """
    file = directory / FILE_NAME
    try:
        facts = read_json(file)
        lists = [PreparedList(**each) for each in facts.pop("lists")]
        prepared = Prepared(**facts, lists=lists)
        _check(prepared)
        return prepared
    except OSError as error:
        raise ConfigError(
            f"data.prepared={directory} holds no {FILE_NAME}: give a directory that "
            "python -m videomae.prepare wrote"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{file} is not what python -m videomae.prepare writes ({error}): prepare it again"
        ) from error


def _check(prepared: Prepared) -> None:
    """Check the values of a prepared.json, which may come from others.

    Raises:
        ValueError: one is impossible; the error names the first.
    """
    for part in (prepared, *prepared.lists):
        check_types(part)
    template = prepared.frame_template
    right = {
        "classes": 1 <= prepared.classes <= MOST_CLASSES,
        "list_format": prepared.list_format in ListFormat.__members__,
        "first_frame": prepared.first_frame >= 0,
        "root": "\0" not in prepared.root,
        "frame_template": template is None or (is_template(template) and "/" not in template),
    }
    wrong = [f"{name}={getattr(prepared, name)!r:.60}" for name, good in right.items() if not good]
    if wrong:
        raise ValueError(wrong[0])


def with_prepared(data: DataConfig, told: Given = NOTHING) -> DataConfig:
    """Return `data` with the settings of data.prepared wherever it has none itself.

    With the names of the classes comes their number, unless the command line gives another; that
    of an exp gives way, as it is that of the whole data set.

    If the data set has no test list, its validation list, on which papers report, is the test list
    and is not used for choosing the best weights.

    Raises:
        ConfigError: there is no such directory or split.
    """
    if data.prepared is None:
        return data
    directory = Path(data.prepared)
    prepared = read_prepared(directory)
    split = _number(data, prepared)
    lists = {each.part: each for each in prepared.lists if each.split == split}
    files = {part: str(directory / each.file) for part, each in lists.items()}
    if TEST not in files and VAL in files:
        files[TEST] = files.pop(VAL)
    published = lists[TRAIN].published if TRAIN in lists else None
    auto = data.list_format is ListFormat.auto
    decides = data.class_names is None and not told.itself("data.classes")
    return replace(
        data,
        root=data.root or prepared.root,
        train_list=data.train_list or files.get(TRAIN),
        val_list=data.val_list or files.get(VAL),
        test_list=data.test_list or files.get(TEST),
        num_train=published or data.num_train,
        class_names=data.class_names or str(directory / CLASSES),
        classes=prepared.classes if decides else data.classes or prepared.classes,
        list_format=ListFormat[prepared.list_format] if auto else data.list_format,
        frame_template=data.frame_template or prepared.frame_template,
        first_frame=prepared.first_frame if auto else data.first_frame,
    )


def data_name(data: DataConfig, chosen: str | None) -> str:
    """Return the name of the data set of data.test_list, for tables of results.

    It is that of the folder data.videos, or of the prepared lists: the data set that they are of,
    else the folder that they lie in, or that of the videos where a run made them of data.videos.
    Without them, it is the name of the data config, else that of the list or, for test.txt and the
    like, of its folder.

    Args:
        data: settings with their lists, as `with_prepared` returns them.
        chosen: name of the data config; None: unknown, or its lists were replaced.
    """
    if data.videos is not None:
        return Path(data.videos).absolute().name
    test_list = Path(str(data.test_list)).absolute()
    if data.prepared is not None:
        directory = Path(data.prepared).absolute()
        if test_list.is_relative_to(directory):
            prepared = read_prepared(directory)
            if prepared.dataset in PUBLISHED:
                return prepared.dataset
            own = directory.name == OWN_LISTS
            return (Path(prepared.root) if own else directory).name
    if chosen not in (None, CUSTOM):
        return chosen
    return test_list.parent.name if test_list.stem in PARTS else test_list.stem


def _number(data: DataConfig, prepared: Prepared) -> int | None:
    """Return the number of the split that data.split names; None if the data set has only one.

    Raises:
        ConfigError: there is no such split.
    """
    splits = ", ".join(map(str, prepared.splits))
    if data.split is None and splits:
        raise ConfigError(
            f"data.prepared={data.prepared} has the splits {splits}: choose one with data.split="
        )
    numbers = {str(number): number for number in prepared.splits}
    if data.split is not None and data.split not in numbers:
        there = f"has the splits {splits}" if splits else "has no splits: leave data.split out"
        also = f"; data.split={ALL} is for finetune and evaluate" if data.split == ALL else ""
        raise ConfigError(
            f"data.split={data.split} does not exist: data.prepared={data.prepared} {there}{also}"
        )
    return None if data.split is None else numbers[data.split]
