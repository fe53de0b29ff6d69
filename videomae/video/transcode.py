"""One video to a small MP4 file whose every `stride`-th frame decodes without the others.

x264 makes every stride-th frame a reference frame and those between plain B-frames, on which no
frame is built. A clip that takes every stride-th frame from a multiple of the stride on so needs
reference frames only. Frame i has the time i over the frame rate.

videomae.pack runs this module as a program, so that a decoder that crashes or hangs takes one video
along and nothing else. It then reads one JSON array [path, frames, target, encoding, max_bytes] a
line, writes the video to `target`, and answers each with one line, the JSON object of a Transcoded.
"""

import hashlib
import io
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from videomae.config import MAX_CLIP_BYTES
from videomae.run.programs import serve
from videomae.video.container import best_stream, check_file, frame_rate, open_container
from videomae.video.inspection import STRICT, Inspection, inspect_frames, inspect_video
from videomae.video.interface import DecodeError
from videomae.video.picture import TURNS, Size, display_matrix, filtered, shrunk

MIN_PSNR = 20.0
"""Of the luma of each frame against its source, in dB; below, it is another picture."""
FRAMES_FPS = 25
"""Of a folder of frames, which does not say."""


@dataclass(frozen=True)
class Encoding:
    """How the videos of a pack are made."""

    short_side: int
    """In pixels; smaller videos stay as they are."""
    stride: int
    """Every stride-th frame is a reference frame."""
    keyint: int
    """Every keyint-th frame is a key frame."""
    crf: float
    """x264's quality; less is better."""
    preset: str
    """x264's."""

    def options(self) -> dict[str, str]:
        """Of x264. More threads and mbtree give other bytes from run to run."""
        parameters = {
            "bframes": self.stride - 1,
            "b-adapt": 0,
            "b-pyramid": "none",
            "scenecut": 0,
            "open-gop": 0,
            "mbtree": 0,
            "keyint": self.keyint,
            "min-keyint": self.keyint,
        }
        return {
            "preset": self.preset,
            "tune": "fastdecode",
            "crf": f"{self.crf:g}",
            "threads": "1",
            "x264-params": ":".join(f"{key}={value}" for key, value in parameters.items()),
        }


@dataclass(frozen=True)
class Transcoded:
    """What became of a video."""

    source: Inspection
    """What it was; if that is not ok, nothing was written."""
    width: int = 0
    """In pixels, of what was written."""
    height: int = 0
    length: int = 0
    """In bytes."""
    crc32: int = 0
    psnr: float = 0.0
    """Of the luma against the shrunk source, in dB, on average over the frames."""
    min_psnr: float = 0.0
    """Of the worst frame."""
    out_of_disk: tuple[int, str] | None = None
    """The number and the words of an error in writing."""


class ExactnessError(Exception):
    """What was written is not what was read."""


class Encoder:
    """Frames in, an MP4 file out."""

    def __init__(self, encoding: Encoding, rate: Fraction) -> None:
        self.encoding = encoding
        self.rate = rate
        self.content = io.BytesIO()
        self.container = av.open(self.content, "w", format="mp4", options={"fflags": "+bitexact"})
        self.stream: av.VideoStream | None = None
        self.size: Size | None = None  # not turned; all frames get that of the first
        self.count = 0

    def add(self, frame: av.VideoFrame) -> None:
        """The next frame, as decoded."""
        if self.size is None:
            self.size = small_size(frame, self.encoding.short_side)
        small = shrink(frame, self.size)
        if self.stream is None:
            self.stream = self.container.add_stream(
                "libx264", rate=self.rate, options=self.encoding.options()
            )
            self.stream.width, self.stream.height = small.width, small.height
            self.stream.pix_fmt = "yuv420p"
            context = self.stream.codec_context
            for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
                setattr(context, name, getattr(frame, name))
        small.pts, small.time_base = self.count, 1 / self.rate
        small.pict_type = av.video.frame.PictureType.NONE
        self.container.mux(self.stream.encode(small))
        self.count += 1

    def finish(self) -> bytes:
        """The file."""
        assert self.stream is not None  # an undamaged video has a frame
        self.container.mux(self.stream.encode())
        self.container.close()
        return self.content.getvalue()


def small_size(frame: av.VideoFrame, short_side: int) -> Size:
    """The size of a frame once its short side is no larger: even sides, not turned."""
    scale = min(1.0, short_side / min(frame.width, frame.height))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (frame.width, frame.height))
    return width, height


def shrink(frame: av.VideoFrame, size: Size) -> av.VideoFrame:
    """The frame as 4:2:0, in that size, and then turned as it is shown."""
    turn = TURNS[display_matrix(frame)][2]
    small = shrunk(frame, size)
    return filtered(small, turn) if turn else small


def luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    """(H, W) of a 4:2:0 frame."""
    return frame.to_ndarray()[: frame.height].astype(np.float32)


