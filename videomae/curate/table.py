"""The table of curate: its columns, the file of each stage, and clips.parquet, which joins them.

A stage writes its own columns by clip_id to stages/NAME.parquet, so that a stage which runs again
replaces its own columns and nothing else. clips.parquet has every column of COLUMNS and a row for
each clip, sorted by clip_id. A column whose stage has not run is null.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.config import ConfigError
from videomae.curate.tombstones import CorpusTombstones
from videomae.run.files import replacing, sha256

TABLE = "clips.parquet"
SOURCES = "sources.parquet"
STAGES = "stages"
MEASURE, SELECT = "measure", "select"
"""Names of the stages whose files this module joins in a way of their own."""
ROWS = 1 << 17
"""Rows of a row group of a Parquet file."""
TEXTS = pa.list_(pa.string())
IDENTITY = {
    "clip_id": pa.string(),
    "source_path": pa.string(),
    "source_sha256": pa.string(),
    "platform": pa.string(),
    "video_id": pa.string(),
    "hashtags": TEXTS,
    "views": pa.int64(),
    "uploaded": pa.string(),
    "licence": pa.string(),
    "uploader_hash": pa.string(),
}
"""Columns that say which clip a row is, and which video it is of."""
PLACE = {
    "start_frame": pa.int64(),
    "end_frame": pa.int64(),
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "is_longest": pa.bool_(),
    "cut_method": pa.string(),
}
"""Columns of the place of a clip in its video; end_frame is exclusive. is_longest is null for a
piece of a fixed duration, which is no scene."""
MEDIA = {
    "width_px": pa.int64(),
    "height_px": pa.int64(),
    "fps": pa.float64(),
    "codec": pa.string(),
    "bitrate_kbps": pa.float64(),
    "decode_errors": pa.int64(),
}
"""Columns of the video file; width and height are those after rotation."""
SCORES = {
    "sharpness": pa.float64(),
    "luma_mean": pa.float64(),
    "luma_std": pa.float64(),
    "clipped_fraction": pa.float64(),
    "bars_fraction": pa.float64(),
    "motion_px_per_s": pa.float64(),
    "frozen_fraction": pa.float64(),
}
"""Columns of the scores that stage measure computes without a model."""
MODELS = {
    "text_fraction": pa.float64(),
    "person_frames_fraction": pa.float64(),
    "person_max_height": pa.float64(),
    "faces_max": pa.int64(),
}
"""Columns of the scores that need a model."""
RELATIONS = {
    "duplicate_group": pa.string(),
    "duplicate_of": pa.string(),
    "duplicate_distance": pa.float64(),
    "cluster": pa.int64(),
    "contaminates": TEXTS,
}
"""Columns of the relations of a clip to others. A clip that was compared has a duplicate_group, its
own id if it is alone, and in contaminates the test videos that it shows, maybe none; null: it was
not compared."""
DECISION = {
    "keep": pa.bool_(),
    "reasons": TEXTS,
    "rules_hash": pa.string(),
    "error": pa.string(),
}
"""Columns of the decision about a clip, and the error of its video."""
COLUMNS = {**IDENTITY, **PLACE, **MEDIA, **SCORES, **MODELS, **RELATIONS, **DECISION}
"""All columns of clips.parquet, in their order; stages of one's own add others behind them."""
MEASURED = {
    "clip_id": pa.string(),
    "source_sha256": pa.string(),
    **PLACE,
    **MEDIA,
    **SCORES,
    "error": pa.string(),
}
"""Columns of the file of stage measure."""


def clip_id(source: str, start: int | None, end: int | None) -> str:
    """Return the id of a clip.

    Args:
        source: SHA-256 of the video file; of one that cannot be read, its path.
        start, end: range of frames; None for a video that has no clip.
    """
    return hashlib.sha256(f"{source}:{start}:{end}".encode()).hexdigest()


def write_table(file: Path, table: Any) -> None:
    """Write a table as Parquet, atomically; equal tables make equal files."""
    with replacing(file) as temporary:
        pq.write_table(table.combine_chunks(), temporary, row_group_size=ROWS, compression="zstd")


