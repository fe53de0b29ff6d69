"""Edited copies of a test video, by which stage contamination measures what it finds.

They are made as people make them who upload a video again: cropped, mirrored, with text, between
blurred bars, faster. Each is encoded into a temporary file and measured as any raw video is.

The stage runs this module as a program, so that a decoder that crashes affects one video only. It
reads one JSON array [path, source_sha256, settings, target, max_bytes] a line, writes the
fingerprints of the copies' clips to `target`, and answers with one line, the JSON of Copied.
"""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa

from videomae.curate.measuring import Settings, measure_video, prepare
from videomae.curate.picture import Colours, Shrinker
from videomae.run.files import replacing, sha256
from videomae.run.worker_pool import serve
from videomae.video.inspection import inspect_video

COPIED_S = 10.0
"""Seconds of a test video that are copied, from its beginning."""
APART_S = 0.03
"""Shortest time between two frames of a copy, in seconds."""
COLUMNS = pa.schema({"edit": pa.string(), "fingerprint": pa.binary()})
VERSION = 2
"""Version of the edits: copies of another one are made again."""
Change = Callable[[Colours, float], Any]
"""Changes a picture; the second argument is its time in the video, in seconds."""


@dataclass(frozen=True)
class Copied:
    """Answer of the program to one request."""

    copies: int = 0
    """Number of edited copies that were made."""


@dataclass(frozen=True)
class Edit:
    """A way to change a video."""

    change: Change
    crf: int = 26
    """Quality of x264: larger is worse."""
    speed: float = 1.0
    span: tuple[float, float] = (0.0, 1.0)
    """Part of the video that the copy has."""


class _EnoughFramesError(Exception):
    """Raised to end the decoding of a video when the part of it that is copied has been decoded."""


def edits(seed: str) -> dict[str, Edit]:
    """Return the eleven edits by name, with strengths drawn from a seed."""
    draw = random.Random(seed)
    factor, start = draw.uniform(0.4, 0.7), draw.uniform(0.1, 0.3)
    light, contrast = draw.uniform(0.08, 0.15) * draw.choice((-1, 1)), draw.uniform(0.8, 1.25)
    place = draw.uniform(0.15, 0.9)

    def resized(picture: Colours, _: float) -> Any:
        size = max(2, int(picture.shape[1] * factor)), max(2, int(picture.shape[0] * factor))
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

    def relit(picture: Colours, _: float) -> Any:
        return ((picture - 128.0) * contrast + 128 + 255 * light).clip(0, 255).astype(np.uint8)

    def captioned(picture: Colours, _: float) -> Any:
        return written(picture, "wait for the end", (0.1, place), 0.09)

    def watermarked(picture: Colours, time_s: float) -> Any:
        corner = (0.05, 0.15) if time_s % 6 < 3 else (0.6, 0.9)
        return written(picture, "@user.name", corner, 0.06)

    return {
        "re-encoded": Edit(lambda picture, _: picture, crf=34),
        "scaled": Edit(resized),
        "cropped 10 %": Edit(lambda picture, _: inner(picture, 0.9, 0.9)),
        "9:16": Edit(lambda picture, _: reshaped(picture)),
        "mirrored": Edit(lambda picture, _: picture[:, ::-1]),
        "text overlay": Edit(captioned),
        "blur bars": Edit(lambda picture, _: between_bars(picture)),
        "speed": Edit(lambda picture, _: picture, speed=draw.choice((0.8, 1.25, 1.5))),
        "brightness": Edit(relit),
        "trimmed": Edit(lambda picture, _: picture, span=(start, start + 0.6)),
        "watermark": Edit(watermarked),
    }


EDITS = tuple(edits(""))
"""Names of the edits."""


def inner(picture: Colours, width: float, height: float) -> Colours:
    """Return the middle of a picture that has these fractions of its sides."""
    left, top = (
        round(side * (1 - share) / 2)
        for side, share in zip(picture.shape[1::-1], (width, height), strict=True)
    )
    return picture[top : picture.shape[0] - top, left : picture.shape[1] - left]


