"""The frames that the `ffmpeg` command shows of a file: what every decoder is held against.

    ffmpeg -noautorotate -threads 1 -i FILE -map 0:INDEX -vsync passthrough -an -autoscale 0
        -f framemd5 -
    ffmpeg -threads 1 -i FILE -map 0:INDEX -vsync passthrough -an -pix_fmt rgb24 -f rawvideo -

INDEX is the stream that av_find_best_stream names. The first command gives each frame as decoded,
with its own size; the second turns it as the file says and scales it to the size of the first.
In several threads FFmpeg 5.1 decodes interlaced MPEG-4 with B-frames differently from run to run.

With `-flags bitexact` before -i FFmpeg decodes without the short cuts that round some pixels of
MPEG-4 another way. PyAV's FFmpeg 8 has fewer of these than FFmpeg 5.1.
"""

import hashlib
import json
import os
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from videomae.video.container import ANY_TEXT

TIMEOUT_S = 300
"""No file of these takes so long: ffmpeg hangs."""


class OracleError(Exception):
    """A file of which ffmpeg shows nothing."""


@dataclass(frozen=True)
class Shown:
    """What ffmpeg shows of a file."""

    pixels: str
    """The pixel format of the stream."""
    native: list[str]
    """The MD5 of every frame as decoded."""
    width: int
    """In pixels, as shown: after rotation."""
    height: int
    complaints: list[str]
    """What ffmpeg says is wrong with the file."""
    rgb: str
    """The file of all frames as shown, below the folder of the cache."""

    def __len__(self) -> int:
        return len(self.native)

    def frames(self, cache: Path) -> NDArray[np.uint8]:
        """(T, H, W, 3) RGB, all of them, mapped from the file."""
        shape = (len(self), self.height, self.width, 3)
        return np.memmap(cache / self.rgb, np.uint8, "r", shape=shape)


def shown(path: Path, cache: Path, *, bitexact: bool = False) -> Shown:
    """What ffmpeg shows of a file; it is run once for files of the same content and ending.

    Args:
        cache: a folder for what ffmpeg shows.
        bitexact: whether it decodes without short cuts.

    Raises:
        OracleError: ffmpeg shows nothing.
    """
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:32] + "-exact" * bitexact + path.suffix
    record = cache / f"{key}.json"
    if not record.exists():
        cache.mkdir(parents=True, exist_ok=True)
        found = _ask(path, cache, f"{key}.rgb", ("-flags", "bitexact") if bitexact else ())
        partial = cache / f"{key}.{os.getpid()}"
        partial.write_text(json.dumps(asdict(found)))
        partial.replace(record)
    return Shown(**json.loads(record.read_text()))


def _ask(path: Path, cache: Path, rgb: str, flags: tuple[str, ...]) -> Shown:
    """Run both commands."""
    index, pixels, given = _best_stream(path)
    given = (*flags, *given)
    mapped = ("-map", f"0:{index}", "-vsync", "passthrough", "-an")
    listing, complaints = _run(
        "-noautorotate", *given, *mapped, "-autoscale", "0", "-f", "framemd5"
    )
    native = [line.rsplit(",", 1)[1].strip() for line in listing.splitlines() if line[0] != "#"]
    partial = cache / f"{rgb}.{os.getpid()}"
    raw = ("-pix_fmt", "rgb24", "-f", "rawvideo", str(partial))
    sizes = ("-pix_fmt", "rgb24", "-f", "framemd5")
    try:
        heading, _ = _run(*given, *mapped, *raw, *mapped, *sizes)
        dimensions = re.search(r"^#dimensions 0: (\d+)x(\d+)", heading, re.MULTILINE)
        if not native or dimensions is None:
            raise OracleError("; ".join(complaints) or "no frame")
        width, height = (int(number) for number in dimensions.groups())
        if partial.stat().st_size != len(native) * width * height * 3:
            raise OracleError("its two commands show different numbers of frames")
        partial.replace(cache / rgb)
    finally:
        partial.unlink(missing_ok=True)
    return Shown(pixels, native, width, height, complaints, rgb)


def _best_stream(path: Path) -> tuple[int, str, tuple[str, ...]]:
    """The index of the stream, its pixel format, and the arguments that open the file."""
    try:
        with av.open(str(path), **ANY_TEXT) as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                raise OracleError("no video stream")
            context = stream.codec_context
            decoder = ("-c:v", "libaom-av1") if context.codec.canonical_name == "av1" else ()
            given = (*decoder, "-threads", "1", "-i", str(path))
            return stream.index, context.pix_fmt or "none", given
    except (av.FFmpegError, ValueError) as error:
        raise OracleError(f"{type(error).__name__}: {error}") from error


def _run(*arguments: str) -> tuple[str, list[str]]:
    """What ffmpeg prints, and what it complains of."""
    line = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments, "-"]
    done = subprocess.run(line, capture_output=True, check=False, timeout=TIMEOUT_S)
    words = done.stderr.decode(errors="replace").splitlines()
    return done.stdout.decode(), [re.sub(r" @ 0x[0-9a-f]+", "", word)[:200] for word in words][:20]
