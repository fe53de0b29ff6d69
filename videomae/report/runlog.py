"""The run directory: who may write there, and what is written. Only the main process does.

config.yaml            the resolved config
environment.json       commit, versions, device, hashes of the lists and of the starting weights
choices.json           what was found fastest on the devices, and is taken again by a restart
metrics.jsonl          one JSON object per logged step; one of its own per probe (knn_top1)
tensorboard/           the same, and pictures
bad_files.jsonl        path, line of the list, error, source if there are several; once per file
written.json           the names of all that was written, see videomae.record
spikes.jsonl           losses far above the usual one: step, loss, usual, videos of the step
predictions.jsonl      one JSON object per test video, in the order of the list
*.damaged              a file of the above that could not be read in full when the run went on
checkpoints/ weights.safetensors results.json figures/     see train.checkpoint, model.weights
"""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from videomae.config import UserError
from videomae.data.dataset import BadFile
from videomae.files import write_text
from videomae.lists.clips import Clip, ClipList
from videomae.report.console import Bar, Say, console, note
from videomae.report.sidefiles import (
    has_step,
    is_bad_file,
    is_environment,
    is_metrics,
    mended_object,
    mended_rows,
    read_rows,
)
from videomae.report.sinks import Sink, TensorBoard, WeightsAndBiases
from videomae.text import redacted

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHOICES = "choices.json"
BAD_FILES = "bad_files.jsonl"
SPIKES = "spikes.jsonl"
PROFILE = "profile"
RESULTS = "results.json"
PREDICTIONS = "predictions.jsonl"
BEST, BEST_WEIGHTS = "best.json", "best.safetensors"
"""The best evaluation of a fine-tuning on data.val_list, and its weights."""
WANDB = "wandb"
TRAIN, TEST = "train", "test"
PACKAGES = ("torch", "torchvision", "timm", "decord", "decord2", "numpy", "hydra-core", "omegaconf")


class RunExistsError(UserError):
    """The output directory already holds a run."""


@contextmanager
def alone(directory: Path, say: Say) -> Iterator[None]:
    """Make the directory, and keep other runs out of it while the block runs.

    Raises:
        RunExistsError: another process is in its own such block.
    """
    if not say.enabled or fcntl is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunExistsError(
                f"output_dir={directory}: another process is training there right now; wait for "
                "it, or choose another output_dir"
            ) from error
        except OSError:
            pass  # NFS locks no directories, some cluster file systems nothing: no guard there
        yield
    finally:
        os.close(handle)  # which also unlocks


def clear_results(directory: Path) -> None:
    """Remove what an evaluation has made, and leave the training run that may lie there."""
    for name in (RESULTS, PREDICTIONS, "figures/confusion.png"):
        (directory / name).unlink(missing_ok=True)
    bad = mended_rows(directory / BAD_FILES, is_bad_file)
    rows = [row for row in bad if row["list"] == TRAIN]
    write_text(directory / BAD_FILES, "".join(json.dumps(row) + "\n" for row in rows))


