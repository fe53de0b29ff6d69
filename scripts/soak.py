#!/usr/bin/env python
"""Randomised campaigns: a run killed at random moments ends as if undisturbed; damaged videos are
counted, never fatal. Prints one line per trial and a summary; exits 1 if any property failed."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from safetensors.torch import load_file

from videomae.config import AugmentConfig, ClipConfig, CropKind, DataConfig
from videomae.data.clips import Clip
from videomae.data.dataset import Item, TrainingClips

TIMINGS = {"clips_per_s", "data_s", "step_s"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def write_video(path: Path, seed: int) -> None:
    """Moving noise, 24 frames of 64 x 64, H.264."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image = noise.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shift in range(24):
            frame = av.VideoFrame.from_ndarray(np.roll(image, shift, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def pretraining(videos: Path, output: Path, steps: int) -> list[str]:
    """A small run with dropped-in checkpoints, started or gone on with."""
    return [
        *(sys.executable, "-m", "videomae.pretrain", "model=vit_tiny", "run=local"),
        *("data=demo", "mask=random_cell", f"data.train_list={videos / 'list.txt'}"),
        *(f"data.root={videos}", f"output_dir={output}", "data.repeats=2", "optim.global_batch=8"),
        *("optim.epochs=100", "optim.warmup_epochs=1", f"max_steps={steps}", "resume=auto"),
        *("run.checkpoint_every=7", "run.log_every=1", "run.device=cpu", "run.workers=1"),
    ]


def outcome(output: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Final weights, and the metrics without timings."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: row[key] for key in row if key not in TIMINGS} for row in rows]
    return load_file(output / "weights.safetensors"), kept


def kill_campaign(rng: random.Random, kills: int, steps: int, folder: Path) -> bool:
    """Whether runs that were killed end with the weights and the metrics of one that was not."""
    videos = folder / "videos"
    videos.mkdir()
    for number in range(24):
        write_video(videos / f"{number}.mp4", seed=number)
    (videos / "list.txt").write_text("".join(f"{number}.mp4\n" for number in range(24)))
    start = time.monotonic()
    subprocess.run(pretraining(videos, folder / "straight", steps), check=True, capture_output=True)
    undisturbed = time.monotonic() - start
    weights, metrics = outcome(folder / "straight")
    killed = restarts = trial = 0
    good = True
    while killed < kills:
        trial += 1
        output = folder / f"killed{trial}"
        while True:
            process = subprocess.Popen(
                pretraining(videos, output, steps),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            restarts += 1
            number = rng.choice(SIGNALS)
            try:
                process.wait(timeout=rng.uniform(3.0, undisturbed) if killed < kills else None)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, number)
                process.wait()
                killed += 1
                print(f"  kill {killed}: {number.name}, status {process.returncode}", flush=True)
            if process.returncode == 0:
                break
        got_weights, got_metrics = outcome(output)
        same = got_metrics == metrics and all(
            torch.equal(value, got_weights[name]) for name, value in weights.items()
        )
        good &= same
        print(f"trial {trial}: {'identical' if same else 'DIFFERS'}", flush=True)
    print(f"{killed} kills in {trial} runs of {steps} steps ({restarts} starts): ", end="")
    print("all ended bit for bit as the undisturbed run" if good else "FAILED")
    return good


def damaged_campaign(rng: random.Random, count: int, folder: Path) -> bool:
    """Whether damaged files give either a clip or an empty slot, and nothing else."""
    source = folder / "source.mp4"
    write_video(source, seed=0)
    whole = source.read_bytes()
    outcomes = {"read": 0, "bad": 0}
    data = DataConfig(clip=ClipConfig(8, 2, 32), root=str(folder))
    augment = AugmentConfig(CropKind.multi_scale, antialias=True)
    for number in range(count):
        content = bytearray(whole)
        kind = rng.choice(("truncated", "flipped", "spliced", "zeroed"))
        if kind == "truncated":
            del content[rng.randrange(len(content)) :]
        elif kind == "flipped":
            for _ in range(rng.randrange(1, 200)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            first = rng.randrange(len(content))
            last = min(len(content), first + rng.randrange(1, 600))
            middle = whole[:300] if kind == "spliced" else bytes(last - first)
            content[first:last] = middle
        name = f"damaged{number}.mp4"
        (folder / name).write_bytes(content)
        clips = TrainingClips([Clip(name, 1)], data, augment, None, seed=0)
        example = clips[Item(0, 0)]
        outcomes["bad" if example.bad else "read"] += 1
        assert example.bad is None or not example.clip.any()
    print(f"{count} damaged videos: {outcomes['bad']} unreadable, {outcomes['read']} read")
    return sum(outcomes.values()) == count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60, help="of each run")
    parser.add_argument("--damaged", type=int, default=500, help="damaged videos")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    print(f"seed {args.seed}, torch {torch.__version__}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        good = damaged_campaign(rng, args.damaged, Path(folder))
        good &= kill_campaign(rng, args.kills, args.steps, Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
