"""Reader of a video from a pack, whose frame times and key frames are known without a scan."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from videomae.config import MAX_CLIP_BYTES
from videomae.video.container import VideoPacket
from videomae.video.numbering import Numbering, Packets, SeekPoint
from videomae.video.pyav import PyAVVideo


class PackedVideo(PyAVVideo):
    """A video as videomae.video.transcode writes it, held in memory.

    Its packets are identified by their times.

    Args:
        path: name of the video in error messages.
        content: bytes of the MP4 file.
        num_frames: number of frames in the video.
        stride: every stride-th frame is a reference frame, which decodes without those between.
        keyint: every keyint-th frame is a key frame.
        max_bytes: bytes of memory that reading the video may take.
    """

    def __init__(
        self,
        path: Path,
        content: bytes,
        *,
        num_frames: int,
        stride: int,
        keyint: int,
        max_bytes: int = MAX_CLIP_BYTES,
    ) -> None:
        self.count = num_frames
        self.reference_stride = stride
        self.keyint = keyint
        self._open(path, BytesIO(content), max_bytes)

    def _number(self) -> tuple[Packets, Numbering]:
        rate, unit = self.stream.average_rate, self.stream.time_base
        if not rate or not unit or (1 / (rate * unit)).denominator != 1:
            raise ValueError("not a video of a pack: its frames have no constant rate")
        step = int(1 / (rate * unit))
        self.regular = True
        times = range(0, self.count * step, step)
        return Packets(), Numbering(
            times, [SeekPoint(n, n * step) for n in range(0, self.count, self.keyint)]
        )

    def _from(self, first: int) -> Iterator[tuple[int, VideoPacket]]:
        self.container.seek(first, stream=self.stream)
        for packet in self._demux():
            yield packet.pts or 0, packet

    def _from_start(self, first: int = 0) -> Iterator[tuple[int, VideoPacket]]:
        self._reopen()
        for packet in self._demux():
            yield packet.pts or 0, packet
