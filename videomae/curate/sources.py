"""Stage sources: which videos there are, what each holds (SHA-256), and what is known of each.

Written is sources.parquet, a row a file. Files of the same content are measured once: `copy_of`
names the first of them. hashed.jsonl keeps the hashes, so that a file which has not changed is not
read again.
"""

import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from videomae.config import ConfigError, CurateConfig
from videomae.curate.hashtags import read_rules, with_enough_views
from videomae.curate.metadata import MISSING, Metadata, info_file, read_metadata, unique
from videomae.curate.table import SOURCES, TEXTS, write_table
from videomae.curate.tombstones import CorpusTombstones
from videomae.lists.text_files import NotTextError, text_lines
from videomae.lists.walk import ADVICE, FolderContents, printable, told, walk
from videomae.run.console import Facts, progress_bar
from videomae.run.files import (
    append_text,
    read_json,
    regular,
    sha256,
    whole_json_lines,
    write_text,
)

logger = logging.getLogger(__name__)

HASHED = "hashed.jsonl"
SALT = "salt"
ROOT = "root.json"
SCHEMA = pa.schema(
    {
        "source_path": pa.string(),
        "source_sha256": pa.string(),
        "size_bytes": pa.int64(),
        "copy_of": pa.string(),
        "platform": pa.string(),
        "video_id": pa.string(),
        "hashtags": TEXTS,
        "hashtags_given": TEXTS,
        "views": pa.int64(),
        "uploaded": pa.string(),
        "licence": pa.string(),
        "uploader_hash": pa.string(),
        "metadata_problems": TEXTS,
        "error": pa.string(),
    }
)
"""Columns of sources.parquet. hashtags are those that the rules leave, hashtags_given all."""
NAMED = 5
"""Largest number of files with a problem that are named one by one."""


@dataclass
class Source:
    """A video file, and what is known of it."""

    path: str
    """Path relative to the root, with slashes; absolute if it lies elsewhere."""
    metadata: Metadata
    size: int | None = None
    sha256: str | None = None
    error: str | None = None


def find_sources(config: CurateConfig, out: Path) -> None:
    """Write sources.parquet for the videos of config.source."""
    assert config.source is not None
    root, paths = _listed(Path(config.source))
    salt = _salt(config, out)
    rules = read_rules(Path(config.hashtags) if config.hashtags else None)
    sources = [Source(path, read_metadata(info_file(root / path), salt)) for path in paths]
    if config.folder_hashtags:
        _add_folders(sources)
    hash_all(sources, root, out)
    tombstones = CorpusTombstones.read(out)
    kept = [each for each in sources if not tombstones.hold(each.path, each.sha256)]
    if len(kept) < len(sources):
        logger.info(f"left out: {len(sources) - len(kept):,} videos that tombstones name")
    given = [each.metadata.hashtags for each in kept]
    views = [each.metadata.views for each in kept]
    used = [None if some is None else rules.applied(some) for some in given]
    used = with_enough_views(used, views, rules)
    write_table(out / SOURCES, _table(kept, used))
    write_text(out / ROOT, json.dumps({"root": os.path.abspath(root)}) + "\n")
    _print_summary(out, kept, used)


def read_sources(out: Path) -> Any:
    """Read sources.parquet.

    Raises:
        ConfigError: it is not there.
    """
    if not (out / SOURCES).exists():
        raise ConfigError(f"{out / SOURCES} is not there: run stage=sources with source=FOLDER")
    return pq.read_table(out / SOURCES)


def root_of(config: CurateConfig, out: Path) -> Path:
    """Return the folder that the paths of sources.parquet are relative to."""
    if config.source is not None:
        source = Path(config.source)
        return source if source.is_dir() else source.parent
    return Path(read_json(out / ROOT)["root"])


def _listed(source: Path) -> tuple[Path, list[str]]:
    """Return the root of the videos that `source` names, and their paths, sorted.

    Raises:
        ConfigError: there is no video.
    """
    if source.is_dir():
        below = walk(source)
        below.leave_out_images()
        _tell_left_out(below)
        paths = below.videos
    elif source.suffix.lower() in (".txt", ".list", ".lst"):
        try:
            lines = [line.strip() for line in text_lines(source)]
        except (OSError, NotTextError) as error:
            raise ConfigError(f"source={source} cannot be read ({error})") from error
        paths = [line for line in lines if line and not line.startswith("# ")]
    else:
        paths = [source.name]
    if not paths:
        raise ConfigError(f"source={source} holds no video: give the folder of the raw videos")
    return (source if source.is_dir() else source.parent), sorted(set(paths))


