"""The setting forget=: remove videos and clips from everything that curate has written.

Their tombstones stay, so that a later run does not take them up again. Packs and weights are named,
not changed: a pack leaves tombstones out when it is read, weights cannot forget.

The plan of what to remove is written before anything is changed, and goes last: whatever stops the
command, the next one finishes it.
"""

import json
import logging
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.config import ConfigError, CurateConfig
from videomae.curate.contaminating import forget_contamination
from videomae.curate.duplicate_groups import forget_in_groups
from videomae.curate.held_out import TESTS, read_videos
from videomae.curate.model_results import EMBEDDINGS, forget_results
from videomae.curate.page import forget_page, has_page, write_page
from videomae.curate.shards import Shards
from videomae.curate.sources import HASHED, read_sources
from videomae.curate.subsets import LISTS, RECORD, note_list, read_record
from videomae.curate.table import SOURCES, STAGES, TABLE, join, read_clips_table, write_table
from videomae.curate.tombstones import PLAN, CorpusTombstones, Tombstone
from videomae.lists.text_files import NotTextError, text_lines
from videomae.run.console import Facts
from videomae.run.directory import ENVIRONMENT
from videomae.run.files import read_json, whole_json_lines, write_text
from videomae.video.packs import PACK_INDEX, Pack

logger = logging.getLogger(__name__)

COMMENT = "# "


@dataclass(frozen=True)
class Forgotten:
    """Videos and clips that a file of deletions names."""

    sources: Set[str]
    """SHA-256 of the videos of which every clip is forgotten."""
    paths: Set[str]
    """Paths of these videos, copies included, and of those that could not be read."""
    clips: Set[str]
    """Ids of single clips, of videos of which others stay."""
    unknown: Sequence[str]
    """Lines that name nothing that is there."""


@dataclass(frozen=True)
class ForgettingPlan:
    """Everything that a forgetting does, as it follows from the files before the first change."""

    names: Sequence[str]
    """Names in the file of deletions."""
    found: Forgotten
    gone: Set[str]
    """Ids of all clips that are forgotten."""
    stones: Sequence[Tombstone]
    lists: Sequence[str]
    """File names of the lists that hold such clips."""
    hashes: dict[str, str]
    """File name by hash, present or earlier, of these lists."""
    had_page: bool

    def write(self, out: Path) -> None:
        """Write the plan below an output directory."""
        text = json.dumps(asdict(self), default=sorted, ensure_ascii=False)
        write_text(out / PLAN, text + "\n")

    @classmethod
    def read(cls, out: Path) -> "ForgettingPlan | None":
        """Return the plan of a forgetting that was stopped; None: there is none.

        Raises:
            ConfigError: the file is damaged.
        """
        file = out / PLAN
        if not file.exists():
            return None
        try:
            row = read_json(file, file.stat().st_size)
            found = row.pop("found")
            sets = {name: set(found[name]) for name in ("sources", "paths", "clips")}
            stones = [Tombstone(**each) for each in row.pop("stones")]
            found = Forgotten(**sets, unknown=found["unknown"])
            return cls(found=found, gone=set(row.pop("gone")), stones=stones, **row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{file} is no plan of a forgetting ({error}): remove it, and forget again"
            ) from error


def forget(config: CurateConfig, out: Path) -> None:
    """Remove what config.forget names from tables, side files and lists.

    Raises:
        ConfigError: the file cannot be read.
    """
    assert config.forget is not None
    names = _names(Path(config.forget))
    if finish_forgetting(config, out) != names:
        _carry_out(_plan(names, config, out), config, out)


def finish_forgetting(config: CurateConfig, out: Path) -> Sequence[str] | None:
    """Finish a forgetting that was stopped, and return the names it was given; None: there is none.

    Raises:
        ConfigError: its plan is damaged.
    """
    plan = ForgettingPlan.read(out)
    if plan is None:
        return None
    logger.info(f"{out / PLAN}: a forgetting was stopped, and is finished first")
    _carry_out(plan, config, out)
    return plan.names


def _plan(names: Sequence[str], config: CurateConfig, out: Path) -> ForgettingPlan:
    sources = read_sources(out)
    clips = read_clips_table(out) if (out / TABLE).exists() else None
    known = _with_tests(sources, read_videos(out))
    found = find(names, known, clips)
    gone = _clips_of(found, clips)
    lists = _lists_with(out, gone)
    record = read_record(out)
    return ForgettingPlan(
        names=names,
        found=found,
        gone=gone,
        stones=list(_tombstones(found, known, clips, config.reason)),
        lists=lists,
        hashes={sha: name for name in lists for sha in record.get(name, {}).get("sha256", ())},
        had_page=has_page(out),
    )


