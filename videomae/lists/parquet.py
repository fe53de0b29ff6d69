"""Clip lists in Parquet: a row is a video, or a range of one.

    path                     text: relative to the root
    label                    whole number: a class; list of whole numbers: several classes; number,
                             or list of numbers: values
    start_frame, end_frame   whole numbers: the first frame of the range, from 0, and the one after
                             its last; null: from the beginning, to the end

Only path is needed, and other columns are not read. Files are untrusted: claims are compared with
limits before anything is allocated, rows are read in pieces, and in limited memory.
"""

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from videomae.config import CLASS, MULTILABEL, REGRESSION, DataConfig
from videomae.lists.columns import NONE, Columns, Integers
from videomae.lists.formats import ClipListError, short
from videomae.lists.targets import NOTHING
from videomae.run.files import regular, replacing
from videomae.run.worker_pool import memory_limited

ENDING = ".parquet"
"""Ending of the file names of lists in Parquet."""
PATH, LABEL, START, END = "path", "label", "start_frame", "end_frame"
ROWS = 1 << 17
"""Rows that are read at once."""
BUFFER = 1 << 20
"""Bytes of a column that are read at once."""
MOST_ROWS = 1 << 30
"""Largest number of rows of a list."""
MOST_PATH = 1 << 15
"""Largest number of bytes of a path; no system has longer ones."""
MOST_FRAME = 1 << 31
"""Largest number of a frame; no video is so long."""
MOST_CLASS = 10**9
"""Number that is larger than that of any class, as in lists of text."""
WANTED = {
    CLASS: "whole numbers",
    MULTILABEL: "lists of whole numbers",
    REGRESSION: "numbers, or lists of numbers",
}
"""Words for the labels that each data.target learns."""


class ListedRows(NamedTuple):
    """Some consecutive rows of a list."""

    paths: Any
    """Paths, an Arrow array of large_string."""
    numbers: dict[str, Integers]
    """Other fields of Clip, by name; NONE stands for None."""
    targets: Columns | None
    """Texts of the targets, as lines of video_labels and video_values have them."""


def is_parquet(path: Path) -> bool:
    """Return whether a list is a Parquet file, by the ending of its name."""
    return path.suffix.lower() == ENDING


def place_of(path: Path, line: int) -> str:
    """Return the place of a clip in a list, its row or its line, as messages begin with it."""
    return f"{path}: row {line}" if is_parquet(path) else f"{path}:{line}"


def parquet_rows(path: Path, data: DataConfig, *, labelled: bool) -> Iterator[ListedRows]:
    """Yield the rows of a list, piece by piece.

    Args:
        data: gives what is learned, and whether the paths are folders of frames.
        labelled: whether each row must have what data.target learns.

    Raises:
        ClipListError: the file is damaged, or holds what no list can hold; the message names the
            row.
    """
    with _opened(path) as file:
        reader = _RowReader(path, data, file.schema_arrow, labelled=labelled)
        first, memory = 1, most_memory()
        for batch in _batches(file, path, reader.names):
            rows = reader.rows(batch, first)
            memory -= rows.paths.nbytes + 8 * len(reader.names) * len(batch)
            if memory < 0:
                raise ClipListError(
                    f"{path}: row {first}: the rows so far take more than half of this machine's "
                    "memory: split the list, or take a larger machine"
                )
            first += len(batch)
            yield rows


