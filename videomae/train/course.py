"""The steps that a run is about to take."""

from dataclasses import dataclass

from videomae.data.loader import TrainingOrder
from videomae.train.schedule import Plan


@dataclass(frozen=True)
class Course:
    """From which step to which, in batches of which videos."""

    plan: Plan
    order: TrainingOrder
    start: int
    """The last step that is done."""
    last: int
    """The step after which training ends."""
