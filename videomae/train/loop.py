"""The training loop of both stages."""

import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videomae.config import OptimConfig, RunConfig
from videomae.data.dataset import TrainingClips
from videomae.data.loader import (
    Batch,
    MicroBatches,
    TrainingOrder,
    delivered_batches,
)
from videomae.data.workers import WorkerDied
from videomae.run.bad_files import BadFile
from videomae.run.parallel import Processes
from videomae.run.signals import at_once, deferred_interrupts, stop_signals
from videomae.run.watchdog import Watchdog
from videomae.train.checkpoint import Checkpoints
from videomae.train.delivery import delivery_to
from videomae.train.intervals import SaveTimes
from videomae.train.judge import Judge
from videomae.train.log import Log
from videomae.train.meter import Meter
from videomae.train.objective import Inputs, Objective
from videomae.train.profiling import traced
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel
from videomae.train.step import Underway, train_step


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


class Training:
    """One run of the loop.

    Args:
        objective: what is minimised, on its device.
        distributed: the objective's model.
        optimizer: of the objective's model.
        clips: the training list's items.
        order: in which they are taken.
        judge: told of every step.
        meter: likewise.
        on_batch: called by all processes with (step, micro-batch) every run.image_every steps.
        on_epoch: called by all processes every `epochs_apart` epochs, with the step that ended the
            last one, whose checkpoint is complete, and a question: is the run to stop? It must
            leave all random numbers as they are.
        profile_to: where a trace of some steps is written; None: nowhere.
    """

    def __init__(
        self,
        objective: nn.Module,
        distributed: DistributedModel[Any],
        optimizer: torch.optim.AdamW,
        clips: TrainingClips,
        order: TrainingOrder,
        plan: Plan,
        *,
        optim: OptimConfig,
        run: RunConfig,
        processes: Processes,
        checkpoints: Checkpoints,
        judge: Judge,
        meter: Meter,
        log: Log,
        seed: int,
        on_batch: Callable[[int, Batch], None] | None = None,
        on_epoch: Callable[[int, Callable[[], bool]], None] | None = None,
        epochs_apart: int = 1,
        profile_to: Path | None = None,
    ) -> None:
        self.objective: Objective = objective  # type: ignore[assignment]  # a module that is one
        self.distributed = distributed
        self.replicated = distributed.replicate(objective)
        self.optimizer = optimizer
        self.clips = clips
        self.order = order
        self.plan = plan
        self.optim = optim
        self.run = run
        self.processes = processes
        self.checkpoints = checkpoints
        self.judge = judge
        self.meter = meter
        self.log = log
        self.seed = seed
        self.on_batch = on_batch
        self.on_epoch = on_epoch
        self.epochs_apart = epochs_apart
        self.profile_to = profile_to
        self.delivery, said = delivery_to(processes.device)
        if said and processes.is_main:
            log.note(said)
        self.num_skipped = 0
        self.save_times = SaveTimes(run, is_main=processes.is_main)

    def train(self, start: int, last: int) -> Outcome:
        """From after step `start` to the end of step `last`, which is checkpointed.

        Raises:
            TooManyBadVideos, NonFiniteError: after a checkpoint of the step that showed it.
            WorkerDied: after a checkpoint of the step before, where there is one process.
        """
        self.objective.model.train()
        self.num_skipped = start - self._num_updates()
        pending: Pending | None = None
        dog = Watchdog(self.run.stall_timeout_s)
        with (
            stop_signals() as received,
            at_once(signal.SIGTERM, dog.hurry) if self.processes.world > 1 else nullcontext(),
            closing(self._batches(start + 1, last)) as batches,
            traced(self.profile_to, self.processes.device, last - start) as step_done,
            dog,
        ):
            self.save_times.saved()
            self.meter.begin(start, time.perf_counter())
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
                save = step == last or self.save_times.due(step)
                if stopping or save or epoch_ends:
                    stopping |= self._read(pending, end=time.perf_counter())
                    pending = None
                    dog.rest()
                    self._save(step, received, finish=stopping or epoch_ends or step == last)
                    dog.alive()
                if self.judge.failure:
                    raise self.judge.failure
                if epoch_ends and self.on_epoch and not stopping:
                    began = time.perf_counter()
                    dog.rest()
                    self.on_epoch(step, lambda: len(received) > 0)
                    dog.alive()
                    self.objective.model.train()
                    self.meter.pause(time.perf_counter() - began)
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
            yield from delivered_batches(
                self.clips,
                batches,
                self.delivery,
                size=self.plan.micro_batch,
                workers=self.processes.num_workers(self.run.workers),
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
                intake.bad += [file for file in batch.bad if file.video not in self.judge.bad]
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
                self.save_times.asks(),
                *self.meter.by_rank(intake.waiting),
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
        num_bad, num_short, stopping, due, *waiting = signals
        self.save_times.hears(due > 0)
        step, intake, judge = pending.step, pending.intake, self.judge
        self.num_skipped += skipped
        judge.files(step, intake.bad, found=num_bad > 0)
        judge.gradient(step, grad_norm, pending.lr)
        judge.loss(step, loss)
        self.meter.step(
            step,
            loss,
            end=end,
            waiting=intake.waiting,
            by_rank=waiting,
            num_short=int(num_short),
            also={
                "lr": pending.lr,
                "grad_norm": grad_norm,
                "num_bad": judge.num_bad,
                "num_skipped": self.num_skipped,
            },
        )
        return bool(stopping) or judge.failure is not None

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
        self.save_times.saved()
        self.meter.pause(time.perf_counter() - began, saving=True)
