"""Detections that the user has exported: JSON lines, a line for each frame that was looked at.

    {"path": "a/b.mp4", "frame": 12, "boxes": [[10, 20, 60, 200]], "labels": ["person"],
     "scores": [0.9]}

`path` is as in sources.parquet. In place of frame, the number in the video from 0, there may be
time_s, seconds after its first frame. A box is left, top, right, bottom in pixels of the picture as
shown; relative_boxes in place of boxes are shares of its width and height. A frame with empty lists
was looked at, and nothing was found.
"""

import bisect
import logging
import math
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from videomae.config import ConfigError, PersonsConfig
from videomae.curate.detections import FrameDetections
from videomae.curate.table import SOURCES, read_clips_table
from videomae.lists.walk import printable
from videomae.run.files import MOST_LINE, json_object, regular

logger = logging.getLogger(__name__)

MOST_BOXES = 10_000
"""Number of boxes of a frame, at most."""
NAMED = 5
"""Largest number of lines with a problem that are named one by one."""
PLACE = ("clip_id", "source_path", "start_frame", "end_frame", "start_s", "end_s")
SIZE = ("fps", "width_px", "height_px")


class BadLineError(ValueError):
    """An error: a line of exported detections is malformed."""


@dataclass
class ExportedDetections:
    """Detections by clip, as a file of the user has them."""

    clips: dict[str, dict[int, FrameDetections]] = field(default_factory=dict)
    """By clip_id, by the number of a frame in the clip, in order: the boxes whose score counts."""
    labels: Counter[str] = field(default_factory=Counter)
    """How often each label stands in the file, whatever its score."""

    @classmethod
    def read(cls, config: PersonsConfig, out: Path, clips: Set[str]) -> "ExportedDetections":
        """Read what persons.detections says about some clips; the log tells what is of no use.

        Raises:
            ConfigError: the file cannot be read, or says nothing about any clip of the table.
        """
        file, found = Path(str(config.detections)), cls()
        videos = _videos(out)
        problems: dict[str, list[str]] = {}
        lines = frames = 0
        for number, line in _lines(file):
            lines += 1
            try:
                row = _row(line)
                found.labels.update(row["labels"])
                clip = _clip_at(row, videos)
            except BadLineError as error:
                problems.setdefault(str(error), []).append(f"{file}:{number}")
                continue
            frames += 1
            if clip["clip_id"] in clips:
                place, boxes = _boxes(row, clip, config.score)
                found.clips.setdefault(clip["clip_id"], {})[place] = boxes
        for reason, places in problems.items():
            more = f" and {len(places) - NAMED:,} more" if len(places) > NAMED else ""
            logger.warning(f"{reason}: {', '.join(map(printable, places[:NAMED]))}{more}")
        if not frames:
            raise ConfigError(
                f"persons.detections={file} has {lines:,} lines, and none is about a frame of a "
                "clip: paths are as in sources.parquet; docs/curate.md has the form of a line"
            )
        if not found.labels:
            logger.warning(f"{file}: nothing was found in any frame")
            found.labels[config.label] = 0
        found.clips = {clip: dict(sorted(each.items())) for clip, each in found.clips.items()}
        logger.info(f"{file}: {frames:,} frames of {len(found.clips):,} clips")
        return found


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of each line; one that is too long is cut off.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with regular(file).open("rb") as content:
            number = 0
            while line := content.readline(MOST_LINE + 1):
                number += 1
                whole = line
                while len(whole) > MOST_LINE and not whole.endswith(b"\n"):
                    whole = content.readline(MOST_LINE + 1)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise ConfigError(f"persons.detections={file} cannot be read ({error})") from error


def _videos(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the clips of each video by its path, in the order of their frames; a file of the same
    content as another has the clips of that one."""
    table = read_clips_table(out, [*PLACE, *SIZE])
    videos: dict[str, list[dict[str, Any]]] = {}
    for row in table.sort_by("start_frame").to_pylist():
        if row["end_frame"] is not None:
            videos.setdefault(row["source_path"], []).append(row)
    sources = pq.read_table(out / SOURCES, columns=["source_path", "copy_of"])
    for path, original in zip(*(column.to_pylist() for column in sources.columns), strict=True):
        if original in videos:
            videos[path] = videos[original]
    return videos


def _row(line: bytes) -> dict[str, Any]:
    """Return what a line says: path, frame or time_s, boxes or relative_boxes, labels, scores.

    Raises:
        BadLineError: it is malformed.
    """
    row = json_object(line)
    if row is None:
        raise BadLineError("no JSON object")
    if not isinstance(row.get("path"), str):
        raise BadLineError("no path")
    if ("frame" in row) == ("time_s" in row):
        raise BadLineError("neither frame nor time_s, or both")
    number: Any = row.get("frame", row.get("time_s"))
    if not _is_number(number) or number < 0 or ("frame" in row and type(number) is not int):
        raise BadLineError("frame is no whole number, or time_s no number, from 0")
    given = row.get("boxes", row.get("relative_boxes")), row.get("labels"), row.get("scores")
    lists: list[list[Any]] = [each for each in given if isinstance(each, list)]
    if len(lists) < 3 or len({len(each) for each in lists}) > 1 or len(lists[0]) > MOST_BOXES:
        raise BadLineError("boxes, labels and scores are no lists of one length")
    if not all(isinstance(each, str) for each in lists[1]):
        raise BadLineError("a label is no text")
    if not all(_is_number(each) for each in lists[2]):
        raise BadLineError("a score is no number")
    for box in lists[0]:
        whole = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
        if not whole or box[0] > box[2] or box[1] > box[3]:
            raise BadLineError("a box is not left, top, right, bottom")
    return row


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9 and math.isfinite(value)  # type: ignore[arg-type]


def _clip_at(row: dict[str, Any], videos: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the clip that a line is about.

    Raises:
        BadLineError: there is no such video, or no clip at that place.
    """
    clips = videos.get(row["path"])
    if clips is None:
        raise BadLineError("no clip of the table has this path")
    name = "start_frame" if "frame" in row else "start_s"
    value = row.get("frame", row.get("time_s"))
    place = bisect.bisect_right([clip[name] for clip in clips], value) - 1
    end = "end_frame" if "frame" in row else "end_s"
    if place < 0 or value >= clips[place][end]:
        raise BadLineError("no clip of the table has this frame")
    return clips[place]


def _boxes(row: dict[str, Any], clip: dict[str, Any], score: float) -> tuple[int, FrameDetections]:
    """Return the number of a line's frame in its clip, and its boxes with a score that counts."""
    length = clip["end_frame"] - clip["start_frame"]
    if "frame" in row:
        number = row["frame"] - clip["start_frame"]
    else:
        share = (row["time_s"] - clip["start_s"]) / (clip["end_s"] - clip["start_s"])
        number = min(length - 1, int(share * length))
    given = row.get("boxes", row.get("relative_boxes"))
    boxes = np.array(given, np.float64).reshape(-1, 4)
    if "boxes" in row:
        boxes = boxes / ([clip["width_px"], clip["height_px"]] * 2)
    counts = np.array(row["scores"], np.float64) >= score
    labels = [name for name, each in zip(row["labels"], counts, strict=True) if each]
    return number, FrameDetections(boxes[counts], labels)
