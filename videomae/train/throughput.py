"""How fast a run goes, and what it waits for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from videomae.run.run import Run
from videomae.train.course import Course
from videomae.train.log import Log
from videomae.train.step import StepReport


@dataclass
class Window:
    """What has been measured since the last logged step, or since the run went on."""

    step: int
    start: float
    by_rank: NDArray[np.float64]
    """What each process has waited for data, in seconds."""
    waiting: float = 0.0
    """What this process has waited for data."""
    saving: float = 0.0
    """What training stood still for checkpoints, in seconds."""
    num_short: int = 0


class Throughput:
    """Collect what the steps took, and log it every run.log_every steps and at the last one.

    Args:
        flops: of one view's forward and backward pass.
        peak: of the device, a second; None: not known.
    """

    def __init__(
        self, run: Run, course: Course, log: Log, flops: float | None, peak: float | None
    ) -> None:
        self.run = run
        self.course = course
        self.log = log
        self.flops = flops
        self.peak = peak
        self._window: Window

    def begin(self, step: int, now: float) -> None:
        """Training begins after `step`, `now` in seconds by the clock of all other times."""
        self._window = Window(step, now, np.zeros(self.run.processes.world))

    def pause(self, seconds: float, *, saving: bool = False) -> None:
        """Leave out a time that is no part of a step."""
        self._window.start += seconds
        if saving:
            self._window.saving += seconds

    def by_rank(self, waited_s: float) -> tuple[float, ...]:
        """Put this process's value among zeros, which those of the others are added to."""
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
        """Count a step that is done.

        Args:
            end: of the step; that of the last one was its start.
            waited_s: for data, by this process.
            also: what else is known of the step.
        """
        window = self._window
        window.waiting += waited_s
        window.by_rank += np.array(report.notices.waited_s)
        window.num_short += int(report.notices.num_short)
        steps, elapsed = step - window.step, end - window.start
        self.log.progress(step, report.loss, window.waiting / elapsed)
        if step not in (1, self.course.last) and step % self.run.settings.log_every:
            return
        views_per_s = self.course.plan.views_per_step * steps / elapsed
        self.log.metrics(
            {
                "step": step,
                "epoch": step / self.course.plan.steps_per_epoch,
                "loss": report.loss,
                **also,
                "clips_per_s": views_per_s,
                "data_s": window.waiting / steps,
                "step_s": elapsed / steps,
                "save_s": window.saving,
                **self._of_the_machine(views_per_s, steps),
                "num_short": window.num_short,
            }
        )
        self.begin(step, end)

    def _of_the_machine(self, views_per_s: float, steps: int) -> dict[str, float]:
        """How well the devices are used, as far as that is known."""
        values: dict[str, float] = {}
        if self.flops is not None and self.peak is not None:
            values["mfu"] = self.flops * views_per_s / (self.peak * self.run.processes.world)
        if self.run.processes.device.type == "cuda":
            values["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        if self.run.processes.world > 1:
            waited = self._window.by_rank
            slowest = int(waited.argmax())
            values |= {"data_s_max": waited[slowest] / steps, "data_rank_max": slowest}
        return values