def reshaped(picture: Colours) -> Colours:
    """Cut a wide picture to 9:16, and an upright one to 16:9."""
    height, width = picture.shape[:2]
    if width >= height:
        return inner(picture, min(1.0, height * 9 / 16 / width), 1)
    return inner(picture, 1, min(1.0, width * 9 / 16 / height))


def between_bars(picture: Colours) -> Any:
    """Put a wide picture into an upright one, and the reverse, between bars of its own blur."""
    height, width = picture.shape[:2]
    size = (360, 640) if width >= height else (640, 360)
    factor = max(size[0] / width, size[1] / height)
    filled = cv2.resize(picture, (round(width * factor) + 1, round(height * factor) + 1))
    top, left = (filled.shape[0] - size[1]) // 2, (filled.shape[1] - size[0]) // 2
    behind = cv2.blur(filled[top : top + size[1], left : left + size[0]], (41, 41))
    factor = min(size[0] / width, size[1] / height)
    shown = cv2.resize(picture, (max(1, round(width * factor)), max(1, round(height * factor))))
    top, left = (size[1] - shown.shape[0]) // 2, (size[0] - shown.shape[1]) // 2
    behind[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return behind


def written(picture: Colours, text: str, place: tuple[float, float], size: float) -> Any:
    """Write a line of white text, with a black edge, at a place in fractions of the sides."""
    picture = picture.copy()
    height, width = picture.shape[:2]
    at = int(width * place[0]), int(height * place[1])
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.putText(
            picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size * height / 25, colour, thickness
        )
    return picture


def beginning(path: Path, max_bytes: int) -> list[tuple[float, Colours]]:
    """Return the times and pictures of the first seconds of a video, some 30 a second at most."""
    found: list[tuple[float, Colours]] = []
    shrink, first = Shrinker(), None

    def take(frame: av.VideoFrame) -> None:
        nonlocal first
        if frame.time is None:
            return
        first = frame.time if first is None else first
        time_s = frame.time - first
        if time_s > COPIED_S:
            raise _EnoughFramesError
        if not found or time_s >= found[-1][0] + APART_S:
            picture = shrink(frame, sampled=True).detail
            assert picture is not None
            found.append((time_s, picture))

    with suppress(_EnoughFramesError):
        inspect_video(path, take, max_bytes=max_bytes)
    return found


def encode(path: Path, frames: Iterator[tuple[float, Any]], crf: int) -> None:
    """Write pictures with their times as a video; equal ones make equal frames."""
    with av.open(str(path), "w") as container:
        options = {
            "crf": str(crf),
            "preset": "veryfast",
            "mbtree": "0",
        }  # mbtree varies from run to run
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        size: tuple[int, int] | None = None
        for time_s, picture in frames:
            even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if size is None:
                size = even.shape[1], even.shape[0]
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def edited(frames: Sequence[tuple[float, Colours]], edit: Edit) -> Iterator[tuple[float, Any]]:
    """Yield times and pictures of an edited copy."""
    length = frames[-1][0]
    begin, end = edit.span[0] * length, edit.span[1] * length
    for time_s, picture in frames:
        if begin <= time_s <= end:
            yield (time_s - begin) / edit.speed, edit.change(picture, time_s)


def answer_request(
    path: str, source_sha256: str, settings: dict[str, Any], target: str, max_bytes: int
) -> Copied:
    """Make and measure the copies of a video: the answer to one request of the stage."""
    rows, count = [], 0
    frames = beginning(Path(path), max_bytes)
    with tempfile.TemporaryDirectory() as folder:
        for name, edit in edits(source_sha256).items() if frames else ():
            copy = Path(folder, "copy.mkv")
            encode(copy, edited(frames, edit), edit.crf)
            clips, _ = measure_video(copy, sha256(copy), Settings(**settings), max_bytes)
            count += 1
            rows += [{"edit": name, "fingerprint": clip.get("fingerprint")} for clip in clips]
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    with (
        replacing(Path(target)) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    return Copied(count)


if __name__ == "__main__":
    cv2.setNumThreads(1)  # one process per core
    serve(answer_request, prepare)
