"""The test videos of stage contamination: which lists name them, their files, their fingerprints.

What is found lies in out/tests: videos.parquet with a row a video, and the measurements of all,
from which the stage goes on after it was stopped. Each is measured in pieces of ten minutes.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from videomae.config import (
    ClipConfig,
    ConfigError,
    CurateConfig,
    CutsConfig,
    DataConfig,
    ListFormat,
)
from videomae.curate.engine import VideoJob
from videomae.curate.measurement import measure_jobs
from videomae.curate.measuring import Settings
from videomae.curate.metadata import Metadata
from videomae.curate.shards import Shards, key_of
from videomae.curate.sources import Source, hash_all
from videomae.curate.table import write_table
from videomae.curate.tombstones import CorpusTombstones
from videomae.lists.clips import read_clips
from videomae.lists.prepared import FILE_NAME, Prepared, read_prepared
from videomae.lists.published import TEST, VAL
from videomae.lists.walk import printable

logger = logging.getLogger(__name__)

TESTS = "tests"
"""Folder of what is kept of test videos."""
VIDEOS = "videos.parquet"
PIECE_S = 600.0
"""Duration of the pieces in which a test video is measured: what a fingerprint holds at most."""
NAMED = 10
"""Largest number of videos with a problem that are named one by one."""
SCHEMA = pa.schema({"name": pa.string(), "source_sha256": pa.string(), "error": pa.string()})
FOLDER_OF_FRAMES = "a folder of frames, which is not compared"


@dataclass(frozen=True)
class Piece:
    """A part of a test video that has a fingerprint."""

    source_sha256: str
    start_s: float


@dataclass(frozen=True)
class HeldOut:
    """All test videos."""

    files: dict[str, Path]
    """File of each video by its name."""
    sha256: dict[str, str]
    """SHA-256 of the file by name, of those that can be read."""
    errors: dict[str, str]
    """Reason by name of each video that could not be compared, or only in part."""
    pieces: dict[str, Piece]
    """Pieces of the videos by their id in the side files."""

    def names(self) -> dict[str, list[str]]:
        """Return the names of the test videos by the SHA-256 of their files."""
        found: dict[str, list[str]] = {}
        for name, source in self.sha256.items():
            found.setdefault(source, []).append(name)
        return found


def held_out_videos(config: CurateConfig, out: Path) -> HeldOut:
    """Find the test videos, measure those that are not measured yet, and write videos.parquet.

    Raises:
        ConfigError, ClipListError: a list cannot be read, or no video of them.
    """
    listed = _listed(config)
    folder = out / TESTS
    tombstones = CorpusTombstones.read(out)
    sources, problems = _hashed(listed, folder, tombstones)
    hashes = {name: each.sha256 for name, each in sources.items() if each.sha256}
    problems |= {name: each.error for name, each in sources.items() if each.error}
    if not hashes:
        first = [f"{name}: {reason}" for name, reason in list(problems.items())[:3]]
        raise ConfigError(
            f"tests={config.tests}: no test video can be read ({'; '.join(first)}): give "
            "tests_root=FOLDER, which their paths are relative to"
        )
    shards = Shards(folder)
    jobs = _jobs(sources, config)
    measure_jobs(jobs, config.engine, _settings(), shards, tombstones)
    have = shards.in_shards()
    keys = {each.key if each.key in have else each.failure_key for each in jobs}
    rows = shards.read(keys, ["clip_id", "source_sha256", "start_s", "error"]).to_pylist()
    failed = {row["source_sha256"]: row["error"] for row in rows if row["error"]}
    problems |= {name: failed[sha] for name, sha in hashes.items() if sha in failed}
    columns = {
        "name": list(listed),
        "source_sha256": [hashes.get(name) for name in listed],
        "error": [problems.get(name) for name in listed],
    }
    write_table(folder / VIDEOS, pa.table(columns, schema=SCHEMA).sort_by("name"))
    _name_problems(problems, len(listed))
    pieces = {
        row["clip_id"]: Piece(row["source_sha256"], row["start_s"])
        for row in rows
        if row["start_s"] is not None
    }
    return HeldOut(listed, hashes, problems, pieces)


def read_videos(out: Path) -> Any:
    """Return the table of the test videos; None: there is none."""
    file = out / TESTS / VIDEOS
    return pq.read_table(file) if file.exists() else None


def _settings() -> dict[str, object]:
    usual = CutsConfig()
    return Settings(True, usual.threshold, usual.min_frames, PIECE_S).sent()


def _jobs(sources: dict[str, Source], config: CurateConfig) -> list[VideoJob]:
    settings, limits = _settings(), config.engine
    failing = settings | {"timeout_s": limits.timeout_s, "bytes": limits.max_clip_bytes}
    jobs = {}
    for each in sources.values():
        if each.sha256 is not None and each.sha256 not in jobs:
            keys = key_of(each.sha256, settings), key_of(each.sha256, failing)
            jobs[each.sha256] = VideoJob(Path(each.path), each.sha256, *keys)
    return [jobs[source] for source in sorted(jobs)]


def _hashed(
    listed: dict[str, Path], folder: Path, tombstones: CorpusTombstones
) -> tuple[dict[str, Source], dict[str, str]]:
    """Return the files by name that may be read, with their SHA-256, and reasons against others."""
    problems = {name: FOLDER_OF_FRAMES for name, path in listed.items() if path.is_dir()}
    sources = {
        name: Source(str(path), Metadata()) for name, path in listed.items() if name not in problems
    }
    folder.mkdir(parents=True, exist_ok=True)
    hash_all(list(sources.values()), Path("/"), folder)
    forgotten = {name for name, each in sources.items() if tombstones.hold(name, each.sha256)}
    if forgotten:
        logger.info(f"left out: {len(forgotten):,} test videos that tombstones name")
    for name in forgotten:
        del sources[name], listed[name]
    return sources, problems


def _name_problems(problems: dict[str, str], total: int) -> None:
    if not problems:
        return
    logger.warning(
        f"{len(problems):,} of {total:,} test videos could not be compared, or only in part: what "
        "shows them is not found"
    )
    for name, reason in list(problems.items())[:NAMED]:
        logger.warning(f"{printable(name)}: {reason}")


def _listed(config: CurateConfig) -> dict[str, Path]:
    """Return the file of each test video by its name, which is its path in the list."""
    found: dict[str, Path] = {}
    for given in config.test_lists():
        place, prepared = Path(given), None
        if place.is_dir():
            if not (place / FILE_NAME).is_file():
                raise ConfigError(
                    f"tests={given} is a folder without {FILE_NAME}: give a test list, or a "
                    "directory that python -m videomae.prepare wrote"
                )
            prepared = read_prepared(place)
            lists = [place / name for name in _test_lists(prepared)]
            if not lists:
                raise ConfigError(f"tests={given} holds no test list: give another one")
        elif place.is_file():
            folders = (place.parent, place.parent.parent)
            nearest = next((each for each in folders if (each / FILE_NAME).is_file()), None)
            if nearest is not None:
                prepared = read_prepared(nearest)
            lists = [place]
        else:
            raise ConfigError(f"tests={given} is neither a test list nor a prepared directory")
        for file in lists:
            _add(found, file, prepared, config.tests_root)
    return found


def _test_lists(prepared: Prepared) -> list[str]:
    """Return the test lists of all splits; where there are none, the validation lists, on which
    papers then report."""
    for part in (TEST, VAL):
        if names := [each.file for each in prepared.lists if each.part == part]:
            return names
    return []


def _add(found: dict[str, Path], file: Path, prepared: Prepared | None, root: str | None) -> None:
    """Add the videos of a list; of two files with one name the second has its whole path."""
    folder = Path(root or (prepared.root if prepared else file.parent))
    data = DataConfig(
        clip=ClipConfig(frames=1, stride=1, size=1),
        root=str(folder),
        list_format=ListFormat[prepared.list_format] if prepared else ListFormat.auto,
        frame_template=prepared.frame_template if prepared else None,
        first_frame=prepared.first_frame if prepared else 0,
    )
    for clip in read_clips(file, data, labelled=False, key="tests"):
        path = Path(folder, clip.path).absolute()
        name = clip.path if found.get(clip.path, path) == path else str(path)
        found[name] = path
