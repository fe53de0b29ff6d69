"""The page of stage contamination: clips and the test videos that they show, side by side."""

import base64
from collections.abc import Set
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from videomae.curate.held_out import TESTS
from videomae.curate.shards import Shards
from videomae.curate.table import TABLE
from videomae.pictures import html
from videomae.run.files import write_text

PAGE = "contamination.html"
SHOWN = 300
"""Largest number of pairs on the page; all are in tests/pairs.parquet."""
SCENES = ["clip_id", "source_path", "start_s", "end_s"]


def write_page(out: Path, pairs: Any, summary: dict[str, Any]) -> None:
    """Write contamination.html.

    Args:
        pairs: the table of pairs.parquet.
        summary: the content of contamination.json.
    """
    shown = pairs.sort_by([("test", "ascending"), ("clip_id", "ascending")]).slice(0, SHOWN)
    rows = shown.to_pylist()
    clips = pq.read_table(out / TABLE, columns=SCENES)
    known = clips.filter(pc.is_in(clips["clip_id"], value_set=shown["clip_id"].combine_chunks()))
    places = {row["clip_id"]: row for row in known.to_pylist()}
    pictures = _thumbnails(out, {row["clip_id"] for row in rows})
    pieces = {row["test_piece"] for row in rows} - {None}
    of_tests = _thumbnails(out / TESTS, pieces)
    entries = [
        {
            **row,
            "place": places.get(row["clip_id"]),
            "picture": pictures.get(row["clip_id"]),
            "test_picture": of_tests.get(row["test_piece"]),
            "certainty": certainty(row),
            "offset": offset(row),
        }
        for row in rows
    ]
    template = html.environment("videomae.curate").get_template(PAGE)
    recall = summary["recall"]
    recalls = [] if recall is None else [*recall["edits"].items(), ("all", recall["all"])]
    text = template.render(
        entries=entries, summary=summary, recalls=recalls, num_pairs=pairs.num_rows
    )
    write_text(out / PAGE, text)


def _thumbnails(out: Path, clips: Set[str]) -> dict[str, str]:
    """Return the thumbnails of some clips in Base64."""
    table = Shards(out).side(clips, ["thumbnail"])
    rows = zip(table["clip_id"].to_pylist(), table["thumbnail"].to_pylist(), strict=True)
    return {clip: base64.b64encode(content).decode() for clip, content in rows}


def certainty(row: dict[str, Any]) -> str:
    """Return in words how sure a pair is."""
    if row["reason"] == "file":
        return "the same file"
    if row["reason"] == "id":
        return "named alike; the pictures were not found alike"
    looks = f"pictures {row['distance']} of 256 bits apart"
    if row["agreement"] is None:
        return f"{looks}; neither moves, so that nothing else tells"
    return f"motion agrees to {row['agreement']:.2f} (1: entirely), {looks}"


def offset(row: dict[str, Any]) -> str:
    """Return in words how a clip lies on the test video in time."""
    said = []
    if row["offset_s"] is not None:
        said.append(f"the clip begins at {row['offset_s']:.1f} s of the test video")
    if row["speed"] not in (None, 1.0):
        said.append(f"while 1 s of it passes, {row['speed']:.2f} s of the test video do")
    return "; ".join([*said, *(["mirrored"] if row["mirrored"] else [])])
