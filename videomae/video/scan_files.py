"""The files of a scan: scan.parquet, clean.txt and progress.jsonl, and the summary of them.

python -m videomae.scan writes them; videomae.video.inspecting decodes the videos.
"""

import logging
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from videomae.config import ConfigError
from videomae.lists.formats import Clip
from videomae.lists.parquet import is_parquet
from videomae.run.console import Facts
from videomae.run.files import replacing
from videomae.video.inspection import Inspection

logger = logging.getLogger(__name__)

PROGRESS, TABLE = "progress.jsonl", "scan.parquet"
CLEAN, CLEAN_PARQUET = "clean.txt", "clean.parquet"
"""Names of the list without the damaged lines, which is of the kind of the list."""
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("line", pa.int64()),
        ("ok", pa.bool_()),
        ("error", pa.string()),
        ("duration_s", pa.float64()),
        ("num_frames", pa.int64()),
        ("fps", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("codec", pa.string()),
        ("bytes", pa.int64()),
    ]
)
"""The columns of scan.parquet."""
RANGES = pa.schema([("start_frame", pa.int64()), ("end_frame", pa.int64())])
"""Further columns of scan.parquet where lines are ranges of videos; null: the line is none."""
LARGE = 320
"""Pixels of the short side that are more than training needs."""


def check_scan_place(out: Path, source: Path) -> None:
    """Check that a scan of the list `source` may write its files to the directory `out`.

    Raises:
        ConfigError: they would replace the list, or files that no scan has written.
    """
    if os.path.realpath(clean_list(out, source)) == os.path.realpath(source):
        raise ConfigError(f"list={source} is what out={out} would be filled with: choose another")
    names = (CLEAN, CLEAN_PARQUET, TABLE)
    there = [name for name in names if os.path.lexists(out / name)]
    if there and not os.path.exists(out / PROGRESS):
        raise ConfigError(
            f"out={out} holds {' and '.join(there)}, and no {PROGRESS} of a scan: choose another "
            "out, or move them away"
        )


def clean_list(out: Path, source: Path) -> Path:
    """Return the path of the list without the damaged lines of the list `source`."""
    return out / (CLEAN_PARQUET if is_parquet(source) else CLEAN)


def write_table(file: Path, results: Sequence[tuple[Clip, Inspection]]) -> None:
    """Write scan.parquet: a row of each line of the list, in its order."""
    columns: dict[str, list[object]] = {
        "path": [clip.path for clip, _ in results],
        "line": [clip.line for clip, _ in results],
    }
    for each in fields(Inspection):
        columns[each.name] = [getattr(found, each.name) for _, found in results]
    schema, spans = SCHEMA, [clip.span or (None, None) for clip, _ in results]
    if any(clip.span for clip, _ in results):
        schema = pa.schema([*SCHEMA, *RANGES])
        columns |= {"start_frame": [a for a, _ in spans], "end_frame": [b for _, b in spans]}
    with replacing(file) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)


def print_summary(out: Path, clean: Path, results: Sequence[tuple[Clip, Inspection]]) -> None:
    """Print how many videos are damaged and why, how long the others are, and how large.

    Args:
        clean: the list without the damaged lines.
    """
    good = [(clip, found) for clip, found in results if found.ok]
    reasons = Counter(str(found.error).partition(" (")[0] for _, found in results if not found.ok)
    rows = [
        ("videos", f"{len(results):,}", ""),
        ("undamaged", f"{len(good):,}", str(clean)),
        *((f"  {reason}", f"{count:,}", "") for reason, count in reasons.most_common()),
    ]
    if good:
        by_length = sorted(good, key=lambda each: each[1].num_frames)
        for name, (clip, found) in (("shortest", by_length[0]), ("longest", by_length[-1])):
            rows.append((name, f"{found.num_frames:,} frames", clip.name))
        middle = statistics.median(found.num_frames for _, found in good)
        rows.append(("median", f"{middle:,.0f} frames", ""))
    logger.info(Facts(f"{out / TABLE}", rows))
    large = sum(min(found.width or 0, found.height or 0) > LARGE for _, found in good)
    if large > len(good) / 2:
        logger.info(
            f"{large:,} videos have a short side of more than {LARGE} px: shrinking them once to "
            f"{LARGE} px makes every epoch decode faster"
        )
