"""Video files through PyAV, which brings FFmpeg along on every platform."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from videomae.video.interface import DecodeError, Frames, check_file

Timed = tuple[int, av.VideoFrame]
"""A frame and its time in the stream's unit; its number, where the file gives no times."""
SKIPPABLE = ("h264", "mpeg4")
"""Codecs in which no frame is ever built on one marked as no reference."""


class PyAVVideo:
    """A video file, with one thread: loaders run one process per core.

    A first pass over the packets, without decoding, lists the times of all frames and of the key
    frames. A frame is reached from the last key frame at or before it, so that frames of open
    groups of pictures, shown before their key frame, are right too; those before the first are not
    counted, since what they are built on was cut off. Frames that nobody wants and no other is
    built on are not decoded. Where a file's own index leads to other packets than those of the
    first pass, the file is damaged.
    """

    reference_stride = 1

    def __init__(self, path: Path) -> None:
        check_file(path)
        self._open(path, str(path))

    def _open(self, path: Path, source: str | BinaryIO, **options: Any) -> None:
        """Open `source`, which messages call `path`, with options of av.open."""
        self.path = path
        try:
            self.container = av.open(source, "r", **options)
            if not self.container.streams.video:
                raise DecodeError(f"{path} holds no video stream")
            self.stream = self.container.streams.video[0]
            if self.stream.codec_context is None:
                raise DecodeError(f"{path}: its video stream is of no codec that is known here")
            self.stream.codec_context.thread_count = 1
            self.skips = self.stream.codec_context.name in SKIPPABLE
            self.numbered = False
            self.wanted: frozenset[int] | None = None  # None: all
            self.packets: set[tuple[int, int]] = set()  # times and sizes; empty: not looked at
            self.times, self.keys = self._index()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DecodeError(_reason(path, error)) from error
        if not self.times:
            raise DecodeError(f"{path} holds no frame")
        self.to_rgb = VideoReformatter()

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float | None:
        return float(self.stream.average_rate) if self.stream.average_rate else None

    def read(self, indices: Sequence[int]) -> Frames:
        wanted, places = np.unique(indices, return_inverse=True)  # each frame is decoded once
        if wanted[0] < 0 or wanted[-1] >= len(self.times):
            raise DecodeError(f"{self.path} has {len(self.times)} frames, asked for {wanted[-1]}")
        times = [self.times[index] for index in wanted]
        try:
            frames = self._decoded(times, skip=self.skips)
        except (av.FFmpegError, ValueError):
            try:
                frames = self._decoded(times, skip=False)  # what is marked wrongly is needed
            except (av.FFmpegError, ValueError) as error:
                raise DecodeError(_reason(self.path, error)) from error
        return frames if np.array_equal(places, range(len(frames))) else frames[places]

    def _index(self) -> tuple[Sequence[int], Sequence[int]]:
        """Times of all frames, and of the key frames, ascending."""
        times, keys = [], []
        with self._packets() as packets:
            for packet in packets:
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:  # as in AVI files: the frames are counted
                    self.numbered = True
                    break
                times.append(packet.pts)
                self.packets.add((packet.pts, packet.size))
                if packet.is_keyframe:
                    keys.append(packet.pts)
        if self.numbered:
            return [number for number, _ in self._from(0)], [0]
        whole = sorted(time for time in times if time >= times[0])
        return whole, sorted(keys) or whole[:1]

    def _decoded(self, times: Sequence[int], *, skip: bool) -> Frames:
        """The frames of these times, which ascend; `skip` what they do not need."""
        self.wanted = frozenset(times) if skip and not self.numbered else None
        frames: Iterator[Timed] = iter(())
        reached = -1
        found: Frames | None = None
        for number, time in enumerate(times):
            key = max(0, bisect_right(self.keys, time) - 1)
            if number == 0 or self.keys[key] > reached:
                frames = self._from(key)
            reached, frame = next((each for each in frames if each[0] >= time), (-1, None))
            if frame is None or reached != time:
                raise ValueError(f"frame {bisect_left(self.times, time)} cannot be decoded")
            image = self._pixels(frame)
            if found is None:
                found = np.empty((len(times), *image.shape), np.uint8)
            found[number] = image
        assert found is not None
        return found

    def _pixels(self, frame: av.VideoFrame) -> Frames:
        """(H, W, 3): a view of the frame in RGB, turned."""
        rgb = self.to_rgb.reformat(frame, format="rgb24")
        (plane,) = rgb.planes
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: rgb.height]
        image = rows[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
        return np.rot90(image, round(frame.rotation / 90) % 4)

    def _from(self, key: int) -> Iterator[Timed]:
        """The frames in the order in which they are shown, from a key frame on, or from before."""
        if self.numbered:
            self.container.seek(0)
            yield from enumerate(frame for _, frame in self._frames())
            return
        for start in range(key, -1, -1):
            self.container.seek(self.keys[start], stream=self.stream)
            frames = self._frames()
            first = next(frames, None)
            if first is not None and first[0] <= self.keys[key]:  # else it sought too far
                yield first
                break
        yield from frames

    def _frames(self) -> Iterator[Timed]:
        """From where the container stands. What cannot be decoded before the first is left out."""
        begun = False
        context = self.stream.codec_context
        with self._packets() as packets:
            for packet in packets:
                if self._astray(packet):
                    raise ValueError(f"its index leads to another frame than that of {packet.pts}")
                needed = self.wanted is None or packet.pts is None or packet.pts in self.wanted
                context.skip_frame = "DEFAULT" if needed else "NONREF"
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    if begun:
                        raise
                    continue
                for frame in frames:
                    begun = True
                    yield frame.pts or 0, frame

    def _astray(self, packet: "av.Packet[av.VideoStream]") -> bool:
        """Whether the first pass saw no such packet."""
        if self.numbered or not self.packets or packet.pts is None or packet.is_discard:
            return False
        return packet.size > 0 and (packet.pts, packet.size) not in self.packets

    def _packets(self) -> AbstractContextManager[Iterator["av.Packet[av.VideoStream]"]]:
        """From where the container stands. Left before their end, PyAV's would keep memory."""
        return closing(self.container.demux(self.stream))


def _reason(path: Path, error: Exception) -> str:
    """The error in one line."""
    text = getattr(error, "strerror", None) or str(error)
    return f"{path}: {text.splitlines()[0][:300] if text else type(error).__name__}"
