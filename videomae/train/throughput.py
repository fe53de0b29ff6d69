"""Throughput of a run: clips per second, waiting for data, saving, and use of the devices."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from videomae.run.run import Run
from videomae.train.log import Log
from videomae.train.step import StepReport
from videomae.train.step_range import StepRange


@dataclass
class LogInterval:
    """Measurements since the last logged step, or since the run started."""

    step: int
    """Last step before the interval."""
    start: float
    """Time at which the interval begins, in seconds."""
    by_rank: NDArray[np.float64]
    """Seconds that each process has waited for data, (processes,)."""
    waiting: float = 0.0
    """Seconds that this process has waited for data."""
    saving: float = 0.0
    """Seconds that training stood still for checkpoints."""
    num_short: int = 0
    """Number of videos shorter than the clip."""
    num_forgotten: int = 0
    """Number of videos that tombstones name, and that were not opened."""


class Throughput:
    """Measures the steps' durations, and logs metrics every run.log_every steps and at the last.

    Args:
        flops: floating-point operations of one view's forward and backward pass; None: unknown.
        peak: floating-point operations per second of the device, at most; None: unknown.
        forgets: whether tombstones name videos of the list, which are counted.
    """

    def __init__(
        self,
        run: Run,
        steps: StepRange,
        log: Log,
        flops: float | None,
        peak: float | None,
        *,
        forgets: bool = False,
    ) -> None:
        self.run = run
        self.steps = steps
        self.log = log
        self.flops = flops
        self.peak = peak
        self.forgets = forgets
        self._interval: LogInterval

    def begin(self, step: int, now: float) -> None:
        """Begin an interval after `step` at the time `now`, in seconds of time.perf_counter."""
        self._interval = LogInterval(step, now, np.zeros(self.run.processes.world))

    def pause(self, seconds: float, *, saving: bool = False) -> None:
        """Exclude some seconds that are no part of a step from the measured time."""
        self._interval.start += seconds
        if saving:
            self._interval.saving += seconds

    def by_rank(self, waited_s: float) -> tuple[float, ...]:
        """Return a value for each process: this process's own, and 0 for all others."""
        values = [0.0] * self.run.processes.world
        values[self.run.processes.rank] = waited_s
        return tuple(values)

    def step(
        self,
        step: int,
        report: StepReport,
        *,
        end: float,
        waited_s: float,
        also: Mapping[str, float],
    ) -> None:
        """Add a finished step to the interval, and log metrics if they are due.

        Args:
            end: time at which the step ended, in seconds; the next step begins then.
            waited_s: seconds that this process waited for data.
            also: further metrics of the step.
        """
        interval = self._interval
        interval.waiting += waited_s
        interval.by_rank += np.array(report.notices.waited_s)
        interval.num_short += int(report.notices.num_short)
        interval.num_forgotten += int(report.notices.num_forgotten)
        steps, elapsed = step - interval.step, end - interval.start
        self.log.progress(step, report.loss, interval.waiting / elapsed)
        if step not in (1, self.steps.last) and step % self.run.settings.log_every:
            return
        views_per_s = self.steps.plan.views_per_step * steps / elapsed
        self.log.metrics(
            {
                "step": step,
                "epoch": step / self.steps.plan.steps_per_epoch,
                "loss": report.loss,
                **also,
                "clips_per_s": views_per_s,
                "data_s": interval.waiting / steps,
                "step_s": elapsed / steps,
                "save_s": interval.saving,
                **self._device_metrics(views_per_s, steps),
                "num_short": interval.num_short,
                **({"num_forgotten": interval.num_forgotten} if self.forgets else {}),
            }
        )
        self.begin(step, end)

    def _device_metrics(self, views_per_s: float, steps: int) -> dict[str, float]:
        """Return metrics on the use of the devices: MFU, memory, and the slowest process."""
        values: dict[str, float] = {}
        if self.flops is not None and self.peak is not None:
            values["mfu"] = self.flops * views_per_s / (self.peak * self.run.processes.world)
        if self.run.processes.device.type == "cuda":
            values["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        if self.run.processes.world > 1:
            waited = self._interval.by_rank
            slowest = int(waited.argmax())
            values |= {"data_s_max": waited[slowest] / steps, "data_rank_max": slowest}
        return values
