"""The parts of a step that the host keeps until the device has computed its results."""

from dataclasses import dataclass, field

from videomae.data.loader import Batch
from videomae.run.bad_files import BadFile
from videomae.train.step import PendingStep


@dataclass
class StepData:
    """Statistics of the micro-batches that a step has received."""

    waited_s: float = 0.0
    """Seconds that this process waited for the micro-batches."""
    bad: list[BadFile] = field(default_factory=list)
    """Unreadable files that this process found in this step for the first time."""
    num_short: int = 0
    """Number of videos shorter than the clip."""
    num_forgotten: int = 0
    """Number of videos that tombstones name, and that were not opened."""
    first: Batch | None = None
    """The first micro-batch, if a picture of it is wanted."""


@dataclass(frozen=True)
class EnqueuedStep:
    """A step that the host has enqueued, and whose results the device may still be computing."""

    step: int
    lr: float
    results: PendingStep
    data: StepData
    began: float
    """Time at which the host began the step, in seconds of time.perf_counter."""
