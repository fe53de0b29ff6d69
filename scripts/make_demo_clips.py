#!/usr/bin/env python
"""Render the demo's clips: eight camera motions over photographs that Python packages bring along.

The class of a clip lies in how the camera moves and in no single frame: the motion is symmetric
about the middle of the clip, where all classes look alike, and every photograph serves every class.
(A zoom's first and last frames do differ from the other classes'.) Nothing is downloaded. A clip
depends on its split, its number and the options below, not on --workers.
"""

import argparse
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, NoReturn

import av
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EPILOG = """\
what it writes:
  DIR/videos/{pretrain,train,test}/NNNNN_*.mp4   H.264; the lists' paths start at DIR/videos
  DIR/pretrain.txt            "path" on each line; the photographs of train.txt, other clips
  DIR/train.txt DIR/test.txt  "path label" on each line; these two share no photograph
  DIR/classes.txt             names of the labels 0, 1, ...: what the camera does
  DIR/manifest.json           the options; it appears when all the rest is complete
A complete set made with the same options is left alone; a half-finished one is made anew.
"""
VERSION = 2  # raise it whenever the same options would give other pixels

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

VIEW = 32  # all lengths are in pixels of a view this wide: what the demo's model sees
SPEED = (0.8, 2.2)  # view pixels per frame
ZOOM, ROLL = 0.7 / 8, 1 / 8  # what counts as one pixel: log of the field of view, radians
# What the CAMERA does at speed 1, seen from behind it: (right, down, wider, clockwise). On screen
# the content moves the other way: rightwards in pan_left, down in pan_up, counterclockwise in
# rotate_clockwise; in zoom_in it grows. The label of a class is its place in this table.
MOTIONS = {
    "pan_left": (-1, 0, 0, 0),
    "pan_right": (1, 0, 0, 0),
    "pan_up": (0, -1, 0, 0),
    "pan_down": (0, 1, 0, 0),
    "zoom_in": (0, 0, -ZOOM, 0),
    "zoom_out": (0, 0, ZOOM, 0),
    "rotate_clockwise": (0, 0, 0, ROLL),
    "rotate_counterclockwise": (0, 0, 0, -ROLL),
}
CLASSES = tuple(MOTIONS)

LEVELS = (1.0, 1.6, 2.5)  # photo pixels per view pixel
TILT, SCALE = 0.3, 0.15  # at the middle of a clip: +- radians, +- log of the field of view
CANDIDATES = 4  # places tried per clip; the one with the most texture is filmed (no empty sky)
CONTRAST, BRIGHTNESS = 0.2, 0.1  # +-; the full range is 1
MIP = 1.25  # from one antialiased copy of a photograph to the next smaller one
# More threads would give other bytes; mbtree varies from run to run on small frames.
X264 = {"preset": "veryfast", "tune": "fastdecode", "mbtree": "0", "bf": "0", "threads": "1"}


@dataclass(frozen=True)
class Settings:
    """All that decides what is in the files; each field is the option of that name."""

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
        check("crf", self.crf, 0, 51)
        if self.size % 2:
            raise ValueError(f"--size {self.size}: must be even (H.264 halves the colour planes)")

    def clips(self, split: str) -> list["Clip"]:
        return [Clip(split, number) for number in range(getattr(self, split))]

    def parameters(self) -> dict[str, int]:
        return {"version": VERSION, **asdict(self)}


class Clip(NamedTuple):
    """One clip of a split, numbered from 0. Eight in a row film one photograph, each class once."""

    split: str
    number: int

    @property
    def label(self) -> int:
        return self.number % len(CLASSES)

    @property
    def photo(self) -> str:
        photos = SPLITS[self.split]
        return photos[self.number // len(CLASSES) % len(photos)]

    @property
    def path(self) -> str:
        """Below DIR/videos. Names are for people; unlabelled clips do not tell their class."""
        motion = "" if self.split == "pretrain" else f"{CLASSES[self.label]}_"
        return f"{self.split}/{self.number:05d}_{motion}{Path(self.photo).stem}.mp4"


def check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"--{name} {value}: must lie in {low}..{high}")


def photo_path(photo: str) -> Path:
    """Where an installed package keeps a photograph; the package itself is not imported."""
    package, _, inside = photo.partition("/")
    spec = find_spec(package)
    path = Path(spec.origin if spec and spec.origin else package).parent / inside
    if not path.is_file():
        name = PIP_NAMES[package]
        raise ValueError(f"{photo} is not installed: pip install --force-reinstall {name}")
    return path