def text_columns(path: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield those of some columns that a list has, as Arrow arrays of large_string, in pieces.

    Raises:
        ClipListError: the file is damaged, or a column is no text.
    """
    with _opened(path) as file:
        there = [name for name in names if name in file.schema_arrow.names]
        for name in there:
            _check_text(path, name, file.schema_arrow.field(name).type)
        for first, batch in _numbered(_batches(file, path, [PATH, *there])):
            yield {name: _texts(path, name, batch.column(name), first) for name in there}


def label_type(path: Path) -> Any:
    """Return the Arrow type of a list's labels; None: it has none.

    Raises:
        ClipListError: the file is damaged.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
        return schema.field(LABEL).type if LABEL in schema.names else None


def write_rows(target: Path, source: Path, without: Set[int]) -> None:
    """Write a list's own rows, with all their columns, without some.

    Args:
        without: what is left out, counted from 1.

    Raises:
        ClipListError: the list is damaged.
    """
    left_out = np.array(sorted(without), np.int64)
    with _opened(source) as file, replacing(target) as temporary:
        names = file.schema_arrow.names
        with pq.ParquetWriter(temporary, file.schema_arrow) as writer:
            for first, batch in _numbered(_batches(file, source, names)):
                kept = ~np.isin(np.arange(first, first + len(batch)), left_out)
                writer.write_table(pa.table(batch.filter(pa.array(kept))).cast(file.schema_arrow))


def most_memory() -> int:
    """Return the bytes of memory that a list may take: half of the machine's."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a Parquet file as a pq.ParquetFile whose claims are checked.

    Raises:
        ClipListError: it is damaged, also where the block that reads it finds this.
    """
    try:
        with (
            memory_limited(most_memory()),
            pq.ParquetFile(regular(path), buffer_size=BUFFER) as file,
        ):
            _check_claims(path, file)
            yield file
    except ClipListError:
        raise
    except MemoryError as error:
        raise ClipListError(
            f"{path} takes more than half of this machine's memory to read ({error}): split the "
            "list, or write it again if it is damaged"
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names that are no text
        said = str(error).strip().splitlines()
        raise ClipListError(
            f"{path} cannot be read as a list in Parquet ({said[0] if said else 'no reason given'})"
            ": it may be cut short; copy it again, or write it again with columns path, label, "
            "start_frame, end_frame"
        ) from error


def _check_claims(path: Path, file: Any) -> None:
    """Check the columns and the number of rows that a file's footer promises.

    More of the footer is not looked at: pyarrow ends the process where it is damaged.

    Raises:
        ClipListError: naming the first that cannot be.
    """
    names, about = file.schema_arrow.names, file.metadata
    if PATH not in names:
        raise ClipListError(
            f"{path} has no column {PATH} (it has {', '.join(names)[:200]}): name the column of "
            f"the videos so"
        )
    for name in (PATH, LABEL, START, END):
        if names.count(name) > 1:
            raise ClipListError(f"{path} has several columns {name}: keep one of them")
    if not 0 <= about.num_rows <= MOST_ROWS:
        raise ClipListError(
            f"{path} claims {about.num_rows:,} rows, a list has at most {MOST_ROWS:,}: split it, "
            "or write it again if it is damaged"
        )


def _batches(file: Any, path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Yield some columns of a file, ROWS rows at a time.

    Raises:
        ClipListError: there are fewer or more rows than the file promises.
    """
    count, promised = 0, file.metadata.num_rows
    for batch in file.iter_batches(ROWS, columns=list(names)):
        count += len(batch)
        yield batch
    if count != promised:
        raise ClipListError(f"{path} promises {promised:,} rows and holds {count:,}: copy it again")


def _numbered(batches: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    """Yield each batch with the number of its first row, from 1."""
    first = 1
    for batch in batches:
        yield first, batch
        first += len(batch)


def _check_text(path: Path, name: str, kind: Any) -> None:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_text(plain) for is_text in texts):
        raise ClipListError(f"{path}: column {name} is of type {kind}: write it as text (string)")


def _texts(path: Path, name: str, column: Any, first: int) -> Any:
    """Return a column of texts, whatever its type, as an Arrow array of large_string.

    Raises:
        ClipListError: one is too long, or not UTF-8.
    """
    texts = column.cast(pa.large_string())
    long = pc.greater(pc.binary_length(texts), MOST_PATH)
    _refuse(path, long, first, f"{name} has more than {MOST_PATH:,} bytes: shorten it")
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ClipListError(
            f"{path}: {name} of one of the rows {first} to {first + len(column) - 1} is not UTF-8: "
            "write it again"
        ) from error
    return texts


def _refuse(path: Path, wrong: Any, first: int, reason: str, value: Any = None) -> None:
    """Raise a ClipListError if any row is wrong; it names the first one, and its value.

    Args:
        wrong: Arrow array of bool; null counts as False.
        first: number of the first row.
        value: Arrow array of the values, which `reason` follows.
    """
    places = np.flatnonzero(pc.fill_null(wrong, False).to_numpy(zero_copy_only=False))
    if len(places):
        said = "" if value is None else f"{short(str(value[int(places[0])].as_py()))} "
        raise ClipListError(f"{path}: row {first + int(places[0])}: {said}{reason}")


class _RowReader:
    """Reader of the rows of one list, whose columns are of these types.

    Args:
        schema: Arrow schema of the file.

    Raises:
        ClipListError: a column has another type, or is not there.
    """

    def __init__(self, path: Path, data: DataConfig, schema: Any, *, labelled: bool) -> None:
        self.path = path
        self.data = data
        self.labelled = labelled
        kinds = {field.name: field.type for field in schema}
        _check_text(path, PATH, kinds[PATH])
        for name in (START, END):
            kind = kinds.get(name, pa.null())
            if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
                raise ClipListError(
                    f"{path}: column {name} is of type {kind}: write whole numbers, such as int64"
                )
        self.label = kinds.get(LABEL)
        self._check_label()
        one_class = self.label is not None and pa.types.is_integer(self.label)
        optional = [name for name in (START, END) if name in kinds]
        self.names = [PATH, *optional, *[LABEL] * (one_class or (labelled and LABEL in kinds))]

    def _check_label(self) -> None:
        """Check that the labels, where they are needed, are of a type that data.target learns."""
        kind, target = self.label, self.data.target
        if not self.labelled:
            return
        if kind is None:
            raise ClipListError(
                f"{self.path} has no column {LABEL}: data.target={target} needs one of "
                f"{WANTED.get(target, 'its targets')}"
            )
        several = _is_list(kind)
        inner = kind.value_type if several else kind
        whole, number = pa.types.is_integer(inner), pa.types.is_floating(inner)
        fits = {CLASS: whole and not several, MULTILABEL: whole and several}
        if not fits.get(target, whole or number):
            raise ClipListError(
                f"{self.path}: column {LABEL} is of type {kind}: data.target={target} needs "
                f"{WANTED.get(target, 'numbers')}"
            )

    def rows(self, batch: Any, first: int) -> ListedRows:
        """Return the rows of a batch, of which `first` is the number of the first one."""
        _refuse(self.path, batch.column(PATH).is_null(), first, "path is null: leave the row out")
        paths = _texts(self.path, PATH, batch.column(PATH), first)
        _refuse(self.path, pc.equal(paths, ""), first, "path is empty: leave the row out")
        numbers = {"line": np.arange(first, first + len(batch))} | self._range(batch, first)
        targets = None
        if LABEL in self.names:
            column = batch.column(LABEL)
            if self.labelled:
                _refuse(
                    *(self.path, column.is_null(), first),
                    f"label is null, and data.target={self.data.target} needs one of each row: "
                    "fill it in, or leave the row out",
                )
            if pa.types.is_integer(column.type) and self.data.target != REGRESSION:
                numbers["label"] = _whole(column)
            else:
                targets = Columns.of(self._targets(column, first), {})
        return ListedRows(paths, numbers, targets)

    def _range(self, batch: Any, first: int) -> dict[str, Integers]:
        """Return the numbers of each row's range, or of its folder of frames."""
        found = {}
        for name in (START, END):
            if name in self.names and not pa.types.is_null(batch.column(name).type):
                column, least = batch.column(name), int(name == END)
                wrong = pc.or_(pc.less(column, least), pc.greater(column, MOST_FRAME))
                reason = f"is no {name}: it is at least {least}, or null"
                _refuse(self.path, wrong, first, reason, column)
                found[name] = _whole(column)
        nothing = np.full(len(batch), NONE)
        start, end = found.get(START, nothing), found.get(END, nothing)
        start = np.where(start == NONE, 0, start)
        for place in np.flatnonzero((end != NONE) & (end <= start))[:1].tolist():
            raise ClipListError(
                f"{self.path}: row {first + place}: frames {start[place]} to {end[place]} are no "
                "range: end_frame is the frame after the last one, and above start_frame"
            )
        if self.data.frame_template is None:
            return {START: start, END: end}
        total = np.where(end == NONE, NONE, end - start)
        return {"start": self.data.first_frame + start, "total": total}

    def _targets(self, column: Any, first: int) -> Any:
        """Return the labels as texts, as lines of video_labels or video_values have them."""
        path, several = self.path, _is_list(column.type)
        lists = column.cast(pa.list_(column.type.value_type)) if several else None
        values = column if lists is None else lists.flatten()
        lengths = np.ones(len(column), np.int64)
        if lists is not None:
            lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        whole = pa.types.is_integer(values.type) and self.data.target != REGRESSION
        numbers = values.cast(pa.int64() if whole else pa.float64())
        wrong = pc.is_null(numbers)
        if whole:
            outside = pc.or_(pc.less(numbers, 0), pc.greater_equal(numbers, MOST_CLASS))
            wrong = pc.or_(wrong, pc.fill_null(outside, False))
        else:
            wrong = pc.or_(wrong, pc.fill_null(pc.invert(pc.is_finite(numbers)), False))
        rows = np.repeat(np.arange(len(column)), lengths)[wrong.to_numpy(zero_copy_only=False)]
        if len(rows):
            said = short(str(column[int(rows[0])].as_py()))
            words = "numbers of classes, from 0" if whole else "finite numbers"
            raise ClipListError(f"{path}: row {first + rows[0]}: {LABEL} {said}: give {words}")
        texts = numbers.cast(pa.string())
        if lists is None:
            return texts.cast(pa.large_string())
        _refuse(path, pa.array((lengths == 0) & (not whole)), first, "label has no number: give it")
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        joined = pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",")
        return pc.if_else(pc.equal(joined, ""), NOTHING, joined).cast(pa.large_string())


def _is_list(kind: Any) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_one(kind) for is_one in lists)


def _whole(column: Any) -> NDArray[np.int64]:
    """Return a column of whole numbers, with NONE for null."""
    numbers: Integers = pc.fill_null(column.cast(pa.int64()), NONE).to_numpy()
    return numbers
