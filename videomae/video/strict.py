"""Strict decoding of a video file, which fails where others would conceal damage."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av

from videomae.lists.formats import Span
from videomae.video.completeness import incomplete
from videomae.video.container import VideoPacket, best_stream, check_file, open_container
from videomae.video.numbering import SeekPoint
from videomae.video.pyav import PyAVVideo
from videomae.video.ranges import frames_of_span

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


class DamageError(Exception):
    """Error: a video is damaged; the message says how."""


class StrictDecoder:
    """Strict decoder of a file's video stream, which checks that a reader returns the same frames.

    The first pictures of a video that was cut out of a longer one may refer to missing pictures. So
    a decoder error before the first frame counts only if a frame is lost.

    Args:
        span: range of the frames that are decoded, besides those that they depend on; None: all.
        seeks: whether decoding starts at the key frame before the range, or else with the file.

    Raises:
        DamageError: the range lies outside of the video.
    """

    def __init__(
        self, path: Path, max_bytes: int, span: Span | None = None, *, seeks: bool = True
    ) -> None:
        self.path = path
        self.reader = PyAVVideo(path, max_bytes)
        self.start, self.end = span or (0, None)
        self.first = SeekPoint(0, 0)
        """The packet that decoding starts with, and the first frame that counts."""
        if span is not None:
            try:
                frames_of_span(span, self.reader.num_frames)
            except ValueError as error:
                raise DamageError(f"range outside of the video ({error})") from error
            if seeks:
                self.first = self.reader.numbering.seek_point(self.start)
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
        """Decode the frames from `first` to the end of the range; compare their numbering with the
        reader's.

        Raises:
            DamageError: a frame is marked corrupt, or a reader would return other frames.
            av.FFmpegError: the frames cannot be decoded.
        """
        reader, count = self.reader, self.first.frame
        for frame in self._decoded():
            number = cast(int, frame.pts)
            if self.first.packet and reader.numbering.numbers.get(number, -1) < self.first.frame:
                continue  # a picture before the key frame, and stored after it
            if frame.is_corrupt:
                raise DamageError(f"damaged (frame {count} is marked corrupt)")
            while self._holder(count) != number and self.excused > 0:
                yield from (lost for _, lost in reader.decoded([count]))
                self.excused, count = self.excused - 1, count + 1
            if self._holder(count) != number and self.first.packet == 0:
                reader.renumber()
            if self._holder(count) != number:
                raise self.early or DamageError(f"damaged (frames are lost, after {count} frames)")
            frame.pts = reader.packets.pts[number]
            count += 1
            yield frame
            if count == self.end:
                return
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
        return min((key + 1 for key in keys if key >= self.first.packet), default=0)

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
        """Yield the stream's packets from `first` on, with their numbers; note where all streams
        end.

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
            self.begins |= number == 0 and packet.is_keyframe
            if number >= self.first.packet:
                if packet.is_corrupt and self.container.format.name != "mpegts":
                    raise DamageError(f"damaged (packet {number} is marked corrupt)")
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