@cache
def photo_copy(photo: str, mirrored: bool, shrink: float) -> Image.Image:
    """The photograph in RGB at 1/shrink of its size, antialiased; shrink 1 is 600 pixels at most.

    (On its shorter side.) Mirroring comes before the camera moves, so the motion stays what it is.
    """
    image = Image.open(photo_path(photo)).convert("RGB")
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shrink *= max(1.0, min(image.size) / 600)
    width, height = (round(side / shrink) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def texture(image: Image.Image, centre: NDArray[np.float64]) -> float:
    """Mean brightness step across or down, the weaker of both, in the view-sized box at (x, y)."""
    x, y = (round(c) - VIEW // 2 for c in centre)
    grey = np.asarray(image.crop((x, y, x + VIEW, y + VIEW)).convert("L"), np.float32)
    return float(min(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))


def render(settings: Settings, clip: Clip) -> NDArray[np.uint8]:
    """Film one clip: (T, H, W, 3) RGB. Of all that is drawn here nothing depends on the label."""
    rng = np.random.default_rng((settings.seed, list(SPLITS).index(clip.split), clip.number))
    speed, tilt, mirrored = rng.uniform(*SPEED), rng.uniform(-TILT, TILT), rng.random() < 0.5
    scale = math.exp(rng.uniform(-SCALE, SCALE))
    travel = speed * (np.arange(settings.frames) - (settings.frames - 1) / 2)  # 0 at the middle
    source = partial(photo_copy, clip.photo, bool(mirrored))

    # From the centre to the corner of the widest view that any class could show, a zoom's.
    reach = scale * math.exp(ZOOM * travel[-1]) * VIEW / math.sqrt(2) + 1
    whole = np.array(source(1.0).size)
    level = rng.choice([n for n in LEVELS if n == 1 or 2.1 * n * reach < whole.min()])
    places = rng.uniform(level * reach, whole - level * reach, (CANDIDATES, 2))  # (x, y)
    place = max(places, key=lambda xy: texture(source(level), xy / level))

    right, down, wider, clockwise = MOTIONS[CLASSES[clip.label]]
    views = []
    for moved in travel:
        zoom = level * scale * math.exp(wider * moved)  # photo pixels per view pixel
        shift = moved * np.array([right, down])
        views.append(look(source, place, zoom, tilt + clockwise * moved, shift, settings.size))

    contrast, brightness = rng.uniform(-CONTRAST, CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    frames = (np.stack(views) - np.float32(127.5)) * (1 + contrast) + 255 * (0.5 + brightness)
    return frames.round().clip(0, 255).astype(np.uint8)


def look(
    source: Callable[[float], Image.Image],
    place: NDArray[np.float64],
    zoom: float,
    angle: float,
    shift: NDArray[np.float64],
    size: int,
) -> NDArray[np.uint8]:
    """One frame, (size, size, 3), by bilinear interpolation in a copy that needs no shrinking.

    Args:
        source: gives the photograph, shrunk by its argument.
        place: (x, y) under the camera before its shift, in photo pixels.
        zoom: photo pixels per view pixel.
        angle: of the camera, in radians clockwise.
        shift: (right, down) along the camera's own axes, in view pixels.
    """
    step = zoom * VIEW / size  # photo pixels per pixel of the frame
    image = source(MIP ** max(0, round(math.log(step, MIP))))
    ratio = np.divide(image.size, source(1.0).size)[:, None]
    cos, sin = math.cos(angle), math.sin(angle)
    axes = np.array([[cos, -sin], [sin, cos]])  # from the camera's (right, down) to (x, y)
    corner = place + zoom * axes @ (shift - VIEW / 2)  # top left
    affine = ratio * np.column_stack([step * axes, corner])
    pick, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(image.transform((size, size), pick, affine.ravel().tolist(), bilinear))


def encode(frames: NDArray[np.uint8], crf: int) -> bytes:
    """(T, H, W, 3) RGB to an MP4 file: 25 frames/s, H.264, yuv420p."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {**X264, "crf": str(crf), "g": str(len(frames))}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """All of a file or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def make_clip(settings: Settings, out: Path, clip: Clip) -> None:
    write(out / "videos" / clip.path, encode(render(settings, clip), settings.crf))


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it ends, however it does."""

    def follow_parent() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow_parent, daemon=True).start()


def render_all(settings: Settings, out: Path, workers: int) -> None:
    """Write every video, with a progress bar where there is a terminal."""
    clips = [clip for split in SPLITS for clip in settings.clips(split)]
    job = partial(make_clip, settings, out)
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ExitStack() as stack:
        done: Iterable[None] = map(job, clips)
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, start_worker)
            stack.callback(pool.shutdown, cancel_futures=True)
            done = pool.map(job, clips, chunksize=8)
        for _ in progress.track(done, total=len(clips)):
            pass


def make_set(settings: Settings, out: Path, workers: int) -> None:
    """Everything anew. The manifest's last renaming declares the set complete."""
    begun = out / "manifest.json.part"
    options = settings.parameters()
    versions = {"av": av.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    out.mkdir(parents=True, exist_ok=True)
    begun.write_text(json.dumps({"parameters": options, "made_with": versions}, indent=2) + "\n")
    (out / "manifest.json").unlink(missing_ok=True)
    for split in SPLITS:
        (out / f"{split}.txt").unlink(missing_ok=True)
        (out / "videos" / split).mkdir(parents=True, exist_ok=True)
        for stale in (out / "videos" / split).glob("*.mp4*"):
            stale.unlink()

    render_all(settings, out, workers)
    for split in SPLITS:
        lines = [f"# {split} clips by scripts/make_demo_clips.py: {json.dumps(options)}"]
        for clip in settings.clips(split):
            lines.append(clip.path if split == "pretrain" else f"{clip.path} {clip.label}")
        write(out / f"{split}.txt", "\n".join([*lines, ""]).encode())
    write(out / "classes.txt", "\n".join([*CLASSES, ""]).encode())
    begun.replace(out / "manifest.json")


def is_complete(settings: Settings, out: Path, overwrite: bool) -> bool:
    """Whether `out` holds this very set already.

    Raises:
        ValueError: it holds files of others, or other clips while `overwrite` is False.
    """
    if not (out / "manifest.json").is_file():
        if out.is_dir() and any(out.iterdir()) and not (out / "manifest.json.part").is_file():
            raise ValueError(f"--out {out}: holds other files; choose a new or an empty folder")
        return False
    manifest = json.loads((out / "manifest.json").read_text())
    if not isinstance(manifest, dict) or not {"parameters", "made_with"} <= manifest.keys():
        raise ValueError(f"--out {out}: its manifest.json is not ours; choose a new folder")
    found: dict[str, int] = manifest["parameters"]
    wanted = settings.parameters()
    if found != wanted and not overwrite:
        keys = [key for key in wanted if found.get(key) != wanted[key]]
        changes = ", ".join(f"{key} {found.get(key)} instead of {wanted[key]}" for key in keys)
        raise ValueError(f"--out {out}: made with {changes}; choose another --out or --overwrite")
    paths = [clip.path for split in SPLITS for clip in settings.clips(split)]
    return found == wanted and all((out / "videos" / path).is_file() for path in paths)


class Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, epilog=EPILOG, formatter_class=form)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    helps = {
        "pretrain": "number of unlabelled clips",
        "train": "number of labelled clips to train on",
        "test": "number of labelled clips to test on",
        "seed": "another seed gives other clips of the same photographs",
        "frames": "frames per clip, 2..16; the model sees 8 of the 10",
        "size": "width and height in pixels, even; the model sees 32 x 32",
        "crf": "loss of quality in compression, 0..51",
        "workers": "processes; they change the time only",
    }
    defaults = {**asdict(Settings()), "workers": os.cpu_count() or 1}
    for name, text in helps.items():
        text += " (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=defaults[name], metavar="N", help=text)
    text = "replace a set made with other options"
    parser.add_argument("--overwrite", action="store_true", help=text)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Make the set unless it is there; what to tell the user."""
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    check("workers", args.workers, 1, 1024)
    if is_complete(settings, args.out, args.overwrite):
        return f"{args.out} is complete: made with these options before, nothing to do"
    for photo in (*TRAIN_PHOTOS, *TEST_PHOTOS):
        photo_path(photo)
    if "libx264" not in av.codecs_available:
        raise ValueError("this PyAV cannot write H.264: pip install --force-reinstall av")
    make_set(settings, args.out, args.workers)
    return f"{args.out} is complete; train with data.root={args.out / 'videos'}"


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        print(run(args))
    except ValueError as error:
        message = str(error)
    except OSError as error:
        message = f"--out {args.out}: {error}; make room or choose another --out"
    except BrokenProcessPool:
        message = f"--workers {args.workers}: one was killed (out of memory?); try fewer"
    except KeyboardInterrupt:
        message = f"--out {args.out}: interrupted; the next run starts over"
    else:
        return 0
    print(f"make_demo_clips.py: error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