def _tell_left_out(below: FolderContents) -> None:
    for line in told(below.left_out):
        logger.info(line)
    for name, reason in below.unusable.items():
        logger.info(f"left out: {name}: {ADVICE[reason]}")


def _salt(config: CurateConfig, out: Path) -> str:
    """Return the salt for names of uploaders; one that is missing is made at random.

    Raises:
        ConfigError: the file of the salt is empty or cannot be read.
    """
    file = Path(config.salt) if config.salt else out / SALT
    if not config.salt and not file.exists():
        write_text(file, secrets.token_hex(32) + "\n")
        file.chmod(0o600)
    try:
        salt = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"salt={file} cannot be read ({error})") from error
    if not salt:
        raise ConfigError(f"salt={file} is empty: write a long random text into it")
    return salt


def _add_folders(sources: Sequence[Source]) -> None:
    """Add the first folder of each path to the hashtags of its video."""
    for source in sources:
        folder, slash, _ = source.path.partition("/")
        if slash and folder:
            source.metadata.hashtags = unique([folder, *(source.metadata.hashtags or [])])


def hash_all(sources: Sequence[Source], root: Path, out: Path) -> None:
    """Fill in size and SHA-256 of all files, or the reason why one cannot be read."""
    known = {}
    for row in whole_json_lines(out / HASHED):
        known[row.get("path"), row.get("size"), row.get("mtime_ns")] = row.get("sha256")
    with progress_bar("hashing", total=len(sources)) as bar:
        for source in sources:
            bar.advance()
            path = root / source.path
            try:
                status = regular(path).stat()
                source.size = status.st_size
                stamp = os.path.abspath(path), status.st_size, status.st_mtime_ns
                found = known.get(stamp)
                if isinstance(found, str):
                    source.sha256 = found
                    continue
                source.sha256 = sha256(path)
            except (OSError, ValueError) as error:  # missing, a pipe, a NUL in its name, ...
                source.error = f"cannot be read ({getattr(error, 'strerror', None) or error})"
                continue
            row = dict(zip(("path", "size", "mtime_ns"), stamp, strict=True))
            append_text(out / HASHED, json.dumps(row | {"sha256": source.sha256}) + "\n")


def _table(sources: Sequence[Source], hashtags: Sequence[list[str] | None]) -> Any:
    first: dict[str, str] = {}
    by_quality = sorted(sources, key=lambda each: (bool(each.metadata.problems), each.path))
    for source in by_quality:  # of equal files, the one whose metadata is whole counts
        if source.sha256:
            first.setdefault(source.sha256, source.path)
    rows = []
    for source, used in zip(sources, hashtags, strict=True):
        known, original = source.metadata, first.get(source.sha256 or "")
        rows.append(
            {
                "source_path": source.path,
                "source_sha256": source.sha256,
                "size_bytes": source.size,
                "copy_of": None if original == source.path else original,
                "platform": known.platform,
                "video_id": known.video_id,
                "hashtags": used,
                "hashtags_given": known.hashtags,
                "views": known.views,
                "uploaded": known.uploaded,
                "licence": known.licence,
                "uploader_hash": known.uploader_hash,
                "metadata_problems": known.problems,
                "error": source.error,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _print_summary(
    out: Path, sources: Sequence[Source], hashtags: Sequence[list[str] | None]
) -> None:
    distinct = {each.sha256 for each in sources if each.sha256}
    copies = sum(each.sha256 is not None for each in sources) - len(distinct)
    unread = [each for each in sources if each.error]
    problems = Counter(name for each in sources for name in each.metadata.problems)
    missing = problems.pop(MISSING, 0)
    tags = Counter(name for some in hashtags for name in some or ())
    licences = Counter(each.metadata.licence or "unknown" for each in sources)
    rows = [
        ("videos", f"{len(sources):,}", ""),
        ("of the same content as another", f"{copies:,}", "measured once"),
        ("that cannot be read", f"{len(unread):,}", ""),
        ("without metadata", f"{missing:,}", "no .info.json beside them"),
        *((f"malformed metadata: {name}", f"{n:,}", "") for name, n in problems.most_common()),
        ("hashtags that count", f"{len(tags):,}", ""),
        *((f"licence: {name}", f"{n:,}", "") for name, n in licences.most_common(NAMED)),
    ]
    logger.info(Facts(f"{out / SOURCES}", rows))
    for each in unread[:NAMED]:
        logger.info(f"{printable(each.path)}: {each.error}")
    named = [each for each in sources if set(each.metadata.problems) - {MISSING}]
    for each in named[:NAMED]:
        logger.info(f"{printable(each.path)}: metadata: {', '.join(each.metadata.problems)}")
