#!/usr/bin/env python
"""Render the demo's clips: eight camera motions over photographs that Python packages bring along.

The class of a clip lies in how the camera moves and (nearly) in no single frame of it: the motion
is symmetric about the middle of the clip, so all classes look alike there, and every photograph
serves every class. Nothing is downloaded; the photographs ship inside scikit-image, scikit-learn
and matplotlib. A clip is a function of (seed, split, index) alone, whatever --workers is.
"""

import argparse
import io
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

VERSION = 1  # of the clips: raise it whenever the same options would give other pixels

# Files inside installed packages. No photograph is in both lists.
TRAIN_PHOTOS = (
    "skimage/data/astronaut.png",
    "skimage/data/chelsea.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/ihc.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/gravel.png",
    "skimage/data/camera.png",
    "sklearn/datasets/images/china.jpg",
)
TEST_PHOTOS = (
    "skimage/data/coffee.png",
    "skimage/data/rocket.jpg",
    "sklearn/datasets/images/flower.jpg",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "skimage/data/coins.png",
    "skimage/data/brick.png",
)
SPLITS = {"pretrain": TRAIN_PHOTOS, "train": TRAIN_PHOTOS, "test": TEST_PHOTOS}
PIP_NAMES = {"skimage": "scikit-image", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


class Motion(NamedTuple):
    """What the CAMERA does in one frame at speed 1; what is seen on screen moves the other way."""

    right: float = 0.0
    """Pixels of a view 32 wide; the content moves left."""
    down: float = 0.0
    """The same; the content moves up."""
    widen: float = 0.0
    """Logarithm of the growth of the field of view; the content shrinks."""
    clockwise: float = 0.0
    """Radians, as seen from behind the camera; the content turns counterclockwise."""


ZOOM, ROLL = 0.7 / 8, 1 / 8
# The names are the camera's motion: in pan_left the content moves right on screen, in pan_up down;
# in zoom_in it grows; in rotate_clockwise it turns counterclockwise. A label is a place in here.
MOTIONS = {
    "pan_left": Motion(right=-1),
    "pan_right": Motion(right=1),
    "pan_up": Motion(down=-1),
    "pan_down": Motion(down=1),
    "zoom_in": Motion(widen=-ZOOM),
    "zoom_out": Motion(widen=ZOOM),
    "rotate_clockwise": Motion(clockwise=ROLL),
    "rotate_counterclockwise": Motion(clockwise=-ROLL),
}
CLASSES = tuple(MOTIONS)

VIEW = 32  # the model's resolution: the lengths below are in pixels of a view this wide
SPEED = (0.8, 2.2)  # pixels per frame; zoom and roll are scaled to move pixels about as far
LEVELS = (1.0, 1.6, 2.5)  # photo pixels per view pixel
TILT, SCALE = 0.3, 0.15  # of the middle of the clip: +- radians, +- log of the field of view
CANDIDATES = 4  # places tried per clip; the one with the most texture is filmed (avoids sky)
CONTRAST, BRIGHTNESS, NOISE = 0.2, 0.1, 0.02  # noise: standard deviation; full range is 1
FPS = 25
X264 = {"preset": "veryfast", "bf": "0", "threads": "1"}  # more threads would give other bytes
SHRINK = 1.25  # step between the antialiased copies of a photograph from which pixels are read


@dataclass(frozen=True)
class Settings:
    """All that decides the files' contents. Every field is an option of the same name."""

    seed: int = 0
    pretrain: int = 3000
    train: int = 200
    test: int = 400
    frames: int = 10
    size: int = 128
    crf: int = 20

    def __post_init__(self) -> None:
        for name in SPLITS:
            check(name, getattr(self, name), 1, 99_999)
        check("seed", self.seed, 0, 2**63)
        check("frames", self.frames, 2, 16)  # longer, and the camera would leave the photograph
        check("size", self.size, VIEW, 1024)
        if self.size % 2:
            raise ValueError(f"--size {self.size}: must be even (H.264 halves the colour planes)")
        check("crf", self.crf, 0, 51)

    def parameters(self) -> dict[str, int]:
        return {"version": VERSION, **asdict(self)}


class Clip(NamedTuple):
    """Clip `index` of its split, counted from 0. Labels go round, photos stay for a round."""

    split: str
    index: int

    @property
    def label(self) -> int:
        return self.index % len(CLASSES)

    @property
    def photo(self) -> str:
        photos = SPLITS[self.split]
        return photos[self.index // len(CLASSES) % len(photos)]

    @property
    def path(self) -> str:
        """Relative to OUT/videos. Names are for people; those of unlabelled clips hide the class."""
        motion = "" if self.split == "pretrain" else f"_{CLASSES[self.label]}"
        return f"{self.split}/{self.index:05d}{motion}_{Path(self.photo).stem}.mp4"


def check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"--{name} {value}: must lie in {low}..{high}")


def photo_path(photo: str) -> Path:
    """Where the installed package keeps it; the package itself is not imported.

    Raises:
        ValueError: the package, or the photograph in it, is not installed.
    """
    package, _, inside = photo.partition("/")
    spec = find_spec(package)
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ValueError(
            f"photograph {path or photo} is missing: pip install --force-reinstall {PIP_NAMES[package]}"
        )
    return path


@lru_cache(maxsize=None)
def photo_copy(photo: str, mirrored: bool, shrink: float) -> Image.Image:
    """RGB, antialiased to 1/shrink of the photograph, of which big ones count as 600 pixels high.

    Mirroring turns the photograph over before the camera moves, so that the motion stays as it is.
    """
    image = Image.open(photo_path(photo)).convert("RGB")
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shrink *= max(1.0, min(image.size) / 600)
    width, height = (round(side / shrink) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def texture(image: Image.Image) -> float:
    """The weaker of the mean horizontal and the mean vertical step in brightness."""
    grey = np.asarray(image.convert("L"), np.float32)
    return float(min(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))


def render(settings: Settings, clip: Clip) -> NDArray[np.uint8]:
    """Film one clip: (T, H, W, 3) RGB.

    Nothing that is drawn here depends on the label, so the classes differ in the motion alone.
    """
    rng = np.random.default_rng((settings.seed, list(SPLITS).index(clip.split), clip.index))
    speed, tilt = rng.uniform(*SPEED), rng.uniform(-TILT, TILT)
    scale, mirrored = math.exp(rng.uniform(-SCALE, SCALE)), bool(rng.random() < 0.5)
    times = speed * (np.arange(settings.frames) - (settings.frames - 1) / 2)  # 0 in the middle

    # Half of the widest view, corner to corner, that any class could show: a zoom's first or last.
    reach = scale * math.exp(ZOOM * times[-1]) * VIEW / math.sqrt(2) + 1
    whole = photo_copy(clip.photo, mirrored, 1.0)
    level = rng.choice([level for level in LEVELS if 2.1 * reach * level < min(whole.size)] or [1.0])
    margin = reach * level
    places = rng.uniform(margin, np.array(whole.size) - margin, (CANDIDATES, 2))  # (x, y)
    shrunk = photo_copy(clip.photo, mirrored, level)
    boxes = [np.rint(np.tile(place / level, 2) + np.repeat((-16, 16), 2)) for place in places]
    place = places[np.argmax([texture(shrunk.crop(tuple(map(int, box)))) for box in boxes])]

    motion = MOTIONS[CLASSES[clip.label]]
    frames = np.empty((settings.frames, settings.size, settings.size, 3), np.float32)
    for frame, time in zip(frames, times, strict=True):
        zoom = level * scale * math.exp(motion.widen * time)  # photo pixels per view pixel
        angle = tilt + motion.clockwise * time
        shift = (motion.right * time, motion.down * time)
        frame[:] = look(clip.photo, mirrored, place, zoom, angle, shift, settings.size)

    contrast, brightness = 1 + rng.uniform(-CONTRAST, CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    cells = np.arange(settings.size) * VIEW // settings.size  # grain as coarse as the model sees
    noise = rng.standard_normal((settings.frames, VIEW, VIEW, 3), np.float32)
    frames = (frames - 127.5) * contrast + 127.5 + 255 * brightness
    frames += 255 * NOISE * noise[:, cells][:, :, cells]
    return frames.clip(0, 255).round().astype(np.uint8)


def look(
    photo: str,
    mirrored: bool,
    place: NDArray[np.float64],
    zoom: float,
    angle: float,
    shift: tuple[float, float],
    size: int,
) -> Image.Image:
    """One frame, size x size, by bilinear interpolation from a copy that needs no shrinking.

    Args:
        place: (x, y) at which the camera looks, in pixels of the whole photograph.
        zoom: photo pixels per view pixel.
        angle: of the camera, radians clockwise.
        shift: (right, down) of the camera along its own axes, in view pixels.
    """
    step = zoom * VIEW / size  # photo pixels per pixel of the frame
    copy = photo_copy(photo, mirrored, SHRINK ** max(0, round(math.log(step, SHRINK))))
    ratio = np.divide(copy.size, photo_copy(photo, mirrored, 1.0).size)  # (2,), x and y
    cos, sin = math.cos(angle), math.sin(angle)
    axes = np.array([[cos, -sin], [sin, cos]])  # camera (right, down) -> photo (x, y)
    start = place + zoom * axes @ (np.array(shift) - VIEW / 2)  # the frame's top left corner
    (a, b), (d, e) = (step * axes * ratio[:, None]).tolist()
    c, f = (start * ratio).tolist()
    transform = Image.Transform.AFFINE
    return copy.transform((size, size), transform, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def encode(frames: NDArray[np.uint8], crf: int) -> bytes:
    """(T, H, W, 3) RGB to an H.264 MP4 file (yuv420p) whose only key frame is the first."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {**X264, "crf": str(crf), "g": str(len(frames))}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write all of a file or nothing: under another name first, then renamed."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def make_clip(settings: Settings, out: Path, clip: Clip) -> None:
    write(out / "videos" / clip.path, encode(render(settings, clip), settings.crf))


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def render_all(settings: Settings, out: Path, workers: int) -> None:
    """Write every video, with a progress bar where there is a terminal."""
    clips = [Clip(split, i) for split in SPLITS for i in range(getattr(settings, split))]
    for split in SPLITS:
        (out / "videos" / split).mkdir(parents=True, exist_ok=True)
    job = partial(make_clip, settings, out)
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        done: Iterable[None] = map(job, clips)
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(
                ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
            )
            done = pool.map(job, clips, chunksize=8)
        progress = stack.enter_context(Progress(*columns))
        for _ in progress.track(done, total=len(clips)):
            pass


def write_lists(settings: Settings, out: Path) -> None:
    """The clip lists (`path`, or `path label`) and the names of the labels, one a line."""
    options = " ".join(f"{name}={value}" for name, value in settings.parameters().items())
    for split in SPLITS:
        clips = [Clip(split, index) for index in range(getattr(settings, split))]
        labelled = split != "pretrain"
        lines = [f"{clip.path} {clip.label}" if labelled else clip.path for clip in clips]
        comment = f"# {split} clips made by scripts/make_demo_clips.py: {options}"
        write(out / f"{split}.txt", "\n".join([comment, *lines, ""]).encode())
    write(out / "classes.txt", "\n".join([*CLASSES, ""]).encode())


def is_complete(settings: Settings, out: Path, overwrite: bool) -> bool:
    """Whether `out` already holds this very set.

    Raises:
        ValueError: it holds a set made with other parameters, and `overwrite` is False.
    """
    manifest = out / "manifest.json"
    if not manifest.is_file():
        return False
    found = json.loads(manifest.read_text()).get("parameters", {})
    wanted = settings.parameters()
    if found != wanted and not overwrite:
        keys = [key for key in wanted if found.get(key) != wanted[key]]
        changes = ", ".join(f"{key} {found.get(key)} instead of {wanted[key]}" for key in keys)
        raise ValueError(
            f"--out {out} holds clips made with {changes}: choose another --out or add --overwrite"
        )
    paths = [Clip(split, i).path for split in SPLITS for i in range(getattr(settings, split))]
    return found == wanted and all((out / "videos" / path).is_file() for path in paths)


def clear(out: Path) -> None:
    """Remove what an earlier or a killed run left, the manifest first. Touches nothing else."""
    (out / "manifest.json").unlink(missing_ok=True)
    for split in SPLITS:
        for path in (out / "videos" / split).glob("[0-9]*_*.mp4*"):
            path.unlink()
