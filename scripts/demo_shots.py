"""Shots of the demonstration of curate: rendered ones, and pieces of genuine footage without a cut.

Every function gives pictures in blue, green, red, as OpenCV has them: (height, width, 3), uint8.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from make_demo_clips import photo_path
from numpy.typing import NDArray
from PIL import Image

from videomae.video.container import ANY_TEXT

Picture = NDArray[np.uint8]
FPS = 25
PHOTOS = (
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
    "skimage/data/motorcycle_left.png",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "skimage/data/coins.png",
    "skimage/data/brick.png",
    "skimage/data/gravel.png",
    "skimage/data/camera.png",
    "skimage/data/ihc.png",
)
"""Photographs of installed packages; those that scripts/bench_duplicates.py uses are not among
them."""
SINGLE_TAKES = {
    "v_SoccerJuggling_g24_c01.avi": ((0.0, 4.0), (4.2, 4.0)),
    "Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": ((0.0, 2.7),),
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": ((0.0, 2.7),),
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": ((0.0, 2.4),),
    "WUzgd7C1pWA.mp4": ((0.0, 3.4), (4.0, 3.4)),
    "SOX5yA1l24A.mp4": ((0.2, 2.6), (4.8, 2.2)),
    "bikes.mp4": ((3.2, 2.1), (5.7, 1.7), (7.7, 1.7)),
    "vtest.avi": ((0.0, 4.0), (20.0, 4.0), (40.0, 4.0), (60.0, 4.0)),
}
"""Start and duration, in seconds, of pieces of genuine footage that show no cut (looked at). The
thresholds of the matcher were tuned on none of these files."""
STATIC = ("vtest.avi",)
"""Footage of a camera that stands still."""


@dataclass(frozen=True)
class Shot:
    """A shot: what one camera takes without a cut. Clips of shots of one name are copies."""

    name: str
    kind: str
    """wander, photo, camera, still or genuine."""
    seconds: float
    seed: int = 0
    moment: int = 0
    """Number of the recording of a still camera."""
    file: str = ""
    """Photograph of an installed package, or file of genuine footage."""
    start_s: float = 0.0
    take: str = ""
    """Camera or take, of which other shots can be."""


def pictures(shot: Shot, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield the frames of a shot at 25 a second, (width, height) pixels large."""
    makers: dict[str, Callable[[Shot, tuple[int, int]], Iterator[Picture]]] = {
        "wander": wander,
        "photo": photo,
        "camera": camera,
        "still": still,
        "genuine": genuine,
    }
    return makers[shot.kind](shot, size)


