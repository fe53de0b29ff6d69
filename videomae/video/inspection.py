"""Strict inspection of one video: decode it to its end, report its properties and any damage.

videomae.scan runs this module as a program, so that a decoder that crashes or hangs affects one
video only. It then reads one JSON array [path, frames, max_bytes] a line, and answers each with one
line, the JSON object of an Inspection. It does not import torch, so that it starts at once.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from videomae.config import MAX_CLIP_BYTES
from videomae.run.files import DOES_NOT_EXIST, why_missing
from videomae.run.worker_pool import serve
from videomae.video.completeness import incomplete
from videomae.video.container import (
    VideoPacket,
    best_stream,
    check_file,
    frame_rate,
    open_container,
)
from videomae.video.folder import BROKEN_IMAGE, open_image
from videomae.video.interface import DecodeError, check_frame_size, within_memory
from videomae.video.picture import ToRGB, display_matrix, turned_size
from videomae.video.pyav import PyAVVideo

KEY = 1
"""Flag AVINDEX_KEYFRAME of FFmpeg's index entries."""
STRICT = {"err_detect": "explode"}
"""Decoder option that makes it fail where it would conceal damage."""
LENIENT = ("tiff",)
"""Decoders that fail on undamaged files with the option STRICT, and so are used without it."""
ASF_SPARE_S = 0.3
"""Seconds by which an undamaged ASF file may be shorter than its header promises."""
MP4 = ("mov,mp4,m4a,3gp,3g2,mj2",)
"""FFmpeg's name of the container format of MP4 and QuickTime files."""
ESTIMATED = ("avi", "mpegts", "mpeg")
"""Container formats whose duration FFmpeg estimates, or which state their size in bytes."""
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


class DamageError(Exception):
    """Error: a video is damaged; the message says how."""


