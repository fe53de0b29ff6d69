#!/usr/bin/env python
"""Time fine-tuning's augmentation against timm's and Pillow's, frame by frame.

python scripts/bench_augment.py
python scripts/bench_augment.py --source 480x640 --clips 40 --repeats 5

Both make the same draws, those of training: RandAugment, a crop, a bilinear resize, half the time
a mirror image. Each operation's values are compared, and equal. Pillow's resize averages where it
shrinks a frame; ours, like the reference's, does not. They take turns on one core.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import numpy as np
import torch
import yaml
from PIL import Image
from skimage import data as photographs
from timm.data import auto_augment
from torch import Tensor

from videomae.config import AugmentConfig, ClipConfig, CropKind, DataConfig, config_dir
from videomae.data.augment import random_box
from videomae.data.dataset import TrainingClips
from videomae.data.randaugment import OPERATIONS, Operation, draw_operations, rand_augment

TIMM = auto_augment._RAND_INCREASING_TRANSFORMS
"""timm's names of OPERATIONS, in the same order."""
SETTINGS = {"translate_pct": 0.45}
FILL = {"fillcolor": (128, 128, 128), "resample": Image.Resampling.BICUBIC}
Way = Callable[[Tensor, int], Tensor]
"""A clip and the seed of its draws to a view: (T, H, W, 3) uint8 -> (T, size, size, 3)."""
OnImage = Callable[[Image.Image], Image.Image]


def training(data: DataConfig) -> TrainingClips:
    """Fine-tuning's data path, of which only the augmentation is used."""
    values = yaml.safe_load((config_dir() / "augment" / "finetune.yaml").read_text())
    augment = AugmentConfig(**{**values, "crop": CropKind(values["crop"])})
    return TrainingClips([], data, augment, None, seed=0)


def ours(dataset: TrainingClips, frames: Tensor, seed: int) -> Tensor:
    """What training does."""
    return dataset._view(frames, np.random.default_rng(seed))


def by_frames(dataset: TrainingClips, frames: Tensor, seed: int) -> Tensor:
    """The same draws, by timm and Pillow on each frame."""
    rng = np.random.default_rng(seed)
    operations = [timm_operation(*drawn) for drawn in draw_operations(dataset.augment, rng)]
    frame = dataset.data.clip.frame
    box = random_box(frames.shape[1], frames.shape[2], frame, dataset.augment, rng)
    top, left, height, width = box
    flip = rng.random() < 0.5

    def view(image: Image.Image) -> Image.Image:
        for operation in operations:
            image = operation(image)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((frame[1], frame[0]), Image.Resampling.BILINEAR)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image

    return each_frame(view, frames)


def timm_operation(operation: Operation, level: float) -> OnImage:
    """timm's counterpart of one of OPERATIONS; a negative level is the other direction."""
    name = TIMM[OPERATIONS.index(operation)]
    arguments = auto_augment.LEVEL_TO_ARG[name]
    sign = -1 if level < 0 else 1
    with mock.patch.object(auto_augment, "_randomly_negate", lambda value: sign * value):
        values = arguments(abs(level), SETTINGS) if arguments else ()
    return lambda image: auto_augment.NAME_TO_OP[name](image, *values, **FILL)


def each_frame(operation: OnImage, frames: Tensor) -> Tensor:
    """(T, H, W, 3) uint8 -> (T, H', W', 3)."""
    images = [operation(Image.fromarray(frame)) for frame in frames.numpy()]
    done = np.empty((len(images), images[0].height, images[0].width, 3), np.uint8)
    for image, target in zip(images, done, strict=True):
        target[...] = np.asarray(image)
    return torch.from_numpy(done)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def clip_of(shape: tuple[int, int], frames: int) -> Tensor:
    """A photograph that moves."""
    photo = Image.fromarray(photographs.astronaut()).resize((shape[1] + 2 * frames, shape[0]))
    picture = np.asarray(photo)
    return torch.from_numpy(
        np.stack([picture[:, 2 * t : 2 * t + shape[1]] for t in range(frames)])
    ).contiguous()


def whole(frames: Tensor, data: DataConfig, clips: int, repeats: int) -> None:
    """Print clips/s of both ways: the median of the repeats, and their range."""
    dataset = training(data)
    ways: dict[str, Way] = {
        "videomae": partial(ours, dataset),
        "Pillow": partial(by_frames, dataset),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(frames, 0)  # loads the libraries
    for _ in range(repeats):
        spent = dict.fromkeys(ways, 0.0)
        for seed in range(clips):  # the same draws in each repeat
            for name, way in ways.items():
                spent[name] += seconds(partial(way, frames, seed))
        for name in ways:
            rates[name].append(clips / spent[name])
    for name, rate in rates.items():
        middle = statistics.median(rate)
        print(f"{name:15} {middle:7.2f} clips/s   {min(rate):.2f} to {max(rate):.2f}")
    pairs = zip(rates["videomae"], rates["Pillow"], strict=True)
    print(f"ratio           {statistics.median(a / b for a, b in pairs):7.2f}")


def one_by_one(frames: Tensor, repeats: int) -> None:
    """Print the median time of each operation, at level 7."""
    print("ms a clip       videomae     Pillow   ratio")
    for operation in OPERATIONS:
        mine = partial(rand_augment, frames, [(operation, 7.0)])
        other = partial(each_frame, timm_operation(operation, 7.0), frames)
        if not torch.equal(mine(), other()):
            raise SystemExit(f"{operation.__name__}: the values differ")
        times = [(seconds(mine), seconds(other)) for _ in range(repeats)]
        own, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        print(f"{operation.__name__:15} {own:8.1f} {theirs:10.1f} {theirs / own:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source",
        nargs="+",
        default=["256x340", "320x568"],
        help="height x width of frames (default 256x340 320x568)",
    )
    parser.add_argument("--frames", type=int, default=16, help="of a clip (default 16)")
    parser.add_argument("--size", type=int, default=224, help="of what comes out (default 224)")
    parser.add_argument("--clips", type=int, default=20, help="how many of each (default 20)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything (default 3)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = DataConfig(clip=ClipConfig(args.frames, 4, args.size), hflip=True)
    for source in args.source:
        try:
            height, width = map(int, source.split("x"))
        except ValueError:
            parser.error(f"--source {source}: expected HEIGHTxWIDTH")
        frames = clip_of((height, width), args.frames)
        print(f"{args.clips} clips of {args.frames} frames, {source} to {args.size} px, one core")
        whole(frames, data, args.clips, args.repeats)
        one_by_one(frames, args.repeats)
        print()


if __name__ == "__main__":
    main()
