"""The training loop of both stages: prepare a run, take its steps, log and checkpoint them."""

import logging
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from videomae.config import FinetuneConfig, TrainConfig
from videomae.data.loader import Batch, MicroBatches, TrainingOrder, delivered_batches
from videomae.data.workers import WorkerDied
from videomae.model.flops import matmul_peak
from videomae.run.arithmetic import uses_bf16
from videomae.run.bad_files import BadFile
from videomae.run.console import Bar, progress_bar
from videomae.run.directory import (
    BAD_FILES,
    CHECKPOINTS,
    CHOICES,
    METRICS,
    MLFLOW,
    PROFILE,
    SPIKES,
    TENSORBOARD,
    WANDB,
    WARNINGS,
    alone,
)
from videomae.run.environment import describe_run
from videomae.run.files import sha256
from videomae.run.log import RunLog
from videomae.run.overwrite import clear_run
from videomae.run.record import made
from videomae.run.run import Run
from videomae.run.signals import at_once, deferred_interrupts, stop_notice, stop_signals
from videomae.run.sinks import services
from videomae.run.watchdog import Watchdog
from videomae.train.delivery import delivery_to
from videomae.train.guards import low_rate_of_run, rising_rate
from videomae.train.identity import hashes_of_inputs, run_identity
from videomae.train.intervals import CheckpointTimer
from videomae.train.objective import Inputs, Objective
from videomae.train.optimizer import adamw
from videomae.train.outcome import Outcome, resume_command
from videomae.train.planning import choices_of, plan_run, settle_batch
from videomae.train.profiling import traced
from videomae.train.stage import TrainingStage
from videomae.train.start import is_own
from videomae.train.step import Notices, StepSettings, train_step
from videomae.train.step_data import EnqueuedStep, StepData
from videomae.train.step_range import StepRange
from videomae.train.stopping import HealthMonitor, known_bad
from videomae.train.throughput import Throughput
from videomae.train.trial import check_memory
from videomae.train.tuning import tune

if TYPE_CHECKING:
    from videomae.train.checkpoint import Checkpoints

logger = logging.getLogger(__name__)


