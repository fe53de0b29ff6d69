"""How fast a run goes, and what it waits for."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from videomae.config import RunConfig
from videomae.run.parallel import Processes
from videomae.train.log import Log
from videomae.train.schedule import Plan


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


class Meter:
    """Collects what the steps took, and logs it every run.log_every steps and at the last one.

    Args:
        last: the step at whose end training ends.
        flops: of one view's forward and backward pass.
        peak: of the device, a second; None: not known.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunConfig,
        processes: Processes,
        log: Log,
        *,
        last: int,
        flops: float | None,
        peak: float | None,
    ) -> None:
        self.plan = plan
        self.run = run
        self.processes = processes
        self.log = log
        self.last = last
        self.flops = flops
        self.peak = peak
        self._window: Window

    def begin(self, step: int, now: float) -> None:
        """Training begins after `step`, `now` in seconds by the clock of all other times."""
        self._window = Window(step, now, np.zeros(self.processes.world))

    def pause(self, seconds: float, *, saving: bool = False) -> None:
        """Leave out a time that is no part of a step."""
        self._window.start += seconds
        if saving:
            self._window.saving += seconds

    def by_rank(self, waiting: float) -> list[float]:
        """This process's value among zeros, which those of the others are added to."""
        values = [0.0] * self.processes.world
        values[self.processes.rank] = waiting
        return values

    def step(
        self,
        step: int,
        loss: float,
        *,
        end: float,
        waiting: float,
        by_rank: list[float],
        num_short: int,
        also: dict[str, float | None],
    ) -> None:
        """A step is done.

        Args:
            end: of the step; that of the last one was its start.
            waiting: what this process waited for data; `by_rank`: what each did.
            also: what else is known of the step.
        """
        window = self._window
        window.waiting += waiting
        window.by_rank += np.array(by_rank)
        window.num_short += num_short
        steps, elapsed = step - window.step, end - window.start
        self.log.progress(step, loss, window.waiting / elapsed)
        if step not in (1, self.last) and step % self.run.log_every:
            return
        views_per_s = self.plan.views_per_step * steps / elapsed
        self.log.metrics(
            {
                "step": step,
                "epoch": step / self.plan.steps_per_epoch,
                "loss": loss,
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
            values["mfu"] = self.flops * views_per_s / (self.peak * self.processes.world)
        if self.processes.device.type == "cuda":
            values["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        if self.processes.world > 1:
            waited = self._window.by_rank
            slowest = int(waited.argmax())
            values |= {"data_s_max": waited[slowest] / steps, "data_rank_max": slowest}
        return values
