"""Original videos of the harness: small ones of many kinds, and headers of large ones."""

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

WAYS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("prores", "yuv422p10le"),
    "mkv": ("ffv1", "yuv420p"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "ts": ("mpeg2video", "yuv420p"),
    "flv": ("flv", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"),
    "m4v": ("mjpeg", "yuvj420p"),
}
"""Codec and pixel format, by the ending of a file's name."""


def pictures(count: int, seed: int) -> np.ndarray:
    """(count, 48, 64, 3): coarse noise that moves."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(texture, 2 * number, axis=1) for number in range(count)])


def write(path: Path, *, frames: int = 10, seed: int = 0) -> None:
    """A video whose name ends in one of WAYS, or in gif; its bytes are always the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pictures(frames, seed)
    if path.suffix == ".gif":
        first, *others = [Image.fromarray(image) for image in images]
        first.save(path, save_all=True, append_images=others, duration=40)
        return
    codec, pixels = WAYS[path.suffix[1:]]
    form = {".m4v": "mp4", ".wmv": "asf", ".ts": "mpegts", ".mkv": "matroska"}.get(path.suffix)
    with av.open(str(path), "w", format=form, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 5
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], pixels
        stream.options = {"flags": "+bitexact"}
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())


def large_h264(path: Path, side: int) -> None:
    """One grey H.264 picture of a large size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.codec_context.thread_count = 1
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        frame = av.VideoFrame(side, side, "yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def large_gif(path: Path, side: int) -> None:
    """A GIF whose screen is said to be large."""
    write(path.with_suffix(".gif"))
    content = bytearray(path.with_suffix(".gif").read_bytes())
    struct.pack_into("<HH", content, 6, side, side)
    path.write_bytes(content)


def large_png(path: Path, side: int) -> None:
    """A PNG that promises many rows and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    chunks = (chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def large_bmp(path: Path, side: int) -> None:
    """A BMP that promises many rows and has none."""
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 2**31 - 1, 0, 0, 54) + head + bytes(4096))


def large_y4m(path: Path, side: int) -> None:
    """Plain pictures, of which a header alone says how large they are."""
    head = f"YUV4MPEG2 W{side} H{side} F25:1 Ip A1:1 C420jpeg\nFRAME\n"
    path.write_bytes(head.encode() + bytes(4096))


def large_ivf(path: Path, side: int) -> None:
    """An IVF file whose header promises large pictures, with a VP8 key frame of that size."""
    frame = b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", min(side, 16383), min(side, 16383))
    frame += bytes(64)
    head = b"DKIF" + struct.pack("<HH4sHHIIII", 0, 32, b"VP80", side, side, 25, 1, 2**31 - 1, 0)
    path.write_bytes(head + struct.pack("<IQ", len(frame), 0) + frame)


def large_ppm(path: Path, side: int) -> None:
    """A portable pixel map that promises many rows and has none."""
    path.write_bytes(f"P6\n{side} {side}\n255\n".encode() + bytes(4096))


LARGE: tuple[tuple[str, Callable[[Path, int], None], int], ...] = (
    ("mp4", large_h264, 4096),
    ("mp4", large_h264, 8192),
    ("gif", large_gif, 65535),
    ("mp4", large_gif, 30000),
    ("png", large_png, 30000),
    ("png", large_png, 2**31 - 1),
    ("bmp", large_bmp, 20000),
    ("bmp", large_bmp, 2**31 - 1),
    ("y4m", large_y4m, 16000),
    ("mp4", large_y4m, 2**31 - 1),
    ("ivf", large_ivf, 65535),
    ("ppm", large_ppm, 30000),
)
"""Ending, writer and side of files whose pictures are large, or said to be."""