def write_environment(directory: Path, device: torch.device, hashes: Mapping[str, str]) -> None:
    """Write environment.json. What stood there, as when a run goes on, is kept below "before".

    Args:
        hashes: SHA-256 of the lists and of the starting weights, by setting.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cuda = device.type == "cuda"
    facts: dict[str, object] = {
        "command": [redacted(argument) for argument in sys.argv],
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
        "sha256": dict(hashes),
    }
    if earlier := mended_object(directory / ENVIRONMENT, is_environment):
        facts["before"] = [*earlier.pop("before", []), earlier]
    write_text(directory / ENVIRONMENT, json.dumps(facts, indent=2) + "\n")


def read_bad_files(directory: Path, clips: Sequence[Clip]) -> dict[int, BadFile]:
    """The training videos that a resumed run already knows to be unreadable, by index."""
    known = read_rows(directory / BAD_FILES, is_bad_file)
    rows = [row for row in known if row["list"] == TRAIN]
    clips = ClipList.of(clips)
    places = clips.on_lines([row["line"] for row in rows])
    found = zip(clips.take(places), places.tolist(), strict=True)
    index_of_line = {(clip.source, clip.line): index for clip, index in found}
    bad = {}
    for row in rows:
        source = row.get("source", "data")
        index = index_of_line.get((source, row["line"]))
        if index is not None:
            bad[index] = BadFile(index, row["path"], row["line"], row["error"], source)
    return bad


class RunLog:
    """Metrics, pictures and bad files of one training run; does nothing off the main process.

    Args:
        directory: the run's.
        step: that the run goes on from; what was logged after it is cut.
        bad: unreadable files known at that step.
    """

    def __init__(
        self,
        directory: Path,
        say: Say,
        bar: Bar,
        *,
        step: int,
        bad: Sequence[BadFile] = (),
        wandb: tuple[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.say = say
        self.bar = bar
        self.sinks: list[Sink] = []
        if not say.enabled:
            return
        for name, check in ((METRICS, is_metrics), (SPIKES, has_step)):
            kept = [row for row in mended_rows(directory / name, check) if row["step"] <= step]
            if kept or name == METRICS:
                write_text(directory / name, "".join(json.dumps(row) + "\n" for row in kept))
            else:
                (directory / name).unlink(missing_ok=True)
        mended_rows(directory / BAD_FILES, is_bad_file)
        write_text(directory / BAD_FILES, "".join(_bad_row(file, TRAIN) for file in bad))
        self.sinks.append(TensorBoard(directory / "tensorboard", step))
        if wandb is not None:
            self.sinks.append(WeightsAndBiases(directory / WANDB, *wandb))

    def close(self) -> None:
        """Flush what is buffered."""
        for sink in self.sinks:
            sink.close()

    def note(self, text: str) -> None:
        """What people should know of, from any process."""
        note(text)

    def progress(self, step: int, loss: float, waiting: float) -> None:
        """After every step. `waiting` is the share of the time spent on waiting for data."""
        self.bar.reach(step, f"loss {loss:.4f}  waiting for data {waiting:.0%}")

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """The numbers of a step, and a line of them where there is no progress bar."""
        self.numbers(values)
        if self.sinks and not console.is_terminal:
            self.say.line(
                f"step {values['step']}/{self.bar.progress.tasks[0].total:.0f}  "
                f"loss {values['loss']:.4f}  "
                f"lr {values['lr']:.2e}  {values['clips_per_s']:.1f} clips/s  waiting for data "
                f"{(values['data_s'] or 0) / max(values['step_s'] or 0, 1e-9):.0%}"
            )

    def numbers(self, values: Mapping[str, float | None]) -> None:
        """One line of metrics.jsonl, and the same numbers to TensorBoard, without a word."""
        if not self.sinks:
            return
        finite = {k: _finite(v) for k, v in values.items()}
        with (self.directory / METRICS).open("a") as file:
            file.write(json.dumps(finite) + "\n")
        step = int(values["step"] or 0)
        told = {k: v for k, v in finite.items() if k != "step" and v is not None}
        for sink in self.sinks:
            sink.numbers(told, step)

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """(H, W, 3) to TensorBoard."""
        for sink in self.sinks:
            sink.image(name, picture, step)

    def bad_files(self, files: Sequence[BadFile]) -> None:
        """Training videos found unreadable, each once."""
        if self.say.enabled:
            add_bad_files(self.directory, files, TRAIN, self.say)

    def spike(self, step: int, loss: float, usual: float, videos: Sequence[str]) -> None:
        """A loss far above the usual one, with the videos of its step, to spikes.jsonl."""
        if not self.say.enabled:
            return
        row = {"step": step, "loss": _finite(loss), "usual": _finite(usual), "videos": list(videos)}
        with (self.directory / SPIKES).open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.say.line(
            f"step {step}: loss {loss:.4g}, usually {usual:.4g}; {SPIKES} in the output_dir names "
            f"its {len(videos)} videos"
        )


def add_bad_files(directory: Path, files: Sequence[BadFile], which: str, say: Say) -> None:
    """Append to bad_files.jsonl, once per file, and say so.

    Args:
        which: TRAIN or TEST, the list they are from.
    """
    files = list({file.key: file for file in reversed(files)}.values())[::-1]
    with (directory / BAD_FILES).open("a") as out:
        out.writelines(_bad_row(file, which) for file in files)
    for file in files:
        of = f" of {file.source}" if file.source != "data" else ""
        say.line(f"cannot be read: line {file.line} of the {which} list{of}: {file.error}")


def _finite(value: float | None) -> float | None:
    """JSON has no other numbers."""
    return value if value is None or math.isfinite(value) else None


def _bad_row(file: BadFile, which: str) -> str:
    row = {"path": file.path, "line": file.line, "error": file.error, "list": which}
    if file.source != "data":
        row["source"] = file.source
    return json.dumps(row) + "\n"


def logged(directory: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one number of metrics.jsonl, where it was finite."""
    rows = read_rows(directory / METRICS, is_metrics)
    rows = [row for row in rows if row.get(name) is not None]
    return [row["step"] for row in rows], [row[name] for row in rows]


def _commit() -> str | None:
    """Of the checkout whose top holds this package, if there is one; "-dirty" if it was edited."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return None
    command = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
