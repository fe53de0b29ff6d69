"""Videos of a pack, in memory: their frames' times and key frames follow from how it was made."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videomae.video.pyav import PyAVVideo


class PackedVideo(PyAVVideo):
    """A video as videomae.video.transcode writes it.

    Args:
        path: what messages call it.
        content: of the MP4 file.
        num_frames: how many it has.
        stride: every stride-th frame is a reference frame, and needs no other between.
        keyint: every keyint-th frame is a key frame.
    """

    def __init__(
        self, path: Path, content: bytes, *, num_frames: int, stride: int, keyint: int
    ) -> None:
        self.count = num_frames
        self.reference_stride = stride
        self.keyint = keyint
        # Nothing need be found out by decoding: the first frame would be decoded for that alone.
        known: dict[str, Any] = {"format": "mp4", "stream_options": [{"skip_frame": "all"}]}
        self._open(path, io.BytesIO(content), **known)

    def _index(self) -> tuple[Sequence[int], Sequence[int]]:
        rate, unit = self.stream.average_rate, self.stream.time_base
        if not rate or not unit or (1 / (rate * unit)).denominator != 1:
            raise ValueError("not a video of a pack: its frames have no constant rate")
        step = int(1 / (rate * unit))
        end = self.count * step
        return range(0, end, step), range(0, end, self.keyint * step)
