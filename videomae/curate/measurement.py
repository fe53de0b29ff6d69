"""Stage measure: measure every video of sources.parquet once, and make a table of the results."""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from videomae.config import ConfigError, CurateConfig, EngineConfig, EngineName
from videomae.curate.engine import Engine, LocalEngine, Totals, VideoJob
from videomae.curate.measuring import error_row, settings_of
from videomae.curate.shards import VERSION, Shards, key_of
from videomae.curate.sources import read_sources, root_of
from videomae.curate.table import MEASURE, MEASURED, STAGES, write_stage
from videomae.curate.tombstones import CorpusTombstones
from videomae.lists.walk import printable
from videomae.run.console import Facts
from videomae.run.files import write_text

logger = logging.getLogger(__name__)

NAMED = 10
"""Largest number of videos with a problem that are named one by one."""


def measure_sources(config: CurateConfig, out: Path) -> None:
    """Measure the videos of sources.parquet that are not measured yet, and write the table.

    Raises:
        ConfigError: the folder of the videos is not known, or OpenCV is missing.
    """
    sources = read_sources(out)
    root = root_of(config, out)
    if not root.is_dir():
        raise ConfigError(f"the videos lay below {root}, which is not there: give source=FOLDER")
    settings = settings_of(config)
    limits = {"timeout_s": config.engine.timeout_s, "bytes": config.engine.max_clip_bytes}
    wanted = sources.filter(
        pc.and_(pc.is_null(sources["copy_of"]), pc.is_null(sources["error"]))
    ).sort_by("source_sha256")
    jobs = [
        VideoJob(root / path, source, key_of(source, settings), key_of(source, settings | limits))
        for path, source in zip(
            wanted["source_path"].to_pylist(), wanted["source_sha256"].to_pylist(), strict=True
        )
    ]
    shards = Shards(out)
    totals = measure_jobs(jobs, config.engine, settings, shards, CorpusTombstones.read(out))
    said = json.dumps({"measurement": VERSION, **settings}, indent=2)
    write_text(out / STAGES / f"{MEASURE}.json", said + "\n")
    write_stage(out, MEASURE, _table(shards, jobs, totals))
    _print_summary(totals)


def measure_jobs(
    jobs: list[VideoJob],
    engine: EngineConfig,
    settings: dict[str, object],
    shards: Shards,
    tombstones: CorpusTombstones,
) -> Totals:
    """Measure the videos that are not measured yet, and put all into shards.

    What tombstones name is removed, before and after: a task on a node that was cut off may have
    written it since it was forgotten, and of a video that is measured again single clips may be
    forgotten.
    """
    outdated = shards.clean_up()
    if outdated:
        logger.info(
            f"{outdated:,} videos were measured by another version, or without a column of today: "
            "they are measured again"
        )
    forgotten = tombstones.sources, tombstones.clips
    if any(forgotten):
        shards.forget(*forgotten)
    looked_at = set(shards.shards())
    packed = shards.in_shards()
    done = packed | shards.loose()
    todo = [job for job in jobs if not {job.key, job.failure_key} & done]
    if len(todo) < len(jobs):
        logger.info(f"{len(jobs) - len(todo):,} of {len(jobs):,} videos are measured already")
    totals = _engine(engine)(engine, settings, shards).measure(todo, len(jobs) - len(todo))
    shards.compact(shards.loose() - packed)
    if any(forgotten):
        shards.forget(*forgotten, looked_at=looked_at)
    return totals


def _engine(config: EngineConfig) -> type[Engine]:
    """Return the class of the engine that the settings name.

    Raises:
        ConfigError: its package is not installed.
    """
    if config.name is EngineName.local:
        return LocalEngine
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine.name=ray needs Ray: pip install 'videomae[curate,ray]'")
    from videomae.curate.ray_engine import RayEngine

    return RayEngine


def _table(shards: Shards, jobs: list[VideoJob], totals: Totals) -> Any:
    """Return the clips of all videos; a video that has changed since has a row with the error."""
    have = shards.in_shards()
    table = shards.read({job.key if job.key in have else job.failure_key for job in jobs})
    schema = pa.schema(MEASURED)
    changed = [
        error_row(job.source_sha256, totals.changed[job.path])
        for job in jobs
        if job.path in totals.changed
    ]
    return pa.concat_tables([table.cast(schema), pa.Table.from_pylist(changed, schema=schema)])


def _print_summary(totals: Totals) -> None:
    if not totals.videos:
        return
    minutes = totals.video_s / 60
    cost = f"{totals.total_s / minutes:.2f}" if minutes else "-"
    rows = [
        ("videos", f"{totals.videos:,}", totals.note()),
        ("minutes of video", f"{minutes:,.1f}", f"{cost} s of a process for each"),
        ("measured in part or not at all", f"{len(totals.failed):,}", "their rows have an error"),
        ("changed since stage=sources", f"{len(totals.changed):,}", "measured by the next run"),
    ]
    logger.info(Facts("measured now", rows))
    for path, reason in [*totals.changed.items(), *totals.failed.items()][:NAMED]:
        logger.info(f"{printable(str(path))}: {reason}")
