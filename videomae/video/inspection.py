"""Strict inspection of one video: decode it to its end, report its properties and any damage.

videomae.scan runs this module as a program, so that a decoder that crashes or hangs affects one
video only. It then reads one JSON array [path, frames, span, max_bytes] a line, and answers each
with one line, the JSON object of an Inspection. It does not import torch, so that it starts at
once.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from videomae.config import MAX_CLIP_BYTES
from videomae.lists.formats import Span
from videomae.run.files import DOES_NOT_EXIST, why_missing
from videomae.run.worker_pool import serve
from videomae.video.container import frame_rate
from videomae.video.folder import BROKEN_IMAGE, count_frames, open_image
from videomae.video.interface import NO_MEMORY, DecodeError, check_frame_size, within_memory
from videomae.video.picture import ToRGB, display_matrix, turned_size
from videomae.video.strict import DamageError, StrictDecoder

Each = Callable[[av.VideoFrame], None]


@dataclass(frozen=True)
class Inspection:
    """Result of an inspection; for a damaged video only the facts up to the damage are set."""

    ok: bool
    """Whether the video is undamaged."""
    error: str | None = None
    """Kind of damage, with details in parentheses; None: undamaged."""
    duration_s: float | None = None
    """Time until the end of the last frame, in seconds; None for a folder of frames."""
    num_frames: int = 0
    """Number of frames that were decoded, whatever the header says."""
    fps: float | None = None
    """Mean frame rate, in frames per second."""
    width: int | None = None
    """Width after rotation, in pixels."""
    height: int | None = None
    """Height after rotation, in pixels."""
    codec: str | None = None
    """FFmpeg's name of the decoder."""
    bytes: int | None = None
    """Size of a video file, in bytes."""


def inspect_video(
    path: Path,
    each: Each | None = None,
    *,
    span: Span | None = None,
    seeks: bool = True,
    max_bytes: int = MAX_CLIP_BYTES,
) -> Inspection:
    """Decode a video file, or a range of its frames.

    Args:
        each: called with every frame that a reader would return, in order.
        span: the range; None: all frames.
        seeks: whether decoding starts at the key frame before the range, or else with the file.
        max_bytes: bytes of memory that reading the video may take.
    """
    if reason := why_missing(path):
        return Inspection(ok=False, error="missing" if reason == DOES_NOT_EXIST else reason)
    if os.path.isdir(path):
        return Inspection(ok=False, error="a directory, not a video file")
    size = path.stat().st_size
    if size == 0:
        return Inspection(ok=False, error="empty", bytes=0)
    facts: dict[str, Any] = {"bytes": size}
    try:
        with within_memory(str(path)):
            _decode(path, facts, each, max_bytes, span, seeks=seeks)
    except (av.FFmpegError, OSError, ValueError, DecodeError) as error:
        return Inspection(ok=False, error=_what_is_wrong(path, error, facts), **facts)
    except DamageError as damage:
        return Inspection(ok=False, error=str(damage), **facts)
    return Inspection(ok=True, **facts)


def _what_is_wrong(path: Path, error: Exception, facts: dict[str, Any]) -> str:
    """Return an exception as the text of Inspection.error, with details in parentheses."""
    reason = getattr(error, "strerror", None) or str(error).removeprefix(str(path)).lstrip(": ")
    if isinstance(error, DecodeError) and (error.__cause__ is None or reason.startswith(NO_MEMORY)):
        return reason.removeprefix("holds ")
    if "num_frames" in facts:
        return f"damaged ({reason}, after {facts['num_frames']} frames)"
    return f"cannot be opened ({reason})"


