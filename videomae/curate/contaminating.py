"""Stage contamination: which clips show a video of a test list, by picture, file or id.

Written are the column contaminates, out/tests/pairs.parquet with a row for each pair of a clip and
a test video, out/contamination.json with counts and the recall on edited copies of the test videos,
and out/contamination.html, a page with the pairs side by side.
"""

import json
import logging
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.config import CurateConfig
from videomae.curate.contamination import CONTAMINATION as THRESHOLDS
from videomae.curate.contamination import Contaminated, contamination, same_ids
from videomae.curate.contamination_page import PAGE, write_page
from videomae.curate.held_out import TESTS, VIDEOS, HeldOut, held_out_videos, read_videos
from videomae.curate.recall import COPIES, measured_recall, told
from videomae.curate.shards import Shards
from videomae.curate.spool import Spool
from videomae.curate.table import (
    RELATIONS,
    read_clips_table,
    stage_file,
    write_stage,
    write_table,
)
from videomae.run.console import Facts
from videomae.run.files import read_json, remove_temporaries, write_text

logger = logging.getLogger(__name__)

STAGE = "contamination"
PAIRS = "pairs.parquet"
SUMMARY = "contamination.json"
SCHEMA = pa.schema(
    {
        "clip_id": pa.string(),
        "test": pa.string(),
        "test_sha256": pa.string(),
        "test_piece": pa.string(),
        "reason": pa.string(),
        "distance": pa.int64(),
        "agreement": pa.float64(),
        "offset_s": pa.float64(),
        "speed": pa.float64(),
        "mirrored": pa.bool_(),
    }
)
"""Columns of pairs.parquet. reason is file, picture or id; distance is in bits of 256; agreement is
the cosine of the two motions; the clip's first frame is shown at offset_s of the test video."""
READ = ["clip_id", "source_path", "source_sha256", "video_id", "start_s", "end_s", "start_frame"]
STRENGTH = {"file": 2, "picture": 1, "id": 0}
"""How sure a reason is: of several reasons for a pair the surest is kept."""


