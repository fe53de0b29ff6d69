"""Conversion of clip lists between text and Parquet.

python -m videomae.convert list=FILE calls it. What is written is read again and compared before it
takes its place.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.config import (
    CLASS,
    MULTILABEL,
    REGRESSION,
    ClipConfig,
    ConfigError,
    ConvertConfig,
    DataConfig,
    ListFormat,
)
from videomae.lists.clips import ClipList, read_clips
from videomae.lists.columns import NONE
from videomae.lists.formats import ClipListError, short
from videomae.lists.parquet import END, ENDING, LABEL, PATH, START, is_parquet, label_type
from videomae.lists.targets import FORMATS, NOTHING
from videomae.run.checks import require
from videomae.run.console import tell
from videomae.run.files import replacing

FRAMES = (ListFormat.frames_start_total, ListFormat.frames_total_label)


class Converted(NamedTuple):
    """A list that was converted."""

    num_clips: int
    list_format: ListFormat
    """Format by which the new list is read, if it is a text."""


def convert_listed(config: ConvertConfig) -> None:
    """Write the clip list config.list to config.out.

    Raises:
        ConfigError: the settings do not go together, or there is a file already.
        ClipListError: the list cannot be read, or a text cannot hold it.
    """
    require(config, *([] if config.place else ["out"]))
    if config.weights is not None:
        raise ConfigError(f"weights={config.weights} and list={config.list}: give one of the two")
    target = Path(str(config.place))
    if os.path.lexists(target) and not config.overwrite:
        raise ConfigError(f"out={target} is there: choose another, or give overwrite=true")
    done = convert_list(Path(str(config.list)), target, config.list_format)
    read_by = "" if is_parquet(target) else f", to be read with list_format={done.list_format.name}"
    tell(f"{target}: {done.num_clips:,} clips{read_by}")


def convert_list(source: Path, target: Path, form: ListFormat) -> Converted:
    """Write a text list as Parquet, or a Parquet list as text.

    Args:
        form: format of the lines of a text list.

    Raises:
        ClipListError: the list cannot be read, or a text cannot hold it.
        ConfigError: both are of one kind, or lists of this format are not converted.
    """
    if is_parquet(source) == is_parquet(target):
        raise ConfigError(
            f"list={source} and out={target} are of the same kind: one of the two names must "
            f"end in {ENDING}"
        )
    if form in FRAMES:
        raise ConfigError(f"list_format={form.name}: lists of folders of frames are not converted")
    if is_parquet(source):
        return _to_text(source, target)
    clips = read_clips(source, _settings(CLASS, form), labelled=False, key="list")
    columns: dict[str, Any] = {PATH: clips.columns.texts().cast(pa.string())}
    if clips.targets is not None:
        columns[LABEL] = _as_lists(clips.targets.texts(), form)
    elif (clips.labels() != NONE).any():
        columns[LABEL] = pa.array(clips.labels(), mask=clips.labels() == NONE)
    with replacing(target) as temporary:
        pq.write_table(pa.table(columns), temporary)
        _check_same(clips, _read_parquet(temporary)[0], target)
    return Converted(len(clips), form)


def _settings(target: str, form: ListFormat = ListFormat.auto) -> DataConfig:
    return DataConfig(clip=ClipConfig(frames=1, stride=1, size=1), target=target, list_format=form)


def _read_parquet(path: Path) -> tuple[ClipList, str]:
    """Return the clips of a Parquet list, and the data.target that its labels are for."""
    kind = label_type(path)
    target = CLASS
    if kind is not None and not pa.types.is_integer(kind):
        inner = getattr(kind, "value_type", kind)
        target = MULTILABEL if pa.types.is_integer(inner) else REGRESSION
    return read_clips(path, _settings(target), labelled=target != CLASS, key="list"), target


def _to_text(source: Path, target: Path) -> Converted:
    """Write a Parquet list as text."""
    clips, kind = _read_parquet(source)
    spans = np.flatnonzero((clips.columns.number(START) != 0) | (clips.columns.number(END) != NONE))
    for clip in clips.take(spans[:1]):
        raise ClipListError(
            f"{source}: row {clip.line}: {clip.name} is a range, which no line of text can be: "
            "keep the list in Parquet"
        )
    form = FORMATS.get(kind, ListFormat.video)
    missing = clips.labels() == NONE
    if kind == CLASS and not missing.all():
        form = ListFormat.video_label
        for clip in clips.take(np.flatnonzero(missing)[:1]):
            raise ClipListError(
                f"{source}: row {clip.line}: label is null, and others are not: text needs all"
            )
    with replacing(target) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            for clip in clips:
                label = "" if clip.label is None else f" {clip.label}"
                file.write(f"{clip.path}{label}{' ' * bool(clip.target)}{clip.target}\n")
        again = read_clips(temporary, _settings(kind, form), labelled=False, key="list")
        _check_same(clips, again, target)
    return Converted(len(clips), form)


def _as_lists(texts: Any, form: ListFormat) -> Any:
    """Return targets of lines of text as Parquet has them."""
    if form is ListFormat.video_labels:
        words = pc.split_pattern(pc.if_else(pc.equal(texts, NOTHING), "", texts), ",")
        kept = pc.if_else(pc.equal(texts, NOTHING), pa.scalar([], words.type), words)
        return kept.cast(pa.list_(pa.int64()))
    values = pc.split_pattern(texts, ",").cast(pa.list_(pa.float64()))
    one_each = pc.all(pc.equal(pc.list_value_length(values), 1)).as_py()
    return values.flatten() if one_each else values


def _check_same(clips: ClipList, again: ClipList, target: Path) -> None:
    """Check that a list says the same after it was converted.

    Raises:
        ClipListError: naming the first line that does not.
    """
    for own, other in zip(clips, again, strict=False):
        same = (own.path, own.label) == (other.path, other.label)
        if not same or _numbers(own.target) != _numbers(other.target):
            raise ClipListError(
                f"line {own.line}: {short(own.path)} would be {short(other.path)} in {target}: "
                "rename it, or keep the list as it is"
            )
    if len(clips) != len(again):
        raise ClipListError(f"{target} would hold {len(again):,} of {len(clips):,} clips")


def _numbers(target: str) -> list[float]:
    return [] if target in ("", NOTHING) else [float(word) for word in target.split(",")]