def scenery(seed: int, width: int, height: int) -> Picture:
    """Return a picture of soft and sharp structures, with ellipses and boxes in it."""
    rng = np.random.default_rng([7, seed])
    picture = np.zeros((height, width, 3), np.float32) + rng.uniform(80, 170, 3)
    for cells, strength in ((3, 70), (9, 45), (27, 30), (110, 18)):
        noise = rng.uniform(-1, 1, (cells, 2 * cells, 3)).astype(np.float32)
        picture += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    drawn = picture.clip(0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(10, 24))):
        at = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        axes = int(rng.uniform(8, height / 6)), int(rng.uniform(8, height / 6))
        colour = [int(each) for each in rng.integers(20, 236, 3)]
        if rng.random() < 0.5:
            cv2.ellipse(drawn, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            cv2.rectangle(drawn, at, (at[0] + axes[0], at[1] + axes[1]), colour, -1)
    return drawn


def moving(picture: Picture, things: Any, number: int) -> Picture:
    """Return a picture with some things in it that move at their own speeds."""
    height, width = picture.shape[:2]
    picture = picture.copy()
    for at, speed, side, colour in things:
        x, y = (at + number * speed) % (width, height)
        cv2.ellipse(picture, (int(x), int(y)), (int(side), int(side * 1.6)), 0, 0, 360, colour, -1)
    return picture


def things(rng: np.random.Generator, size: tuple[int, int], count: int, largest: float) -> Any:
    """Return places, speeds, sizes and colours of things that move."""
    return [
        (
            rng.uniform(0, size),
            rng.normal(0, 2.5, 2),
            rng.uniform(largest / 2, largest),
            [int(each) for each in rng.integers(0, 256, 3)],
        )
        for _ in range(count)
    ]


def held_by_hand(picture: Picture, rng: np.random.Generator, shot: Shot, size: Any) -> Any:
    """Yield what a camera sees that wanders over a picture, and comes nearer or goes away."""
    room = np.subtract(picture.shape[1::-1], size)
    rates, phases = rng.uniform(0.06, 0.3, (3, 2)), rng.uniform(0, 2 * np.pi, (3, 2))
    for number in range(round(shot.seconds * FPS)):
        swing = np.sin(2 * np.pi * rates * number / FPS + phases)
        zoom = 1 - 0.12 * (1 + swing[2, 0])
        x, y = room * (0.5 + 0.35 * swing[0] + 0.15 * swing[1])
        matrix = np.array([[zoom, 0, x], [0, zoom, y]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        yield cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)


def wander(shot: Shot, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield a scenery that a camera wanders over, and in which things move."""
    rng = np.random.default_rng([8, shot.seed])
    picture = scenery(shot.seed, int(1.9 * size[0]), int(1.9 * size[1]))
    passing = things(rng, size, int(rng.integers(1, 5)), min(size) / 9)
    for number, seen in enumerate(held_by_hand(picture, rng, shot, size)):
        yield moving(seen, passing, number)


def covering(picture: Picture, size: tuple[int, int]) -> Picture:
    """Scale a picture so that it covers a size, and cut off what is too much."""
    height, width = picture.shape[:2]
    factor = max(size[0] / width, size[1] / height)
    scaled = max(size[0], round(width * factor)), max(size[1], round(height * factor))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    large = cv2.resize(picture, scaled, interpolation=way)
    left, top = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return np.ascontiguousarray(large[top : top + size[1], left : left + size[0]])


def photograph(file: str, size: tuple[int, int]) -> Picture:
    """Return a photograph that covers a size."""
    image = np.asarray(Image.open(photo_path(file)).convert("RGB"))
    return covering(np.ascontiguousarray(image[..., ::-1]), size)


def photo(shot: Shot, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield a photograph that a camera wanders over."""
    rng = np.random.default_rng([9, shot.seed])
    picture = photograph(shot.file, (int(1.6 * size[0]), int(1.6 * size[1])))
    yield from held_by_hand(picture, rng, shot, size)


def camera(shot: Shot, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield what a still camera sees: the scene is its own, what passes is of the moment."""
    scene = photograph(shot.file, size) if shot.file else scenery(shot.seed, *size)
    rng = np.random.default_rng([10, shot.seed, shot.moment])
    passing, light = things(rng, size, int(rng.integers(1, 4)), min(size) / 12), 1.0
    light = rng.uniform(0.93, 1.07)
    for number in range(round(shot.seconds * FPS)):
        noise = rng.normal(0, 2, (size[1], size[0], 1))
        yield (moving(scene, passing, number) * light + noise).clip(0, 255).astype(np.uint8)


def still(shot: Shot, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield one picture all the time."""
    scene = photograph(shot.file, size) if shot.file else scenery(shot.seed, *size)
    yield from [scene] * round(shot.seconds * FPS)


@cache
def decoded(file: str, start_s: float, seconds: float) -> list[Picture]:
    """Return a piece of genuine footage at 25 frames a second."""
    found: list[Picture] = []
    with av.open(file, **ANY_TEXT) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or FPS)
        for number, frame in enumerate(container.decode(stream)):
            time_s = number / rate - start_s
            if time_s >= seconds:
                break
            while time_s >= 0 and len(found) <= time_s * FPS:
                found.append(frame.to_ndarray(format="bgr24"))
    return found


def genuine(shot: Shot, size: tuple[int, int]) -> Iterator[Picture]:
    """Yield a piece of genuine footage, cut to a size."""
    for picture in decoded(shot.file, shot.start_s, shot.seconds):
        yield covering(picture, size)


def footage(folder: Path | None) -> list[Shot]:
    """Return the shots of the genuine footage that lies in a folder, at any depth."""
    shots = []
    for name, pieces in SINGLE_TAKES.items() if folder else ():
        for file in sorted(folder.rglob(name))[:1] if folder else ():
            for start_s, seconds in pieces:
                label = f"{file.stem}@{start_s:g}"
                shot = Shot(label, "genuine", seconds, file=str(file), start_s=start_s)
                shots.append(Shot(**{**shot.__dict__, "take": file.stem}))
    return shots
