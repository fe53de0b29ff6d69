"""Reader of video files through PyAV, which includes FFmpeg on every platform."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.stream import Discard

from videomae.config import MAX_CLIP_BYTES
from videomae.video.bitstream import disposable, pictureless
from videomae.video.container import (
    VideoPacket,
    best_stream,
    check_file,
    frame_rate,
    open_container,
)
from videomae.video.interface import (
    DecodeError,
    Frames,
    Part,
    check_frame_size,
    frames_in_part,
    gathered,
)
from videomae.video.numbering import (
    ONE_EACH,
    Numbering,
    Packets,
    by_decoding,
    by_packets,
    scan_packets,
)
from videomae.video.picture import ToRGB, display_matrix

TRIES = 3
"""Number of earlier key frames to seek to before the file is read from its start."""


NOTHING = Part(0, np.empty(0, np.uint8))
LARGE = 1 << 22
"""Pixels of a frame above which opening a video collects the memory of closed videos."""


class PyAVVideo:
    """A video file decoded by PyAV: frame i is the i-th frame that FFmpeg shows.

    A frame is identified by the packet that holds it, so that a seek to a wrong place is noticed.
    Frames that are not requested, and on which no other frame depends, are not decoded.
    """

    reference_stride = 1

    def __init__(self, path: Path, max_bytes: int = MAX_CLIP_BYTES) -> None:
        self._open(path, check_file(path), max_bytes)

    def _open(self, path: Path, source: Path | BytesIO, max_bytes: int) -> None:
        """Open `source`, a file or its content; `path` is its name in error messages."""
        self.path = path
        self.source = source
        self.max_bytes = max_bytes
        try:
            self._reopen()
            rate = frame_rate(self.stream)
            self.fps = float(rate) if rate else None
            context = self.stream.codec_context
            check_frame_size(path, context.width, context.height, max_bytes)
            self.disposable = disposable(context.name, context.extradata or b"")
            self.pictureless = pictureless(context.name, context.extradata or b"")
            self.left_out: set[int] = set()
            """Packets that were not decoded since the last start, as no other depends on them."""
            self.to_rgb = ToRGB((context.width, context.height))
            self.packets, self.numbering = self._number()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DecodeError(_reason(path, error)) from error
        if not self.numbering.shown:
            raise DecodeError(f"{path} holds no frame")

    @property
    def num_frames(self) -> int:
        return len(self.numbering.shown)

    def read(self, indices: Sequence[int]) -> Frames:
        return gathered(self.parts, indices)

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        part, frames = NOTHING, 0
        try:
            for place, frame in self.decoded(numbers):
                image = self.to_rgb(frame)
                if place == 0:
                    frames = frames_in_part(image.nbytes)
                if place % frames == 0:
                    count = min(len(numbers) - place, frames)
                    part = Part(place, np.empty((count, *image.shape), np.uint8))
                part.frames[place % frames] = image
                if place + 1 == part.place + len(part.frames):
                    yield part
                    part = NOTHING  # frees its memory before the next part's is allocated
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(_reason(self.path, error)) from error

    def decoded(self, numbers: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frames as the decoder outputs them, each with its index in `numbers`.

        If a frame cannot be reached by seeking, all are yielded again, from index 0, by decoding
        more of the file.

        Args:
            numbers: distinct frame numbers, from 0, in ascending order.

        Raises:
            DecodeError: the frames cannot be decoded.
        """
        if numbers and not 0 <= numbers[0] <= numbers[-1] < self.num_frames:
            asked = numbers[0] if numbers[0] < 0 else numbers[-1]
            raise DecodeError(f"{self.path} has {self.num_frames} frames, asked for {asked}")
        attempts = [(False, False)]
        if not (self.packets.oriented or self.packets.palettes):
            attempts.insert(0, (True, False))
            if self.regular and self.disposable is not None:
                attempts.insert(0, (True, True))
        try:
            for seeks, skip in attempts:
                try:
                    yield from enumerate(self._decode(numbers, seeks=seeks, skip=skip))
                    return
                except (av.FFmpegError, ValueError) as error:
                    reason = error
            if not self.renumber():
                raise reason
            yield from enumerate(self._decode(numbers, seeks=False, skip=False))
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(_reason(self.path, error)) from error

    def _decode(self, wanted: Sequence[int], *, seeks: bool, skip: bool) -> Iterator[av.VideoFrame]:
        """Decode the frames of ascending numbers.

        Args:
            seeks: whether to start at the key frame before a frame, or else at the file's start.
            skip: whether to skip frames that are not wanted and on which no other depends.
        """
        shown, reached = self.numbering.shown, -1
        needed = frozenset(shown[number] for number in wanted) if skip else None
        frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        for place, number in enumerate(wanted):
            start = self.numbering.seek_point(number)
            if place == 0 or (seeks and start.frame > reached + 1):
                packets = self._from(start.packet) if seeks else self._from_start()
                reached = start.frame - 1 if seeks else -1
                frames = self._numbered(packets, needed, reached + 1)
            while reached < number:
                found, frame = next(frames, (-1, None))
                passed = shown[reached + 1 : found]  # frames that were skipped, if any
                in_order = reached < found <= number and self.left_out.issuperset(passed)
                if frame is None or not in_order or shown[found] in self.packets.cut:
                    raise ValueError(f"frame {number} cannot be decoded")
                reached = found
            assert frame is not None  # `number` lies after `reached`
            if seeks and (frame.width, frame.height) != self.to_rgb.size:
                raise ValueError(f"frame {number} has another size than the first one")
            yield frame

    def _numbered(
        self, packets: Iterable[tuple[int, VideoPacket]], needed: frozenset[int] | None, first: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode packets; yield each frame from number `first` on with its frame number."""
        numbers = self.numbering.numbers
        for count, (packet, frame) in enumerate(self._frames(packets, needed)):
            number = count if self.numbering.counted else numbers.get(packet, -1)
            if number == 0:
                signs = display_matrix(frame) if self.packets.oriented else None
                self.to_rgb = ToRGB((frame.width, frame.height), signs)
            if number >= first:
                yield number, frame

    def _number(self) -> tuple[Packets, Numbering]:
        """Find the packet that holds each frame."""
        packets = self.packets = scan_packets(self._demux(), self.stream)
        if "mpegts" in self.container.format.name and packets.cut:
            packets.cut.clear()  # FFmpeg also marks the packet before a join of two files
            packets.regular = False
        codec = self.stream.codec_context.codec
        told = by_packets(packets, reorders=codec.reorder, restarts=self._restarts())
        self.regular = told is not None
        return packets, told or self._number_by_decoding()

    def _number_by_decoding(self) -> Numbering:
        shown: list[int] = []
        try:
            shown.extend(holder for holder, _ in self._frames(self._from_start(), None))
        except av.InvalidDataError as error:
            reason = f"{error.strerror}, after {len(shown)} frames"
            raise DecodeError(f"{self.path}: damaged ({reason})") from None
        return by_decoding(shown, self.packets, restarts=self._restarts())

    def _restarts(self) -> bool:
        """Tell whether decoding may start at any key frame."""
        codec = self.stream.codec_context.codec
        return codec.name in ONE_EACH or codec.intra_only

    def renumber(self) -> bool:
        """Number the frames by decoding, if they were numbered by their packets' times.

        Returns:
            whether the numbering has changed. It stays if frames are lost: the file is damaged.
        """
        if not self.regular:
            return False
        found = self._number_by_decoding()
        if found.shown == self.numbering.shown or set(found.shown) != set(self.numbering.shown):
            return False
        self.numbering, self.regular = found, False
        return True

    def _frames(
        self, packets: Iterable[tuple[int, VideoPacket]], needed: frozenset[int] | None
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode packets; yield frames in display order, each with the number of its packet.

        Packets that cannot be decoded before the first frame are skipped.

        Args:
            needed: packets whose frames are wanted; others are skipped if no frame depends on
                them. None: all frames are wanted.
        """
        begun = False
        self.left_out.clear()
        for number, packet in packets:
            unwanted = needed is not None and number not in needed and packet.size > 0
            if unwanted and self.disposable is not None and self.disposable(memoryview(packet)):
                self.left_out.add(number)
                continue
            packet.pts = number  # the decoder copies it to the frame's pts
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                if begun and not self.pictureless(memoryview(packet)):
                    raise
                continue
            for frame in frames:
                begun = True
                yield cast(int, frame.pts), frame

    def _from(self, first: int) -> Iterator[tuple[int, VideoPacket]]:
        """Yield the packets from number `first` on, each with its number, after seeking."""
        if first == 0 and not self.regular:  # the decoder may keep state from later packets
            yield from self._from_start()
            return
        before = [number for number in self.packets.keys if number < first]
        for start in (first, *before[: -TRIES - 1 : -1]):
            time = self.packets.time(start)
            if time is None or not self.packets.numbers:
                break
            try:
                self.container.seek(time, stream=self.stream)
            except av.FFmpegError:
                break
            packets = self._demux()
            for met in packets:
                number = self.packets.numbers.get((met.pos, met.size))
                if number is not None and number <= first:
                    yield from self._checked(chain([met], packets), number, first)
                    return
                if number is not None:
                    break  # the seek went too far
        yield from self._from_start(first)

    def _from_start(self, first: int = 0) -> Iterator[tuple[int, VideoPacket]]:
        """Reopen the file; yield its packets from number `first` on, each with its number."""
        self._reopen()
        yield from self._checked(self._demux(), 0, first)

    def _checked(
        self, packets: Iterable[VideoPacket], number: int, first: int
    ) -> Iterator[tuple[int, VideoPacket]]:
        """Number packets from `number` on, and yield those from `first` on with their numbers.

        Raises:
            ValueError: a packet is not the one that the first pass saw under its number.
        """
        for packet in packets:
            if packet.size > 0:
                if not self.packets.matches(number, packet):
                    raise ValueError(f"its index leads to another packet than number {number}")
                if number >= first:
                    yield number, packet
                number += 1
            elif packet.dts is None and packet.pts is None:
                yield number, packet  # the end: it makes the decoder output its last frames

    def _reopen(self) -> None:
        """Open the file, or reopen it at its start."""
        self.container = open_container(self.source, self.path)
        self.stream = best_stream(self.container, self.path, self.max_bytes)
        if self.stream.codec_context.width * self.stream.codec_context.height > LARGE:
            gc.collect()  # closed videos are reference cycles that hold decoded pictures
        for other in self.container.streams:
            if other is not self.stream:
                other.discard = Discard.all  # such as sound

    def _demux(self) -> Iterator[VideoPacket]:
        """Yield the stream's packets from the container's current position on."""
        packets: Any = self.container.demux(self.stream)
        with closing(packets):  # PyAV's generator would keep memory if left before its end
            yield from packets


def _reason(path: Path, error: Exception) -> str:
    """Return the error as one line that names the file."""
    text = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
    return f"{path}: {text.splitlines()[0][:300] if text else type(error).__name__}"