def find_contamination(config: CurateConfig, out: Path) -> None:
    """Compare all clips with the videos of the test lists, and write what is found.

    Raises:
        ConfigError, ClipListError: nothing is measured yet, or no test video can be read.
    """
    clips = read_clips_table(out, READ)
    videos = held_out_videos(config, out)
    ids = set(clips["clip_id"].to_pylist())
    with (
        Spool(Shards(out), ids, out) as prints,
        Spool(Shards(out / TESTS), videos.pieces.keys(), out) as pieces,
    ):
        pictures = contamination(prints, pieces)
        compared = set(prints)
        recall = measured_recall(config, out, videos, pieces)
    pairs = _best([*_by_picture(pictures, videos), *_by_file_or_id(clips, videos)])
    write_table(out / TESTS / PAIRS, pairs)
    write_stage(out, STAGE, _column(pairs, compared))
    summary = _summary(pairs, videos, len(compared)) | {"recall": recall}
    write_text(out / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_page(out, pairs, summary)
    _print_summary(out, clips.num_rows, summary)


def _by_picture(found: Iterable[Contaminated], videos: HeldOut) -> Iterable[dict[str, Any]]:
    names = videos.names()
    for each in found:
        piece, how = videos.pieces[each.test], each.alignment
        for name in names[piece.source_sha256]:
            yield {
                "clip_id": each.clip,
                "test": name,
                "test_sha256": piece.source_sha256,
                "test_piece": each.test,
                "reason": each.reason,
                "distance": each.distance,
                "agreement": None if how is None else round(how.agreement, 4),
                "offset_s": None if how is None else round(piece.start_s + how.offset_s, 3),
                "speed": None if how is None else round(how.speed, 4),
                "mirrored": each.mirrored,
            }


def _by_file_or_id(clips: Any, videos: HeldOut) -> Iterable[dict[str, Any]]:
    """Yield the clips whose file is that of a test video, and those that one is named after."""
    rows = {row["clip_id"]: row for row in clips.to_pylist()}
    names = videos.names()
    first = {each.source_sha256: piece for piece, each in sorted(videos.pieces.items())}
    for clip, row in rows.items():
        source = row["source_sha256"]
        for name in names.get(source, ()):
            yield dict.fromkeys(SCHEMA.names) | {
                "clip_id": clip,
                "test": name,
                "test_sha256": source,
                "test_piece": first.get(source),
                "reason": "file",
                "distance": 0,
                "offset_s": row["start_s"],
                "speed": 1.0,
                "mirrored": False,
            }
    ids = {clip: row["video_id"] for clip, row in rows.items() if row["video_id"]}
    for each in same_ids(ids, videos.files):
        source = videos.sha256.get(each.test)
        yield dict.fromkeys(SCHEMA.names) | {
            "clip_id": each.clip,
            "test": each.test,
            "test_sha256": source,
            "test_piece": first.get(source or ""),
            "reason": "id",
        }


def _best(rows: Iterable[dict[str, Any]]) -> Any:
    """Return a table with the surest finding of each clip and test video."""

    def sureness(row: dict[str, Any]) -> tuple[int, float]:
        agreement = row["agreement"]
        return STRENGTH[row["reason"]], -1.0 if agreement is None else agreement

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        pair = row["clip_id"], row["test"]
        if pair not in found or sureness(row) > sureness(found[pair]):
            found[pair] = row
    return pa.Table.from_pylist([found[pair] for pair in sorted(found)], schema=SCHEMA)


def _column(pairs: Any, compared: Set[str]) -> Any:
    """Return the column contaminates of the clips that were compared, or named, or equal."""
    tests: dict[str, list[str]] = {clip: [] for clip in compared}
    names = zip(pairs["clip_id"].to_pylist(), pairs["test"].to_pylist(), strict=True)
    for clip, test in names:
        tests.setdefault(clip, []).append(test)
    ordered = sorted(tests)
    lists = pa.array([tests[clip] for clip in ordered], RELATIONS["contaminates"])
    return pa.table({"clip_id": pa.array(ordered, pa.string()), "contaminates": lists})


def _summary(pairs: Any, videos: HeldOut, compared: int) -> dict[str, Any]:
    reasons = pairs["reason"].to_pylist()
    return {
        "test_videos": len(videos.files),
        "test_videos_with_a_problem": len(videos.errors),
        "clips_compared": compared,
        "clips_that_show_a_test_video": len(set(pairs["clip_id"].to_pylist())),
        "test_videos_shown": len(set(pairs["test"].to_pylist())),
        "pairs": {reason: reasons.count(reason) for reason in STRENGTH},
        "most_distance": THRESHOLDS.most_distance,
        "least_overlap": THRESHOLDS.least_overlap,
    }


def _print_summary(out: Path, num_clips: int, summary: dict[str, Any]) -> None:
    pairs = summary["pairs"]
    rows = [
        ("test videos", f"{summary['test_videos']:,}", ""),
        (
            "  not compared, or in part",
            f"{summary['test_videos_with_a_problem']:,}",
            f"named in {TESTS}/{VIDEOS}",
        ),
        ("clips compared", f"{summary['clips_compared']:,}", f"of {num_clips:,}"),
        (
            "clips that show a test video",
            f"{summary['clips_that_show_a_test_video']:,}",
            ", ".join(f"{count:,} by {reason}" for reason, count in pairs.items()),
        ),
        ("test videos shown", f"{summary['test_videos_shown']:,}", ""),
        *told(summary["recall"]),
    ]
    logger.info(Facts(f"{out / PAGE}: contamination", rows))


def forget_contamination(out: Path, sources: Set[str], paths: Set[str], gone: Set[str]) -> None:
    """Remove clips, and test videos, from what the stage has written.

    Args:
        sources: SHA-256 of the forgotten files, which may be those of test videos.
        paths: paths of the forgotten files, and names of the forgotten test videos.
        gone: ids of all forgotten clips.
    """
    videos = read_videos(out)
    if videos is None:
        return
    folder = out / TESTS
    Shards(folder).forget(sources, gone)
    remove_temporaries(folder / COPIES, ["*.arrow"])
    for source in sources:
        for file in (folder / COPIES).glob(f"{source}-*.arrow"):
            file.unlink()
    gone_videos = pc.or_(_is_in(videos["source_sha256"], sources), _is_in(videos["name"], paths))
    write_table(folder / VIDEOS, videos.filter(pc.invert(gone_videos)))
    if not (folder / PAIRS).exists():
        return
    pairs = pq.read_table(folder / PAIRS)
    lost = pc.or_(_is_in(pairs["clip_id"], gone), _is_in(pairs["test"], paths))
    pairs = pairs.filter(pc.invert(lost))
    write_table(folder / PAIRS, pairs)
    if stage_file(out, STAGE).exists():
        clips = pq.read_table(stage_file(out, STAGE), columns=["clip_id"])["clip_id"].to_pylist()
        write_table(stage_file(out, STAGE), _column(pairs, {*clips} - gone))
    if (out / SUMMARY).exists():
        write_page(out, pairs, read_json(out / SUMMARY))


def _is_in(column: Any, values: Set[str]) -> Any:
    found = pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))
    return pc.fill_null(found, False)
