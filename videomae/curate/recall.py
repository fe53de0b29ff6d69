"""Recall of contamination: how many edited copies of the corpus's own test videos are found.

The copies are made by videomae.curate.edited_copies and matched with all test videos, as clips are.
Their fingerprints stay in out/tests/copies, so that they are made once.
"""

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pyarrow as pa

from videomae.config import CurateConfig
from videomae.curate.contamination import contamination
from videomae.curate.edited_copies import COPIED_S, EDITS, VERSION
from videomae.curate.fingerprint import Fingerprint
from videomae.curate.held_out import NAMED, TESTS, HeldOut
from videomae.curate.measuring import settings_of
from videomae.curate.shards import kind
from videomae.curate.spool import FINGERPRINT, Spool
from videomae.lists.walk import printable
from videomae.run.console import progress_bar
from videomae.run.cores import available_cores
from videomae.run.files import remove_temporaries
from videomae.run.shares import wilson
from videomae.run.worker_pool import run_all

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "videomae.curate.edited_copies")
"""The program that makes the copies of one video after another."""
COPIES = "copies"
"""Folder of the fingerprints of the copies, in that of the test videos."""


def of_copies(found: int, of: int) -> dict[str, Any]:
    """Return how many of some copies were found, their share, and Wilson's interval of 95 %; null
    where there are no copies."""
    numbers: dict[str, Any] = {"found": found, "of": of}
    if not of:
        return numbers | {"recall": None, "low": None, "high": None}
    low, high = wilson(found, of)
    shares = {"recall": found / of, "low": low / 100, "high": high / 100}
    return numbers | {name: round(share, 4) for name, share in shares.items()}


def measured_recall(
    config: CurateConfig, out: Path, videos: HeldOut, pieces: Spool
) -> dict[str, Any] | None:
    """Make edited copies of test videos, look for them, and return the recall by edit.

    Args:
        pieces: fingerprints of all test videos.

    Returns:
        content of contamination.json below "recall"; None if it is switched off, or no test video
        has a fingerprint.
    """
    whole = {videos.pieces[each].source_sha256 for each in pieces}
    whole -= {videos.sha256[name] for name in videos.errors if name in videos.sha256}
    chosen = sorted(whole)[: config.contamination_recall]
    folder = out / TESTS / COPIES
    keep = {source: folder / f"{source}-{_key(source, config)}.arrow" for source in chosen}
    if not chosen:
        return None
    folder.mkdir(exist_ok=True)
    remove_temporaries(folder, ["*.arrow"])
    for file in folder.glob("*.arrow"):
        if file not in keep.values():
            file.unlink()
    _make({source: file for source, file in keep.items() if not file.exists()}, config, videos)
    prints: dict[str, Fingerprint] = {}
    copies: set[tuple[str, str]] = set()
    for source, file in keep.items():
        for number, (edit, content) in enumerate(_read(file)):
            copies.add((source, edit))
            if content is not None:
                prints[f"{source} {number} {edit}"] = Fingerprint.from_bytes(content)
    found = _found(prints, videos, pieces)
    shares = {
        edit: of_copies(sum(each in found for each in copies if each[1] == edit), made)
        for edit, made in Counter(edit for _, edit in copies).items()
    }
    every = of_copies(len(found & copies), len(copies))
    return {
        "test_videos": len(chosen),
        "seconds_of_each": COPIED_S,
        "edits": {edit: shares.get(edit, of_copies(0, 0)) for edit in EDITS},
        "all": every,
    }


def _found(prints: dict[str, Fingerprint], videos: HeldOut, pieces: Spool) -> Set[tuple[str, str]]:
    """Return the test videos and edits whose copies are found to show the video."""
    found = set()
    for pair in contamination(prints, pieces):
        source, _, edit = pair.clip.split(" ", 2)
        if videos.pieces[pair.test].source_sha256 == source:
            found.add((source, edit))
    return found


def _key(source: str, config: CurateConfig) -> str:
    said = json.dumps([source, VERSION, kind(), settings_of(config)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _make(missing: dict[str, Path], config: CurateConfig, videos: HeldOut) -> None:
    """Make the copies of test videos, by SHA-256 of their files, on all cores."""
    names = {source: each[0] for source, each in videos.names().items()}
    limits, settings = config.engine, settings_of(config)
    requests = [
        (source, [str(videos.files[names[source]]), source, settings, str(file)])
        for source, file in missing.items()
    ]
    workers = min(limits.workers or available_cores(), max(1, len(missing)))
    most = [limits.max_clip_bytes]
    with progress_bar("editing copies of test videos", total=len(missing)) as bar:
        jobs = ((source, request + most) for source, request in requests)
        for source, answer in run_all(PROGRAM, jobs, workers, limits.timeout_s):
            bar.advance()
            if isinstance(answer, str):
                logger.warning(
                    f"{printable(names[source])}: no edited copies of it were made ({answer})"
                )


def _read(file: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield the edit and the fingerprint of each clip of a video's copies."""
    if not file.exists():
        return
    with pa.OSFile(str(file), "rb") as source:
        table = pa.ipc.open_file(source).read_all()
    yield from zip(table["edit"].to_pylist(), table[FINGERPRINT].to_pylist(), strict=True)


def told(recall: dict[str, Any] | None) -> Sequence[tuple[str, str, str]]:
    """Return the rows about the recall for the summary of the stage."""
    if recall is None:
        return [("recall", "-", "contamination_recall=20 measures it on edited copies")]
    every = recall["all"]
    missed = [
        f"{edit} {each['found']}/{each['of']}"
        for edit, each in recall["edits"].items()
        if each["found"] < each["of"]
    ]
    interval = "" if every["low"] is None else f"{every['low']:.2f} to {every['high']:.2f}; "
    less = f"fewer of {', '.join(missed[:NAMED])}" if missed else "of every edit all"
    return [("edited copies found", f"{every['found']:,} of {every['of']:,}", interval + less)]
