"""The interface of a training stage, in which pre-training and fine-tuning differ.

`videomae.train.trainer` is the part that they share.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from videomae.config import TrainConfig
from videomae.data.dataset import TrainingClips
from videomae.data.loader import Batch
from videomae.lists.clips import ClipList
from videomae.run.log import GuardMessage, RunLog
from videomae.run.run import Run
from videomae.train.guards import StuckLoss
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel
from videomae.train.tuning import ModelPart
from videomae.weights.weights import WeightsInfo


class TrainingStage(ABC):
    """One stage of training: its objective, its data, and its actions at fixed points of a run.

    The constructor checks the settings; `build` makes the model and everything that needs it.
    """

    run: Run
    config: TrainConfig
    clips: ClipList
    """The training list, or the lists of all sources."""
    checkpoint: Path | None
    """The checkpoint that the run goes on from."""
    objective: nn.Module
    """A videomae.train.objective.Objective, on the run's device."""
    distributed: DistributedModel[Any]
    """The objective's model."""
    dataset: TrainingClips
    info: WeightsInfo
    """Description of the weights in training."""
    parts: Mapping[str, ModelPart]
    """Parts of the model, by name, whose attention kernel and padding are chosen by measuring."""
    flops: float
    """Floating-point operations of one view's forward and backward pass."""
    pictures: bool = False
    """Whether `at_picture` is called."""
    warnings: Sequence[GuardMessage] = ()
    """Warnings for the log of a new run."""
    stuck_loss: StuckLoss | None = None
    """The guard of the training loss, which `watch` makes; None: there is none."""
    epochs_apart: int = 0
    """Number of epochs from one call of `at_epoch` to the next; 0: it is never called."""

    @abstractmethod
    def build(self) -> None:
        """Make the model, its objective and its data.

        Raises:
            WeightsError: the weights to start from do not fit.
        """

    def watch(self, plan: Plan) -> None:  # noqa: B027
        """Make the learning guards of a run with this plan."""

    def judge(self, log: RunLog, step: int, loss: float | None) -> None:
        """Warn in the log if the loss of a step shows that nothing is learned."""
        if self.stuck_loss:
            log.warn(step, self.stuck_loss.step(step, loss))

    def at_start(self) -> None:  # noqa: B027 - a stage need not do anything
        """Act on the main process when the run directory is its own, before step 1."""

    def at_picture(self, log: RunLog, step: int, batch: Batch) -> None:  # noqa: B027
        """Act on all processes every run.image_every steps, with the step's first micro-batch."""

    def at_epoch(self, log: RunLog, step: int, stop: Callable[[], bool]) -> None:  # noqa: B027
        """Act on all processes at the end of an epoch; the checkpoint of `step` is complete.

        Random states must stay unchanged. `stop` tells whether the run should end.
        """

    @abstractmethod
    def at_end(self, log: RunLog, step: int) -> None:
        """Act on all processes when `step`, the last one asked for, is done: write the results."""
