#!/usr/bin/env python
"""Long randomised campaigns: kills, every sharding, damaged videos, and an hour of decoding.

python scripts/soak.py
python scripts/soak.py damaged packs --seed 1
python scripts/soak.py memory --minutes 60
python scripts/soak.py conformance --decoder all --keep out
python scripts/soak.py conformance --files DIR
python scripts/soak.py fuzz --mutations 5000 --seed 0
python scripts/soak.py fuzz --kinds packs --only=1234 --seed 0

    runs      a pre-training run killed at random moments, and begun again with the same command,
              ends with the weights and the metrics of one that was left alone
    workers   so does a run whose decoding processes are killed one by one, without beginning again
    remote    so does a run that reads its pack by https from a server that drops every tenth
              request, and whose cache has room for a third of the pack
    packs     a pack that is killed and begun again has the bytes of one that was left alone
    curate    curate over damaged and whole videos, of which it, a process of it or a node of its
              Ray cluster is killed, and which is begun again, makes the table of one that was left
              alone, byte for byte, with both engines
    launched  a run under torchrun and under Slurm, of which a process, the launcher or all
              are killed, or that Slurm requeues, has the curve of one that was left alone
    shared    pre-training and fine-tuning in 1, 2 and 4 processes with every sharding, stopped and
              resumed in another, have the curve of one process
    rules     runs of both stages in bf16 under CUDA's rules of arithmetic, with every sharding and
              attention, and every command that takes their weights, go to their end
    damaged   truncated, flipped, zeroed and spliced videos in three containers go through
              pretrain, finetune, evaluate, scan, pack and every decoder: no crash, no hang, each
              named once, and no video's pixels in the place of another's
    memory    decoding processes do not grow, on plain and damaged videos and on a pack
    conformance
              hundreds of small files of every codec and container, made and handled as people do,
              are read, scanned and packed as the ffmpeg command shows them
    bare      where nothing but torch, einops and NumPy is installed, the model is imported and
              gpu_check.py --self-test runs
    fuzz      mutated and hostile weights, checkpoints, side files, packs, lists, videos and
              playlists are right, refused by name or bad files, and lead nowhere
    same      metrics, weights and results of runs in miniature are those of an earlier commit
    silent    no learning guard speaks of ten healthy tiny runs of both stages: seeds, batches,
              schedules, augmentations, exps and folders
    demo      nor of the demo's three runs, nor of its labelled clips in a folder per motion; one
              does where their labels are shuffled. Half an hour on two cores
    tests     the tests that are marked soak, which scripts/test.sh leaves out: kills of stages of
              curate and of launched runs at given places
    mutants   mistakes of one line in masks, frames, losses, rates, resuming, scores and packs: each
              makes the test fail that is there for it

Prints one line a trial and exits 1 where a property failed.
"""

import argparse
import io
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import torch
from safetensors.torch import load_file

from videomae.config import AugmentConfig, ClipConfig, CropKind, DataConfig
from videomae.data.dataset import EvaluationClips, TrainingClips
from videomae.data.loader import MicroBatches, TrainingOrder, evaluation_loader, training_loader
from videomae.lists.clips import read_clips
from videomae.run.files import whole_json_lines
from videomae.video.opening import usable_decoders

