"""Video files through PyAV, which brings FFmpeg along on every platform."""

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
from videomae.video.bitstream import needless, pictureless
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
    survey,
)
from videomae.video.picture import ToRGB, display_matrix

TRIES = 3
"""Earlier key frames that a container is asked for before its file is read from the start."""


NOTHING = Part(0, np.empty(0, np.uint8))
LARGE = 1 << 22
"""Pixels of a frame from which on a decoder's memory is not left to chance."""


class PyAVVideo:
    """A video file: frame i is the i-th that FFmpeg shows.

    A frame is known by the packet that holds it, wherever decoding started, so that a container
    that leads elsewhere than it was asked to is noticed. Frames that nobody wants and that no other
    is built on are not decoded.
    """

    reference_stride = 1

    def __init__(self, path: Path, max_bytes: int = MAX_CLIP_BYTES) -> None:
        self._open(path, check_file(path), max_bytes)

    def _open(self, path: Path, source: Path | BytesIO, max_bytes: int) -> None:
        """Open `source`, which messages call `path`."""
        self.path = path
        self.source = source
        self.max_bytes = max_bytes
        try:
            self._reopen()
            rate = frame_rate(self.stream)
            self.fps = float(rate) if rate else None
            context = self.stream.codec_context
            check_frame_size(path, context.width, context.height, max_bytes)
            self.needless = needless(context.name, context.extradata or b"")
            self.pictureless = pictureless(context.name, context.extradata or b"")
            self.left_out: set[int] = set()
            """Packets since the last start that were not decoded, as no other needs them."""
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
                    part = NOTHING  # its memory is free before that of the next is taken
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(_reason(self.path, error)) from error

    def decoded(self, numbers: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames of ascending, distinct numbers as the decoder gives them, with their places.

        Where one cannot be reached, they come again in another way, from place 0 on.

        Raises:
            DecodeError: they cannot be decoded.
        """
        if numbers and not 0 <= numbers[0] <= numbers[-1] < self.num_frames:
            asked = numbers[0] if numbers[0] < 0 else numbers[-1]
            raise DecodeError(f"{self.path} has {self.num_frames} frames, asked for {asked}")
        ways = [(False, False)]
        if not (self.packets.oriented or self.packets.palettes):
            ways.insert(0, (True, False))
            if self.regular and self.needless is not None:
                ways.insert(0, (True, True))
        try:
            for seeks, skip in ways:
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
        """The frames of ascending numbers, reached in one way.

        Args:
            seeks: start from the key frame before a frame, else from the start of the file.
            skip: leave out frames that are not wanted and that no other needs.
        """
        shown, reached = self.numbering.shown, -1
        needed = frozenset(shown[number] for number in wanted) if skip else None
        frames: Iterator[tuple[int, av.VideoFrame]] = iter(())
        for place, number in enumerate(wanted):
            entry = self.numbering.entry(number)
            if place == 0 or (seeks and entry.frame > reached + 1):
                packets = self._from(entry.packet) if seeks else self._from_start()
                reached = entry.frame - 1 if seeks else -1
                frames = self._numbered(packets, needed, reached + 1)
            while reached < number:
                found, frame = next(frames, (-1, None))
                passed = shown[reached + 1 : found]  # empty unless found lies further on
                in_order = reached < found <= number and self.left_out.issuperset(passed)
                if frame is None or not in_order or shown[found] in self.packets.cut:
                    raise ValueError(f"frame {number} cannot be decoded")
                reached = found
            assert frame is not None  # what is wanted lies after what was reached
            if seeks and (frame.width, frame.height) != self.to_rgb.size:
                raise ValueError(f"frame {number} has another size than the first one")
            yield frame

    def _numbered(
        self, packets: Iterable[tuple[int, VideoPacket]], needed: frozenset[int] | None, first: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames of _frames by their own numbers, from frame `first` on."""
        numbers = self.numbering.numbers
        for count, (packet, frame) in enumerate(self._frames(packets, needed)):
            number = count if self.numbering.counted else numbers.get(packet, -1)
            if number == 0:
                signs = display_matrix(frame) if self.packets.oriented else None
                self.to_rgb = ToRGB((frame.width, frame.height), signs)
            if number >= first:
                yield number, frame

    def _number(self) -> tuple[Packets, Numbering]:
        """Find out which packet holds each frame."""
        packets = self.packets = survey(self._demux(), self.stream)
        if "mpegts" in self.container.format.name and packets.cut:
            packets.cut.clear()  # the one before a join is marked so, too
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
        """Whether decoding may start at any key frame."""
        codec = self.stream.codec_context.codec
        return codec.name in ONE_EACH or codec.intra_only

    def renumber(self) -> bool:
        """Find the order of the frames by decoding, where their times have told another.

        Returns:
            Whether it is another. It never is where frames are lost: such a file is damaged.
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
        """Frames in the order in which they are shown, each with the number of its packet.

        What cannot be decoded before the first frame is left out.

        Args:
            needed: packets whose frames are wanted; those that no other needs are left out.
        """
        begun = False
        self.left_out.clear()
        for number, packet in packets:
            unwanted = needed is not None and number not in needed and packet.size > 0
            if unwanted and self.needless is not None and self.needless(memoryview(packet)):
                self.left_out.add(number)
                continue
            packet.pts = number  # a frame takes the time of its packet along: here, its number
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
        """The packets from one on, each with its number, wherever the container has to be led."""
        if first == 0 and not self.regular:  # a decoder may keep what it has met further on
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
                    break  # it has led too far
        yield from self._from_start(first)

    def _from_start(self, first: int = 0) -> Iterator[tuple[int, VideoPacket]]:
        """The packets from one on, each with its number, after the file has been opened anew."""
        self._reopen()
        yield from self._checked(self._demux(), 0, first)

    def _checked(
        self, packets: Iterable[VideoPacket], number: int, first: int
    ) -> Iterator[tuple[int, VideoPacket]]:
        """Number the packets, of which the first is `number`, and leave out those before `first`.

        Raises:
            ValueError: they are not those that the first pass saw.
        """
        for packet in packets:
            if packet.size > 0:
                if not self.packets.matches(number, packet):
                    raise ValueError(f"its index leads to another packet than number {number}")
                if number >= first:
                    yield number, packet
                number += 1
            elif packet.dts is None and packet.pts is None:
                yield number, packet  # the end, at which the decoder gives what it holds back

    def _reopen(self) -> None:
        """Open the file, or open it anew."""
        self.container = open_container(self.source, self.path)
        self.stream = best_stream(self.container, self.path, self.max_bytes)
        if self.stream.codec_context.width * self.stream.codec_context.height > LARGE:
            gc.collect()  # videos that are done with lie in cycles, with their decoders' pictures
        for other in self.container.streams:
            if other is not self.stream:
                other.discard = Discard.all  # sound need not be read

    def _demux(self) -> Iterator[VideoPacket]:
        """The packets from where the container stands."""
        packets: Any = self.container.demux(self.stream)
        with closing(packets):  # left before their end, PyAV's would keep memory
            yield from packets


def _reason(path: Path, error: Exception) -> str:
    """The error in one line."""
    text = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
    return f"{path}: {text.splitlines()[0][:300] if text else type(error).__name__}"
