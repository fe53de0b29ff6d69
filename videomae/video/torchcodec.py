"""Reader of video files through torchcodec, which needs FFmpeg's shared libraries."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torchcodec.decoders import VideoDecoder

from videomae.config import MAX_CLIP_BYTES
from videomae.video.container import check_file
from videomae.video.interface import (
    DecodeError,
    Frames,
    Part,
    check_frame_size,
    frames_in_part,
    gathered,
)


class TorchCodecVideo:
    """A video file decoded by torchcodec in one thread, as loaders run one process per core.

    seek_mode is exact: a first pass over the packets counts the frames, whatever the header says.
    """

    reference_stride = 1

    def __init__(self, path: Path, max_bytes: int = MAX_CLIP_BYTES) -> None:
        self.path = path
        source = check_file(path)
        try:
            self.reader = VideoDecoder(
                str(source), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            self.num_frames: int = len(self.reader)
        except (RuntimeError, ValueError, TypeError) as error:
            raise DecodeError(_reason(path, error)) from error
        if self.num_frames == 0:
            raise DecodeError(f"{path} holds no frame")
        self.size = self.reader.metadata.width or 1, self.reader.metadata.height or 1
        check_frame_size(path, *self.size, max_bytes)

    @property
    def fps(self) -> float | None:
        return self.reader.metadata.average_fps

    def read(self, indices: Sequence[int]) -> Frames:
        return gathered(self.parts, indices)

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        count = frames_in_part(3 * self.size[0] * self.size[1])
        if numbers[0] < 0 or numbers[-1] >= self.num_frames:
            raise DecodeError(f"{self.path} has {self.num_frames} frames, asked for {numbers[-1]}")
        try:
            for place in range(0, len(numbers), count):
                some = list(numbers[place : place + count])
                yield Part(place, self.reader.get_frames_at(some).data.numpy())
        except (RuntimeError, ValueError, IndexError) as error:
            raise DecodeError(_reason(self.path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    """Return the error as one line that names the file."""
    lines = str(error).strip().splitlines()
    return f"{path}: {lines[0][:300] if lines else type(error).__name__}"
