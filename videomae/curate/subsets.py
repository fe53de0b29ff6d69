"""Stage subset: nested clip lists of the kept clips, by size: random, by quality, balanced.

The clips are put into one order, and a list of n clips is its first n: each list holds the smaller
ones. Clips of the same rank are ordered by a hash of the seed and their id, so that an order does
not depend on which other clips there are.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import ConfigError, CurateConfig, ListLabels, Order
from videomae.curate.rules import judged_table, numeric
from videomae.curate.table import read_clips_table, table_hash, write_table
from videomae.run.files import read_json, sha256, write_text

logger = logging.getLogger(__name__)

LISTS = "lists"
RECORD = "lists.json"
CLASSES = "classes.txt"
NO_VALUE = ""
"""Value of a clip that has none in the column of by=balanced."""
Places = NDArray[np.int64]


def write_lists(config: CurateConfig, out: Path) -> None:
    """Write the lists of config.sizes in each order of config.by.

    Raises:
        ConfigError: no clip is kept, fewer are than a size asks for, or a column is not there.
    """
    table = read_clips_table(out)
    kept = table.filter(pc.fill_null(table["keep"], False))
    undecided = pc.sum(pc.is_null(table["keep"])).as_py() or 0
    if not kept.num_rows:
        raise ConfigError(
            f"no clip of {out} is kept ({undecided:,} are undecided): run stage=select with other "
            f"rules; {out}/rules_used.yaml says what each drops"
        )
    if judged_table(out) != table_hash(out):
        logger.warning("the table has changed since stage=select judged it: run stage=select again")
    sizes = [kept.num_rows if size is None else size for size in config.list_sizes()]
    if (largest := max(sizes)) > kept.num_rows:
        raise ConfigError(
            f"sizes={config.sizes}: {kept.num_rows:,} clips are kept, {largest:,} are asked for; "
            "`all` takes all of them"
        )
    if undecided:
        logger.info(f"left out of the lists: {undecided:,} clips that are undecided")
    labels = _labels(kept, config, out)
    ids = kept["clip_id"].to_pylist()
    random = random_order(ids, config.seed)
    record = read_record(out)
    for order in config.orders():
        places = ORDERS[order](kept, random, config)
        for given, size in zip(config.list_sizes(), sizes, strict=True):
            name = f"{order.value}-{'all' if given is None else given}-seed{config.seed}.parquet"
            chosen = pa.array(places[:size])
            write_table(out / LISTS / name, _list(kept, labels).take(chosen))
            note_list(record, name, out / LISTS / name, size)
            logger.info(f"{out / LISTS / name}: {size:,} clips")
    write_text(out / LISTS / RECORD, json.dumps(record, indent=2) + "\n")


def read_record(out: Path) -> dict[str, Any]:
    """Return the record of the lists: clips and hashes of each, by its name."""
    file = out / LISTS / RECORD
    found: dict[str, Any] = read_json(file) if file.exists() else {}
    return found


def note_list(record: dict[str, Any], name: str, file: Path, size: int) -> None:
    """Note a list in the record; hashes of earlier lists of that name are kept."""
    hashes = record.get(name, {}).get("sha256", [])
    new = sha256(file)
    record[name] = {"clips": size, "sha256": [*(each for each in hashes if each != new), new]}


def _list(kept: Any, labels: Any) -> Any:
    columns = {
        "path": kept["source_path"],
        "start_frame": kept["start_frame"],
        "end_frame": kept["end_frame"],
    }
    if labels is not None:
        columns["label"] = labels
    return pa.table(
        columns | {"source_sha256": kept["source_sha256"], "clip_id": kept["clip_id"]}
    ).combine_chunks()


def _labels(kept: Any, config: CurateConfig, out: Path) -> Any:
    """Return the class of each clip, and write the names of the classes; None without labels.

    Raises:
        ConfigError: a clip has no hashtag.
    """
    if config.labels is ListLabels.none:
        return None
    names, places = _values(kept, "hashtags")
    if NO_VALUE in names:
        without = int((places == names.index(NO_VALUE)).sum())
        raise ConfigError(
            f"labels=hashtags: {without:,} kept clips have no hashtag: rules.hashtags_min=1 drops "
            "them"
        )
    write_text(out / LISTS / CLASSES, "".join(name + "\n" for name in names))
    return pa.array(places, pa.int64())


def random_order(ids: Sequence[str], seed: int) -> Places:
    """Return the places of the clips in a random order, which their ids and the seed decide."""
    hashes = [hashlib.sha256(f"{seed}:{each}".encode()).digest()[:8] for each in ids]
    return np.argsort(np.frombuffer(b"".join(hashes), ">u8"), kind="stable")


def _by_random(kept: Any, random: Places, config: CurateConfig) -> Places:
    return random


def _by_quality(kept: Any, random: Places, config: CurateConfig) -> Places:
    """Order by the mean rank in the columns of config.quality, the best first.

    Raises:
        ConfigError: a column is not there, or was not measured of a kept clip.
    """
    total = np.zeros(kept.num_rows)
    for given in config.quality:
        name = given.removeprefix("-")
        values = numeric(kept, name)
        if missing := int(np.isnan(values).sum()):
            raise ConfigError(
                f"quality={given}: {missing:,} kept clips have no {name}: leave the column out, or "
                f"give rules.limits.{name}.at_least and rules.unmeasured=drop"
            )
        values = values if given == name else -values
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(count)
        total += (ends - (count - 1) / 2)[place] / len(values)  # equal values share their mean rank
    return random[np.argsort(-total[random], kind="stable")]


def _by_balance(kept: Any, random: Places, config: CurateConfig) -> Places:
    """Order so that every list has as many clips of each value of a column as can be.

    In turn the next clip of each value is taken, in a random order.
    """
    _, values = _values(kept, config.balance)
    ordered = values[random]
    by_value = np.argsort(ordered, kind="stable")
    counts = np.bincount(ordered)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    turn = np.empty(len(ordered), np.int64)
    turn[by_value] = np.arange(len(ordered)) - starts[ordered[by_value]]
    return random[np.argsort(turn, kind="stable")]


ORDERS: dict[Order, Callable[[Any, Places, CurateConfig], Places]] = {
    Order.random: _by_random,
    Order.quality: _by_quality,
    Order.balanced: _by_balance,
}


def _values(kept: Any, column: str) -> tuple[list[str], Places]:
    """Return the distinct values of a column, sorted, and the place of each clip's among them.

    Of several hashtags of a clip, the one that the fewest clips have counts.

    Raises:
        ConfigError: there is no such column.
    """
    if column not in kept.column_names:
        raise ConfigError(f"balance={column}: the columns are {', '.join(kept.column_names)}")
    if not pa.types.is_list(kept.schema.field(column).type):
        texts = pc.fill_null(kept[column].cast(pa.string()), NO_VALUE).to_pylist()
    else:
        some = kept[column].to_pylist()
        flat = pc.value_counts(pc.list_flatten(kept[column].combine_chunks())).to_pylist()
        count = {each["values"]: each["counts"] for each in flat}
        texts = [min(each, key=lambda t: (count[t], t)) if each else NO_VALUE for each in some]
    names = sorted(set(texts))
    place = {name: number for number, name in enumerate(names)}
    return names, np.array([place[text] for text in texts], np.int64)
