"""What pre-training and fine-tuning differ in; `videomae.train.trainer` does what they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from videomae.config import TrainConfig
from videomae.data.dataset import TrainingClips
from videomae.data.loader import Batch
from videomae.lists.clips import ClipList
from videomae.run.log import RunLog
from videomae.run.run import Run
from videomae.train.sharding import DistributedModel
from videomae.train.tuning import Part
from videomae.weights.weights import WeightsInfo


class Stage(ABC):
    """One stage of training: what is minimised, and what is done on the way.

    The constructor looks at everything that may be wrong with the settings; `build` makes the model
    and all that needs it.
    """

    run: Run
    config: TrainConfig
    clips: ClipList
    """The training list, or the lists of all sources."""
    checkpoint: Path | None
    """The checkpoint that the run goes on from."""
    objective: nn.Module
    """An Objective, on the run's device."""
    distributed: DistributedModel[Any]
    """The objective's model."""
    dataset: TrainingClips
    info: WeightsInfo
    """What the weights are that are trained."""
    parts: Mapping[str, Part]
    """The parts of the model whose way of computing is chosen, by name."""
    flops: float
    """Operations of one view's forward and backward pass."""
    pictures: bool = False
    """Whether `at_picture` is to be called."""
    epochs_apart: int = 0
    """`at_epoch` is called every so many epochs; 0: never."""

    @abstractmethod
    def build(self) -> None:
        """Make the model, its objective and its data.

        Raises:
            WeightsError: the weights to start from do not fit.
        """

    def at_start(self) -> None:  # noqa: B027 - a stage need not do anything
        """Act on the main process when the run directory is its own, before step 1."""

    def at_picture(self, log: RunLog, step: int, batch: Batch) -> None:  # noqa: B027
        """Act on all processes every run.image_every steps, with the step's first micro-batch."""

    def at_epoch(self, log: RunLog, step: int, stop: Callable[[], bool]) -> None:  # noqa: B027
        """Act on all processes at the end of an epoch; `step` ended it, its checkpoint is complete.

        Random numbers must be left as they are. `stop` tells whether the run is to end.
        """

    @abstractmethod
    def at_end(self, step: int) -> None:
        """Act on all processes when `step`, the last one asked for, is done: write the results."""
