#!/usr/bin/env python
"""Time pre-training's data path on one core, stage by stage, beside a plain one such as V2's.

python scripts/bench_loader.py
python scripts/bench_loader.py --list train.txt --root videos --model vit_base

Without a list it makes clips of its own, 340x256 and 576x1024 pixels, 10 seconds each, from the
photographs of pip install 'videomae[demo]', and packs them; the first kind once with a key frame
every 12 frames and once as x264 likes it, some 250 apart, through which one has to decode. With a
list it times your clips as they lie there; a root that is a pack is timed as such. All rows of a
table are measured in turn, round by round, so that they share the machine's moods.

"plain" reads with decord, turns frames into PIL images, crops and resizes each for each view, and
stacks, scales and normalises floats, all before the GPU. It is written for this comparison only.
The last stage of all is the copy to pinned memory, which PyTorch keeps and uses again; here it is
ordinary memory that is used again.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch
import yaml
from make_demo_clips import photo_path
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from videomae.config import (
    AugmentConfig,
    ClipConfig,
    CropKind,
    DataConfig,
    MaskConfig,
    MaskKind,
    PackConfig,
    Sampling,
    config_dir,
    token_grid,
)
from videomae.data import augment as augment_module
from videomae.data import dataset as dataset_module
from videomae.data import loader as loader_module
from videomae.data.augment import random_box
from videomae.data.dataset import Item, TrainingClips
from videomae.data.frame_sampling import dense_indices, num_dense_starts
from videomae.data.loader import ExampleBatches
from videomae.data.mask import Masking
from videomae.data.slots import Slots
from videomae.data.working import WorkerSlot
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.model import preset
from videomae.model.flops import pretraining_flops
from videomae.model.pixels import MEAN, STD
from videomae.pack import pack
from videomae.video.interface import Part, Video
from videomae.video.opening import check_decoder, pack_at, usable_decoders

FORMATS = {
    "340x256, 12 frames from key frame to key frame": (340, 256, 23, 12),
    "340x256": (340, 256, 23, 250),
    "576x1024": (576, 1024, 26, 250),
}
"""Name: width, height, x264's crf and keyint."""
PHOTOS = (
    "sklearn/datasets/images/china.jpg",
    "skimage/data/astronaut.png",
    "skimage/data/motorcycle_left.png",
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
)
FRAMES, FPS = 300, 30
STAGES = ("open", "decode", "augment", "collate", "transfer")
BATCH = 8
"""Videos in a micro-batch."""


class Timer:
    """Milliseconds of each stage."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[stage] += 1e3 * (time.perf_counter() - start)

    def timing(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with self(stage):
                return function(*args, **kwargs)

        return run


class TimedVideo:
    """A video whose decoding is timed, and which closes as early as it does by itself."""

    def __init__(self, video: Video, timer: Timer) -> None:
        self.video = video
        self.timer = timer
        self.num_frames, self.fps = video.num_frames, video.fps
        self.reference_stride = video.reference_stride

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        parts, timer = self.video.parts(numbers), self.timer
        del self  # the video closes as early as it does by itself
        while True:
            with timer("decode"):
                part = next(parts, None)
            if part is None:
                return
            yield part


@dataclass
class Pipeline:
    """One row of the table."""

    name: str
    run: Callable[[Sequence[Item], Timer], None]
    """Items to what the GPU gets."""
    rounds: list[dict[str, float]] = field(default_factory=list)
    """Milliseconds per video of each stage, and of all."""

    def stage(self, name: str) -> float:
        """Milliseconds per video, the mean of the rounds, so that stages add up to all."""
        return mean(spent[name] for spent in self.rounds)


class SharedSlot(WorkerSlot):
    """Batches are made where processes share them."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots

    def empty(self, *shape: int) -> Tensor:
        return self.slots.empty(0, *shape)


def ours(dataset: TrainingClips) -> Pipeline:
    """This project's own code, from the list to the training process's memory."""
    name = (
        "packed" if pack_at(Path(str(dataset.data.root))) else check_decoder(dataset.data.decoder)
    )
    source = ExampleBatches(dataset, BATCH)
    slots = Slots(1, source.nbytes)
    slot = SharedSlot(slots)
    pinned = torch.zeros(source.nbytes, dtype=torch.uint8)

    def run(items: Sequence[Item], timer: Timer) -> None:
        opens = dataset_module.open_clip

        def opening(clip: Clip, data: DataConfig) -> Video:
            with timer("open"):
                video = opens(clip, data)
            return TimedVideo(video, timer)

        crop = timer.timing("augment", augment_module.resize_crop)
        join = timer.timing("collate", loader_module.collate)
        with (
            patch.object(dataset_module, "open_clip", opening),
            patch.object(augment_module, "resize_crop", crop),
            patch.object(loader_module, "collate", join),
        ):
            ((batch, _),) = source.make(items, 0, slot)
        with timer("transfer"):
            shared = slots.get(slots.put(0, batch))
            for value in shared:
                if isinstance(value, Tensor):
                    pinned[: value.nbytes].copy_(value.view(-1).view(torch.uint8))

    return Pipeline(name, run)


