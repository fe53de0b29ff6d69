"""Rendered scenes: cameras that pan over a texture, and cameras that stand still."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from videomae.curate.fingerprint import Fingerprint, Fingerprinter

Frame = NDArray[np.uint8]
SIZE = 320, 180
FPS = 10


def texture(seed: int, width: int, height: int) -> Frame:
    """A picture of soft and sharp structures, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cells, strength in ((5, 90), (14, 50), (60, 25)):
        coarse = rng.integers(0, 256, (cells, 2 * cells, 3), dtype=np.uint8)
        resized = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture += (np.asarray(resized) / 255.0 - 0.5) * strength
    return (picture + 120).clip(0, 255).astype(np.uint8)


def things(frame: Frame, rng_seed: tuple[int, int], number: int, largest: int) -> Frame:
    """A frame with three boxes that move, each in its own way."""
    rng = np.random.default_rng(rng_seed)
    frame = frame.copy()
    height, width, _ = frame.shape
    for _ in range(3):
        x, y = rng.uniform(0, (width, height)) + number * rng.normal(0, 4, 2)
        x += 15 * np.sin(number * rng.uniform(0.1, 0.5))
        side, colour = rng.integers(largest // 2, largest), rng.integers(0, 256, 3)
        left, top = int(x % width), int(y % height)
        frame[top : top + side, left : left + side] = colour
    return frame


def panned(seed: int, seconds: float = 4, start_s: float = 0) -> Iterator[Frame]:
    """Frames of a camera that wanders over a texture on which things move."""
    width, height = SIZE
    picture = texture(seed, 2 * width, 2 * height)
    rng = np.random.default_rng([seed, 1])
    rates = rng.uniform(0.05, 0.3, 2)
    for number in range(int(start_s * FPS), int((start_s + seconds) * FPS)):
        swing = (0.5 + 0.5 * np.sin(rates * number / FPS)) * (width, height)
        x, y = swing.astype(int)
        yield things(picture[y : y + height, x : x + width], (seed, 2), number, 40)


def camera(seed: int, moment: int, seconds: float = 4) -> Iterator[Frame]:
    """Frames of a still camera: the scene is its own, what passes is the moment's."""
    scene = texture(seed, *SIZE)
    noise = np.random.default_rng([seed, moment])
    for number in range(int(seconds * FPS)):
        frame = things(scene, (seed + 1000, moment), number, 20).astype(np.int16)
        frame += noise.integers(-3, 4, frame.shape, dtype=np.int16)
        yield frame.clip(0, 255).astype(np.uint8)


def still(seed: int, seconds: float = 3) -> Iterator[Frame]:
    """One picture all the time."""
    yield from [texture(seed, *SIZE)] * int(seconds * FPS)


def fingerprint(frames: Iterable[Frame], fps: float = FPS) -> Fingerprint:
    """The fingerprint of frames at a steady rate."""
    maker = Fingerprinter()
    for index, frame in enumerate(frames):
        maker.add(frame, index, index / fps)
    return maker.finish()


def video(path: Path, frames: Iterable[Frame]) -> Path:
    """Write frames as a video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
