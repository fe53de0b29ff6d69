#!/usr/bin/env python
"""Time pre-training's data path from a pack on disk, at a web server and in an object store.

python scripts/bench_remote.py
python scripts/bench_remote.py --videos 200 --shard-mb 20 --workers 4
python scripts/bench_remote.py --list packs/clips/list.txt --pack packs/clips

Each place is read once with an empty cache and once with a full one, an epoch each time. The rate
is that from the opened pack to the last batch; what opening it takes, with the start of the program
that fetches, stands beside it. Server (nginx by https, moto in the place of S3) and client share
this machine: what a network adds is not in it. Without --pack it
makes videos of its own, 340 x 256 pixels, and packs them. All rows are measured in turn, round by
round. Needs pip install 'videomae[dev]', and the commands nginx and openssl.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch

from videomae.config import AugmentConfig, ClipConfig, CropKind, DataConfig
from videomae.data.checks import check_videos
from videomae.data.dataset import TrainingClips
from videomae.data.loader import MicroBatches, TrainingOrder, training_loader
from videomae.lists.clips import read_clips
from videomae.video.opening import pack_at

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, FRAMES = 340, 256, 150
BATCH, REPEATS = 8, 4
"""Videos of a batch, and views of each."""


def write_videos(folder: Path, count: int) -> Path:
    """Videos of a moving texture, and a list of them."""
    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        texture = rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        texture = texture.repeat(4, axis=0).repeat(4, axis=1)
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for shift in range(FRAMES):
                image = np.ascontiguousarray(np.roll(texture, shift, axis=1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    (folder / "list.txt").write_text("".join(f"{number}.mp4\n" for number in range(count)))
    return folder / "list.txt"


def epoch(listed: Path, root: str, cache: Path | None, workers: int) -> tuple[float, float]:
    """Read an epoch of views; return how many come in a second, and seconds to open the pack."""
    data = DataConfig(
        clip=ClipConfig(frames=16, stride=4, size=224),
        root=root,
        repeats=REPEATS,
        cache_dir=str(cache) if cache else None,
    )
    lines = read_clips(listed, data, labelled=False)
    augment = AugmentConfig(CropKind.multi_scale, antialias=True)
    clips = TrainingClips(lines, data, augment, None, seed=0)
    batch = min(BATCH, len(lines))
    order = TrainingOrder(len(lines), batch, seed=0)
    steps = order.steps_per_epoch
    items = MicroBatches(order, rank=0, world=1, size=batch, first=1, last=steps)
    pack_at.cache_clear()
    began = time.perf_counter()
    check_videos(lines, data, "list")  # opens the pack, as every command does
    opened = time.perf_counter()
    views = 0
    for made in training_loader(clips, items, size=batch, workers=workers, pin=False):
        assert not made.bad, made.bad
        views += len(made.clip)
    return views / (time.perf_counter() - opened), opened - began


@contextmanager
def addresses(pack: Path, folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of a pack at servers that run while the block does."""
    sys.path.insert(0, str(ROOT))  # the servers are among the tests
    from tests.remote_servers import S3_KEYS, certificate, nginx_server, s3_server

    os.environ["SSL_CERT_FILE"] = str(certificate(folder / "nginx"))
    with ExitStack() as stack:
        web = stack.enter_context(nginx_server(folder / "nginx", pack.parent))
        os.environ["AWS_ENDPOINT_URL"] = stack.enter_context(s3_server())
        os.environ.update(S3_KEYS)
        script = "import sys, fsspec; f = fsspec.filesystem('s3'); f.mkdir('bucket')\n"
        script += "f.put(sys.argv[1] + '/', 'bucket/pack/', recursive=True)"
        subprocess.run([sys.executable, "-c", script, str(pack)], check=True)
        yield {"https": f"{web}/{pack.name}", "s3": "s3://bucket/pack"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, help="the pack's list, or another of its paths")
    parser.add_argument("--pack", type=Path, help="a pack on this machine")
    parser.add_argument("--videos", type=int, default=64, help="made without --pack (64)")
    parser.add_argument("--shard-mb", type=float, default=8.0, help="of the pack that is made (8)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="decoding processes")
    parser.add_argument("--rounds", type=int, default=3, help="how often all are timed (3)")
    args = parser.parse_args()
    if (args.list is None) != (args.pack is None):
        parser.error("--list and --pack go together")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder, listed, pack = Path(made), args.list, args.pack
        if pack is None:
            listed, pack = write_videos(folder / "videos", args.videos), folder / "pack"
            line = [sys.executable, "-m", "videomae.pack", f"list={listed}", f"out={pack}"]
            line += [f"root={listed.parent}", f"shard_mb={args.shard_mb}", "preset=veryfast"]
            subprocess.run(line, check=True, capture_output=True)
        shards = [path.stat().st_size for path in pack.glob("shard-*.tar")]
        print(
            f"{len(shards)} shards of {sum(shards) / 1e6:.1f} MB in all, {args.workers} processes"
        )
        rates: dict[str, list[tuple[float, float]]] = {}
        with addresses(pack, folder) as places:
            for number in range(args.rounds):
                found = {"disk": epoch(listed, str(pack), None, args.workers)}
                for name, address in places.items():
                    cache = folder / f"cache {name} {number}"
                    for state in ("cold", "warm"):
                        found[f"{name}, {state}"] = epoch(listed, address, cache, args.workers)
                for name, rate in found.items():
                    rates.setdefault(name, []).append(rate)
                print(
                    "  ".join(f"{name} {rate[0]:.1f}" for name, rate in found.items()), flush=True
                )
        pack_at.cache_clear()
    print("\n| pack from, cache | clips/s | s to open it |\n|---|---|---|")
    for name, measured in rates.items():
        rate, opening = (median(values) for values in zip(*measured, strict=True))
        print(f"| {name} | {rate:.1f} | {opening:.2f} |")


if __name__ == "__main__":
    main()