TIMINGS = {"clips_per_s", "data_s", "step_s", "save_s"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CONTAINERS = {"mp4": "libx264", "avi": "mpeg4", "webm": "libvpx-vp9"}
BLOCK, BLOCKS, CODE_BITS = 8, 8, 16
"""A video's picture: 8 x 8 blocks of 8 x 8 pixels; the upper half says which video it is."""
SCATTER, SCATTERED = 40503, 2**CODE_BITS
"""Numbers are written times SCATTER: a code that damage has shifted is hardly another number's."""
SIDE = BLOCK * BLOCKS
TIMEOUT_S = 900
"""No command of these takes so long: it hangs."""


# Videos that tell which they are


def code_of(number: int) -> np.ndarray:
    """(4, 8) bool: the bits of a number, scattered, then their complements."""
    scattered = number * SCATTER % SCATTERED
    bits = np.array([(scattered >> place) & 1 for place in range(CODE_BITS)], bool)
    return np.concatenate([bits, ~bits]).reshape(-1, BLOCKS)


def number_in(frame: np.ndarray) -> int | None:
    """The number that a frame (64, 64, 3) shows; None: its code is damaged."""
    gray = frame[: SIDE // 2].astype(np.float32).mean(-1)
    means = gray.reshape(-1, BLOCK, BLOCKS, BLOCK).mean((1, 3)).reshape(-1)
    bits = means > 128
    if (np.abs(means - 128) < 48).any() or (bits[:CODE_BITS] == bits[CODE_BITS:]).any():
        return None
    scattered = sum(1 << place for place in range(CODE_BITS) if bits[place])
    return scattered * pow(SCATTER, -1, SCATTERED) % SCATTERED


def write_video(path: Path, number: int, frames: int = 24) -> None:
    """Moving noise below the code of `number`, 64 x 64."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, (BLOCKS, BLOCKS, 3), dtype=np.uint8)
    image = image.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    code = code_of(number).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CONTAINERS[path.suffix[1:]], rate=25)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.options = {"mbtree": "0"}
        if path.suffix == ".webm":
            stream.options = {"deadline": "realtime", "cpu-used": "8"}
        for shift in range(frames):
            picture = np.roll(image, shift, axis=1)
            picture[: SIDE // 2] = np.where(code, 235, 20)[..., None]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_videos(folder: Path, count: int, suffixes: Sequence[str] = ("mp4",)) -> Path:
    """Videos named by their number, and a labelled list of them."""
    folder.mkdir(parents=True)
    names = [f"{number}.{suffixes[number % len(suffixes)]}" for number in range(count)]
    for number, name in enumerate(names):
        write_video(folder / name, number)
    path = folder / "list.txt"
    path.write_text("".join(f"{name} {number % 3}\n" for number, name in enumerate(names)))
    return path


def damage(content: bytearray, rng: random.Random) -> str:
    """Damage a file's content in one of four ways, and say in which."""
    kind = rng.choice(("truncated", "flipped", "spliced", "zeroed"))
    first = rng.randrange(len(content))
    if kind == "truncated":
        del content[first:]
    elif kind == "flipped":
        for _ in range(int(10 ** rng.uniform(0, 2.3))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        last = min(len(content), first + rng.randrange(1, 600))
        source = rng.randrange(len(content))
        piece = bytes(last - first) if kind == "zeroed" else content[source : source + last - first]
        content[first:last] = piece
    return kind


def holds(what: str, condition: bool) -> bool:
    """The condition. If it does not hold, say so."""
    if not condition:
        print(f"FAILED: {what}")
    return condition


# Commands


def command(name: str, *overrides: str) -> list[str]:
    return [sys.executable, "-m", f"videomae.{name}", *overrides]


def succeeds(name: str, *overrides: str) -> bool:
    """Run a command to its end, and show what it said if it fails."""
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command(name, *overrides),
            stdout=quiet,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        print(f"{name} HANGS")
        return False
    if done.returncode:
        print(f"{name} FAILED, status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.returncode == 0


def start(name: str, *overrides: str) -> subprocess.Popen[bytes]:
    """Run a command in a process group of its own."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command(name, *overrides), stdout=quiet, stderr=quiet, start_new_session=True
    )


SMALL = ("model=vit_tiny", "run=local", "run.device=cpu", "run.log_every=1", "data=demo")


def pretraining(
    clips: Path, output: Path, steps: int, workers: int = 1, root: str | None = None
) -> list[str]:
    """A small run with frequent checkpoints, started or gone on with."""
    return [
        *SMALL,
        *("mask=random_cell", f"data.train_list={clips}", f"data.root={root or clips.parent}"),
        *(f"output_dir={output}", "data.repeats=2", "optim.global_batch=8", "resume=auto"),
        *("optim.epochs=100", "optim.warmup_epochs=1", f"max_steps={steps}"),
        *("run.checkpoint_every=7", f"run.workers={workers}"),
    ]


def outcome(output: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Final weights, and the metrics without timings."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: row[key] for key in row if key not in TIMINGS} for row in rows]
    return load_file(output / "weights.safetensors"), kept


def same_outcome(output: Path, straight: Path) -> bool:
    """Whether two runs ended bit for bit alike, without a video counted as bad."""
    (weights, metrics), (own_weights, own_metrics) = outcome(straight), outcome(output)
    return own_metrics == metrics and all(
        torch.equal(value, own_weights[name]) for name, value in weights.items()
    )


def told(same: bool) -> str:
    return "identical" if same else "DIFFERS"


# Kills


def kill_runs(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Signals to a run and its decoding processes."""
    clips = write_videos(folder / "videos", 24)

    def line(output: Path) -> list[str]:
        return pretraining(clips, output, args.steps)

    return end_as(folder / "straight", line(folder / "straight"), line, args, rng)


def end_as(
    straight: Path,
    undisturbed_line: list[str],
    line: Callable[[Path], list[str]],
    args: argparse.Namespace,
    rng: random.Random,
) -> bool:
    """Whether runs that are killed, and begun again until they end, end as one left alone does.

    Args:
        straight: directory of the run that is left alone.
        undisturbed_line: overrides of that run.
        line: overrides of a run in a directory.
    """
    folder = straight.parent
    began = time.monotonic()
    assert succeeds("pretrain", *undisturbed_line)
    undisturbed = time.monotonic() - began
    killed = restarts = trial = 0
    good = True
    while killed < args.times:
        trial += 1
        output = folder / f"run{trial}"
        while True:
            process = start("pretrain", *line(output))
            restarts += 1
            number = rng.choice(SIGNALS)
            try:
                process.wait(rng.uniform(3.0, undisturbed) if killed < args.times else None)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, number)
                process.wait()
                killed += 1
                print(f"  kill {killed}: {number.name}, status {process.returncode}", flush=True)
            if process.returncode == 0:
                break
        same = same_outcome(output, straight)
        good &= same
        print(f"run {trial}: {told(same)}", flush=True)
        shutil.rmtree(output)
    print(f"{killed} kills in {trial} runs of {args.steps} steps, {restarts} starts")
    return good


def kill_remote(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Signals to a run whose pack comes from a bad server, into a cache with room for a third."""
    use_tests()
    from tests.remote_servers import Faulty

    videos = write_videos(folder / "videos", 24)
    out, cache = folder / "pack", folder / "cache"
    places = (f"list={videos}", f"root={videos.parent}", f"out={out}")
    assert succeeds("pack", *places, "shard_mb=0.01")
    shards = list(out.glob("shard-*.tar"))
    room = sum(path.stat().st_size for path in shards) / 3e9
    clips, straight = out / "list.txt", folder / "straight"
    trusted = {"SSL_CERT_FILE": str(folder / "certificates" / "cert.pem")}
    bad = Faulty(out, drop_every=10)
    with patch.dict(os.environ, trusted), bad.serving(folder / "certificates") as server:

        def line(output: Path) -> list[str]:
            given = pretraining(clips, output, args.steps, workers=2, root=server.address)
            return [*given, f"data.cache_dir={cache}", f"data.cache_gb={room:.9f}"]

        alone = pretraining(clips, straight, args.steps, root=str(out))
        good = end_as(straight, alone, line, args, rng)
        asked = len(server.asked)
    print(f"{len(shards)} shards, {asked} requests, of which {asked // 10} were dropped")
    return holds("the server dropped some", asked >= 10) and good


def decoding_processes(parent: int) -> list[int]:
    """Those that a command has forked."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        own = Path(f"/proc/{parent}/cmdline").read_bytes()
        return [int(c) for c in children if Path(f"/proc/{c}/cmdline").read_bytes() == own]
    except OSError:
        return []


def kill_workers(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """SIGKILL to one decoding process after another of a run that is not begun again."""
    clips = write_videos(folder / "videos", 24)
    steps = 4 * args.steps
    straight = folder / "straight"
    assert succeeds("pretrain", *pretraining(clips, straight, steps, workers=2))
    killed = trial = 0
    good = True
    while killed < args.times:
        trial += 1
        output = folder / f"run{trial}"
        process = start("pretrain", *pretraining(clips, output, steps, workers=2))
        before = killed
        while process.poll() is None:
            time.sleep(rng.uniform(0.3, 1.5))
            if victims := decoding_processes(process.pid):
                os.kill(rng.choice(victims), signal.SIGKILL)
                killed += 1
        same = process.returncode == 0 and same_outcome(output, straight)
        good &= same
        print(f"run {trial}: {killed - before} processes killed, {told(same)}", flush=True)
        shutil.rmtree(output, ignore_errors=True)
    print(f"{killed} decoding processes killed in {trial} runs of {steps} steps")
    return good


def kill_packs(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """SIGKILL to pack, begun again until it ends."""
    clips = write_videos(folder / "videos", 60, list(CONTAINERS))
    (clips.parent / "7.avi").write_bytes(b"no video")

    def packing(out: Path) -> list[str]:
        places = [f"list={clips}", f"root={clips.parent}", f"out={out}"]
        return [*places, "shard_mb=0.05", "max_bad_fraction=0.1"]

    def tree(out: Path) -> dict[str, bytes]:
        files = (path for path in out.rglob("*") if path.is_file())
        return {str(path.relative_to(out)): path.read_bytes() for path in files}

    straight = folder / "straight"
    began = time.monotonic()
    assert succeeds("pack", *packing(straight))
    undisturbed = time.monotonic() - began
    killed = trial = 0
    good = True
    while killed < args.times:
        trial += 1
        out = folder / f"pack{trial}"
        while True:
            process = start("pack", *packing(out))
            try:
                process.wait(rng.uniform(0.5, undisturbed) if killed < args.times else None)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
            if process.wait() != -signal.SIGKILL:
                break
        same = process.returncode == 0 and tree(out) == tree(straight)
        good &= same
        shards = len(list(out.glob("shard-*.tar")))
        print(f"pack {trial}: {killed} kills so far, {shards} shards, {told(same)}", flush=True)
        shutil.rmtree(out)
    print(f"{killed} kills of {trial} packs")
    return good


Victims = Callable[[subprocess.Popen[bytes]], dict[str, Callable[[], object]]]
"""What can be killed while a command runs: by its name, how it is killed."""


def kill_curates(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """SIGKILL to curate or to one of its processes, and on a Ray of two nodes also to a node; it is
    begun again until it ends."""
    use_tests()
    from tests.curate.ray_nodes import cluster, processes

    raw = folder / "raw"
    for number in range(100):
        path = raw / f"{number}.{list(CONTAINERS)[number % 3]}"
        path.parent.mkdir(exist_ok=True)
        write_video(path, number, frames=24 + number)
        if number % 4 == 0:
            content = bytearray(path.read_bytes())
            damage(content, rng)
            path.write_bytes(content)
    (folder / "salt").write_text("salt")
    given = [f"source={raw}", f"salt={folder / 'salt'}", "engine.shard=4", "rules=loose"]
    assert succeeds("curate", *given, f"out={folder / 'straight'}")

    def killed(victim: int) -> Callable[[], object]:
        return lambda: os.kill(victim, signal.SIGKILL)

    def local(process: subprocess.Popen[bytes]) -> dict[str, Callable[[], object]]:
        own = {f"a process {each}": killed(each) for each in children(process.pid)}
        return {"the command": process.kill} | own

    good = end_as_straight("local", given, local, args, rng, folder)
    with cluster(2) as nodes, patch.dict(os.environ, nodes.environment):

        def on_ray(process: subprocess.Popen[bytes]) -> dict[str, Callable[[], object]]:
            sessions = [node.pid for node in nodes.nodes]
            names = {"a measuring process": "videomae.curate", "a Ray worker": "ray::measure"}
            found: dict[str, Callable[[], object]] = {"the command": process.kill}
            for name, said in names.items():
                running = [each for session in sessions for each in processes(session, said)]
                found |= {name: killed(rng.choice(running))} if running else {}
            return found | {"a node": lambda: (nodes.kill(nodes.nodes[1]), nodes.add())}

        line = [*given, "engine.name=ray", f"engine.address={nodes.address}"]
        return end_as_straight("ray", line, on_ray, args, rng, folder) and good


def end_as_straight(
    engine: str,
    given: list[str],
    victims: Victims,
    args: argparse.Namespace,
    rng: random.Random,
    folder: Path,
) -> bool:
    """Whether curate, killed and begun again, makes the tables of the run that was left alone."""
    files = ("clips.parquet", "sources.parquet", "rules_used.yaml", "stages/measure.parquet")
    killed: Counter[str] = Counter()
    trial, good = 0, True
    while killed.total() < args.times:
        trial += 1
        out = folder / f"{engine}{trial}"
        while True:
            process = start("curate", *given, f"out={out}")
            while killed.total() < args.times and process.poll() is None:
                time.sleep(rng.uniform(0.5, 12))
                found = victims(process)
                name = rng.choice(sorted(found))
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        found[name]()
                    killed[name.rstrip(" 0123456789")] += 1
            if process.wait() != -signal.SIGKILL:
                break
        same = process.returncode == 0 and all(
            (out / name).read_bytes() == (folder / "straight" / name).read_bytes() for name in files
        )
        good &= same
        print(f"{engine} {trial}: {killed.total()} kills so far, {told(same)}", flush=True)
        shutil.rmtree(out)
    print(f"{engine}: {killed.total()} kills of {trial} corpora: {dict(killed)}")
    return good


def children(parent: int) -> list[int]:
    """Ids of the processes that a process has started."""
    files = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(number) for file in files for number in file.read_text().split()]


# Several processes

SCRIPTS = Path(__file__).parent
SHARDINGS = {
    "ddp": ["run.sharding=ddp"],
    "fsdp": ["run.sharding=fsdp"],
    "hsdp": ["run.sharding=hsdp", "run.shards=2"],
}
COUNTS = (1, 2, 4)
"""Processes."""


def launched(script: str, *overrides: str, count: int) -> subprocess.Popen[bytes]:
    """A launcher in a process group of its own."""
    quiet = subprocess.DEVNULL
    own = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PROCESSES": str(count)}
    line = [str(SCRIPTS / script), *overrides]
    return subprocess.Popen(
        line, stdout=quiet, stderr=quiet, start_new_session=True, env=os.environ | own
    )


def losses(output: Path) -> np.ndarray:
    """Of all steps."""
    rows = whole_json_lines(output / "metrics.jsonl")
    return np.array([row["loss"] for row in rows])


def close_to(output: Path, straight: Path) -> bool:
    """Whether two runs have the same loss curve, to rounding."""
    ours, theirs = losses(output), losses(straight)
    return len(ours) == len(theirs) and bool(np.allclose(ours, theirs, rtol=1e-3))


def curve(same: bool) -> str:
    return "the same curve" if same else "ANOTHER CURVE"


def stage_overrides(stage: str, clips: Path, steps: int) -> list[str]:
    """A small run of either stage, whose numbers do not depend on the ranks."""
    common = [*SMALL, f"data.train_list={clips}", f"data.root={clips.parent}", "resume=auto"]
    common += ["optim.global_batch=8", "run.device_batch=1", "optim.epochs=100", "run.workers=0"]
    common += ["optim.warmup_epochs=1", f"max_steps={steps}", "data.repeats=2"]
    common += ["run.background_checkpoints=true", "run.checkpoint_every=2"]
    if stage == "pretrain":
        return [*common, "mask=random_cell"]
    noiseless = ("optim.drop_path=0", "optim.head_drop=0", "augment=plain", "optim.ema_decay=0.9")
    tested = ("data.segments=1", "data.crops=1", "data.classes=3", "data.class_names=null")
    return [*common, *noiseless, *tested, f"data.test_list={clips}", "weights=scratch"]


def share_models(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Every sharding in 1, 2 and 4 processes, both stages; and each gone on with as another."""
    clips = write_videos(folder / "videos", 27)
    steps, good = 8, True
    ways = [(name, count) for name in SHARDINGS for count in COUNTS]

    def go(stage: str, way: tuple[str, int], output: Path, last: int) -> bool:
        name, count = way
        given = stage_overrides(stage, clips, last)
        shards = SHARDINGS[name] if count > 1 else [f"run.sharding={name}"]
        process = launched(
            "one_node.sh", stage, *given, *shards, f"output_dir={output}", count=count
        )
        return process.wait(TIMEOUT_S) == 0

    for stage in ("pretrain", "finetune"):
        straight = folder / f"{stage}-straight"
        assert go(stage, ways[0], straight, steps)
        others = rng.sample(ways, len(ways))
        for way, other in zip(ways, others, strict=True):
            whole, parts = folder / "whole", folder / "parts"
            same = go(stage, way, whole, steps) and close_to(whole, straight)
            again = go(stage, way, parts, steps // 2) and go(stage, other, parts, steps)
            again = again and close_to(parts, straight)
            good &= same and again
            print(
                f"{stage}: {way[0]} x {way[1]}: {curve(same)}; stopped, and on as "
                f"{other[0]} x {other[1]}: {curve(again)}",
                flush=True,
            )
            shutil.rmtree(whole)
            shutil.rmtree(parts)
    return good


RULED = (  # what a run may be told besides
    (),
    ("run.recompute=selective", "run.reduce_dtype=bf16"),
    ("run.recompute=full", "run.background_checkpoints=false", "run.checkpoint_every_min=0.001"),
    ("run.device_batch=4", "model.positions=sincos_3d", "model.norm_eps=1e-5", "data.repeats=1"),
)
COMPILED = ("run.compile=true",)


def keep_rules(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Both stages and all commands under CUDA's rules, and runs gone on with in another way."""
    use_tests()
    from tests.train import under_rules

    videos = write_videos(folder / "videos", 12).parent
    shardings = [("none", 1), ("ddp", 2), ("fsdp", 2), ("fsdp", 4), ("hsdp", 4)]
    ways = [
        under_rules.Way(name, count, attention, more)
        for name, count in shardings
        for attention in ("flash", "cudnn")
        for more in RULED
    ]
    compiled = [under_rules.Way(*each, "flash", COMPILED) for each in shardings]
    trials = [*ways, *(compiled if shutil.which("g++") else [])]
    good = True
    for number, way in enumerate(rng.sample(trials, len(trials))):
        began, output = time.monotonic(), folder / str(number)
        try:
            with redirect_stdout(io.StringIO()):
                trained = under_rules.train_both(videos, output, way)
                under_rules.use(videos, output, *trained, processes=1 + number % 2)
                under_rules.go_on(videos, output / "parts", way, rng.choice(ways))
            said = "to its end"
        except Exception as error:  # whatever ends a run is what is looked for
            good, said = False, f"FAILED: {error}"
        print(f"{way}: {said}, {time.monotonic() - began:.0f} s", flush=True)
        shutil.rmtree(output, ignore_errors=True)
    return good


def slurm_answers() -> bool:
    """Whether there is a Slurm, and it runs."""
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def kill_launched(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """A process, the launcher or all killed; where Slurm answers, jobs put back into its queue."""
    clips = write_videos(folder / "videos", 24)
    given = ["pretrain", *pretraining(clips, folder / "straight", 2 * args.steps)]
    began = time.monotonic()
    assert launched("one_node.sh", *given, count=2).wait(TIMEOUT_S) == 0
    undisturbed = time.monotonic() - began
    kinds = ["a process", "the launcher", "all", "the launcher, SIGTERM"]
    kinds += ["Slurm, SIGUSR1", "Slurm, requeued"] * slurm_answers()
    counts: Counter[str] = Counter()
    trial, good = 0, True
    while counts.total() < args.times:
        trial += 1
        output = folder / f"run{trial}"
        given = ["pretrain", *pretraining(clips, output, 2 * args.steps)]
        kind = kinds[trial % len(kinds)]
        run = _under_slurm if kind.startswith("Slurm") else _under_torchrun
        counts[kind] += run(kind, given, output, rng, undisturbed)
        same = close_to(output, folder / "straight")
        good &= same
        print(f"run {trial}, {kind}: {curve(same)}", flush=True)
    print(f"{counts.total()} kills in {trial} runs: {dict(counts)}")
    return good


def _under_torchrun(
    kind: str, given: list[str], output: Path, rng: random.Random, undisturbed: float
) -> int:
    """Start a run until it ends by itself; how often it was killed before, twice at most."""
    killed = 0
    while True:
        process = launched("one_node.sh", *given, count=2)
        try:
            code = process.wait(rng.uniform(4.0, undisturbed) if killed < 2 else TIMEOUT_S)
        except subprocess.TimeoutExpired:
            killed += 1
            ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if kind == "a process" and ranks:
                os.kill(int(rng.choice(ranks)), signal.SIGKILL)  # the launcher starts all again
                code = process.wait(TIMEOUT_S)
            elif kind == "all":
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            else:
                process.send_signal(signal.SIGTERM if kind.endswith("SIGTERM") else signal.SIGKILL)
                code = process.wait(TIMEOUT_S)
                while any(Path(f"/proc/{rank}").exists() for rank in ranks):
                    time.sleep(0.1)  # they notice, save and end
        if code == 0:
            return killed


def _under_slurm(
    kind: str, given: list[str], output: Path, rng: random.Random, undisturbed: float
) -> int:
    """A job that is put back into the queue while it runs."""
    own = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PROCESSES": "2"}
    output.mkdir(parents=True)
    log = f"--output={output.parent / 'job.log'}"
    line = ["sbatch", "--parsable", log, str(SCRIPTS / "slurm.sh"), *given]
    done = subprocess.run(line, env=os.environ | own, capture_output=True, text=True, check=True)
    job, killed, end = done.stdout.strip(), 0, time.monotonic() + TIMEOUT_S
    pause = rng.uniform(4.0, undisturbed)
    while time.monotonic() < end:
        time.sleep(0.5)
        show = ["scontrol", "show", "job", job]
        state = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        if "JobState=COMPLETED" in state:
            break
        if "JobState=PENDING" in state:
            time.sleep(3)  # in the same second a node takes it for the job that it has just ended
            update = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
            subprocess.run(update, capture_output=True, check=False)
        elif "JobState=RUNNING" in state and killed == 0 and (pause := pause - 0.5) < 0:
            stop = ["scancel", "--batch", "--signal=USR1", job]
            requeue = ["scontrol", "requeue", job]
            subprocess.run(stop if kind.endswith("USR1") else requeue, check=False)
            killed = 1
    return killed


# Damage


def damaged_corpus(args: argparse.Namespace, rng: random.Random, folder: Path) -> Path:
    """A list of damaged videos."""
    clips = write_videos(folder / "videos", args.damaged, list(CONTAINERS))
    kinds: Counter[str] = Counter()
    for line in clips.read_text().splitlines():
        path = clips.parent / line.split()[0]
        content = bytearray(path.read_bytes())
        kinds[damage(content, rng)] += 1
        path.write_bytes(content)
    print(f"{args.damaged} damaged videos: {', '.join(f'{n} {k}' for k, n in kinds.items())}")
    return clips


def through_decoders(clips: Path, data: DataConfig) -> bool:
    """Whether no loader hands out a video in another's place, and names each bad one once."""
    good = True
    for decoder in usable_decoders():
        own = replace(data, decoder=decoder)
        lines = read_clips(clips, own, labelled=True)
        augment = AugmentConfig(CropKind.multi_scale, antialias=True, scales=[1.0])
        training = TrainingClips(lines, own, augment, None, seed=0)
        order = TrainingOrder(len(lines), 8, seed=0)
        batches = MicroBatches(order, rank=0, world=1, size=8, first=1, last=len(lines) // 8)
        shared = {"workers": 2, "pin": False}
        loaders = {
            "training": training_loader(training, batches, size=8, **shared),
            "evaluation": evaluation_loader(
                EvaluationClips(lines, own), rank=0, world=1, batch=8, **shared
            ),
        }
        for use, loader in loaders.items():
            seen: Counter[str] = Counter()
            bad: set[int] = set()
            for batch in loader:
                for entry in batch.bad:
                    once = entry.video not in bad and entry.path == lines[entry.video].path
                    good &= holds(f"{entry.path} is named once, by its name", once)
                    bad.add(entry.video)
                for view, video, valid in zip(batch.clip, batch.video, batch.valid, strict=True):
                    known = bool(valid) != (int(video) in bad) and bool(valid or not view.any())
                    good &= holds(f"video {int(video)} is blank if it is bad, and only then", known)
                    for frame in view.numpy() if valid else ():
                        number = number_in(frame)
                        foreign = number is not None and number < len(lines)
                        seen["own" if number == video else "FOREIGN" if foreign else "unclear"] += 1
            good &= holds("no foreign frame, and own ones", not seen["FOREIGN"] and seen["own"] > 0)
            frames = ", ".join(f"{count:,} {kind}" for kind, count in seen.items())
            print(f"{decoder}, {use}: {len(bad)} unreadable; frames of the rest: {frames}")
    return good


def go_through_damage(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Damaged videos through everything that reads videos."""
    clips = damaged_corpus(args, rng, folder)
    data = DataConfig(clip=ClipConfig(8, 2, SIDE), root=str(clips.parent), classes=3, timeout_s=20)
    good = through_decoders(clips, data)
    root, limit = f"data.root={clips.parent}", "data.max_bad_fraction=1"
    steps = args.damaged // 8
    output = folder / "pretrained"
    good &= succeeds("pretrain", *pretraining(clips, output, steps, workers=2), limit)
    named = [row["path"] for row in whole_json_lines(output / "bad_files.jsonl")]
    good &= holds("pretrain names no file twice", len(set(named)) == len(named))
    rows = whole_json_lines(output / "metrics.jsonl")
    print(f"pretrain: {len(rows)} steps, {len(named)} files named")
    lists = (f"data.train_list={clips}", f"data.test_list={clips}", root, limit, "data.classes=3")
    classifier = ("data.class_names=null", "run.workers=2", *lists)
    tuned = folder / "finetuned"
    given = (*SMALL, *classifier, f"weights={output}", f"output_dir={tuned}", f"max_steps={steps}")
    good &= succeeds("finetune", *given, "optim.global_batch=8", "optim.base_lr=1e-4")
    evaluated = folder / "evaluated"
    given = (*SMALL, *classifier, f"weights={tuned}", f"output_dir={evaluated}")
    good &= succeeds("evaluate", *given, "data.segments=2", "data.crops=3")
    results = json.loads((evaluated / "results.json").read_text())
    answers = whole_json_lines(evaluated / "predictions.jsonl")
    named = [row["path"] for row in whole_json_lines(evaluated / "bad_files.jsonl")]
    good &= holds("evaluate counts all", results["num_videos"] == len(answers) == args.damaged)
    wrong = [row["video"] for row in answers if not row["readable"]]
    by_number = sorted(named, key=lambda path: int(Path(path).stem))
    good &= holds("evaluate names what it could not read", wrong == by_number)
    print(f"evaluate: {results['num_videos']} videos, {results['num_unreadable']} unreadable")
    reading = (f"list={clips}", f"root={clips.parent}")
    good &= succeeds("scan", *reading, f"out={folder / 'scan'}", "timeout_s=20")
    clean = [row for row in (folder / "scan/clean.txt").read_text().splitlines() if row[0] != "#"]
    good &= succeeds("pack", *reading, f"out={folder / 'pack'}", "max_bad_fraction=1")
    packed = [row for row in (folder / "pack/list.txt").read_text().splitlines() if row[0] != "#"]
    print(f"scan: {len(clean)} undamaged; pack: {len(packed)} packed")
    good &= holds("what pack takes, scan calls undamaged", set(packed) <= set(clean))
    unread = {row.split()[0] for row in clean} & set(named)
    good &= holds(f"evaluate reads what scan calls undamaged, not {sorted(unread)}", not unread)
    return good


# Memory


def resident_mb(process: int) -> float:
    """Memory of a process, with what it shares, which comes to be its own when another writes."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1e3


def watch_memory(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """One process on plain videos, a tenth of them damaged, and one on a pack, side by side."""
    plain = write_videos(folder / "videos", 120, list(CONTAINERS))
    out = folder / "pack"
    assert succeeds("pack", f"list={plain}", f"root={plain.parent}", f"out={out}")
    for line in plain.read_text().splitlines()[::10]:
        path = plain.parent / line.split()[0]
        content = bytearray(path.read_bytes())
        damage(content, rng)
        path.write_bytes(content)
    augment = AugmentConfig(CropKind.multi_scale, antialias=True)
    streams = {}
    for name, root in {"plain": plain.parent, "packed": out}.items():
        data = DataConfig(clip=ClipConfig(8, 2, 32), root=str(root), repeats=2)
        lines = read_clips(root / "list.txt", data, labelled=True)
        clips = TrainingClips(lines, data, augment, None, seed=0)
        order = TrainingOrder(len(lines), 8, seed=0)
        batches = MicroBatches(order, rank=0, world=1, size=8, first=1, last=10**9)
        before = set(decoding_processes(os.getpid()))
        stream = iter(training_loader(clips, batches, size=8, workers=1, pin=False))
        next(stream)
        (process,) = set(decoding_processes(os.getpid())) - before
        streams[name] = stream, process
    processes = {name: process for name, (_, process) in streams.items()} | {"main": os.getpid()}
    history: dict[str, list[float]] = {name: [] for name in processes}
    began = marked = time.monotonic()
    videos = 0
    print(f"{'min':>5} {'videos':>10} " + " ".join(f"{name:>8} MB" for name in processes))
    while time.monotonic() - began < 60 * args.minutes:
        for stream, _ in streams.values():
            next(stream)
            videos += 8
        if time.monotonic() - marked >= 60 * args.minutes / 12:
            marked = time.monotonic()
            for name, process in processes.items():
                history[name].append(resident_mb(process))
            row = " ".join(f"{seen[-1]:11.1f}" for seen in history.values())
            print(f"{(marked - began) / 60:5.1f} {videos:10,} {row}", flush=True)
    for stream, _ in streams.values():
        stream.close()
    growth = {name: max(seen[6:]) - max(seen[:6]) for name, seen in history.items()}
    print(", ".join(f"{name}: {mb:+.1f} MB in the second half" for name, mb in growth.items()))
    return all(mb < 5 for mb in growth.values())


# Conformance


def use_tests() -> None:
    """Let this process, and those that it starts, import the tests."""
    root = str(SCRIPTS.parent)
    sys.path.insert(0, root)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.getenv("PYTHONPATH"))))


def hold_against_ffmpeg(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Every recipe, or the files of a folder, through the decoders, the scan and the pack."""
    if shutil.which("ffmpeg") is None:
        print("not run: the command ffmpeg is not installed")
        return True
    use_tests()
    from tests.video import campaign

    decoders = usable_decoders() if args.decoder == "all" else [args.decoder]
    kept = Path(args.keep) if args.keep else folder
    if args.files:
        requests = campaign.file_requests(decoders, kept, Path(args.files))
    else:
        requests = campaign.recipe_requests(decoders, kept)
    rows = campaign.run(requests, args.workers)
    print(f"table: {campaign.write_table(rows, kept)}" if args.keep else "no table without --keep")
    print("\n".join(campaign.summary(rows)))
    return not any(row.verdict.faults for row in rows if campaign.counts(row))


def run_bare(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """In a virtual environment of its own, with the versions of constraints.txt."""
    root = Path(__file__).resolve().parent.parent
    python = folder / "venv" / "bin" / "python"
    wanted = ("torch", "einops", "numpy")
    install = ("-m", "pip", "install", "--quiet", "-c", str(root / "constraints.txt"), *wanted)
    check = (str(root / "scripts" / "gpu_check.py"), "--self-test", "--out", str(folder / "out"))
    environment = os.environ | {"PYTHONPATH": str(root)}
    for command in (
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [str(python), *install],
        [str(python), "-c", "import videomae.model"],
        [str(python), *check],
    ):
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{shlex.join(command)}:\n{done.stderr[-2000:]}")
            return False
    print(f"{len(list((folder / 'out').glob('*.json')))} parts of gpu_check.py --self-test")
    return True


# Fuzzing


def fuzz(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Mutated and hostile files of every kind through all that reads files of others."""
    sys.path.insert(0, str(SCRIPTS.parent))  # the harness is among the tests
    from tests.fuzzing import campaign

    kinds = args.kinds.split(",") if args.kinds else campaign.KINDS
    if unknown := set(kinds) - set(campaign.KINDS):
        sys.exit(f"--kinds {', '.join(sorted(unknown))}: choose from {', '.join(campaign.KINDS)}")
    return campaign.main_run(
        folder, args.seed, args.mutations, kinds, args.only, args.workers, args.watched
    )


def keep_numbers(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Runs in miniature beside those of the commit that scripts/same_numbers.py names."""
    script = Path(__file__).with_name("same_numbers.py")
    return subprocess.run([sys.executable, str(script), "--parts", "runs"]).returncode == 0


# Learning guards


def guards_of(output: Path) -> list[str]:
    """The learning guards that spoke of a run."""
    file = output / "warnings.jsonl"
    return [row["guard"] for row in whole_json_lines(file)] if file.exists() else []


def is_silent(stage: str, name: str, output: Path, *overrides: str) -> bool:
    """Whether a run goes to its end and no guard says anything."""
    began = time.monotonic()
    good = succeeds(stage, *overrides, f"output_dir={output}", "run.device=cpu")
    spoken = guards_of(output) if good else []
    tested = good and stage == "finetune"
    result = json.loads((output / "results.json").read_text()) if tested else {}
    top1 = f", top-1 {result['top1']:.1f} %" if "top1" in result else ""
    rows = whole_json_lines(output / "metrics.jsonl") if good else []
    end = [row["loss"] for row in rows if "loss" in row][-1] if good else float("nan")
    said = ", ".join(spoken) or "silent"
    print(f"{name}: {said}, loss {end:.3f}{top1}, {time.monotonic() - began:.0f} s", flush=True)
    return good and not spoken


def stay_silent(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Ten runs that learn."""
    use_tests()
    from tests.train.guard_runs import coloured, healthy_runs

    clips = coloured(folder / "clips")
    runs = healthy_runs(clips, args.seed)
    good = True
    for number, (name, (stage, overrides)) in enumerate(runs.items()):
        good &= is_silent(stage, name, folder / str(number), *overrides)
    return good


def judge_demo(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """The demo as scripts/demo.sh runs it, and its clips as a folder of one's own."""
    use_tests()
    from tests.train.guard_runs import by_class, shuffled

    clips, pretrained = folder / "clips", folder / "pretrain"
    script = [sys.executable, str(SCRIPTS / "make_demo_clips.py"), "--out", str(clips)]
    subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
    root, seed = f"data.root={clips / 'videos'}", f"seed={args.seed}"
    lists = {name: clips / f"{name}.txt" for name in ("pretrain", "train", "test")}
    given = ["+exp=demo_pretrain", root, seed, f"data.train_list={lists['pretrain']}"]
    good = is_silent("pretrain", "demo_pretrain", pretrained, *given)
    tests = [root, seed, f"data.test_list={lists['test']}"]
    tests.append(f"data.class_names={clips / 'classes.txt'}")
    train, weights = f"data.train_list={lists['train']}", f"weights={pretrained}"
    given = ["+exp=demo_finetune", *tests, train, weights]
    good &= is_silent("finetune", "demo_finetune", folder / "finetune", *given)
    good &= is_silent("finetune", "demo_scratch", folder / "s", "+exp=demo_scratch", *tests, train)
    own = by_class(clips / "videos", lists["train"], folder / "own")
    given = [f"data.videos={own}", weights, seed]
    good &= is_silent("finetune", "its clips in folders", folder / "folders", *given)
    mixed = f"data.train_list={shuffled(lists['train'], folder / 'shuffled.txt', args.seed)}"
    given = ["+exp=demo_finetune", *tests, mixed, weights]
    spoken = not is_silent("finetune", "shuffled labels", folder / "shuffled", *given)
    return good & holds("a guard speaks of shuffled labels", spoken)


def notice_mistakes(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """Every mistake of the list in tests/mutants, in a copy of the tree."""
    use_tests()
    from tests.mutants import campaign

    return campaign.main_run(folder, args.workers)


def run_marked_tests(args: argparse.Namespace, rng: random.Random, folder: Path) -> bool:
    """The tests that take too long for every run of the suite."""
    command = [sys.executable, "-m", "pytest", "-m", "soak", "-n", str(args.workers)]
    done = subprocess.run([*command, "--dist", "load"], cwd=SCRIPTS.parent, check=False)
    return done.returncode == 0


CAMPAIGNS = {
    "runs": kill_runs,
    "workers": kill_workers,
    "remote": kill_remote,
    "packs": kill_packs,
    "curate": kill_curates,
    "launched": kill_launched,
    "shared": share_models,
    "rules": keep_rules,
    "damaged": go_through_damage,
    "memory": watch_memory,
    "conformance": hold_against_ffmpeg,
    "bare": run_bare,
    "fuzz": fuzz,
    "same": keep_numbers,
    "silent": stay_silent,
    "demo": judge_demo,
    "tests": run_marked_tests,
    "mutants": notice_mistakes,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("campaigns", nargs="*", help="default: all of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, default=20, help="kills of each kind (20)")
    parser.add_argument("--steps", type=int, default=60, help="of each run that is killed (60)")
    parser.add_argument("--damaged", type=int, default=600, help="damaged videos (600)")
    parser.add_argument("--minutes", type=float, default=60.0, help="of watching memory (60)")
    parser.add_argument(
        "--decoder",
        choices=("pyav", "decord", "torchcodec", "all"),
        default="pyav",
        help="of conformance (pyav)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="of conformance, fuzz and mutants"
    )
    parser.add_argument("--mutations", type=int, default=5000, help="of fuzz (5000)")
    parser.add_argument("--kinds", metavar="A,B", help="of fuzz: what is mutated (all)")
    parser.add_argument("--only", type=int, metavar="N", help="of fuzz: this mutation of each kind")
    parser.add_argument(
        "--watched", type=int, default=1, metavar="N", help="strace watches one of N (1); 0: none"
    )
    parser.add_argument("--keep", metavar="DIR", help="keep its files and its table there")
    parser.add_argument("--files", metavar="DIR", help="judge the files there, not the recipes")
    args = parser.parse_args()
    if unknown := set(args.campaigns) - set(CAMPAIGNS):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(CAMPAIGNS)}")
    print(f"seed {args.seed}, torch {torch.__version__}, {os.cpu_count()} cores")
    failed = []
    for name in args.campaigns or CAMPAIGNS:
        print(f"\n{name}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            good = CAMPAIGNS[name](args, random.Random(args.seed), Path(folder))
        failed += [] if good else [name]
        print(f"{name}: {'good' if good else 'FAILED'}, {time.monotonic() - began:.0f} s")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
