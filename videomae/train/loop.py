"""The training loop of both stages."""

import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from videomae.config import OptimConfig, RunConfig, UserError
from videomae.data.dataset import BadFile, TrainingClips
from videomae.data.loader import (
    Batch,
    MicroBatches,
    TrainingOrder,
    training_loader,
)
from videomae.data.workers import WorkerDied
from videomae.train.checkpoint import Checkpoints
from videomae.train.objective import Inputs, Objective
from videomae.train.parallel import Processes
from videomae.train.profiling import traced
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel
from videomae.train.signals import deferred_interrupts, stop_signals
from videomae.train.step import Underway, train_step
from videomae.train.watchdog import watchdog

JUDGED_FROM = 100
"""Files tried before the share of bad ones means something; an epoch's end is judged anyway."""


class TooManyBadVideos(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """More than data.max_bad_fraction of the files tried cannot be read."""


class NonFiniteError(UserError):
    """run.max_nonfinite steps in a row had no finite gradient."""


class Log(Protocol):
    """Where the loop says what it does; videomae.report.runlog has the real one."""

    def progress(self, step: int, loss: float, waiting: float) -> None:
        """After every step. `waiting` is the share of the time spent on waiting for data."""

    def metrics(self, values: dict[str, float | None]) -> None:
        """Every run.log_every steps."""

    def bad_files(self, files: Sequence[BadFile]) -> None:
        """Files found unreadable, each once."""

    def note(self, text: str) -> None:
        """What people should know of, from any process."""


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int
    """The last finished step; its checkpoint is complete."""
    finished: bool
    """Whether that was the last step asked for."""
    signal: int | None = None
    """What stopped it early."""


@dataclass
class Intake:
    """What a step takes in, micro-batch by micro-batch."""

    waiting: float = 0.0
    """For data, in seconds."""
    bad: list[BadFile] = field(default_factory=list)
    """Newly found by this process."""
    num_short: int = 0
    first: Batch | None = None
    """The first micro-batch, where a picture of it is wanted."""


@dataclass(frozen=True)
class Pending:
    """A step whose numbers are still on the device."""

    step: int
    lr: float
    underway: Underway
    intake: Intake
    began: float
    """When the host turned to it, in seconds."""


@dataclass
class Window:
    """What has been read since the last logged step, or since the run went on."""

    step: int
    start: float
    by_rank: NDArray[np.float64]
    """What each process has waited for data, in seconds."""
    waiting: float = 0.0
    saving: float = 0.0
    """What training stood still for checkpoints, in seconds."""
    num_short: int = 0


class Training:
    """One run of the loop.

    Args:
        objective: what is minimised, on its device.
        distributed: the objective's model.
        optimizer: of the objective's model.
        clips: the training list's items.
        bad: files already known to be unreadable, by index.
        max_bad_fraction: share of bad files at which the run stops.
        on_batch: called by all processes with (step, micro-batch) every run.image_every steps.
        on_epoch: called by all processes every `epochs_apart` epochs, with the step that ended the
            last one, whose checkpoint is complete, and a question: is the run to stop? It must
            leave all random numbers as they are.
        flops: of one view's forward and backward pass.
        peak: of the device, a second; None: not known.
        profile_to: where a trace of some steps is written; None: nowhere.
    """

    def __init__(
        self,
        objective: nn.Module,
        distributed: DistributedModel[Any],
        optimizer: torch.optim.AdamW,
        clips: TrainingClips,
        plan: Plan,
        *,
        optim: OptimConfig,
        run: RunConfig,
        processes: Processes,
        checkpoints: Checkpoints,
        log: Log,
        seed: int,
        bad: dict[int, BadFile],
        max_bad_fraction: float,
        on_batch: Callable[[int, Batch], None] | None = None,
        on_epoch: Callable[[int, Callable[[], bool]], None] | None = None,
        epochs_apart: int = 1,
        flops: float | None = None,
        peak: float | None = None,
        profile_to: Path | None = None,
    ) -> None:
        self.objective: Objective = objective  # type: ignore[assignment]  # a module that is one
        self.distributed = distributed
        self.replicated = distributed.replicate(objective)
        self.optimizer = optimizer
        self.clips = clips
        self.plan = plan
        self.optim = optim
        self.run = run
        self.processes = processes
        self.checkpoints = checkpoints
        self.log = log
        self.seed = seed
        self.bad = bad  # by index in the list, where a file may stand more than once
        self.file_of = clips.clips.files()
        self.max_bad_fraction = max_bad_fraction
        self.on_batch = on_batch
        self.on_epoch = on_epoch
        self.epochs_apart = epochs_apart
        self.flops = flops
        self.peak = peak
        self.profile_to = profile_to
        self.order = TrainingOrder(len(clips.clips), plan.global_batch, seed)
        self.tried = np.zeros(self.file_of.max() + 1, dtype=bool)  # by the number of the file
        self.nonfinite: list[int] = []  # the latest steps in a row without a finite gradient
        self.num_skipped = 0
        self.failure: UserError | None = None  # raised once the step's checkpoint is complete
        self.window = self._window(0, start=0.0)
        self.last = 0

    def train(self, start: int, last: int) -> Outcome:
        """From after step `start` to the end of step `last`, which is checkpointed.

        Raises:
            TooManyBadVideos, NonFiniteError: after a checkpoint of the step that showed it.
            WorkerDied: after a checkpoint of the step before, where there is one process.
        """
        self.last = last
        self.objective.model.train()
        self.num_skipped = start - self._num_updates()
        self.tried[self.file_of[self.order.tried(start)]] = True
        pending: Pending | None = None
        with (
            stop_signals() as received,
            closing(self._batches(start + 1, last)) as batches,
            traced(self.profile_to, self.processes.device) as step_done,
            watchdog(self.run.stall_timeout_s) as dog,
        ):
            self.window = self._window(start, start=time.perf_counter())
            for step in range(start + 1, last + 1):
                try:
                    current = self._step(step, batches, received)
                except WorkerDied:
                    if pending and self.processes.world == 1:
                        self._read(pending, end=time.perf_counter())
                        self._save(pending.step, received)
                    raise
                # The numbers of a step are read while the device works on the next one.
                stopping = pending is not None and self._read(pending, end=current.began)
                stopping |= bool(received) and self.processes.world == 1  # else all must agree
                pending = current
                step_done()
                dog.alive()
                epoch_ends = self._ends_epoch(step)
                save = step == last or step % self.run.checkpoint_every == 0
                if stopping or save or epoch_ends:
                    stopping |= self._read(pending, end=time.perf_counter())
                    pending = None
                    dog.rest()
                    self._save(step, received, finish=stopping or epoch_ends or step == last)
                    dog.alive()
                if self.failure:
                    raise self.failure
                if epoch_ends and self.on_epoch and not stopping:
                    began = time.perf_counter()
                    dog.rest()
                    self.on_epoch(step, lambda: len(received) > 0)
                    dog.alive()
                    self.objective.model.train()
                    self.window.start += time.perf_counter() - began  # no part of a step
                if stopping:
                    number = received[0] if received else signal.SIGTERM
                    return Outcome(step, finished=step == last, signal=number)
        return Outcome(last, finished=True)

    def _batches(self, first: int, last: int) -> Generator[Batch]:
        """This process's micro-batches, from processes that have ended when this is closed."""
        batches = MicroBatches(
            self.order,
            rank=self.processes.rank,
            world=self.processes.world,
            size=self.plan.micro_batch,
            first=first,
            last=last,
        )
        if first <= last:
            yield from training_loader(
                self.clips,
                batches,
                size=self.plan.micro_batch,
                workers=self.processes.num_workers(self.run.workers),
                pin=self.processes.device.type == "cuda",
                note=self.log.note,
            )

    def _step(self, step: int, batches: Iterator[Batch], received: Sequence[int]) -> Pending:
        """Enqueue one step. `received` are the signals that came so far; it may grow meanwhile."""
        began, lr, intake = time.perf_counter(), self.plan.lr(step), Intake()
        every = self.run.image_every
        pictured = self.on_batch and every and step % every == 0

        def micro_batches() -> Iterator[Inputs]:
            share = self.plan.global_batch // self.processes.world
            for number in range(self.plan.accumulation):
                first = self.processes.rank * share + number * self.plan.micro_batch
                asked = time.perf_counter()
                batch = next(batches)
                intake.waiting += time.perf_counter() - asked
                intake.bad += [file for file in batch.bad if file.video not in self.bad]
                intake.num_short += batch.num_short
                if pictured and intake.first is None:
                    intake.first = batch
                yield self.objective.inputs(batch, step, first)

        underway = train_step(
            self.replicated,
            self.optimizer,
            micro_batches(),
            self.processes,
            accumulation=self.plan.accumulation,
            lr=lr,
            clip_grad=self.optim.clip_grad,
            precision=self.run.precision,
            noise_seed=(self.seed, step),
            signals=lambda: (
                len(intake.bad),
                intake.num_short,
                len(received) > 0 or self.checkpoints.failed,
                *self._by_rank(intake.waiting),
            ),
        )
        if self.distributed.average:
            self.distributed.average.update(self.objective.model)
        if self.on_batch and intake.first is not None:
            self.on_batch(step, intake.first)
            intake.first = None
        return Pending(step, lr, underway, intake, began)

    def _read(self, pending: Pending, *, end: float) -> bool:
        """Wait for the numbers of a step, which took until `end`; whether the run must stop."""
        loss, grad_norm, skipped, signals = pending.underway.wait()
        num_bad, num_short, stopping, *waiting = signals
        self.num_skipped += skipped
        self._note_bad(pending, found=num_bad > 0)
        self._note_finite(pending, grad_norm)
        step, window = pending.step, self.window
        window.waiting += pending.intake.waiting
        window.by_rank += np.array(waiting)
        window.num_short += int(num_short)
        steps, elapsed = step - window.step, end - window.start
        self.log.progress(step, loss, window.waiting / elapsed)
        if step in (1, self.last) or step % self.run.log_every == 0:
            self.log.metrics(
                {
                    "step": step,
                    "epoch": step / self.plan.steps_per_epoch,
                    "loss": loss,
                    "lr": pending.lr,
                    "grad_norm": grad_norm,
                    "clips_per_s": self.plan.views_per_step * steps / elapsed,
                    "data_s": window.waiting / steps,
                    "step_s": elapsed / steps,
                    "save_s": window.saving,
                    **self._of_the_machine(
                        window, self.plan.views_per_step * steps / elapsed, steps
                    ),
                    "num_short": window.num_short,
                    "num_bad": self._num_bad(),
                    "num_skipped": self.num_skipped,
                }
            )
            self.window = self._window(step, start=end)
        return bool(stopping) or self.failure is not None

    def _window(self, step: int, *, start: float) -> Window:
        return Window(step, start, np.zeros(self.processes.world))

    def _by_rank(self, value: float) -> list[float]:
        """This process's value among zeros, which those of the others are added to."""
        values = [0.0] * self.processes.world
        values[self.processes.rank] = value
        return values

    def _of_the_machine(self, window: Window, views_per_s: float, steps: int) -> dict[str, float]:
        """How well the devices are used, as far as that is known."""
        values: dict[str, float] = {}
        if self.flops is not None and self.peak is not None:
            values["mfu"] = self.flops * views_per_s / (self.peak * self.processes.world)
        if self.processes.device.type == "cuda":
            values["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        if self.processes.world > 1:
            slowest = int(window.by_rank.argmax())
            values |= {"data_s_max": window.by_rank[slowest] / steps, "data_rank_max": slowest}
        return values

    def _ends_epoch(self, step: int) -> bool:
        """Whether `on_epoch` wants to know of the end of this step."""
        return bool(self.on_epoch) and step % (self.epochs_apart * self.plan.steps_per_epoch) == 0

    def _num_updates(self) -> int:
        """Steps whose update was made, of all that the optimiser remembers."""
        states = self.optimizer.state.values()
        return int(next(state["step"].item() for state in states)) if states else 0

    def _save(self, step: int, received: list[int], *, finish: bool = True) -> None:
        """Save a checkpoint, and wait until it is complete if what comes next relies on it."""
        began = time.perf_counter()
        with deferred_interrupts(received):
            self.checkpoints.save(step, self.distributed, self.optimizer)
            if finish:
                self.checkpoints.finish()
        took = time.perf_counter() - began
        self.window.start += took  # no part of a step
        self.window.saving += took

    def _note_bad(self, pending: Pending, *, found: bool) -> None:
        """Share what each process found; fail where it is too much. `found` is the same on all."""
        if found:
            known = {file.key for file in self.bad.values()}
            new = [file for part in self.processes.gather(pending.intake.bad) for file in part]
            self.bad.update((file.video, file) for file in new)
            by_key = {file.key: file for file in reversed(new)}
            self.log.bad_files([file for key, file in by_key.items() if key not in known])
        step, batch = pending.step, self.plan.global_batch
        self.tried[self.file_of[[item.video for item in self.order.global_items(step)]]] = True
        epoch_ends = step % self.plan.steps_per_epoch == 0
        enough = (step - 1) * batch < JUDGED_FROM <= step * batch
        if not self.bad or not (found or epoch_ends or enough or step == self.last):
            return
        tried = np.count_nonzero(self.tried)
        num_bad = self._num_bad()
        too_many = num_bad > self.max_bad_fraction * tried and (tried >= JUDGED_FROM or epoch_ends)
        if too_many or (num_bad == tried and step == self.last):
            self.failure = TooManyBadVideos(
                f"{num_bad} of the {tried} videos tried so far cannot be read (limit "
                f"{self.max_bad_fraction:.1%}, data.max_bad_fraction); bad_files.jsonl in the "
                "output_dir names them. Mend the files or raise the limit, and go on with "
                "resume=auto; with another list it is another run"
            )

    def _num_bad(self) -> int:
        """Unreadable files."""
        return len({file.key for file in self.bad.values()})

    def _note_finite(self, pending: Pending, grad_norm: float) -> None:
        """Fail after run.max_nonfinite steps in a row whose update was left out."""
        if isinstance(self.failure, NonFiniteError):
            return
        if math.isfinite(grad_norm):
            self.nonfinite.clear()
            return
        self.nonfinite.append(pending.step)
        if len(self.nonfinite) < self.run.max_nonfinite:
            return
        items = [item for step in self.nonfinite for item in self.order.global_items(step)]
        paths = [self.clips.clips[item.video].path for item in items]
        shown = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
        self.failure = NonFiniteError(
            f"the gradient was not finite in steps {self.nonfinite} (lr {pending.lr:.3g}, "
            f"run.max_nonfinite={self.run.max_nonfinite}); their updates were left out. "
            f"Clips of these steps: {shown}. A lower optim.base_lr, optim.clip_grad or "
            "run.precision=float32 are the usual remedies"
        )
