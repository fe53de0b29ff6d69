"""The setting forget=: remove videos and clips from everything that curate has written.

Their tombstones stay, so that a later run does not take them up again. Packs and weights are named,
not changed: a pack leaves tombstones out when it is read, weights cannot forget.
"""

import json
import logging
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
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
from videomae.curate.page import forget_page, write_page
from videomae.curate.shards import Shards
from videomae.curate.sources import HASHED, read_sources
from videomae.curate.subsets import LISTS, RECORD, note_list, read_record
from videomae.curate.table import SOURCES, STAGES, TABLE, join, read_clips_table, write_table
from videomae.curate.tombstones import CorpusTombstones, Tombstone
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


def forget(config: CurateConfig, out: Path) -> None:
    """Remove what config.forget names from tables, side files and lists.

    Raises:
        ConfigError: the file cannot be read.
    """
    assert config.forget is not None
    names = _names(Path(config.forget))
    sources = read_sources(out)
    clips = read_clips_table(out) if (out / TABLE).exists() else None
    known = _with_tests(sources, read_videos(out))
    found = find(names, known, clips)
    stones = list(_tombstones(found, known, clips, config.reason))
    CorpusTombstones.read(out).write(out, stones)  # first: what follows can be done again
    gone = _clips_of(found, clips)
    had_page = forget_page(out, gone)
    write_table(out / SOURCES, _without(sources, "source_path", found.paths))
    _forget_hashes(out, found)
    Shards(out).forget(found.sources, found.clips)
    forget_in_groups(out, gone)
    forget_results(out, gone, found.sources)
    sides = [file for file in (out / EMBEDDINGS,) if file.exists()]
    for file in [*sorted((out / STAGES).glob("*.parquet")), *sides]:
        write_table(file, _without(pq.read_table(file), "clip_id", gone))
    users = used_by(config.used_by or (), out, found, gone)
    lists = _forget_in_lists(out, gone)
    forget_contamination(out, found.sources, found.paths, gone)
    if clips is not None:
        join(out)
    rows = [
        ("names given", f"{len(names):,}", str(config.forget)),
        ("videos forgotten", f"{len(found.sources):,}", f"{len(found.paths):,} files"),
        ("clips forgotten", f"{len(gone):,}", f"{len(found.clips):,} named one by one"),
        ("lists shortened", f"{lists:,}", "their hashes have changed"),
        ("names that nothing has", f"{len(found.unknown):,}", ", ".join(found.unknown[:3])),
    ]
    logger.info(Facts(f"{out}: forgotten; the raw files are left alone", rows))
    for line in users:
        logger.warning(line)
    if had_page:
        try:
            write_page(config, out)
        except ConfigError as error:
            logger.warning(f"{out}/page is removed, and not made anew: {error}")


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


def _forget_in_lists(out: Path, gone: Set[str]) -> int:
    """Remove the clips from all lists; return the number of lists that held one."""
    record, changed = read_record(out), 0
    for file in sorted((out / LISTS).glob("*.parquet")):
        table = pq.read_table(file)
        left = _without(table, "clip_id", gone)
        if left.num_rows < table.num_rows:
            write_table(file, left)
            note_list(record, file.name, file, left.num_rows)
            changed += 1
    if changed:
        write_text(out / LISTS / RECORD, json.dumps(record, indent=2) + "\n")
    return changed


def used_by(places: Iterable[str], out: Path, found: Forgotten, gone: Set[str]) -> list[str]:
    """Return a line for each pack that holds what is forgotten, and each run that trained on it.

    A run is recognised by the hashes of its lists in environment.json. It is called before the
    lists are shortened.

    Args:
        places: directories of packs and of runs, or weights files in the latter.
    """
    hashes = _hashes_of_lists_with(out, gone)
    lines = []
    for given in map(Path, places):
        place = given.parent if given.is_file() else given
        if (place / PACK_INDEX).exists():
            if count := _in_pack(place, found, gone):
                lines.append(
                    f"{place}: the pack holds {count:,} forgotten clips: give it "
                    f"data.tombstones={out}/tombstones.jsonl, or pack again"
                )
        elif (place / ENVIRONMENT).exists():
            trained = _hashes_in(read_json(place / ENVIRONMENT)) & hashes.keys()
            if trained:
                names = ", ".join(sorted({hashes[each] for each in trained}))
                lines.append(f"{place}: its weights were trained on forgotten clips ({names})")
        else:
            lines.append(f"{place} is neither a pack nor a run directory: it was not looked at")
    return lines


def _hashes_of_lists_with(out: Path, gone: Set[str]) -> dict[str, str]:
    """Return the hashes, present and earlier ones, of the lists that hold forgotten clips."""
    found: dict[str, str] = {}
    for name, entry in read_record(out).items():
        file = out / LISTS / name
        if file.exists():
            ids = pq.read_table(file, columns=["clip_id"])["clip_id"].to_pylist()
            if not gone.isdisjoint(ids):
                found |= dict.fromkeys(entry["sha256"], name)
    return found


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
