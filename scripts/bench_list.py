#!/usr/bin/env python
"""Time reading a long clip list, and count the memory it takes in each decoding process.

python scripts/bench_list.py
python scripts/bench_list.py --clips 1000000 --workers 4
"""

import argparse
import gc
import multiprocessing
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from videomae.config import ClipConfig, DataConfig
from videomae.data.loader import TrainingOrder
from videomae.lists.clips import ClipList, read_clips

LOOKED_AT = 100_000
"""Clips that each process looks at."""


def write(path: Path, num_clips: int) -> None:
    """A list such as people have: a hashtag's folder and a number for each clip."""
    with path.open("w") as file:
        for number in range(num_clips):
            file.write(f"hashtag_{number % 386:03}/clip_{number:09}.mp4\n")


def private_mb() -> float:
    """Memory of this process that no other has a part in."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def look(clips: ClipList, ready: Connection) -> None:
    """Look at clips here and there, as a decoding process does, and say what that cost."""
    places = random.Random(0).choices(range(len(clips)), k=LOOKED_AT)
    before = private_mb()
    began = time.perf_counter()
    assert all(clips[place].path for place in places)
    seconds = time.perf_counter() - began
    ready.send((private_mb() - before, seconds / LOOKED_AT))
    ready.recv()  # the others are looking too


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=10_000_000, help="lines of the list")
    parser.add_argument("--workers", type=int, default=4, help="processes that share it")
    args = parser.parse_args()
    data = DataConfig(clip=ClipConfig(frames=16, stride=4, size=224))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "list.txt"
        write(path, args.clips)
        print(f"{args.clips:,} lines, {path.stat().st_size / 1e6:.0f} MB of text")
        before, began = private_mb(), time.perf_counter()
        clips = read_clips(path, data, labelled=False)
        print(f"read             {time.perf_counter() - began:8.1f} s")
    gc.collect()
    print(f"in memory        {clips.columns.nbytes / 1e6:8.0f} MB as columns")
    print(f"                 {private_mb() - before:8.0f} MB more in the main process")
    began = time.perf_counter()
    TrainingOrder(len(clips), 1024, seed=0).global_items(1)
    print(f"an epoch's order {time.perf_counter() - began:8.1f} s")
    gc.freeze()
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(args.workers)]
    processes = [context.Process(target=look, args=(clips, there)) for _, there in pipes]
    for process in processes:
        process.start()
    for number, (here, _) in enumerate(pipes):
        own, seconds = here.recv()
        print(f"process {number}        {own:8.1f} MB of its own, {seconds * 1e6:.0f} us a clip")
    for here, _ in pipes:
        here.send(None)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
