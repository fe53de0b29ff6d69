"""Lines of a list that tombstones name: by path, by columns of Parquet, or by a pack's index."""

import logging
from collections.abc import Iterator, Mapping
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

NAMED = 3
"""Largest number of tombstones that a warning names."""


def with_tombstones(clips: ClipList, path: Path, data: DataConfig, key: str) -> ClipList:
    """Return the clips of a list, with those marked as forgotten that data.tombstones names.

    Their `stones` are the tombstones, for warn_of_unmatched.

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
    forgotten = stones.match(PATH, clips.columns.texts())
    wanted = [name for name in IDENTITIES if stones.gives(name)]
    if is_parquet(path) and wanted:
        for rows in _rows_named(path, wanted, stones):
            forgotten |= rows[clips.columns.number("line") - 1]
    pack = pack_of(data)
    for name in wanted if pack else ():
        if pack and name in pack.columns:
            forgotten |= _packed(clips, pack, stones.match(name, pack.columns[name]))
    marked = clips.forgetting(forgotten) if forgotten.any() else clips
    marked.stones = (stones,)
    return marked


def warn_of_unmatched(lists: Mapping[str, ClipList]) -> None:
    """Warn of tombstones that name no video of any list that a command uses.

    Args:
        lists: all the lists, by the settings that name them.
    """
    read = [stones for clips in lists.values() for stones in clips.stones]
    found = [stones.unmatched() for stones in read]
    left = [name for name in (found[0] if found else ()) if all(name in each for each in found)]
    if not left:
        return
    blind = sum(all(each[name] for each in found) for name in left)
    unknown = [name for name in IDENTITIES if not any(name in stones.known for stones in read)]
    tail = ""
    if blind:
        tail = (
            f"; {blind:,} of them give only {' or '.join(unknown)}, which no list and no pack has: "
            "whether their videos are there cannot be told"
        )
    keys = " or ".join(key for key, clips in lists.items() if clips.stones)
    more = f" and {len(left) - NAMED:,} more" if len(left) > NAMED else ""
    logger.info(
        f"WARNING: of {len(read[0]):,} tombstones in {read[0].setting}, those that match no line "
        f"of {keys}: {len(left):,} ({', '.join(left[:NAMED])}{more}){tail}"
    )


def _rows_named(path: Path, names: list[str], stones: Tombstones) -> Iterator[NDArray[np.bool_]]:
    """Yield which rows each of these columns names, as far as a Parquet list has them."""
    parts = [
        {name: stones.match(name, values) for name, values in piece.items()}
        for piece in text_columns(path, names)
    ]
    for name in parts[0] if parts else ():
        yield np.concatenate([part[name] for part in parts])


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