def inspect_video(
    path: Path, each: Each | None = None, *, max_bytes: int = MAX_CLIP_BYTES
) -> Inspection:
    """Decode a video file.

    Args:
        each: called with every frame that a reader would return, in order.
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
            _decode(path, facts, each, max_bytes)
    except (av.FFmpegError, OSError, ValueError, DecodeError) as error:
        return Inspection(ok=False, error=_what_is_wrong(path, error, facts), **facts)
    except DamageError as damage:
        return Inspection(ok=False, error=str(damage), **facts)
    return Inspection(ok=True, **facts)


def _what_is_wrong(path: Path, error: Exception, facts: dict[str, Any]) -> str:
    """Return an exception as the text of Inspection.error, with details in parentheses."""
    reason = getattr(error, "strerror", None) or str(error).removeprefix(str(path)).lstrip(": ")
    if isinstance(error, DecodeError) and error.__cause__ is None:
        return reason.removeprefix("holds ")
    if "num_frames" in facts:
        return f"damaged ({reason}, after {facts['num_frames']} frames)"
    return f"cannot be opened ({reason})"


def _decode(path: Path, facts: dict[str, Any], each: Each | None, max_bytes: int) -> None:
    """Decode the video stream to its end, and add the fields of Inspection to `facts`.

    Raises:
        DamageError: the decoder marks frames as corrupt, frames are missing, or the file ends
            early.
        DecodeError: the file is no readable video.
        av.FFmpegError: the data are invalid.
    """
    with logged() as logs, StrictDecoder(path, max_bytes) as reading:
        stream = reading.stream
        rate = float(frame_rate(stream) or 0)
        facts |= {"codec": stream.codec_context.name, "num_frames": 0, "fps": rate or None}
        end, start, shown = 0.0, None, ShownFormats()
        for count, frame in enumerate(reading.frames(), start=1):
            if start is None:
                size = turned_size((frame.width, frame.height), display_matrix(frame))
                facts |= {"width": size[0], "height": size[1]}
                early = len(logs)  # messages before the first frame do not count
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


class StrictDecoder:
    """Strict decoder of a file's video stream, which checks that a reader returns the same frames.

    The first pictures of a video that was cut out of a longer one may refer to missing pictures. So
    a decoder error before the first frame counts only if a frame is lost.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.reader = PyAVVideo(path, max_bytes)
        self.container = open_container(check_file(path), path)
        lenient = self.reader.stream.codec_context.name in LENIENT
        self.stream = best_stream(self.container, path, max_bytes, {} if lenient else STRICT)
        self.early: Exception | None = None  # the decoder's error before its first frame
        self.excused = 0  # frames lost at a join of two files, which is no damage
        self.begins = False  # whether the first packet is a key frame by its own bits
        self.end_s = 0.0
        """Time at which the last packet of any stream ends, in seconds."""

    def __enter__(self) -> "StrictDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode all frames, and compare their numbering with the reader's.

        Raises:
            DamageError: a frame is marked corrupt, or a reader would return other frames.
            av.FFmpegError: the frames cannot be decoded.
        """
        reader, count = self.reader, 0
        for frame in self._decoded():
            if frame.is_corrupt:
                raise DamageError(f"damaged (frame {count} is marked corrupt)")
            number = cast(int, frame.pts)
            while self._holder(count) != number and self.excused > 0:
                yield from (lost for _, lost in reader.decoded([count]))
                self.excused, count = self.excused - 1, count + 1
            if self._holder(count) != number:
                reader.renumber()
            if self._holder(count) != number:
                raise self.early or DamageError(f"damaged (frames are lost, after {count} frames)")
            frame.pts = reader.packets.pts[number]
            count += 1
            yield frame
        if lost_key := self._lost_key():
            raise DamageError(f"damaged (key frame in packet {lost_key - 1} is never shown)")
        if lost := reader.num_frames - count:
            raise self.early or DamageError(
                f"damaged (frames are lost: {lost} of {reader.num_frames})"
            )

    def _lost_key(self) -> int:
        """Return the packet, from 1, of the first key frame that is wrongly not shown; 0: none."""
        packets, numbering = self.reader.packets, self.reader.numbering
        if self._begins_broken():
            return 1
        if numbering.counted:
            return 0
        broken = packets.blind if self.stream.codec_context.name in ("h264", "hevc") else set()
        keys = {*packets.keys, *broken} - packets.hidden - packets.cut - set(numbering.numbers)
        return min(keys) + 1 if keys else 0

    def _begins_broken(self) -> bool:
        """Tell whether an MP4 file marks its first packet as a key frame, but it is none."""
        entries, packets = self.stream.index_entries, self.reader.packets.locations
        if self.begins or self.container.format.name not in MP4 or not len(entries) or not packets:
            return False
        return entries[0].flags & KEY > 0 and entries[0].pos == packets[0][0]

    def _holder(self, frame: int) -> int | None:
        """Return the packet from which a reader takes a frame; None: it has no such frame."""
        shown = self.reader.numbering.shown
        return shown[frame] if frame < len(shown) else None

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Decode all packets strictly; yield frames whose pts is the number of their packet."""
        begun = False
        for number, packet in self._packets():
            packet.pts = number
            try:
                frames = packet.decode()
            except av.InvalidDataError as error:
                if self.reader.pictureless(memoryview(packet)):
                    continue
                if not begun and not packet.is_keyframe:
                    self.early = self.early or error
                elif self._is_orphan(number):
                    self.excused += 1
                else:
                    raise
                continue
            begun |= bool(frames)
            yield from frames

    def _is_orphan(self, number: int) -> bool:
        """Tell whether a packet's picture depends on pictures that a join of two files removed.

        It then follows a key frame whose time is not after those before it, and is shown before
        that key frame.
        """
        packets, shown = self.reader.packets, self.reader.numbering.shown
        key = max((key for key in packets.keys if key <= number), default=0)
        times = packets.pts[: key + 1]
        if key == 0 or None in times or number not in shown or key not in shown:
            return False
        *before, time = cast(list[int], times)
        return time <= max(before) and shown.index(number) < shown.index(key)

    def _packets(self) -> Iterator[tuple[int, VideoPacket]]:
        """Yield the stream's packets with their numbers; note where all streams end.

        In transport streams FFmpeg also marks the last packet before a join as corrupt; what is
        missing there, check_end finds.
        """
        number = 0
        for packet in self.container.demux():
            if packet.dts is not None and packet.time_base:
                last = float((packet.dts + (packet.duration or 0)) * packet.time_base)
                self.end_s = max(self.end_s, last)
            ends = packet.size == 0 and packet.dts is None and packet.pts is None
            if packet.stream.index != self.stream.index or (packet.size == 0 and not ends):
                continue
            if packet.is_corrupt and self.container.format.name != "mpegts":
                raise DamageError(f"damaged (packet {number} is marked corrupt)")
            self.begins |= number == 0 and packet.is_keyframe
            yield number, packet  # type: ignore[misc]
            number += packet.size > 0

    def check_end(self, end_s: float, step_s: float) -> None:
        """Raise DamageError if the file ends before the time or size that its header promises.

        Args:
            end_s: end of its last packet or frame, in seconds.
            step_s: time from one frame to the next, in seconds; 0: not known.
        """
        promised = self._promised_s()
        spare_s = ASF_SPARE_S if self.container.format.name == "asf" else 0.0
        if promised - end_s > max(0.1 * promised, 2 * step_s or 1, spare_s):
            raise DamageError(f"ends early (at {end_s:.2f} of {promised:.2f} s)")
        entries = len(self.stream.index_entries) if self.container.format.name in MP4 else 0
        seen = len(self.reader.packets)
        if entries > seen:
            raise DamageError(f"ends early (after {seen} of {entries} packets)")
        if self.container.format.name == "avi" and 0 < self.stream.frames <= seen:
            return  # at most the index at its end is missing
        if wrong := incomplete(self.path, self.container.format.name, self.stream.id):
            raise DamageError(wrong)

    def _promised_s(self) -> float:
        """Return the duration that the header promises, in seconds; 0: it promises none.

        It is 0 for MP4, whose header has the number of packets and whose edit lists may shorten it,
        and for the formats of ESTIMATED.
        """
        if self.container.format.name in (*MP4, *ESTIMATED):
            return 0.0
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration is not None:
            return self.container.duration / av.time_base
        return 0.0


def inspect_frames(
    path: Path,
    template: str,
    start: int,
    total: int,
    each: Each | None = None,
    *,
    max_bytes: int = MAX_CLIP_BYTES,
) -> Inspection:
    """Decode all frames of a folder of extracted frames.

    Args:
        template: format of a file name, filled with numbers from `start` to start + total - 1.
        each: called with every frame, in order.
        max_bytes: bytes of memory that reading one frame may take.
    """
    if not os.path.isdir(path):
        return Inspection(ok=False, error="missing")
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


def inspect(path: str, frames: Sequence[Any] | None, max_bytes: int) -> Inspection:
    """Inspect a video file or a folder of frames: the answer to one request of videomae.scan."""
    if frames:
        return inspect_frames(Path(path), *frames, max_bytes=max_bytes)
    return inspect_video(Path(path), max_bytes=max_bytes)


if __name__ == "__main__":
    serve(inspect)
