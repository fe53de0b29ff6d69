"""Write and restore checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step_N/     written by torch.distributed.checkpoint, plus run.json
    checkpoints/last        text: the name of the newest complete one; moved when it is complete

A checkpoint's weights alone are read by weights= (videomae.weights.saved).
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from videomae.run.directory import RUN_FILE
from videomae.run.files import write_text
from videomae.run.parallel import Processes
from videomae.run.record import made
from videomae.train.resuming import (
    CheckpointError,
    complete_checkpoints,
    read_run,
    remove_checkpoint,
    step_of,
    unusable,
)
from videomae.train.sharding import DistributedModel
from videomae.weights.checkpoint_reader import CheckpointReader, read_metadata
from videomae.weights.saved import as_record, damaged_files, hashes, written_by
from videomae.weights.weights import WeightsInfo

warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is fine
T = TypeVar("T")
Identity = Mapping[str, Any]
"""Settings that must be equal for a run to go on from a checkpoint: dotted name -> value."""


class Checkpoints:
    """The checkpoints of one run directory.

    In the background mode, training waits only while the state is copied to CPU memory. A thread
    then writes it, with a process group of its own.

    Args:
        directory: the run's directory `checkpoints`.
        identity: settings of the run that must not change between its checkpoints.
        keep: number of newest checkpoints to keep.
        global_batch: videos per step; the position in the data is saved as a number of videos.
        info: description of the weights.
        background: whether to write in the background; equal on all processes.
    """

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        keep: int,
        global_batch: int,
        processes: Processes,
        info: WeightsInfo,
        *,
        background: bool = False,
    ) -> None:
        self.directory = directory
        self.identity = identity
        self.keep = keep
        self.global_batch = global_batch
        self.processes = processes
        self.info = info
        self._group: dist.ProcessGroup | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        if background:
            # Not torch's DefaultStager, which in torch 2.11 stages once and then fails.
            self._stager = BlockingAsyncStager(cache_staged_state_dict=processes.pins)
            self._writer = ThreadPoolExecutor(1, "checkpoints")
            if processes.world > 1:
                group = dist.new_group(backend="gloo")
                assert isinstance(group, dist.ProcessGroup)  # each process is in it
                self._group = group

    def save(
        self, step: int, distributed: DistributedModel[Any], optimizer: torch.optim.Optimizer
    ) -> Path:
        """Write everything that `restore` needs; only then move `last` and delete the oldest.

        In the background mode the checkpoint is complete once `finish` has returned; the weights
        may change at once.

        Raises:
            CheckpointError: this checkpoint, or the one before it, cannot be written. Earlier
                checkpoints are kept.
        """
        self.finish()
        path = self.directory / f"step_{step}"
        state = _state(distributed, optimizer)
        if self._writer is None:
            self._write(step, path, state)
        else:
            self._writing = self._writer.submit(self._write, step, path, self._stager.stage(state))
        return path

    @property
    def failed(self) -> bool:
        """Whether writing in the background has failed, so that `finish` would raise."""
        writing = self._writing
        return writing is not None and writing.done() and writing.exception() is not None

    def finish(self) -> None:
        """Wait until the checkpoint in writing is complete. Each process must call it.

        Raises:
            CheckpointError: the checkpoint cannot be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, step: int, path: Path, state: Mapping[str, Any]) -> None:
        def begin() -> None:
            made(self.directory.parent, f"{self.directory.name}/last")
            made(self.directory.parent, f"{self.directory.name}/{path.name}", folder=True)
            remove_checkpoint(path)  # left by an interrupted save
            path.mkdir(parents=True)

        def save() -> dict[str, str]:
            dcp.save(state, checkpoint_id=path, process_group=self._group, no_dist=alone)
            return hashes(path, written_by(self.processes.rank))  # while the page cache has them

        def complete() -> None:
            read_metadata(path)  # compares the metadata with the files
            parts = {name: digest for part in digests for name, digest in (part or {}).items()}
            own = hashes(path, lambda name: name not in parts)
            run = {
                "step": step,
                "samples": step * self.global_batch,
                "identity": self.identity,
                "weights": as_record(self.info),
                "sha256": dict(sorted((parts | own).items())),
            }
            write_text(path / RUN_FILE, json.dumps(run, indent=2) + "\n")
            write_text(self.directory / "last", path.name)

        def forget() -> None:
            for old in complete_checkpoints(self.directory)[: -self.keep]:
                remove_checkpoint(old)

        alone = self.processes.world == 1
        main = self.processes.is_main
        self._together(step, path, begin if main else None)
        digests = self._together(step, path, save)
        self._together(step, path, complete if main else None)
        self._together(step, path, forget if main else None)

    def _together(self, step: int, path: Path, act: Callable[[], T] | None) -> list[T | None]:
        """Do this process's part of a checkpoint, and fail on all processes if one fails.

        Returns:
            the results of all processes, by rank.
        """
        failure, found = None, None
        try:
            if act is not None:
                found = act()
        except (OSError, ValueError, CheckpointException, RuntimeError) as error:
            failure = error
        outcomes = self._gather((_first_line(failure) if failure else None, found))
        reason = next((reason for reason, _ in outcomes if reason is not None), None)
        if reason is None:
            return [found for _, found in outcomes]
        if self.processes.is_main:
            with suppress(OSError):
                remove_checkpoint(path)
        kept = [other for other in complete_checkpoints(self.directory) if other != path]
        newest = f"the newest that is complete is {kept[-1]}" if kept else "there is none yet"
        free_mb = shutil.disk_usage(self.directory.parent).free // 10**6
        raise CheckpointError(
            f"the checkpoint of step {step} cannot be written to {path} "
            f"({reason}; the disk has {free_mb} MB free without it); {newest}. "
            "Make room or mend the disk, then run the same command with resume=auto"
        ) from failure

    def _gather(self, value: T) -> list[T]:
        """Gather the value of every process, by rank."""
        values = [value] * self.processes.world
        if self.processes.world > 1:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def remove_after(self, step: int) -> None:
        """Delete the checkpoints later than `step`, since the run repeats the steps after it."""
        for path in complete_checkpoints(self.directory):
            if step_of(path) > step:
                remove_checkpoint(path)
        write_text(self.directory / "last", f"step_{step}")

    def restore(
        self,
        path: Path,
        distributed: DistributedModel[Any],
        optimizer: torch.optim.Optimizer,
    ) -> int:
        """Fill model, optimiser and running mean from the checkpoint at `path`; return its step.

        Raises:
            CheckpointError: it is damaged, or its run differs in a setting of the identity.
        """
        run = read_run(path)
        ours = json.loads(json.dumps(self.identity))  # with the types that a JSON file holds
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
        mine = damaged_files(path, run["sha256"], self.processes.rank, self.processes.world)
        parts = self.processes.gather(mine)
        if damaged := sorted({name for part in parts for name in part}):
            raise CheckpointError(unusable(path, f"{', '.join(damaged)} missing or damaged"))
        try:
            reader = CheckpointReader(path)
            reader.read_metadata()  # torch 2.11 would not say why it cannot
            dcp.load(
                _state(distributed, optimizer),
                storage_reader=reader,
                no_dist=self.processes.world == 1,
            )
        except (OSError, ValueError, CheckpointException, RuntimeError) as error:
            raise CheckpointError(unusable(path, _first_line(error))) from error
        step, rest = divmod(run["samples"], self.global_batch)
        if rest or step != run["step"]:
            raise CheckpointError(
                f"{path}: {run['samples']} videos are not {run['step']} steps of "
                f"{self.global_batch} videos each: {RUN_FILE} was changed"
            )
        return int(step)


def _state(distributed: DistributedModel[Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Collect the tensors of a checkpoint by name; loading fills the same tensors in place."""
    model, average = distributed.model, distributed.average
    moments = {name: optimizer.state[parameter] for name, parameter in model.named_parameters()}
    state = {"model": model.state_dict(), "optimizer": moments}
    return state if average is None else state | {"average": average.module.state_dict()}


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message; of a CheckpointException, the inner error's."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
