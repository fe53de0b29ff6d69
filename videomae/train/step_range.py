"""The range of optimiser steps that a run takes between its start and its end."""

from dataclasses import dataclass

from videomae.data.loader import TrainingOrder
from videomae.train.schedule import Plan


@dataclass(frozen=True)
class StepRange:
    """First and last step of a run, with the plan and the order of the videos."""

    plan: Plan
    order: TrainingOrder
    start: int
    """The last step that is done already; 0 for a new run."""
    last: int
    """The step after which training ends."""
