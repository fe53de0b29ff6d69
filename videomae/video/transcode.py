"""Transcode one video to a small MP4 file whose every `stride`-th frame decodes without the others.

x264 makes every stride-th frame a reference frame, and those between plain B-frames, on which no
other frame depends. A clip of every stride-th frame from a multiple of the stride on so decodes
from reference frames only. Frame i has the time i over the frame rate.

videomae.pack runs this module as a program, so that a decoder that crashes or hangs affects one
video only. It then reads one JSON array [path, frames, span, target, encoding, max_bytes] a line,
writes the video to `target`, and answers each with one line, the JSON object of a Transcoded.
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
from videomae.lists.formats import Span
from videomae.run.worker_pool import serve
from videomae.video.container import best_stream, check_file, frame_rate, open_container
from videomae.video.inspection import Inspection, inspect_frames, inspect_video
from videomae.video.interface import DecodeError
from videomae.video.picture import TURNS, Size, display_matrix, filtered, shrunk
from videomae.video.strict import STRICT

MIN_PSNR = 20.0
"""Least PSNR of each frame's luma against its source, in dB; less means another picture."""
FRAMES_FPS = 25
"""Frame rate of a folder of frames, in frames per second, as the folder does not say."""


@dataclass(frozen=True)
class Encoding:
    """Encoder settings for the videos of a pack."""

    short_side: int
    """Length of the short side, in pixels; smaller videos keep their size."""
    stride: int
    """Distance of reference frames: every stride-th frame is one."""
    keyint: int
    """Distance of key frames: every keyint-th frame is one."""
    crf: float
    """Constant rate factor of x264; lower means better quality."""
    preset: str
    """Speed preset of x264, such as medium."""

    def options(self) -> dict[str, str]:
        """Return the options of x264; several threads or mbtree would make the bytes vary."""
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
    """Result of transcoding a video."""

    source: Inspection
    """Inspection of the source; if it is not ok, nothing was written."""
    width: int = 0
    """Width of the written video, in pixels."""
    height: int = 0
    """Height of the written video, in pixels."""
    length: int = 0
    """Size of the written file, in bytes."""
    crc32: int = 0
    """CRC-32 of the written file."""
    psnr: float = 0.0
    """PSNR of the luma against the resized source, in dB, mean over the frames."""
    min_psnr: float = 0.0
    """PSNR of the worst frame, in dB."""
    out_of_disk: tuple[int, str] | None = None
    """Number and message of an error in writing the file; None: there was none."""


class ExactnessError(Exception):
    """Error: the written video differs from its source."""


class Mp4Encoder:
    """Encoder of frames to an MP4 file in memory."""

    def __init__(self, encoding: Encoding, rate: Fraction) -> None:
        self.encoding = encoding
        self.rate = rate
        self.content = io.BytesIO()
        self.container = av.open(self.content, "w", format="mp4", options={"fflags": "+bitexact"})
        self.stream: av.VideoStream | None = None
        self.size: Size | None = None  # before rotation; all frames get the first one's size
        self.count = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Encode the next frame of the source."""
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
        """End the file, and return its bytes."""
        assert self.stream is not None  # an undamaged video has a frame
        self.container.mux(self.stream.encode())
        self.container.close()
        return self.content.getvalue()


def small_size(frame: av.VideoFrame, short_side: int) -> Size:
    """Return the size of a frame whose short side is at most `short_side`, with even sides.

    The size is that before the rotation by the display matrix.
    """
    scale = min(1.0, short_side / min(frame.width, frame.height))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (frame.width, frame.height))
    return width, height


def shrink(frame: av.VideoFrame, size: Size) -> av.VideoFrame:
    """Convert a frame to 4:2:0 in that size, and rotate it as its display matrix says."""
    turn = TURNS[display_matrix(frame)][2]
    small = shrunk(frame, size)
    return filtered(small, turn) if turn else small


def luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    """Return the luma of a 4:2:0 frame: (H, W) float32, in 0 to 255."""
    return frame.to_ndarray()[: frame.height].astype(np.float32)


def _digest(frame: av.VideoFrame) -> bytes:
    """Return the SHA-256 of a frame's pixels."""
    return hashlib.sha256(frame.to_ndarray().tobytes()).digest()


