"""Decode every video of a clip list, say which are damaged, and write a list without them.

    python -m videomae.scan list=LIST root=DIR out=DIR

Each video is decoded from its first frame to its last, on all cores, by a decoder that fails where
others conceal damage. A video that crashes the decoder counts as damaged. Written are

    out/scan.parquet      a row of each line: path, line, ok, error, duration_s, num_frames (as
                          decoded), fps, width, height (after rotation), codec, bytes
    out/clean.txt         the list without the damaged lines: train on it with data.train_list=
    out/progress.jsonl    what is done so far; the same command goes on from it, and decodes anew
                          only files that have changed since

    list_format= frame_template= first_frame=    as data.list_format and so on: see data_lists
    workers=N                                    decoding processes; by default one per core
    timeout_s=600                                a video that takes longer counts as damaged
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

from videomae.config import ClipConfig, ConfigError, DataConfig, ScanConfig
from videomae.data.checks import check_videos
from videomae.lists.clips import Clip, read_clips, write_without
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.console import Facts, log_to_console
from videomae.run.cores import available_cores
from videomae.run.files import replacing
from videomae.video.inspecting import Job, inspect_resumably
from videomae.video.inspection import Inspection

logger = logging.getLogger("videomae.scan")

PROGRESS, TABLE, CLEAN = "progress.jsonl", "scan.parquet", "clean.txt"
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
LARGE = 320
"""Pixels of the short side that are more than training needs."""


@log_to_console()
def scan(config: ScanConfig) -> None:
    """Scan config.list."""
    require(config, "list", "root", "out")
    source, out = Path(str(config.list)), Path(str(config.out))
    check_place("out", out)
    if os.path.realpath(out / CLEAN) == os.path.realpath(source):
        raise ConfigError(f"list={source} is what out={out} would be filled with: choose another")
    there = [name for name in (CLEAN, TABLE) if os.path.lexists(out / name)]
    if there and not os.path.exists(out / PROGRESS):
        raise ConfigError(
            f"out={out} holds {' and '.join(there)}, and no {PROGRESS} of a scan: choose another "
            "out, or move them away"
        )
    data = DataConfig(
        clip=ClipConfig(frames=1, stride=1, size=1),  # has no say here
        root=config.root,
        list_format=config.list_format,
        frame_template=config.frame_template,
        first_frame=config.first_frame,
    )
    clips = read_clips(source, data, labelled=False, key="list")
    check_videos(clips, data, "list")
    jobs = {clip.line: _job(clip, data) for clip in clips}
    workers = config.workers or available_cores()
    done = inspect_resumably(
        jobs.values(),
        out / PROGRESS,
        workers,
        config.timeout_s,
        max_bytes=config.max_clip_bytes,
    )
    results = [(clip, done[jobs[clip.line]]) for clip in clips]
    _write_table(out / TABLE, results)
    damaged = {clip.line for clip, found in results if not found.ok}
    note = f"{len(damaged)} of {len(results)} videos left out: see {TABLE}" if damaged else None
    write_without(out / CLEAN, source, damaged, note)
    _report(results, out)


def _job(clip: Clip, data: DataConfig) -> Job:
    path = Path(str(data.root)).absolute() / clip.path
    if clip.total is None:
        return Job(path)
    assert data.frame_template is not None  # read_clips has checked it
    assert clip.start is not None
    return Job(path, (data.frame_template, clip.start, clip.total))


def _write_table(file: Path, results: Sequence[tuple[Clip, Inspection]]) -> None:
    columns: dict[str, list[object]] = {
        "path": [clip.path for clip, _ in results],
        "line": [clip.line for clip, _ in results],
    }
    for each in fields(Inspection):
        columns[each.name] = [getattr(found, each.name) for _, found in results]
    with replacing(file) as temporary:
        pq.write_table(pa.table(columns, schema=SCHEMA), temporary)


def _report(results: Sequence[tuple[Clip, Inspection]], out: Path) -> None:
    """Print how many are damaged and why, how long they are, and how large."""
    good = [(clip, found) for clip, found in results if found.ok]
    reasons = Counter(str(found.error).partition(" (")[0] for _, found in results if not found.ok)
    rows = [
        ("videos", f"{len(results):,}", ""),
        ("undamaged", f"{len(good):,}", str(out / CLEAN)),
        *((f"  {reason}", f"{count:,}", "") for reason, count in reasons.most_common()),
    ]
    if good:
        by_length = sorted(good, key=lambda each: each[1].num_frames)
        for name, (clip, found) in (("shortest", by_length[0]), ("longest", by_length[-1])):
            rows.append((name, f"{found.num_frames:,} frames", clip.path))
        middle = statistics.median(found.num_frames for _, found in good)
        rows.append(("median", f"{middle:,.0f} frames", ""))
    logger.info(Facts(f"{out / TABLE}", rows))
    large = sum(min(found.width or 0, found.height or 0) > LARGE for _, found in good)
    if large > len(good) / 2:
        logger.info(
            f"{large:,} videos have a short side of more than {LARGE} px: shrinking them once to "
            f"{LARGE} px makes every epoch decode faster"
        )


main = command("scan")(scan)

if __name__ == "__main__":
    main()