class Trainer:
    """One run of a training stage, from its plan to its last step.

    Args:
        config: the stage's configuration.

    Raises:
        ConfigError: the plan is impossible, or the device's memory is too small.
        WeightsError: the weights to start from do not fit.
    """

    def __init__(self, run: Run, config: TrainConfig, stage: TrainingStage) -> None:
        plan = plan_run(run, config, stage.clips)
        stage.build()
        self.run = run
        self.stage = stage
        self.objective: Objective = stage.objective  # type: ignore[assignment]  # it is an Objective
        self.distributed = stage.distributed
        logger.info(f"sharding: {self.distributed}")
        self.config, self.plan = settle_batch(run, config, plan, stage)
        self.choices = choices_of(stage.checkpoint, run.processes)
        views = self.plan.micro_batch * config.data.repeats
        for line in tune(stage.parts, views, run.settings, run.processes, self.choices):
            logger.info(line)
        self.optimizer = adamw(self.distributed.model, config.model.depth, config.optim)

    def train(self) -> Outcome:
        """Train until the end, config.max_steps or a signal, and write to the run directory.

        Raises:
            CheckpointError: the stage's checkpoint is damaged or of another run, or none can be
                written.
            ConfigError: a step does not fit into the device's memory.
            TooManyBadVideos, NonFiniteError: raised after the checkpoint of the step in question.
            WorkerDied: raised after a checkpoint of the step before, if there is one process.
        """
        run, config, stage, plan = self.run, self.config, self.stage, self.plan
        hashes = hashes_of_inputs(config, stage.info)
        self.checkpoints = self._checkpoints(hashes)
        if isinstance(config, FinetuneConfig):
            hashes["data.test_list"] = sha256(Path(str(config.data.test_list)))
        start = self._restored()
        check_memory(run, plan, stage)
        own = is_own(stage.checkpoint, run.directory)
        order = TrainingOrder(len(stage.clips), config.optim.global_batch, config.seed)
        # Only the main process checks, so that all agree; the barrier comes before any change.
        looks = own and run.is_main
        bad = run.processes.from_main(
            known_bad(run.directory, stage.dataset, order, start, run.num_workers) if looks else {}
        )
        run.processes.barrier()
        if stage.checkpoint:
            logger.info(f"going on from {stage.checkpoint}: step {start} of {plan.total_steps}")
        last = max(start, min(plan.total_steps, config.max_steps or plan.total_steps))
        self.steps = StepRange(plan, order, start, last)

        with ExitStack() as at_exit:
            with (
                alone(run.directory, is_main=run.is_main),
                progress_bar(config.name, total=last, done=start) as bar,
            ):
                if run.is_main:
                    self._begin_directory(hashes, own=own)
                self._begin(bar, bad)
                at_exit.callback(self.log.close)
                outcome = self._steps()
            if outcome.signal is not None and not outcome.finished:
                logger.info(
                    f"stopped by {signal.Signals(outcome.signal).name} after step {outcome.step}; "
                    "its checkpoint is complete. Go on with: " + resume_command(run.processes)
                )
            if outcome.finished:
                stage.at_end(self.log, outcome.step)
                self._tell_unfinished(outcome.step)
        return outcome

    def _tell_unfinished(self, step: int) -> None:
        """Log that max_steps ended the training before its schedule."""
        total = self.plan.total_steps
        if step < total:
            logger.info(
                f"unfinished: max_steps={self.config.max_steps} ended training at step {step:,} of "
                f"{total:,}, at a rate of {self.plan.lr(step):.3g}; go on by resume=auto with a "
                "larger max_steps, or max_steps=null"
            )

    def _checkpoints(self, hashes: dict[str, str]) -> "Checkpoints":
        from videomae.train.checkpoint import Checkpoints  # a slow import

        config, background = self.config, self.run.settings.background_checkpoints
        return Checkpoints(
            self.run.directory / CHECKPOINTS,
            run_identity(config, hashes),
            config.run.keep_checkpoints,
            config.optim.global_batch,
            self.run.processes,
            self.stage.info,
            background=self.run.device.type == "cuda" if background is None else background,
        )

    def _restored(self) -> int:
        """Restore the stage's checkpoint, and return its step; 0 if there is no checkpoint."""
        checkpoint = self.stage.checkpoint
        if checkpoint is None:
            return 0
        return self.checkpoints.restore(checkpoint, self.distributed, self.optimizer)

    def _begin_directory(self, hashes: dict[str, str], *, own: bool) -> None:
        """Prepare the run directory: clear it for a new run, and write this run's description."""
        run, config, start = self.run, self.config, self.steps.start
        if own:
            self.checkpoints.remove_after(start)
        else:
            clear_run(run.directory, keep_links=not config.overwrite)
        describe_run(run, config, hashes)
        self.choices.write(made(run.directory, CHOICES))
        for name in (METRICS, SPIKES, WARNINGS, BAD_FILES):
            made(run.directory, name)
        folders = [TENSORBOARD] + [PROFILE] * config.run.profile
        folders += [WANDB] * bool(config.run.wandb) + [MLFLOW] * bool(config.run.mlflow)
        for name in folders:
            made(run.directory, name, folder=True)
        if start == 0:
            self.stage.at_start()

    def _begin(self, bar: Bar, bad: dict[int, BadFile]) -> None:
        """Make the log, the health monitor and the other parts that follow the steps.

        Args:
            bad: files already known to be unreadable, by index.
        """
        run, config, stage, steps = self.run, self.config, self.stage, self.steps
        others = services(run.directory, config.run, config.name)
        known = list(bad.values())
        self.log = RunLog(
            run.directory, bar, is_main=run.is_main, step=steps.start, bad=known, services=others
        )
        stage.watch(self.plan)
        if run.is_main and steps.start == 0:
            rates = rising_rate(config.optim, self.plan), low_rate_of_run(config, self.plan)
            for message in (*rates, *stage.warnings):
                self.log.warn(0, message)
        limit = config.data.max_bad_fraction
        self.health = HealthMonitor(run, stage.clips, steps, self.log, bad, limit)
        forgets = len(stage.clips.kept()) < len(stage.clips)
        self.throughput = Throughput(
            run, steps, self.log, stage.flops, self._peak(), forgets=forgets
        )
        self.replicated = self.distributed.replicate(stage.objective)
        self.delivery, said = delivery_to(run.device)
        if said:
            logger.info(said)
        self.num_skipped = steps.start - self._num_updates()
        self.checkpoint_timer = CheckpointTimer(run.settings, is_main=run.is_main)

    def _peak(self) -> float | None:
        """Measure the device's peak operations per second; None on a CPU, where it takes long."""
        device = self.run.device
        if device.type != "cuda":
            return None
        bf16 = uses_bf16(device, self.run.settings.precision)
        return matmul_peak(device, torch.bfloat16 if bf16 else torch.float32)

    def _steps(self) -> Outcome:
        """Take the steps of the range, and checkpoint the last one."""
        run, start, last = self.run, self.steps.start, self.steps.last
        world = run.processes.world
        profile_to = run.directory / PROFILE if run.settings.profile and run.is_main else None
        self.objective.model.train()
        pending: EnqueuedStep | None = None
        watchdog = Watchdog(run.settings.stall_timeout_s)
        tell = stop_notice(world)

        def noted(number: int) -> None:
            tell(number)
            if number == signal.SIGTERM and world > 1:
                watchdog.hurry()

        with (
            stop_signals() as received,
            at_once(noted),
            closing(self._batches(start + 1, last)) as batches,
            traced(profile_to, run.device, last - start) as step_done,
            watchdog,
        ):
            self.checkpoint_timer.restart()
            self.throughput.begin(start, time.perf_counter())
            for step in range(start + 1, last + 1):
                try:
                    current = self._step(step, batches, received)
                except WorkerDied:
                    if pending and world == 1:
                        self._read(pending, end=time.perf_counter())
                        self._save(pending.step, received)
                    raise
                # A step's numbers are read while the device works on the next one; the first's now.
                stopping = pending is not None and self._read(pending, end=current.began)
                stopping |= bool(received) and world == 1  # else all must agree
                pending = current
                step_done()
                watchdog.alive()
                epoch_ends = self._ends_epoch(step)
                save = step == last or self.checkpoint_timer.due(step)
                if stopping or save or epoch_ends or step == start + 1:
                    stopping |= self._read(pending, end=time.perf_counter())
                    pending = None
                if stopping or save or epoch_ends:
                    watchdog.rest()
                    self._save(step, received, finish=stopping or epoch_ends or step == last)
                    watchdog.alive()
                if self.health.failure:
                    raise self.health.failure
                if epoch_ends and not stopping:
                    began = time.perf_counter()
                    watchdog.rest()
                    self.stage.at_epoch(self.log, step, lambda: len(received) > 0)
                    watchdog.alive()
                    self.objective.model.train()
                    self.throughput.pause(time.perf_counter() - began)
                if stopping:
                    number = received[0] if received else signal.SIGTERM
                    return Outcome(step, finished=step == last, signal=number)
        return Outcome(last, finished=True)

    def _batches(self, first: int, last: int) -> Generator[Batch]:
        """Yield this process's micro-batches; closing the generator ends its worker processes."""
        processes, size = self.run.processes, self.plan.micro_batch
        batches = MicroBatches(
            self.steps.order,
            rank=processes.rank,
            world=processes.world,
            size=size,
            first=first,
            last=last,
        )
        if first <= last:
            yield from delivered_batches(
                self.stage.dataset,
                batches,
                self.delivery,
                size=size,
                workers=self.run.num_workers,
            )

    def _step(self, step: int, batches: Iterator[Batch], received: Sequence[int]) -> EnqueuedStep:
        """Enqueue one step; `received` is the list of received signals, which may still grow."""
        began, data, run, plan = time.perf_counter(), StepData(), self.run, self.plan
        every = run.settings.image_every
        pictured = self.stage.pictures and every and step % every == 0

        def micro_batches() -> Iterator[Inputs]:
            share = plan.global_batch // run.processes.world
            for number in range(plan.accumulation):
                first = run.processes.rank * share + number * plan.micro_batch
                asked = time.perf_counter()
                batch = next(batches)
                data.waited_s += time.perf_counter() - asked
                data.bad += [file for file in batch.bad if file.video not in self.health.bad]
                data.num_short += batch.num_short
                data.num_forgotten += batch.num_forgotten
                if pictured and data.first is None:
                    data.first = batch
                yield self.objective.inputs(batch, step, first)

        def notices() -> Notices:
            return Notices(
                num_bad=len(data.bad),
                num_short=data.num_short,
                num_forgotten=data.num_forgotten,
                stopping=len(received) > 0 or self.checkpoints.failed,
                save_due=self.checkpoint_timer.expired(),
                waited_s=self.throughput.by_rank(data.waited_s),
            )

        settings = StepSettings(
            step,
            self.config.seed,
            plan.lr(step),
            plan.accumulation,
            self.config.optim.clip_grad,
            run.settings.precision,
        )
        numbers = train_step(
            self.replicated, self.optimizer, micro_batches(), run.processes, settings, notices
        )
        if self.distributed.average:
            self.distributed.average.update(self.objective.model)
        if data.first is not None:
            self.stage.at_picture(self.log, step, data.first)
            data.first = None
        return EnqueuedStep(step, settings.lr, numbers, data, began)

    def _read(self, pending: EnqueuedStep, *, end: float) -> bool:
        """Wait for a step's results and log them; return whether the run must stop.

        Args:
            end: time at which the step ended, in seconds of time.perf_counter.
        """
        report = pending.results.wait()
        step, data, health = pending.step, pending.data, self.health
        self.checkpoint_timer.request(report.notices.save_due > 0)
        self.num_skipped += report.skipped
        health.files(step, data.bad, found=report.notices.num_bad > 0)
        health.gradient(step, report.grad_norm, pending.lr)
        health.loss(step, report.loss)
        self.stage.judge(self.log, step, report.loss)
        also = {
            "lr": pending.lr,
            "grad_norm": report.grad_norm,
            "num_bad": health.num_bad,
            "num_skipped": self.num_skipped,
        }
        self.throughput.step(step, report, end=end, waited_s=data.waited_s, also=also)
        return bool(report.notices.stopping) or health.failure is not None

    def _ends_epoch(self, step: int) -> bool:
        """Tell whether the stage acts at the end of an epoch after this step."""
        apart = self.stage.epochs_apart * self.plan.steps_per_epoch
        return apart > 0 and step % apart == 0

    def _num_updates(self) -> int:
        """Return the number of steps whose update was made, as the optimiser counts them."""
        states = self.optimizer.state.values()
        return int(next(state["step"].item() for state in states)) if states else 0

    def _save(self, step: int, received: list[int], *, finish: bool = True) -> None:
        """Save a checkpoint, and wait until it is complete if `finish`."""
        began = time.perf_counter()
        with deferred_interrupts(received):
            self.checkpoints.save(step, self.distributed, self.optimizer)
            if finish:
                self.checkpoints.finish()
        self.checkpoint_timer.restart()
        self.throughput.pause(time.perf_counter() - began, saving=True)