class Comparison:
    """Comparison of a source's frames with those of the file made from them, one by one.

    Args:
        content: bytes of the MP4 file.
        size: size to which the frames of the source are reduced.
    """

    def __init__(self, content: bytes, encoding: Encoding, size: Size) -> None:
        self.encoding = encoding
        self.size = size
        self.container = av.open(io.BytesIO(content), "r")
        stream = self.container.streams.video[0]
        stream.codec_context.options = STRICT
        self.frames = self.container.decode(stream)
        self.psnr: list[float] = []
        self.alone: list[bytes] = []  # digests of the frames that must decode without others
        step = 1 / (Fraction(stream.average_rate or 0) * Fraction(stream.time_base or 0))
        self.step = step

    def add(self, frame: av.VideoFrame) -> None:
        """Compare the next frame of the source with that of the file.

        Raises:
            ExactnessError: the file's frame is missing, or shows another picture.
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
        """Check that the file has no more frames, and that its reference frames decode alone.

        Raises:
            ExactnessError: there are more frames, or reference frames alone give other pixels.
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
    frames: tuple[str, int, int | None] | None,
    encoding: Encoding,
    max_bytes: int = MAX_CLIP_BYTES,
    span: Span | None = None,
) -> tuple[Transcoded, bytes]:
    """Transcode a video in memory; return the result and the bytes of the MP4 file.

    The source is strictly decoded twice: to encode it, and to compare each frame with the result.

    Args:
        frames: template, first number and count of a folder of frames; None: a video file.
        max_bytes: bytes of memory that reading the source may take.
        span: range of the file's frames that become the video; None: all of them.
    """

    def decode(each: Callable[[av.VideoFrame], None], seeks: bool) -> Inspection:
        if frames:
            return inspect_frames(path, *frames, each, max_bytes=max_bytes)
        return inspect_video(path, each, span=span, seeks=seeks, max_bytes=max_bytes)

    rate = Fraction(FRAMES_FPS) if frames else _rate(path)
    made = _transcoded(encoding, rate, lambda each: decode(each, True))
    if made[0].source.ok or span is None or span[0] == 0:
        return made
    # Some undamaged files cannot be decoded from each of their key frames on.
    return _transcoded(encoding, rate, lambda each: decode(each, False))


def _transcoded(
    encoding: Encoding,
    rate: Fraction,
    decode: Callable[[Callable[[av.VideoFrame], None]], Inspection],
) -> tuple[Transcoded, bytes]:
    """Transcode the frames that `decode` passes to a function, both times that it is called."""
    try:
        encoder = Mp4Encoder(encoding, rate)
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
    """Return the mean frames per second of a video file, or FRAMES_FPS if it is not known."""
    try:
        with open_container(check_file(path), path) as container:
            rate = frame_rate(best_stream(container, path))
    except (av.FFmpegError, OSError, ValueError, DecodeError):
        rate = None  # decoding reports the error later
    return Fraction(rate).limit_denominator(1001) if rate else Fraction(FRAMES_FPS)


def write(
    path: str,
    frames: Sequence[Any] | None,
    span: Sequence[Any] | None,
    target: str,
    encoding: Mapping[str, Any],
    max_bytes: int,
) -> Transcoded:
    """Transcode a video and write it to `target`: the answer to one request of videomae.pack."""
    of_folder: Any = frames and tuple(frames)
    of_file: Any = span and tuple(span)
    done, content = transcode(Path(path), of_folder, Encoding(**encoding), max_bytes, of_file)
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