def _digest(frame: av.VideoFrame) -> bytes:
    """Of its pixels."""
    return hashlib.sha256(frame.to_ndarray().tobytes()).digest()


class Comparison:
    """Holds the frames of a source against those of a file made from them, both in their order.

    Args:
        size: that the frames of the source are shrunk to.
    """

    def __init__(self, content: bytes, encoding: Encoding, size: Size) -> None:
        self.encoding = encoding
        self.size = size
        self.container = av.open(io.BytesIO(content), "r")
        stream = self.container.streams.video[0]
        stream.codec_context.options = STRICT
        self.frames = self.container.decode(stream)
        self.psnr: list[float] = []
        self.alone: list[bytes] = []  # digests of the frames that are to decode without others
        step = 1 / (Fraction(stream.average_rate or 0) * Fraction(stream.time_base or 0))
        self.step = step

    def add(self, frame: av.VideoFrame) -> None:
        """The next frame of the source.

        Raises:
            ExactnessError: that of the file is missing, or another.
        """
        number, packed = len(self.psnr), next(self.frames, None)
        if packed is None or packed.pts != number * self.step or packed.is_corrupt:
            raise ExactnessError(f"frame {number} is missing")
        written, original = luma(packed), luma(shrink(frame, self.size))
        error = max(float(np.square(written - original).mean()), 1e-4)
        self.psnr.append(10 * float(np.log10(255**2 / error)))
        if self.psnr[-1] < MIN_PSNR:
            raise ExactnessError(f"frame {number} is another picture ({self.psnr[-1]:.1f} dB)")
        if number % self.encoding.stride == 0:
            self.alone.append(_digest(packed))

    def finish(self, content: bytes) -> None:
        """Check that the file has no other frames, and which of them decode alone.

        Raises:
            ExactnessError: it has, or others.
        """
        if next(self.frames, None) is not None:
            raise ExactnessError("there are more frames than in the source")
        self.container.close()
        with av.open(io.BytesIO(content), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.skip_frame = "NONREF"
            stride = self.encoding.stride * self.step
            alone = [
                _digest(frame)
                for frame in container.decode(stream)
                if (frame.pts or 0) % stride == 0
            ]
        if alone != self.alone:
            raise ExactnessError("reference frames alone decode to other pixels")


def transcode(
    path: Path,
    frames: tuple[str, int, int] | None,
    encoding: Encoding,
    max_bytes: int = MAX_CLIP_BYTES,
) -> tuple[Transcoded, bytes]:
    """A video, or a folder of frames (template, first number, how many), and its new content.

    The source is decoded strictly, twice: to encode it, and to hold each frame against the result.
    """

    def decode(each: Callable[[av.VideoFrame], None]) -> Inspection:
        if frames:
            return inspect_frames(path, *frames, each, max_bytes=max_bytes)
        return inspect_video(path, each, max_bytes=max_bytes)

    try:
        encoder = Encoder(encoding, _rate(path) if frames is None else Fraction(FRAMES_FPS))
        found = decode(encoder.add)
        if not found.ok:
            return Transcoded(found), b""
        content = encoder.finish()
        assert encoder.size is not None  # an undamaged video has a frame
        comparison = Comparison(content, encoding, encoder.size)
        again = decode(comparison.add)
        if again != found:
            raise ExactnessError(f"its second decoding differs: {again.error}")
        comparison.finish(content)
    except (ExactnessError, av.FFmpegError, ValueError, MemoryError) as error:
        reason = f"cannot be packed ({error})"
        return Transcoded(Inspection(ok=False, error=reason)), b""
    assert encoder.stream is not None
    return Transcoded(
        found,
        encoder.stream.width,
        encoder.stream.height,
        len(content),
        zlib.crc32(content),
        round(float(np.mean(comparison.psnr)), 3),
        round(min(comparison.psnr), 3),
    ), content


def _rate(path: Path) -> Fraction:
    """Frames per second of a video file, on average; a usual number where that is not known."""
    try:
        with open_container(check_file(path), path) as container:
            rate = frame_rate(best_stream(container, path))
    except (av.FFmpegError, OSError, ValueError, DecodeError):
        rate = None  # what is wrong is said once it is decoded
    return Fraction(rate).limit_denominator(1001) if rate else Fraction(FRAMES_FPS)


def write(
    path: str,
    frames: Sequence[Any] | None,
    target: str,
    encoding: Mapping[str, Any],
    max_bytes: int,
) -> Transcoded:
    """Answer a request."""
    of_folder: Any = frames and tuple(frames)
    done, content = transcode(Path(path), of_folder, Encoding(**encoding), max_bytes)
    try:
        if done.source.ok:
            partial = Path(f"{target}.{os.getpid()}")
            partial.write_bytes(content)
            partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        return Transcoded(
            done.source, out_of_disk=(error.errno or 0, f"{error.strerror}: {target}")
        )
    return done


if __name__ == "__main__":
    serve(write)