def plain(dataset: TrainingClips) -> Pipeline:
    """A pipeline of PIL images and floats."""
    from decord import VideoReader

    data, shape = dataset.data, dataset.data.clip
    most = BATCH * data.repeats
    pinned = torch.zeros(most, 3, shape.frames, *shape.frame)
    average, deviation = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))

    def view(images: Sequence[Image.Image], rng: np.random.Generator) -> Tensor:
        width, height = images[0].size
        box = random_box(height, width, shape.frame, dataset.augment, rng)
        top, left, down, right = box[0], box[1], box[0] + box[2], box[1] + box[3]
        size = shape.frame[::-1]
        crops = [
            i.crop((left, top, right, down)).resize(size, Image.Resampling.BILINEAR) for i in images
        ]
        stacked = np.concatenate([np.asarray(crop) for crop in crops], axis=2)
        pixels = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)
        pixels = pixels.view(shape.frames, 3, *shape.frame)
        return pixels.sub_(average).div_(deviation).transpose(0, 1)

    def run(items: Sequence[Item], timer: Timer) -> None:
        assert dataset.masking is not None
        views, masks = [], []
        for item in items:
            rng = np.random.default_rng(list(item))
            path = Path(str(data.root)) / dataset.clips[item.video].path
            with timer("open"):
                reader = VideoReader(str(path), num_threads=1)
            total = len(reader)
            start = int(rng.integers(num_dense_starts(total, shape.frames, shape.stride)))
            with timer("decode"):
                frames = reader.get_batch(
                    dense_indices(total, shape.frames, shape.stride, start)
                ).asnumpy()
            with timer("augment"):
                images = [Image.fromarray(frame) for frame in frames]
                views += [view(images, rng) for _ in range(data.repeats)]
            masks += [dataset.masking.draw(rng)[0] for _ in range(data.repeats)]
        with timer("collate"):  # new memory for each batch, as torch's DataLoader shares it
            batch, _ = torch.stack(views), torch.stack(masks)
        with timer("transfer"):
            pinned[: len(batch)].copy_(batch)

    return Pipeline("plain (V2's way)", run)


def measure(pipelines: Sequence[Pipeline], num_clips: int, rounds: int, videos: int) -> None:
    """Run all in turn on one core, `rounds` times after one that does not count."""
    if hasattr(os, "sched_setaffinity"):  # decord decodes ahead in a thread of its own
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
    for number in range(rounds + 1):
        items = [Item(number, index % num_clips) for index in range(videos)]
        for pipeline in pipelines:
            timer = Timer()
            with timer("all"):
                for first in range(0, videos, BATCH):
                    pipeline.run(items[first : first + BATCH], timer)
            if number:
                per_video = {stage: spent / videos for stage, spent in timer.spent.items()}
                pipeline.rounds.append(per_video)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def report(title: str, pipelines: Sequence[Pipeline], views: int, console: Console) -> None:
    """The table of one kind of clips."""
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    columns = ("clips/s", "ratio", *STAGES, "rest", "all", "after decoding")
    for column in columns:
        table.add_column(column, justify="right")
    for pipeline in pipelines:
        total = pipeline.stage("all")
        spent = [pipeline.stage(stage) for stage in STAGES]
        ratio = median(
            first["all"] / own["all"]
            for first, own in zip(pipelines[0].rounds, pipeline.rounds, strict=True)
        )
        after = sum(spent[2:]) / (pipelines[0].stage("open") + pipelines[0].stage("decode"))
        table.add_row(
            pipeline.name,
            f"{1e3 * views / total:.1f}",
            f"{ratio:.1f}",
            *(f"{each:.1f}" for each in spent),
            f"{total - sum(spent):.1f}",
            f"{total:.1f}",
            f"{after:.0%}",
        )
    console.print(table)
    console.print(
        f"clips/s of one core, {views} views of each video; stages in ms per video. "
        "After decoding: augment + collate + transfer, as a share of plain's open + decode.\n"
    )


def advise(
    pipelines: Sequence[Pipeline], model: str, rate: float, views: int, console: Console
) -> None:
    """How many cores keep one GPU busy."""
    for pipeline in pipelines:
        cores = rate * pipeline.stage("all") / 1e3 / views
        console.print(
            f"  {pipeline.name:18} {cores:6.1f} cores per GPU for {model} at {rate:.0f} clips/s"
        )
    console.print()