def stage_file(out: Path, stage: str) -> Path:
    """Return the file of a stage's columns."""
    return out / STAGES / f"{stage}.parquet"


def write_stage(out: Path, stage: str, columns: Any) -> None:
    """Write the columns of a stage, and join clips.parquet anew.

    Args:
        columns: a table with clip_id and the columns of the stage, of all clips or of some.
    """
    write_table(stage_file(out, stage), by_clip_id(columns))
    join(out)


def join(out: Path) -> None:
    """Write clips.parquet from the files of all stages."""
    write_table(out / TABLE, joined(out))


def joined(out: Path) -> Any:
    """Return the rows of stage measure with the columns of all stages.

    Videos that could not be read at all, so that nothing could be measured, are rows with an error.
    """
    rows = pq.read_table(stage_file(out, MEASURE))
    sources = pq.read_table(out / SOURCES)
    columns = {name: rows[name] for name in rows.column_names}
    first = sources.filter(pc.and_(pc.is_null(sources["copy_of"]), pc.is_null(sources["error"])))
    columns |= _looked_up(rows["source_sha256"], first, "source_sha256", IDENTITY)
    table = pa.table(columns)
    table = pa.concat_tables([table, _unread(sources)], promote_options="default")
    table = by_clip_id(without_forgotten(table, CorpusTombstones.read(out))).combine_chunks()
    columns = {name: table[name] for name in table.column_names}
    for file in sorted((out / STAGES).glob("*.parquet")):
        if file.stem != MEASURE:
            found = pq.read_table(file)
            names = [name for name in found.column_names if name != "clip_id"]
            columns |= _looked_up(table["clip_id"], found, "clip_id", names)
    size = table.num_rows
    known = {
        name: columns[name].cast(kind) if name in columns else pa.nulls(size, kind)
        for name, kind in COLUMNS.items()
    }
    return pa.table(known | {name: columns[name] for name in columns if name not in COLUMNS})


def by_clip_id(table: Any) -> Any:
    """Return a table sorted by clip_id; one that is sorted already as it is."""
    ids = table["clip_id"].combine_chunks()
    ascending = pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py() if len(ids) else True
    return table if ascending else table.sort_by("clip_id")


def _looked_up(keys: Any, table: Any, key: str, names: Any) -> dict[str, Any]:
    """Return columns of a table in the rows of `keys`; null where it has no row of that key."""
    places = pc.index_in(keys, value_set=table[key].combine_chunks())
    return {name: table[name].take(places) for name in names if name in table.column_names} | {
        key: keys
    }


def without_forgotten(table: Any, tombstones: CorpusTombstones) -> Any:
    """Return a table without the rows that tombstones name."""
    for name, forgotten in (
        ("clip_id", tombstones.clips),
        ("source_sha256", tombstones.sources),
    ):
        if forgotten:
            known = pa.array(sorted(forgotten), pa.string())
            table = table.filter(pc.invert(pc.is_in(table[name], value_set=known)))
    return table


def _unread(sources: Any) -> Any:
    """Return a row for each source that could not be read."""
    bad = sources.filter(pc.is_valid(sources["error"]))
    columns = {name: bad[name] for name in (*IDENTITY, "error") if name in bad.column_names}
    ids = [clip_id(path, None, None) for path in bad["source_path"].to_pylist()]
    return pa.table({"clip_id": pa.array(ids, pa.string()), **columns})


def read_clips_table(out: Path, columns: list[str] | None = None) -> Any:
    """Read clips.parquet.

    Raises:
        ConfigError: it is not there.
    """
    if not (out / TABLE).exists():
        raise ConfigError(f"{out / TABLE} is not there: run stage=measure first")
    return pq.read_table(out / TABLE, columns=columns)


def table_hash(out: Path) -> str:
    """Return a SHA-256 of what clips.parquet holds besides the decision."""
    digest = hashlib.sha256()
    for file in (out / SOURCES, *sorted((out / STAGES).glob("*.parquet"))):
        if file.stem != SELECT:
            digest.update(f"{file.name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def numbers(column: Any) -> Any:
    """Return a column of numbers as float64, NaN where it is null."""
    values = pc.fill_null(column.cast(pa.float64()), np.nan)
    return values.to_numpy()
