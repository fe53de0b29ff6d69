"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step_N/     written by torch.distributed.checkpoint, plus run.json
    checkpoints/last        text: the name of the newest complete one; moved when it is complete

A checkpoint is read by `resume` only: torch.distributed.checkpoint unpickles its metadata.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from videomae.config import UserError
from videomae.files import write_text
from videomae.train.parallel import Processes

warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is fine
RUN_FILE = "run.json"
Identity = Mapping[str, Any]
"""What must be the same for a run to go on: dotted setting -> value."""


class CheckpointError(UserError):
    """A checkpoint that is not there, cannot be written, or belongs to another run."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run directory.

    Args:
        directory: the run's `checkpoints`.
        identity: of the run that reads and writes them.
        keep: how many of the newest are kept.
    """

    directory: Path
    identity: Identity
    keep: int
    processes: Processes

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
        """Write everything that `restore` needs; only then move `last` and delete the oldest.

        Raises:
            CheckpointError: it cannot be written. Those before it are kept.
        """
        path = self.directory / f"step_{step}"
        try:
            if self.processes.is_main:
                _remove(path)  # what an interrupted save left
                path.mkdir(parents=True)
            self.processes.barrier()
            state = _state(model, optimizer)
            dcp.save(state, checkpoint_id=path, no_dist=self.processes.world == 1)
            if self.processes.is_main:
                run = {"step": step, "identity": self.identity}
                write_text(path / RUN_FILE, json.dumps(run, indent=2) + "\n")
                write_text(self.directory / "last", path.name)
        except (OSError, CheckpointException, RuntimeError) as error:
            if self.processes.is_main:
                with suppress(OSError):
                    _remove(path)
            kept = _complete(self.directory)
            newest = f"the newest that is complete is {kept[-1]}" if kept else "there is none yet"
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            free_mb = shutil.disk_usage(self.directory.parent).free // 10**6
            raise CheckpointError(
                f"the checkpoint of step {step} cannot be written to {path} "
                f"({reason}; the disk has {free_mb} MB free without it); {newest}. "
                "Make room or mend the disk, then run the same command with resume=auto"
            ) from error
        if self.processes.is_main:
            for old in _complete(self.directory)[: -self.keep]:
                _remove(old)
        self.processes.barrier()
        return path

    def remove_after(self, step: int) -> None:
        """Forget checkpoints later than `step`, from which the run now goes on another way."""
        for path in _complete(self.directory):
            if _step(path) > step:
                _remove(path)
        write_text(self.directory / "last", f"step_{step}")

    def restore(self, path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Fill model and optimiser from the checkpoint at `path` and return its step.

        Raises:
            CheckpointError: it is damaged, or its run differs in a setting that matters.
        """
        run = _read_run(path)
        ours = json.loads(json.dumps(self.identity))  # as a file would have it
        theirs = run["identity"]
        differing = [
            key for key in sorted(ours.keys() | theirs) if ours.get(key) != theirs.get(key)
        ]
        if differing:
            rows = [
                f"  {key}: {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in differing
            ]
            raise CheckpointError(
                f"{path} belongs to a run with other settings:\n" + "\n".join(rows) + "\n"
                "Go on with the settings it was made with, or start anew in another output_dir"
            )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        try:
            dcp.load(
                _state(model, optimizer),
                checkpoint_id=path,
                no_dist=self.processes.world == 1,
            )
        except (OSError, CheckpointException, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}); give resume= another"
            ) from error
        return int(run["step"])


def find_checkpoint(directory: Path, resume: str) -> Path | None:
    """The checkpoint that a run in `directory` starts from, as its `resume` says.

    Args:
        directory: the run's `checkpoints`.
        resume: never, auto, or the path of a checkpoint (or of a run, for its newest).

    Raises:
        CheckpointError: there is no complete checkpoint at the path given.
    """
    if resume == "never":
        return None
    if resume == "auto":
        complete = _complete(directory)
        return complete[-1] if complete else None
    path = Path(resume)
    for place in (path / "checkpoints", path):
        if complete := _complete(place):
            return complete[-1]
    if not _is_complete(path):
        raise CheckpointError(
            f"resume={resume} is no complete checkpoint: give the path of a "
            "checkpoints/step_N directory, or resume=auto, or resume=never"
        )
    return path


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint holds, by parameter name. Loading fills these very tensors."""
    moments = {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}
    return {"model": model.state_dict(), "optimizer": moments}


def _complete(directory: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    found = [path for path in directory.glob("step_*") if _is_complete(path)]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _is_complete(path: Path) -> bool:
    """run.json is written last."""
    return (path / RUN_FILE).is_file()


def _remove(path: Path) -> None:
    """Delete a checkpoint, which from the first moment on is no complete one."""
    (path / RUN_FILE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads((path / RUN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / RUN_FILE} cannot be read ({error})") from error
    return run