def _carry_out(plan: ForgettingPlan, config: CurateConfig, out: Path) -> None:
    """Do what a plan says; each step can be done again."""
    found, gone = plan.found, plan.gone
    users = used_by(config.used_by or (), out, plan)
    plan.write(out)
    CorpusTombstones.read(out).write(out, plan.stones)
    forget_page(out, gone)
    write_table(out / SOURCES, _without(read_sources(out), "source_path", found.paths))
    _forget_hashes(out, found)
    Shards(out).forget(found.sources, found.clips)
    forget_in_groups(out, gone)
    forget_results(out, gone, found.sources)
    sides = [file for file in (out / EMBEDDINGS,) if file.exists()]
    for file in [*sorted((out / STAGES).glob("*.parquet")), *sides]:
        write_table(file, _without(pq.read_table(file), "clip_id", gone))
    _forget_in_lists(out, plan)
    forget_contamination(out, found.sources, found.paths, gone)
    if (out / TABLE).exists():
        join(out)
    if plan.had_page:
        try:
            write_page(config, out)
        except ConfigError as error:
            logger.warning(f"{out}/page is removed, and not made anew: {error}")
    (out / PLAN).unlink()
    _print_summary(out, plan)
    for line in users:
        logger.warning(line)


def _print_summary(out: Path, plan: ForgettingPlan) -> None:
    found = plan.found
    rows = [
        ("names given", f"{len(plan.names):,}", ""),
        ("videos forgotten", f"{len(found.sources):,}", f"{len(found.paths):,} files"),
        ("clips forgotten", f"{len(plan.gone):,}", f"{len(found.clips):,} named one by one"),
        ("lists shortened", f"{len(plan.lists):,}", "their hashes have changed"),
        ("names that nothing has", f"{len(found.unknown):,}", ", ".join(found.unknown[:3])),
    ]
    logger.info(Facts(f"{out}: forgotten; the raw files are left alone", rows))


def _with_tests(sources: Any, videos: Any) -> Any:
    """Return the path, SHA-256 and id of the sources and of the test videos."""
    names = ["source_path", "source_sha256", "video_id"]
    if videos is None:
        return sources.select(names)
    tests = videos.select(["name", "source_sha256"]).rename_columns(names[:2])
    return pa.concat_tables([sources.select(names), tests], promote_options="default")


def find(names: Iterable[str], sources: Any, clips: Any) -> Forgotten:
    """Look up names: paths, SHA-256 of files, ids of clips, ids of videos.

    Args:
        sources: path, SHA-256 and id of the sources and of the test videos.
        clips: the table of the clips; None: there is none yet.
    """
    rows = sources.select(["source_path", "source_sha256", "video_id"]).to_pylist()
    known: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        for name in {row["source_path"], row["source_sha256"], row["video_id"]} - {None}:
            known.setdefault(name, []).append(row)
    ids = set(clips["clip_id"].to_pylist()) if clips is not None else set()
    found: list[dict[str, Any]] = []
    single: set[str] = set()
    unknown = []
    for name in names:
        if name in known:
            found += known[name]
        elif name in ids:
            single.add(name)
        else:
            unknown.append(name)
    shas = {row["source_sha256"] for row in found} - {None}
    paths = {row["source_path"] for row in found}
    paths |= {row["source_path"] for row in rows if row["source_sha256"] in shas}
    return Forgotten(shas, paths, single, unknown)


def _names(file: Path) -> list[str]:
    """Return the names in a file of deletions, each once."""
    try:
        lines = [line.strip() for line in text_lines(file)]
    except (OSError, NotTextError) as error:
        raise ConfigError(f"forget={file} cannot be read ({error})") from error
    return list(dict.fromkeys(each for each in lines if each and not each.startswith(COMMENT)))


def _tombstones(found: Forgotten, sources: Any, clips: Any, reason: str) -> Iterable[Tombstone]:
    today = datetime.now(UTC).date().isoformat()
    for row in sources.select(["source_path", "source_sha256"]).to_pylist():
        if row["source_path"] in found.paths:
            yield Tombstone(row["source_path"], row["source_sha256"], None, today, reason)
    if clips is not None and found.clips:
        known = pa.array(sorted(found.clips), pa.string())
        single = clips.filter(pc.is_in(clips["clip_id"], value_set=known))
        for row in single.select(["source_path", "clip_id"]).to_pylist():
            yield Tombstone(None, None, row["clip_id"], today, reason)


