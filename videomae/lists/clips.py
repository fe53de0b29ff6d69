"""Clip lists: the clips of a text file or a Parquet file, in columns that processes share.

The formats of a line of text are in videomae.lists.formats. Paths are relative to a root and may
hold spaces. Blank lines and lines that start with "# " (hash, space) are skipped;
"#basketball/x.mp4" is a path. The columns of a Parquet file are in videomae.lists.parquet.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from videomae.config import CLASS, DataConfig, ListFormat
from videomae.config.settings import dotted
from videomae.lists.columns import NONE, Columns, Integers
from videomae.lists.formats import Clip, ClipListError, all_forms, parse_line, short
from videomae.lists.parquet import (
    ENDING,
    LABEL,
    PATH,
    is_parquet,
    parquet_rows,
    place_of,
    write_rows,
)
from videomae.lists.plain import plain_lines
from videomae.lists.targets import check_format, wrong_target
from videomae.lists.text_files import NotTextError, text_blocks
from videomae.lists.tombstones import Tombstones
from videomae.run.files import replacing

ROWS = 1 << 12
"""Clips that an iteration makes at once."""
PARSED = 1 << 16
"""Lines that are taken apart one by one before they become columns."""
FIELDS = {
    "line": NONE,
    "label": NONE,
    "start": NONE,
    "total": NONE,
    "source": 0,
    "start_frame": 0,
    "end_frame": NONE,
    "forgotten": 0,
}
"""The columns of numbers, in their order, and the number of each where a list says none."""


class ClipList(Sequence[Clip]):
    """The clips of one list, or of several one after the other: a sequence of Clip.

    Held in columns, some 50 bytes a clip, of which all processes that decode share one copy.

    Args:
        columns: path, and the numbers of FIELDS; None is NONE, a source its place in `sources`.
        targets: the target of each clip, a text and no number; None: none has one.
    """

    def __init__(
        self, columns: Columns, sources: Sequence[str], targets: Columns | None = None
    ) -> None:
        self.columns = columns
        self.sources = sources
        self.targets = targets
        self.left_out: Sequence[int] = ()
        """Lines of the list that were left out, as tombstones name their videos."""
        self.stones: Sequence[Tombstones] = ()
        """Tombstones that were looked for in the list, if it was read with any."""

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> "ClipList":
        """Make a ClipList of clips."""
        if isinstance(clips, ClipList):
            return clips
        sources = list(dict.fromkeys(clip.source for clip in clips))
        rows = [
            [
                sources.index(clip.source) if name == "source" else _number(getattr(clip, name))
                for name in FIELDS
            ]
            for clip in clips
        ]
        numbers = np.array(rows, np.int64).reshape(len(rows), len(FIELDS))
        paths = pa.array([clip.path for clip in clips], pa.large_string())
        columns = Columns.of(paths, dict(zip(FIELDS, numbers.T, strict=True)))
        texts = [clip.target for clip in clips]
        targets = Columns.of(pa.array(texts, pa.large_string()), {}) if any(texts) else None
        return cls(columns, sources, targets)

    @classmethod
    def joined(cls, lists: Sequence["ClipList"]) -> "ClipList":
        """The clips of all lists, one list after the other."""
        sources = list(dict.fromkeys(chain.from_iterable(each.sources for each in lists)))
        parts = []
        for each in lists:
            renumbered = np.array([sources.index(source) for source in each.sources])
            own = renumbered[each.columns.number("source")]
            parts.append(each.columns.with_number("source", own))
        joined = cls(Columns.joined(parts), sources, _joined_targets(lists))
        joined.stones = [each for clips in lists for each in clips.stones]
        return joined

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> "ClipList": ...
    def __getitem__(self, index: int | slice) -> "Clip | ClipList":
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        place = range(len(self))[index]
        return self._clips(place, place + 1)[0]

    def __iter__(self) -> Iterator[Clip]:
        for first in range(0, len(self), ROWS):
            yield from self._clips(first, first + ROWS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def take(self, places: Sequence[int] | Integers) -> "ClipList":
        """The clips at these places, in this order."""
        wanted = np.asarray(places, np.int64)
        targets = None if self.targets is None else self.targets.take(wanted)
        return ClipList(self.columns.take(wanted), self.sources, targets)

    def labels(self) -> Integers:
        """(len,): the labels, where every clip has one."""
        return self.columns.number("label")

    def files(self) -> Integers:
        """(len,): which video each clip is, counted from 0; a list may name one more than once.

        Paths of different sources are different videos, and so are different ranges of one file.
        """
        paths = self.columns.texts().dictionary_encode()
        found = self.columns.number("source") * len(paths.dictionary) + paths.indices.to_numpy()
        for name in ("start_frame", "end_frame"):
            if self.columns.numbers[name].stride() != (0,):  # else one number throughout
                found = pa.array(found).dictionary_encode().indices.to_numpy().astype(np.int64)
                values = pa.array(self.columns.number(name)).dictionary_encode()
                found = found * len(values.dictionary) + values.indices.to_numpy()
        return pa.array(found).dictionary_encode().indices.to_numpy()

    def kept(self) -> Integers:
        """Return the places of the clips that no tombstone names."""
        return np.flatnonzero(self.columns.number("forgotten") == 0)

    def forgetting(self, forgotten: NDArray[np.bool_]) -> "ClipList":
        """Return the clips, with those marked that tombstones name."""
        columns = self.columns.with_number("forgotten", forgotten.astype(np.int64))
        return ClipList(columns, self.sources, self.targets)

    def without_forgotten(self) -> "ClipList":
        """Return the clips that no tombstone names; `left_out` tells the lines of the others."""
        forgotten = self.columns.number("forgotten") != 0
        if not forgotten.any():
            return self
        kept = self.take(np.flatnonzero(~forgotten))
        kept.left_out = self.columns.number("line")[forgotten].tolist()
        kept.stones = self.stones
        return kept

    def on_lines(self, lines: Sequence[int]) -> Integers:
        """The places of the clips that stand on these lines of their lists."""
        return np.flatnonzero(np.isin(self.columns.number("line"), lines))

    def num_shared(self, other: "ClipList") -> int:
        """How many of the clips have a path that is in another list too, and not forgotten."""
        kept = other.columns.texts().take(pa.array(other.kept()))
        found = pc.is_in(self.columns.texts(), value_set=kept)
        return int(found.to_numpy(zero_copy_only=False).sum())

    def _clips(self, first: int, last: int) -> list[Clip]:
        def given(number: int) -> int | None:
            return None if number == NONE else number

        rows = self.columns.rows(first, last)
        texts = [("",)] * len(rows) if self.targets is None else self.targets.rows(first, last)
        return [
            Clip(
                *(path, line, given(label), given(start), given(total)),
                *(self.sources[source], text, first_frame, given(end_frame), bool(forgotten)),
            )
            for (*(path, line, label, start, total, source, first_frame, end_frame, forgotten),), (
                text,
            ) in zip(rows, texts, strict=True)
        ]


def full_columns(paths: Any, numbers: Mapping[str, Integers]) -> Columns:
    """Return the columns of clips, with the numbers of FIELDS for those that are not given.

    Args:
        paths: an Arrow array of large_string.
    """
    given = Columns.of(paths, numbers)
    usual = {name: torch.tensor([number]).expand(len(paths)) for name, number in FIELDS.items()}
    return Columns(given.data, given.offsets, usual | given.numbers)


def _number(value: int | None) -> int:
    return NONE if value is None else value


def _joined_targets(lists: Sequence[ClipList]) -> Columns | None:
    """The targets of all lists, one list after the other; a list without has empty ones."""
    if all(each.targets is None for each in lists):
        return None
    return Columns.joined(
        [
            Columns.of(pa.array([""] * len(each), pa.large_string()), {})
            if each.targets is None
            else each.targets
            for each in lists
        ]
    )


def read_clips(
    path: str | Path, data: DataConfig, *, labelled: bool, key: str = "data.train_list"
) -> ClipList:
    """Every clip of a list, in its order.

    Args:
        path: the list: a Parquet file if its name ends so, else a text file.
        data: gives the format, the number of classes and the first frame of frame folders.
        labelled: whether each clip must have what data.target learns: a label, or a target.
        key: the setting that named the list; its section is the clips' source.

    Raises:
        ClipListError: naming the list, the line, its text and the expected form.
        ConfigError: lists of this format do not hold what data.target learns.
    """
    path = Path(path)
    section = key.rpartition(".")[0]
    if is_parquet(path):
        blocks = _parquet_blocks(path, data, section, labelled=labelled)
        forms = f"expected one a row, in columns such as {PATH}, {LABEL}"
    else:
        if labelled:
            check_format(data)
        blocks = _text_blocks(path, data, section, key)
        forms = f"expected one a line, such as {all_forms()}"
    parts = [ClipList.of([]), *blocks]
    columns = Columns.joined([part.columns for part in parts])
    clips = ClipList(columns, [section], _joined_targets(parts))
    if not clips:
        raise ClipListError(f"{key}={path} lists no clip: {forms}")
    _check_clips(clips, path, data, section, labelled=labelled)
    return clips


def _text_blocks(path: Path, data: DataConfig, section: str, key: str) -> Iterator[ClipList]:
    """Yield the clips of a text file, some megabytes at a time."""
    first = 1
    try:
        for text in text_blocks(path):
            array = pa.array([text.removesuffix("\n")], pa.large_string())
            lines = pc.split_pattern(array, "\n").flatten()
            yield _parse_lines(lines, first, path, data, section)
            first += len(lines)
    except (OSError, NotTextError) as error:
        raise ClipListError(
            f"{key}={path} cannot be read ({error}): give a text file with one clip a line, or a "
            f"Parquet file whose name ends in {ENDING}"
        ) from error


def _parquet_blocks(
    path: Path, data: DataConfig, section: str, *, labelled: bool
) -> Iterator[ClipList]:
    """Yield the clips of a Parquet file, some thousands at a time."""
    for paths, numbers, targets in parquet_rows(path, data, labelled=labelled):
        yield ClipList(full_columns(paths, numbers), [section], targets)


def _check_clips(
    clips: ClipList, path: Path, data: DataConfig, section: str, *, labelled: bool
) -> None:
    """Check the labels, the targets and the folders of frames of a list.

    Raises:
        ClipListError: naming the first line that cannot be.
    """
    label, total = clips.labels(), clips.columns.number("total")
    wrong = (total != NONE) & (data.frame_template is None)
    has_label = labelled and data.target == CLASS
    if has_label:
        wrong |= label == NONE
    if has_label and data.classes is not None:
        wrong |= (label < 0) | (label >= data.classes)
    if labelled and (found := wrong_target(clips.targets, data)):
        clip = clips[found.place]
        raise ClipListError(
            f"{place_of(path, clip.line)}: {clip.target} of {clip.path!r} {found.reason}"
        )
    for clip in clips.take(np.flatnonzero(wrong)[:1]):
        if has_label:
            _check_label(clip, path, data.classes)
        raise ClipListError(
            f"{place_of(path, clip.line)}: {short(clip.path)} is a folder of frames: "
            f"set {dotted(section, 'frame_template')}, for example "
            f"'{dotted(section, 'frame_template')}=\"img_{{:05}}.jpg\"'"
        )


def lines_hash(lines: Sequence[int]) -> str:
    """Return the SHA-256 of the numbers of some lines of a list."""
    return hashlib.sha256(",".join(map(str, lines)).encode()).hexdigest()


def write_without(target: Path, source: Path, lines: Set[int], note: str | None) -> None:
    """Write a list's own lines, or rows, without some; comments and unread columns are kept.

    Args:
        lines: what is left out, counted from 1.
        note: a comment to begin with, in a text file.
    """
    if is_parquet(source):
        write_rows(target, source, lines)
        return
    with (
        replacing(target) as temporary,
        temporary.open("w", encoding="utf-8") as file,
        source.open(encoding="utf-8-sig") as own,
    ):
        if note:
            file.write(f"# {note}\n")
        for number, line in enumerate(own, start=1):
            if number not in lines:
                file.write(line.removesuffix("\n") + "\n")


def _parse_lines(lines: Any, first: int, path: Path, data: DataConfig, section: str) -> ClipList:
    """Parse consecutive lines of a list, as parse_line does one.

    Args:
        lines: Arrow array of large_string.
        first: the number of the first one.
    """
    plain, others = plain_lines(lines, data.list_format)
    parts = []
    for start in range(0, max(1, len(others)), PARSED):
        some = others[start : start + PARSED]
        rest = [
            parse_line(line, first + place, path, data, section)
            for place, line in zip(some.tolist(), lines.take(some).to_pylist(), strict=True)
        ]
        parts.append(ClipList.of(rest))
    for places, paths, values, targets in plain:
        numbers = {"line": first + places}
        if data.list_format is ListFormat.frames_total_label:
            numbers["start"] = np.full(len(places), data.first_frame)
        columns = full_columns(paths, numbers | values)
        texts = None if targets is None else Columns.of(targets, {})
        parts.append(ClipList(columns, [section], texts))
    if not len(others) and len(plain) == 1:
        return parts[1]
    columns = Columns.joined([part.columns for part in parts])
    joined = ClipList(columns, [section], _joined_targets(parts))
    return joined.take(np.argsort(columns.number("line")))


def _check_label(clip: Clip, path: Path, classes: int | None) -> None:
    if clip.label is None:
        raise ClipListError(
            f"{place_of(path, clip.line)}: expected 'path label', got {short(clip.path)} without a "
            "label"
        )
    if classes is not None and not 0 <= clip.label < classes:
        raise ClipListError(
            f"{place_of(path, clip.line)}: label {clip.label} of {short(clip.path)} lies outside "
            f"the {classes} classes 0..{classes - 1} of data.classes"
        )
