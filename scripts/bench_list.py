#!/usr/bin/env python
"""Time reading a long clip list, and count the memory it takes in each decoding process.

python scripts/bench_list.py
python scripts/bench_list.py --form ranges
python scripts/bench_list.py --clips 1000000 --workers 4
"""

import argparse
import gc
import multiprocessing
import random
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from videomae.config import ClipConfig, DataConfig
from videomae.data.loader import TrainingOrder
from videomae.lists.clips import ClipList, read_clips

LOOKED_AT = 100_000
"""Clips that each process looks at."""


PIECE = 1 << 20
"""Rows that are written at once."""


def write(path: Path, num_clips: int, form: str) -> None:
    """A list such as people have: a hashtag's folder and a number for each clip.

    Args:
        form: text; parquet; or ranges, ten of each video, in Parquet.
    """
    if form == "text":
        with path.open("w") as file:
            file.writelines(f"{name(number)}\n" for number in range(num_clips))
        return
    types = {"path": pa.string()}
    if form == "ranges":
        types |= {"start_frame": pa.int64(), "end_frame": pa.int64()}
    with pq.ParquetWriter(path, pa.schema(types)) as writer:
        for first in range(0, num_clips, PIECE):
            numbers = range(first, min(first + PIECE, num_clips))
            columns: dict[str, list[object]] = {"path": [name(number) for number in numbers]}
            if form == "ranges":
                columns["path"] = [name(number // 10) for number in numbers]
                columns["start_frame"] = [90 * (number % 10) for number in numbers]
                columns["end_frame"] = [90 * (number % 10) + 80 for number in numbers]
            writer.write_table(pa.table(columns, schema=pa.schema(types)))


def name(number: int) -> str:
    return f"hashtag_{number % 386:03}/clip_{number:09}.mp4"


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
    parser.add_argument("--form", choices=("text", "parquet", "ranges"), default="text")
    parser.add_argument("--workers", type=int, default=4, help="processes that share it")
    args = parser.parse_args()
    data = DataConfig(clip=ClipConfig(frames=16, stride=4, size=224))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / ("list.txt" if args.form == "text" else "list.parquet")
        context = multiprocessing.get_context("fork")  # so that its memory is not counted here
        writing = context.Process(target=write, args=(path, args.clips, args.form))
        writing.start()
        writing.join()
        print(f"{args.clips:,} lines, {path.stat().st_size / 1e6:.0f} MB: {args.form}")
        before, began = private_mb(), time.perf_counter()
        cpu = time.process_time()
        clips = read_clips(path, data, labelled=False)
        cpu = time.process_time() - cpu
        print(f"read             {time.perf_counter() - began:8.1f} s, {cpu:.1f} s of CPU")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"at most          {peak:8.0f} MB in this process")
    gc.collect()
    print(f"in memory        {clips.columns.nbytes / 1e6:8.0f} MB as columns")
    print(f"                 {private_mb() - before:8.0f} MB more in the main process")
    began = time.perf_counter()
    TrainingOrder(len(clips), 1024, seed=0).global_items(1)
    print(f"an epoch's order {time.perf_counter() - began:8.1f} s")
    gc.freeze()
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
