"""Runs in miniature, of every kind, and what of them must stay."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tests.net.bad_commands import FINETUNE, PRETRAIN

TIMES = {"clips_per_s", "data_s", "step_s", "save_s", "data_s_max", "data_rank_max"}
"""The only numbers of metrics.jsonl that may differ between two runs that do the same."""
SMALL = (
    *("run.device=cpu", "run.workers=1", "run.log_every=1", "run.checkpoint_every=2"),
    *("optim.global_batch=4", "optim.warmup_epochs=1", "optim.epochs=3"),
)
PRETRAINED = (*PRETRAIN, *SMALL, "data.repeats=2", "data.num_train=null")
FINETUNED = (
    *(*FINETUNE[:-1], "data.num_train=null", "data.test_list=test.txt"),
    *(*SMALL, "optim.drop_path=0.3", "optim.head_drop=0.3"),
)
MIXED = ("augment=finetune", "optim.ema_decay=0.9", "data.val_list=test.txt", "eval_every=1")

RUNS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "pretrained": (1, ("pretrain", *PRETRAINED)),
    "accumulated": (1, ("pretrain", *PRETRAINED, "run.device_batch=2", "mask=tube_cell")),
    "pretrained_ddp": (2, ("pretrain", *PRETRAINED, "run.sharding=ddp")),
    "pretrained_fsdp": (2, ("pretrain", *PRETRAINED, "run.sharding=fsdp")),
    "pretrained_killed": (1, ("pretrain", *PRETRAINED, "resume=auto")),
    "packed": (1, ("pretrain", *PRETRAINED, "data.root=pack")),
    "finetuned": (1, ("finetune", *FINETUNED, *MIXED, "weights=pretrained")),
    "finetuned_ddp": (2, ("finetune", *FINETUNED, "weights=pretrained", "run.sharding=ddp")),
    "finetuned_fsdp": (2, ("finetune", *FINETUNED, "weights=pretrained", "run.sharding=fsdp")),
    "finetuned_killed": (1, ("finetune", *FINETUNED, "weights=pretrained", "resume=auto")),
    "evaluated": (1, ("evaluate", *FINETUNED, "weights=finetuned", "data.segments=2")),
    "probed": (
        1,
        (
            *("probe", "data=demo", "data.train_list=labelled.txt", "data.test_list=test.txt"),
            *("data.root=videos", "data.classes=3", "data.class_names=null", "run.device=cpu"),
            "weights=pretrained",
        ),
    ),
    "extracted": (1, ("extract", "weights=pretrained", "video=videos", "run.device=cpu")),
}
OTHERS: tuple[tuple[str, ...], ...] = (
    ("pack", "list=videos.txt", "root=videos", "out=pack", "short_side=48", "workers=1"),
    ("predict", "weights=finetuned", "video=videos", "output=predicted.json", "run.device=cpu"),
    ("reconstruct", "weights=pretrained", "video=videos/0.mp4", "output=rebuilt.png"),
    ("convert", "weights=finetuned", "target=copy.safetensors", "format=videomae"),
    ("scan", "list=videos.txt", "root=videos", "out=scanned", "workers=1"),
    ("prepare", "dataset=folders", "videos=own", "out=prepared", "val_fraction=0.3"),
)
"""Commands that train nothing; the first is needed by a run."""
KILLED_AFTER = 2
"""Steps."""


def do_all(tree: Path, work: Path) -> dict[str, Any]:
    """Run everything with the package in `tree`; what came of it, by name."""
    found: dict[str, Any] = {}
    _do(tree, work, 1, OTHERS[0])
    for name, (processes, words) in RUNS.items():
        words = (*words, f"output_dir={name}")
        if name.endswith("_killed"):
            _kill(tree, work, name, words)
        _do(tree, work, processes, words)
        found |= {f"{name}: {key}": value for key, value in outcome(work / name).items()}
    for words in OTHERS[1:]:
        _do(tree, work, 1, words)
    found |= {f"predicted: {k}": v for k, v in _json(work / "predicted.json").items()}
    for path in ("rebuilt.png", "scanned/clean.txt", "prepared/train.txt", "prepared/val.txt"):
        found[path] = _hash(work / path)
    for shard in sorted((work / "pack").glob("*.tar")):
        found[f"pack/{shard.name}"] = _hash(shard)
    return found


def outcome(directory: Path) -> dict[str, Any]:
    """What a run left behind, without times."""
    found: dict[str, Any] = {"files": _names(directory)}
    metrics = directory / "metrics.jsonl"
    if metrics.exists():
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
        found["metrics"] = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    weights = directory / "weights.safetensors"
    if weights.exists():
        with safe_open(weights, "pt") as opened:
            metadata, names = opened.metadata(), sorted(opened.keys())
            digest = hashlib.sha256()
            for name in names:
                digest.update(name.encode() + opened.get_tensor(name).numpy().tobytes())
        found["weights"] = digest.hexdigest()
        found["weights' metadata"] = metadata
    for path in sorted(directory.glob("*.json")):
        if path.name in ("results.json",):
            found[path.name] = _json(path)
    for path in sorted(directory.rglob("*.npz")):
        found[path.relative_to(directory).as_posix()] = _hash(path)
    predictions = directory / "predictions.jsonl"
    if predictions.exists():
        found["predictions"] = predictions.read_text().splitlines()
    return found


def _names(directory: Path) -> list[str]:
    """Files of a run, without those whose names hold a time."""
    paths = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if "tensorboard" not in path.parts)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def environment(tree: Path) -> dict[str, str]:
    """Of a command that takes the package from `tree`."""
    more = {"PYTHONPATH": str(tree), "COLUMNS": "100", "OMP_NUM_THREADS": "1", "TERM": "dumb"}
    return dict(os.environ) | more


def _command(processes: int, words: tuple[str, ...]) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    many = torchrun if processes > 1 else []
    return [sys.executable, *many, "-m", f"videomae.{words[0]}", *words[1:]]


def _do(tree: Path, work: Path, processes: int, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        _command(processes, words),
        cwd=work,
        env=environment(tree),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} in {tree}:\n{done.stderr[-3000:]}")


def _kill(tree: Path, work: Path, name: str, words: tuple[str, ...]) -> None:
    """Begin a run, and kill it after its first checkpoint."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        _command(1, words),
        cwd=work,
        env=environment(tree),
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    ) as process:
        last = work / name / "checkpoints" / "last"
        while not last.exists() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
