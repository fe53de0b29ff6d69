#!/usr/bin/env python
"""Time pre-training's data path on your own clips: clips/s and core, and where the time goes.

python scripts/bench_loader.py --list train.txt --root videos
python scripts/bench_loader.py --list train.txt --root videos --data demo --model vit_tiny
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from videomae.config import (
    AugmentConfig,
    ClipConfig,
    CropKind,
    DataConfig,
    MaskConfig,
    MaskKind,
    Sampling,
    UserError,
    config_dir,
    token_grid,
)
from videomae.data import dataset as data_path
from videomae.data.clips import read_clips
from videomae.data.dataset import Item, TrainingClips
from videomae.data.decode import DecodeError
from videomae.data.loader import collate
from videomae.data.mask import Masking
from videomae.model import preset

STAGES = {"open": "open_clip", "crop and resize": "resized_crop"}
"""What is timed apart, and the function of the data path that does it."""


def data_config(name: str, path: Path, root: Path) -> DataConfig:
    """The data group of that name for another list."""
    values = yaml.safe_load((config_dir() / "data" / f"{name}.yaml").read_text())
    values["clip"] = ClipConfig(**values["clip"])
    values["sampling"] = Sampling(values.get("sampling", "dense"))
    values.pop("sources", None)  # the list takes their place
    return replace(DataConfig(**values), train_list=str(path), root=str(root))


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Add up the seconds of the stages while the block runs."""
    originals = {function: getattr(data_path, function) for function in STAGES.values()}

    def timing(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[stage] += time.perf_counter() - start

        return run

    for stage, name in STAGES.items():
        setattr(data_path, name, timing(stage, originals[name]))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(data_path, name, function)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, required=True, help="clip list")
    parser.add_argument("--root", type=Path, required=True, help="folder its paths start at")
    parser.add_argument(
        "--data", default="tiktok", help="group of configs/data, for its clip (default tiktok)"
    )
    parser.add_argument("--model", default="vit_base", help="whose masks are drawn")
    parser.add_argument("--videos", type=int, default=64, help="how many to read (default 64)")
    parser.add_argument("--repeats", type=int, help="views per video (default: the data group's)")
    args = parser.parse_args()
    torch.set_num_threads(1)

    data = data_config(args.data, args.list, args.root)
    data = replace(data, repeats=args.repeats or data.repeats)
    try:
        clips = read_clips(args.list, data, labelled=False)
        grid = token_grid(preset(args.model), data.clip)
    except UserError as error:
        parser.error(str(error))
    masking = Masking(MaskConfig(MaskKind.tube, 0.9, 0.5), grid)
    augment = AugmentConfig(CropKind.multi_scale, antialias=True)
    items = [Item(0, index % len(clips)) for index in range(args.videos)]
    dataset = TrainingClips(clips, data, augment, masking, seed=0)

    dataset[items[0]]  # loads the libraries
    spent: dict[str, float] = defaultdict(float)
    start = time.perf_counter()
    with timed(spent):
        examples = [dataset[item] for item in items]
    total = time.perf_counter() - start
    start = time.perf_counter()
    collate(examples)
    spent["collate"] = time.perf_counter() - start
    total += spent["collate"]
    read = 0.0
    for item in items:
        try:
            video = data_path.open_clip(clips[item.video], data)
            indices = dataset._window(video, item, data.clip)
            start = time.perf_counter()
            video.read(indices)
            read += time.perf_counter() - start
        except DecodeError:
            continue
    spent["decode"] = read
    spent["masks, rest"] = total - sum(spent.values())
    bad = sum(example.bad is not None for example in examples)
    views = len(items) * data.repeats
    clip = data.clip
    print(f"{len(items)} videos ({bad} unreadable), {data.repeats} views of each, one core")
    print(f"clip            {clip.frames} frames, stride {clip.stride}, {clip.size} px")
    print(f"clips/s/core    {views / total:.1f}   videos/s/core {len(items) / total:.1f}")
    for stage in ("open", "decode", "crop and resize", "masks, rest", "collate"):
        milliseconds = 1e3 * spent[stage] / len(items)
        print(f"{stage:16}{milliseconds:8.2f} ms per video  {spent[stage] / total:5.0%}")


if __name__ == "__main__":
    main()