def _decode(
    path: Path,
    facts: dict[str, Any],
    each: Each | None,
    max_bytes: int,
    span: Span | None,
    *,
    seeks: bool,
) -> None:
    """Decode the video stream, or a range of it, and add the fields of Inspection to `facts`.

    Raises:
        DamageError: the decoder marks frames as corrupt, frames are missing, or the file ends
            early.
        DecodeError: the file is no readable video.
        av.FFmpegError: the data are invalid.
    """
    with logged() as logs, StrictDecoder(path, max_bytes, span, seeks=seeks) as reading:
        stream, early = reading.stream, -1
        rate = float(frame_rate(stream) or 0)
        facts |= {"codec": stream.codec_context.name, "num_frames": 0, "fps": rate or None}
        end, start, shown = 0.0, None, ShownFormats()
        for number, frame in enumerate(reading.frames(), start=reading.first.frame):
            early = len(logs) if early < 0 else early  # messages before the first do not count
            count = number - reading.start + 1
            if count < 1:
                continue
            if start is None:
                size = turned_size((frame.width, frame.height), display_matrix(frame))
                facts |= {"width": size[0], "height": size[1]}
            time = (count - 1) / (rate or 1) if frame.time is None else frame.time
            start = time if start is None else min(start, time)
            end = max(end, time)
            facts |= {"num_frames": count}
            shown.check(frame)
            if each:
                each(frame)
        if start is None:
            raise DamageError("no frame")
        speakers = {reading.container.format.name, stream.codec_context.name} - {"h264"}
        for number, (_, name, words) in enumerate(logs):
            if name in speakers and (number >= early or name != stream.codec_context.name):
                raise DamageError(f"damaged ({words.strip()})")
        step = 1 / rate if rate else 0.0
        facts |= {"duration_s": round(end + step - start, 6)}
        if reading.end is None:
            reading.check_end(max(end + step, reading.end_s), step)


class ShownFormats:
    """The kinds of frames (format, size, colours) that were converted to RGB without error."""

    def __init__(self) -> None:
        self.known: set[tuple[object, ...]] = set()

    def check(self, frame: av.VideoFrame) -> None:
        """Convert a frame to RGB, if it is the first one of its kind.

        Raises:
            DamageError: the frame cannot be converted.
        """
        size = frame.width, frame.height
        kind = (frame.format.name, *size, frame.colorspace, frame.color_range)
        if kind in self.known:
            return
        self.known.add(kind)
        try:
            ToRGB(size)(frame)
        except (av.FFmpegError, ValueError) as error:
            raise DamageError(f"cannot become a picture in RGB ({error})") from error


@contextmanager
def logged() -> Iterator[list[tuple[int, str, str]]]:
    """Capture FFmpeg's error messages in a block, each as level, name of the source, text."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else repetitions would show up at the next file
    try:
        with av.logging.Capture() as logs:
            yield logs
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


def inspect_frames(
    path: Path,
    template: str,
    start: int,
    total: int | None,
    each: Each | None = None,
    *,
    max_bytes: int = MAX_CLIP_BYTES,
) -> Inspection:
    """Decode all frames of a folder of extracted frames.

    Args:
        template: format of a file name, filled with numbers from `start` to start + total - 1.
        total: number of frames; None: all that are there.
        each: called with every frame, in order.
        max_bytes: bytes of memory that reading one frame may take.
    """
    if not os.path.isdir(path):
        return Inspection(ok=False, error="missing")
    if total is None:
        total = count_frames(path, template, start)
        if total == 0:
            return Inspection(ok=False, error=f"frames missing ({template.format(start)})")
    width = height = None
    for count in range(total):
        file = path / template.format(start + count)
        try:
            with open_image(file) as image:
                check_frame_size(file, image.width, image.height, max_bytes)
                image.load()
                width, height = width or image.width, height or image.height
                if each:
                    each(av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB"))))
        except DecodeError as error:
            return Inspection(False, str(error), num_frames=count, width=width, height=height)
        except BROKEN_IMAGE as error:
            what = "damaged" if os.path.exists(file) else "frames missing"
            reason = f"{what} ({file.name}: {type(error).__name__})"
            return Inspection(False, reason, num_frames=count, width=width, height=height)
    return Inspection(True, num_frames=total, width=width, height=height)


def inspect(
    path: str, frames: Sequence[Any] | None, span: Sequence[Any] | None, max_bytes: int
) -> Inspection:
    """Inspect a video file, a range of its frames, or a folder of frames: the answer to one request
    of videomae.scan."""
    if frames:
        return inspect_frames(Path(path), *frames, max_bytes=max_bytes)
    video, whole = Path(path), (0, None)
    wanted = whole if span is None else (span[0], span[1])
    found = inspect_video(video, span=None if wanted == whole else wanted, max_bytes=max_bytes)
    if found.ok or wanted[0] == 0:
        return found
    # Some undamaged files cannot be decoded from each of their key frames on.
    return inspect_video(video, span=wanted, seeks=False, max_bytes=max_bytes)


if __name__ == "__main__":
    serve(inspect)