def _clips_of(found: Forgotten, clips: Any) -> set[str]:
    """Return the ids of all clips that are forgotten."""
    if clips is None:
        return set(found.clips)
    known = pa.array(sorted(found.sources), pa.string())
    paths = pa.array(sorted(found.paths), pa.string())
    gone = pc.or_(
        pc.is_in(clips["source_sha256"], value_set=known),
        pc.is_in(clips["source_path"], value_set=paths),
    )
    return {*found.clips, *clips.filter(gone)["clip_id"].to_pylist()}


def _without(table: Any, column: str, values: Set[str]) -> Any:
    gone = pc.is_in(table[column], value_set=pa.array(sorted(values), pa.string()))
    return table.filter(pc.invert(gone))


def _forget_hashes(out: Path, found: Forgotten) -> None:
    """Remove the files from each hashed.jsonl."""
    for file in (out / HASHED, out / TESTS / HASHED):
        if file.exists():
            lines = whole_json_lines(file)
            rows = [row for row in lines if row.get("sha256") not in found.sources]
            write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def _lists_with(out: Path, gone: Set[str]) -> list[str]:
    """Return the file names of the lists that hold some of the clips."""
    files = sorted((out / LISTS).glob("*.parquet"))
    ids = {file.name: pq.read_table(file, columns=["clip_id"])["clip_id"] for file in files}
    return [name for name, held in ids.items() if not gone.isdisjoint(held.to_pylist())]


def _forget_in_lists(out: Path, plan: ForgettingPlan) -> None:
    """Remove the clips from all lists, and note the new hashes beside the earlier ones."""
    record = read_record(out)
    for name in plan.lists:
        file = out / LISTS / name
        left = _without(pq.read_table(file), "clip_id", plan.gone)
        write_table(file, left)
        note_list(record, name, file, left.num_rows)
    if plan.lists:
        write_text(out / LISTS / RECORD, json.dumps(record, indent=2) + "\n")


def used_by(places: Iterable[str], out: Path, plan: ForgettingPlan) -> list[str]:
    """Return a line for each pack that holds what is forgotten, and each run that trained on it.

    A run is recognised by the hashes of its lists in environment.json.

    Args:
        places: directories of packs and of runs, or weights files in the latter.
    """
    lines = []
    for given in map(Path, places):
        place = given.parent if given.is_file() else given
        if (place / PACK_INDEX).exists():
            if count := _in_pack(place, plan.found, plan.gone):
                lines.append(
                    f"{place}: the pack holds {count:,} forgotten clips: give it "
                    f"data.tombstones={out}/tombstones.jsonl, or pack again"
                )
        elif (place / ENVIRONMENT).exists():
            trained = _hashes_in(read_json(place / ENVIRONMENT)) & plan.hashes.keys()
            if trained:
                names = ", ".join(sorted({plan.hashes[each] for each in trained}))
                lines.append(f"{place}: its weights were trained on forgotten clips ({names})")
        else:
            lines.append(f"{place} is neither a pack nor a run directory: it was not looked at")
    return lines


def _hashes_in(environment: Any) -> set[str]:
    """Return the hashes of an environment.json and of those it replaced."""
    if not isinstance(environment, dict):
        return set()
    found = {each for each in (environment.get("sha256") or {}).values() if isinstance(each, str)}
    for earlier in environment.get("before") or []:
        found |= _hashes_in(earlier)
    return found


def _in_pack(root: Path, found: Forgotten, gone: Set[str]) -> int:
    """Return how many clips of a pack are forgotten."""
    columns = Pack(root).columns
    forgotten = np.array([_is_of(each.as_py(), found.paths) for each in columns["source"]], bool)
    for name, held in (("source_sha256", found.sources), ("clip_id", gone)):
        if name in columns:
            known = pa.array(sorted(held), pa.string())
            forgotten |= pc.is_in(columns[name], value_set=known).to_numpy(zero_copy_only=False)
    return int(forgotten.sum())


def _is_of(source: str, paths: Set[str]) -> bool:
    """Return whether a pack's name of a clip is one of the paths, maybe with a range behind it."""
    names = (source, source.rpartition(" ")[0], source.rsplit(" ", 2)[0])
    return any(name in paths for name in names)
