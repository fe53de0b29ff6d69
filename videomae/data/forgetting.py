"""Lines of a list that tombstones name: by path, by columns of Parquet, or by a pack's index."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import DataConfig
from videomae.lists.clips import ClipList
from videomae.lists.parquet import is_parquet, text_columns
from videomae.lists.tombstones import IDENTITIES, PATH, Tombstones, read_tombstones
from videomae.video.opening import pack_of
from videomae.video.packs import Pack, key_of

logger = logging.getLogger(__name__)


def with_tombstones(clips: ClipList, path: Path, data: DataConfig, key: str) -> ClipList:
    """Return the clips of a list, with those marked as forgotten that data.tombstones names.

    Args:
        path: the list.
        data: gives the tombstones, and the root.
        key: the setting that named the list.

    Raises:
        TombstoneError: the tombstones cannot be read.
        ClipListError: the list cannot be read.
    """
    if data.tombstones is None:
        return clips
    setting = "data.tombstones" if "." in key else "tombstones"
    stones = read_tombstones(Path(data.tombstones), setting)
    forgotten, known = stones.match(PATH, clips.columns.texts()), {PATH}
    wanted = [name for name in IDENTITIES if stones.gives(name)]
    if is_parquet(path) and wanted:
        for name, rows in _rows_named(path, wanted, stones):
            known.add(name)
            forgotten |= rows[clips.columns.number("line") - 1]
    pack = pack_of(data)
    for name in wanted if pack else ():
        if pack and name in pack.columns:
            known.add(name)
            forgotten |= _packed(clips, pack, stones.match(name, pack.columns[name]))
    _tell(stones, known, int(forgotten.sum()), key, setting)
    return clips.forgetting(forgotten) if forgotten.any() else clips


def _rows_named(
    path: Path, names: list[str], stones: Tombstones
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each of these columns that a Parquet list has, and which rows are named by it."""
    parts = [
        {name: stones.match(name, values) for name, values in piece.items()}
        for piece in text_columns(path, names)
    ]
    for name in parts[0] if parts else ():
        yield name, np.concatenate([part[name] for part in parts])


def _packed(clips: ClipList, pack: Pack, named: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which clips are the videos of these rows of a pack's index."""
    found = np.zeros(len(clips), bool)
    keys = {pack.key(row) for row in np.flatnonzero(named).tolist()}
    if not keys:
        return found
    # A folder of frames is known by its path and two numbers.
    paths = {part for source, *_ in keys for part in (source, source.rsplit(" ", 2)[0])}
    texts: Any = clips.columns.texts()
    may_be = pc.is_in(texts, value_set=pa.array(sorted(paths), pa.large_string()))
    for place in np.flatnonzero(may_be.to_numpy(zero_copy_only=False)).tolist():
        found[place] = key_of(clips[place]) in keys
    return found


def _tell(stones: Tombstones, known: set[str], count: int, key: str, setting: str) -> None:
    """Log how many lines are forgotten, and how many tombstones meet none."""
    logger.info(f"{key}: {count:,} lines are forgotten, by {len(stones):,} tombstones")
    left = int((~stones.matched).sum())
    if left == 0:
        return
    blind = ~stones.matched
    for name in known:
        blind &= stones.names[name].is_null().to_numpy(zero_copy_only=False)
    unknown = [name for name in IDENTITIES if name not in known]
    tail = ""
    if blind.any():
        tail = (
            f"; {int(blind.sum()):,} of them name only {' or '.join(unknown)}, which neither the "
            "list nor a pack has: whether their videos are in it cannot be told"
        )
    logger.info(f"WARNING: {left:,} of {setting} match no line of {key}{tail}")
