"""Stage duplicates: which clips are copies of each other, and which one of each group is kept.

All clips that have a fingerprint are compared, whatever the rules say of them: rules are applied
again in seconds, and a comparison takes minutes. Stage select keeps of each group the best clip
that no rule drops.
"""

import hashlib
import logging
from collections.abc import Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.curate.duplicates import DUPLICATES as THRESHOLDS
from videomae.curate.duplicates import Rank, Standing, match, standings
from videomae.curate.shards import Shards, kind
from videomae.curate.spool import Spool
from videomae.curate.table import (
    RELATIONS,
    TABLE,
    read_clips_table,
    stage_file,
    write_stage,
    write_table,
)
from videomae.run.console import Facts

logger = logging.getLogger(__name__)

DUPLICATES = "duplicates"
"""Name of the stage."""
VERSION = 1
"""Version of the comparison: what another one compared is compared again."""
STATE = b"state"
"""Key of the file's metadata below which a hash stands of what was compared."""
SCHEMA = pa.schema(
    {"clip_id": pa.string()}
    | {name: RELATIONS[name] for name in ("duplicate_group", "duplicate_of", "duplicate_distance")}
)
RANKED = ["clip_id", "width_px", "height_px", "sharpness"]
"""Columns that decide which clip of a group is kept."""


def find_duplicates(out: Path) -> None:
    """Compare all clips that have a fingerprint, and write the columns of the stage.

    Raises:
        ConfigError: nothing is measured yet.
    """
    clips = read_clips_table(out, RANKED)
    state = _state(clips)
    file = stage_file(out, DUPLICATES)
    if file.exists() and (pq.read_schema(file).metadata or {}).get(STATE) == state:
        logger.info("the clips are those that were compared last, and were not compared again")
        return
    found = compared(out, clips).replace_schema_metadata({STATE: state})
    write_stage(out, DUPLICATES, found)
    copies = found["duplicate_of"]
    groups = len(pc.unique(found["duplicate_group"].filter(pc.is_valid(copies))))
    rows = [
        ("clips compared", f"{found.num_rows:,}", ""),
        ("without a fingerprint", f"{clips.num_rows - found.num_rows:,}", "not compared"),
        ("groups of copies", f"{groups:,}", "each with one clip that is kept"),
        ("copies", f"{found.num_rows - copies.null_count:,}", "dropped by rules.duplicates"),
    ]
    logger.info(Facts("near-duplicates", rows))
    if clips.num_rows and not found.num_rows:
        logger.warning("no clip has a fingerprint, so that none was compared: run stage=measure")


def _state(clips: Any) -> bytes:
    """Return a hash of everything that the comparison depends on."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, clips.schema.remove_metadata()) as writer:
        writer.write_table(clips.replace_schema_metadata(None).combine_chunks())
    rules = f"{VERSION} {kind()} {THRESHOLDS}"
    return hashlib.sha256(rules.encode() + sink.getvalue().to_pybytes()).hexdigest().encode()


def compared(out: Path, clips: Any) -> Any:
    """Return the columns of the stage of those clips that have a fingerprint.

    Args:
        clips: a table with the columns of RANKED.
    """
    ranks = {
        row["clip_id"]: Rank((row["width_px"] or 0) * (row["height_px"] or 0), row["sharpness"])
        for row in clips.select(RANKED).to_pylist()
    }
    with Spool(Shards(out), ranks.keys(), out) as prints:
        found = standings(match(prints), {clip: ranks[clip] for clip in prints})
    return _table(found)


def _table(found: dict[str, Standing]) -> Any:
    columns = {
        "clip_id": list(found),
        "duplicate_group": [each.group for each in found.values()],
        "duplicate_of": [each.of for each in found.values()],
        "duplicate_distance": [each.distance for each in found.values()],
    }
    arrays = [pa.array(columns[each.name], each.type) for each in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def forget_in_groups(out: Path, gone: Set[str]) -> None:
    """Compare again the groups that have lost a clip, whose id their columns hold.

    It is called when the fingerprints of the clips are forgotten.
    """
    file = stage_file(out, DUPLICATES)
    if not file.exists():
        return
    table = pq.read_table(file)
    forgotten = pa.array(sorted(gone), pa.string())
    is_gone = pc.is_in(table["clip_id"], value_set=forgotten)
    groups = table["duplicate_group"].filter(is_gone)
    touched = pc.is_in(table["duplicate_group"], value_set=groups.combine_chunks())
    left = table.filter(pc.invert(touched))
    members = table.filter(pc.and_(touched, pc.invert(is_gone)))["clip_id"].combine_chunks()
    if len(members):
        clips = pq.read_table(out / TABLE, columns=RANKED)
        again = compared(out, clips.filter(pc.is_in(clips["clip_id"], value_set=members)))
        left = pa.concat_tables([left, again])
    write_table(file, left.sort_by("clip_id"))
