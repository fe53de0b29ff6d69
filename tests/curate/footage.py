"""Rendered videos whose cuts, speed, darkness, bars, blur and frozen parts are known."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
HEIGHT, WIDTH, FPS = 96, 128, 25
OPTIONS = {"crf": "18", "bf": "0", "mbtree": "0", "preset": "veryfast"}


def scenery(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Image:
    """A coloured picture of soft and of sharp structures, larger than a frame: (2H, 3W, 3)."""
    rng = np.random.default_rng(seed)
    size = 3 * width, 2 * height
    base = rng.integers(30, 220, 3)
    coarse = rng.integers(-60, 60, (6, 8, 3)) + base
    fine = rng.integers(-25, 25, (size[1] // 3, size[0] // 3, 3))
    picture = cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    picture += cv2.resize(fine.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return picture.clip(0, 255).astype(np.uint8)


def panned(
    seed: int, frames: int, speed: float = 1.0, height: int = HEIGHT, width: int = WIDTH
) -> Iterator[Image]:
    """Frames of a camera that pans over a scenery by `speed` pixels a frame."""
    picture = scenery(seed, height, width)
    for number in range(frames):
        shift = np.array(
            [[1, 0, -((speed * number) % (2 * width))], [0, 1, -height / 2]], np.float32
        )
        yield cv2.warpAffine(picture, shift, (width, height))  # type: ignore[misc]


def edited(frames: Iterable[Image], edit: Callable[[Image], Any]) -> Iterator[Image]:
    """Frames with each changed by a function."""
    for frame in frames:
        yield np.asarray(edit(frame)).clip(0, 255).astype(np.uint8)


def render(path: Path, frames: Iterable[Image], fps: int = FPS, codec: str = "libx264") -> Path:
    """Write a video; its bytes are always the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = OPTIONS if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.codec_context.thread_count = 1
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            image = np.ascontiguousarray(image)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
