#!/usr/bin/env python
"""Time fine-tuning's augmentation against timm's and Pillow's, frame by frame.

python scripts/bench_augment.py
python scripts/bench_augment.py --source 320x568 --clips 40

Both do the same: four of RandAugment's operations, a crop, a resize without antialiasing, half the
time a mirror image. The other one is what the reference code does. They take turns on one core.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from skimage import data
from timm.data import auto_augment
from torch import Tensor

from videomae.config import AugmentConfig, CropKind
from videomae.data.augment import Box, mirror, random_box, resized_crop
from videomae.data.randaugment import OPERATIONS, apply

TIMM = auto_augment._RAND_INCREASING_TRANSFORMS
"""timm's names of OPERATIONS, in the same order."""
SETTINGS = {"translate_pct": 0.45, "translate_const": 100}
FILL = {"fillcolor": (128, 128, 128), "resample": Image.Resampling.BICUBIC}


class Draw(NamedTuple):
    """What happens to one clip."""

    operations: list[tuple[int, float]]
    """Of OPERATIONS, and levels; negative: in the other direction."""
    box: Box
    flip: bool


def draw(config: AugmentConfig, shape: tuple[int, int], size: int, seed: int) -> Draw:
    """As training draws it, but all operations are carried out."""
    rng = np.random.default_rng(seed)
    count = config.rand_ops
    levels = rng.normal(config.rand_level, config.rand_spread, count).clip(0, 10)
    signs = rng.choice([-1, 1], count)
    numbers = rng.integers(len(OPERATIONS), size=count)
    box = random_box(*shape, (size, size), config, rng)
    operations = list(zip(numbers.tolist(), (levels * signs).tolist(), strict=True))
    return Draw(operations, box, bool(rng.random() < 0.5))


def ours(frames: Tensor, drawn: Draw, size: int) -> Tensor:
    """The project's: (T, H, W, 3) uint8 -> (T, size, size, 3)."""
    clip = apply(frames, [(OPERATIONS[number], level) for number, level in drawn.operations])
    view = resized_crop(clip, drawn.box, size, size, antialias=False)
    return (mirror(view) if drawn.flip else view).contiguous()


def by_frames(frames: Tensor, drawn: Draw, size: int) -> Tensor:
    """Pillow's: the same shapes."""
    top, left, height, width = drawn.box
    done = []
    for frame in frames.numpy():
        image = Image.fromarray(frame)
        for number, level in drawn.operations:
            image = timm_operation(number, level)(image)
        corners = (left, top, left + width, top + height)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=corners)
        if drawn.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        done.append(np.asarray(image))
    return torch.from_numpy(np.stack(done))


def timm_operation(number: int, level: float) -> Callable[[Image.Image], Image.Image]:
    """One of timm's at a strength; the sign of those that have two directions is its own draw."""
    name = TIMM[number]
    arguments = auto_augment.LEVEL_TO_ARG[name]
    values = arguments(abs(level), SETTINGS) if arguments else ()
    return lambda image: auto_augment.NAME_TO_OP[name](image, *values, **FILL)


def each_frame(operation: Callable[[Image.Image], Image.Image], frames: Tensor) -> Tensor:
    """(T, H, W, 3) uint8 -> same."""
    done = [np.asarray(operation(Image.fromarray(frame))) for frame in frames.numpy()]
    return torch.from_numpy(np.stack(done))


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def clip_of(shape: tuple[int, int], frames: int) -> Tensor:
    """A photograph that moves."""
    photo = Image.fromarray(data.astronaut()).resize((shape[1] + 2 * frames, shape[0]))
    picture = np.asarray(photo)
    return torch.from_numpy(
        np.stack([picture[:, 2 * t : 2 * t + shape[1]] for t in range(frames)])
    ).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", default="256x340", help="height x width of a frame (default 256x340)"
    )
    parser.add_argument("--frames", type=int, default=16, help="of a clip (default 16)")
    parser.add_argument("--size", type=int, default=224, help="of what comes out (default 224)")
    parser.add_argument("--clips", type=int, default=30, help="how many of each (default 30)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    shape = tuple(map(int, args.source.split("x")))
    if len(shape) != 2:
        parser.error(f"--source {args.source}: expected HEIGHTxWIDTH")
    config = AugmentConfig(CropKind.random_resized, antialias=False, rand_ops=4)
    frames = clip_of(shape, args.frames)
    ways = {"videomae": ours, "Pillow": by_frames}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(-1, args.clips):
        drawn = draw(config, shape, args.size, max(0, seed))
        for name, way in ways.items():
            took = seconds(partial(way, frames, drawn, args.size))
            if seed >= 0:  # the first warms up
                spent[name].append(took)
    print(f"{args.clips} clips of {args.frames} frames, {args.source} to {args.size} px, one core")
    means = {name: statistics.mean(times) for name, times in spent.items()}
    for name, mean in means.items():
        middle = statistics.median(spent[name])
        print(f"{name:15} {1 / mean:7.1f} clips/s   median {1e3 * middle:6.1f} ms a clip")
    print(f"ratio           {means['Pillow'] / means['videomae']:7.2f}")
    print("\nms a clip       videomae     Pillow   ratio")
    for number, operation in enumerate(OPERATIONS):
        own, theirs = [], []
        for _ in range(5):
            other = timm_operation(number, 7.0)
            own.append(seconds(partial(apply, frames, [(operation, 7.0)])))
            theirs.append(seconds(partial(each_frame, other, frames)))
        mine, other_ms = (1e3 * statistics.median(times) for times in (own, theirs))
        print(f"{operation.__name__:15} {mine:8.1f} {other_ms:10.1f} {other_ms / mine:7.2f}")


if __name__ == "__main__":
    main()