def render(photo: str, width: int, height: int, seed: int) -> Iterator[np.ndarray]:
    """A camera that wanders over a photograph, with an object before it and a sensor's noise."""
    rng = np.random.default_rng(seed)
    image = Image.open(photo_path(photo)).convert("RGB")
    scale = 1.6 * max(width / image.width, height / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    free = np.array([image.width - width, image.height - height])
    phase = rng.uniform(0, 2 * np.pi, 4)
    thing = image.crop((0, 0, width // 4, height // 4)).rotate(180)
    for number in range(FRAMES):
        angle = 2 * np.pi * number / FRAMES
        left, top = (free * (0.5 + 0.45 * np.sin(2 * angle + phase[:2]))).astype(int)
        frame = image.crop((left, top, left + width, top + height))
        x, y = (np.array([width, height]) * (0.4 + 0.3 * np.sin(5 * angle + phase[2:]))).astype(int)
        frame.paste(thing, (int(x), int(y)))
        noise = rng.normal(0, 2, (height, width, 1)).astype(np.int16)
        yield np.clip(np.asarray(frame, np.int16) + noise, 0, 255).astype(np.uint8)


def make_clips(directory: Path, size: tuple[int, int], crf: int, keyint: int, count: int) -> None:
    """Ordinary H.264, as downloads are: no setting of its own but these."""
    width, height = size
    options = {"crf": str(crf), "x264-params": f"keyint={keyint}"}
    directory.mkdir(parents=True)
    for number in range(count):
        with av.open(str(directory / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in render(PHOTOS[number % len(PHOTOS)], width, height, seed=number):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    names = "".join(f"{number}.mp4\n" for number in range(count))
    (directory / "list.txt").write_text(names)


def data_config(name: str) -> DataConfig:
    """The data group of that name, for any list."""
    values = yaml.safe_load((config_dir() / "data" / f"{name}.yaml").read_text())
    values["clip"] = ClipConfig(**values["clip"])
    values["sampling"] = Sampling(values.get("sampling", "dense"))
    values.pop("sources", None)  # the list takes their place
    return DataConfig(**values)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, help="your clip list")
    parser.add_argument("--root", type=Path, help="folder its paths start at, or a pack")
    parser.add_argument(
        "--data", default="tiktok", help="configs/data group, for its clip (tiktok)"
    )
    parser.add_argument("--model", default="vit_giant", help="configs/model group (vit_giant)")
    parser.add_argument("--repeats", type=int, default=4, help="views of each video (4)")
    parser.add_argument("--videos", type=int, default=24, help="per round (24)")
    parser.add_argument("--rounds", type=int, default=5, help="how often all are timed (5)")
    parser.add_argument("--clips", type=int, default=4, help="clips made of each size (4)")
    parser.add_argument(
        "--clips-per-s", type=float, help="what one GPU trains; otherwise from --tflops"
    )
    parser.add_argument(
        "--tflops", type=float, default=475.0, help="what one GPU does in training (475, an H200)"
    )
    args = parser.parse_args()
    if (args.list is None) != (args.root is None):
        parser.error("--list and --root go together")
    return args


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    console = Console(width=120, highlight=False)
    data = replace(data_config(args.data), repeats=args.repeats)
    model = preset(args.model)
    masking = Masking(MaskConfig(MaskKind.tube, 0.9, 0.5), token_grid(model, data.clip))
    augment = AugmentConfig(CropKind.multi_scale, antialias=True)
    rate = args.clips_per_s or args.tflops * 1e12 / pretraining_flops(model, *masking.num_tokens())

    def dataset(path: Path, root: Path, decoder: str = "auto") -> TrainingClips:
        own = replace(data, train_list=str(path), root=str(root), decoder=decoder)
        return TrainingClips(read_clips(path, own, labelled=False), own, augment, masking, seed=0)

    def table(title: str, datasets: Sequence[TrainingClips]) -> None:
        pipelines = (
            [plain(datasets[0])] if pack_at(Path(str(datasets[0].data.root))) is None else []
        )
        pipelines += map(ours, datasets)
        measure(pipelines, len(datasets[0].clips), args.rounds, args.videos)
        report(title, pipelines, args.repeats, console)
        advise(pipelines, args.model, rate, args.repeats, console)

    decoders = usable_decoders()
    if args.list is not None:
        packed = pack_at(args.root) is not None
        table(
            str(args.list),
            [dataset(args.list, args.root, d) for d in decoders[: 1 if packed else None]],
        )
        return
    with tempfile.TemporaryDirectory() as directory:
        for name, (width, height, crf, keyint) in FORMATS.items():
            console.print(f"making {args.clips} clips of {name} ...")
            root, out = Path(directory) / name, Path(directory) / f"{name} packed"
            make_clips(root, (width, height), crf, keyint, args.clips)
            pack(PackConfig(list=str(root / "list.txt"), root=str(root), out=str(out)))
            size = sum(file.stat().st_size for file in root.glob("*.mp4")) / args.clips / 1e3
            plain_files = [dataset(root / "list.txt", root, decoder) for decoder in decoders]
            title = f"{name}, {FRAMES} frames, {size:.0f} kB"
            table(title, [*plain_files, dataset(out / "list.txt", out)])


if __name__ == "__main__":
    main()
