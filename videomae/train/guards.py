"""Learning guards: each says once, in a sentence with numbers, that a run does not learn.

They are fed with numbers that a run has anyway, and change nothing of it. A guard that is silent
proves nothing: each speaks only where its numbers leave little doubt. What stops a run is in
videomae.train.stopping.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videomae.config import OptimConfig, TrainConfig
from videomae.evaluation.head import Predictions, is_readable
from videomae.run.log import GuardMessage
from videomae.train.schedule import Plan, rate_in_words
from videomae.train.usual_rate import UsualRate, usual_rate

WINDOW = 100
"""Most steps over which the loss is averaged."""
NEAR = 0.02
"""Share of the level by which a loss must lie below it to count as learning."""
PATIENCE, PRETRAIN_PATIENCE = 200, 500
"""Steps after the warm-up before which nothing is judged, in fine-tuning and in pre-training. A
healthy pre-training may stay at the level of the mean for hundreds of steps: the demo for 350."""
FEWEST_STEPS = 20
"""A fine-tuning that is over before its patience is judged at its end, if it took so many steps
after the warm-up."""
FAR = 0.4
"""Share of the usual rate below which a rate is far too low. The usual one goes with the square
root of the batch: with a base_lr that stays, that is a batch of less than a sixth."""
ONE_CLASS, MOST_LABELS = 0.95, 0.75
"""Share of the predictions that are one class; share of the labels above which that is right."""
FEWEST_VIDEOS, FEWEST_TESTED = 10, 20
"""Numbers of videos below which predictions are not judged: to be one class; to be guesses."""


def low_rate(optim: OptimConfig, plan: Plan, usual: UsualRate | None) -> GuardMessage | None:
    """Find a peak learning rate far under the recipe's, as a small batch with its base_lr makes it.

    A rate that optim.lr gives is taken as meant.

    Args:
        usual: the recipe's rate; None: unknown.
    """
    if usual is None or optim.lr is not None:
        return None
    expected = usual.lr * min(1.0, math.sqrt(plan.global_batch / usual.batch))
    if plan.peak_lr >= FAR * expected:
        return None
    text = (
        f"the learning rate, {plan.peak_lr:.3g} ({rate_in_words(optim)}), lies far under that of "
        f"{usual.source}, {usual.lr:.3g} with {usual.batch} videos a step, which would be about "
        f"{expected:.2g} with {plan.global_batch}: at so low a rate a run may learn nothing; give "
        f"optim.lr={expected:.2g}"
    )
    return GuardMessage("low_rate", text, "optim.lr")


def low_rate_of_run(config: TrainConfig, plan: Plan) -> GuardMessage | None:
    """Find a peak learning rate far under that of the run's own recipe."""
    return low_rate(config.optim, plan, usual_rate(config, plan.num_clips))


def rising_rate(optim: OptimConfig, plan: Plan) -> GuardMessage | None:
    """Find a learning rate that rises to its end, as an optim.base_lr below optim.min_lr makes it.

    With optim.lr, the plan refuses it.
    """
    if plan.min_lr <= plan.peak_lr:
        return None
    text = (
        f"the learning rate rises from {plan.peak_lr:.3g} after the warm-up ({rate_in_words(optim)}"
        f") to {plan.min_lr:.3g} at the end (optim.min_lr {optim.min_lr:g}): give a larger rate by "
        "optim.lr, or a smaller optim.min_lr, such as 0"
    )
    return GuardMessage("rising_rate", text, "optim.min_lr")


class Patience:
    """The step from which on a run is judged: some steps after its warm-up, or its end.

    Args:
        steps: steps after the warm-up.
        at_end: whether a run that is over before is judged at its last step.
    """

    def __init__(self, plan: Plan, steps: int, *, at_end: bool) -> None:
        after_warmup = plan.total_steps - plan.warmup_steps
        self.judged: int | None = None
        """First step that is judged; None: there is none."""
        if after_warmup >= steps:
            self.judged = plan.warmup_steps + steps
        elif at_end and after_warmup >= FEWEST_STEPS:
            self.judged = plan.total_steps
        self.window = min(WINDOW, max(1, min(steps, after_warmup) // 2))
        """Steps over which a loss is averaged: the later half of the patience, WINDOW at most."""

    def over(self, step: int) -> bool:
        """Tell whether a step is judged."""
        return self.judged is not None and step >= self.judged


class Level(NamedTuple):
    """The loss of the best model that does not look at its input."""

    loss: float
    guard: str
    """Name of the guard that compares with it."""
    meaning: str
    """Words for such a model."""
    remedy: str
    """Advice, in words."""


class StuckLoss:
    """The guard of a training loss that is still no lower than that of a model without eyes."""

    def __init__(self, level: Level, patience: Patience) -> None:
        self.level = level
        self.patience = patience
        self._losses: deque[float] = deque(maxlen=patience.window)
        self._spoken = False

    @property
    def recent(self) -> float | None:
        """Mean loss of the last steps; None where too few are known."""
        full = len(self._losses) == self._losses.maxlen
        return sum(self._losses) / len(self._losses) if full else None

    def step(self, step: int, loss: float | None) -> GuardMessage | None:
        """Add the loss of a step, None if no video could be read, and judge."""
        if loss is None or not math.isfinite(loss):
            return None
        self._losses.append(loss)
        recent, level = self.recent, self.level
        if self._spoken or recent is None or not self.patience.over(step):
            return None
        if recent < (1 - NEAR) * level.loss:
            return None
        self._spoken = True
        text = (
            f"the mean loss of the last {len(self._losses)} steps, {recent:.4g}, is "
            f"no lower than that of {level.meaning}, {level.loss:.4g}: {level.remedy}"
        )
        return GuardMessage(level.guard, text, "optim.lr")


class Answers(NamedTuple):
    """Predicted and true classes of the readable videos of a list."""

    key: str
    """Setting that names the list."""
    predicted: NDArray[np.int64]
    """(videos,) int64."""
    labels: NDArray[np.int64]
    """(videos,) int64."""

    @classmethod
    def of(cls, key: str, predicted: Predictions, labels: NDArray[np.int64]) -> "Answers":
        """Make it of predictions, (videos, classes), which are NaN where a video is unreadable."""
        readable = is_readable(predicted)
        return cls(key, predicted[readable].argmax(1), labels[readable])


class OneClass:
    """The guard of a classifier that predicts one class, whatever it sees."""

    def __init__(self, names: Sequence[str], patience: Patience) -> None:
        self.names = names
        self.patience = patience

    def judge(self, step: int, answers: Answers) -> GuardMessage | None:
        """Judge the predictions for a list after a step."""
        num_videos = len(answers.labels)
        if num_videos < FEWEST_VIDEOS or not self.patience.over(step):
            return None
        counts = np.bincount(answers.predicted)
        best = int(counts.argmax())
        most_labels = np.bincount(answers.labels).max()
        if counts[best] < ONE_CLASS * num_videos or most_labels > MOST_LABELS * num_videos:
            return None
        own = np.count_nonzero(answers.labels == best)
        text = (
            f"{counts[best]} of {num_videos} videos of {answers.key} are predicted as "
            f"{self.names[best]!r}, which is the label of {own}: the model does not tell them "
            "apart; a larger optim.lr, more optim.epochs or pre-trained weights are the usual "
            "remedies"
        )
        return GuardMessage("one_class", text, "optim.lr")


class NoBetterThanChance:
    """The guard of test results that guessing would reach too, as with labels of other videos.

    Args:
        labels: of the training list, (videos,) int64.
        num_classes: number of classes.
        loss: the guard of the training loss; None: there is none.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        num_classes: int,
        patience: Patience,
        loss: StuckLoss | None,
    ) -> None:
        self.counts = np.bincount(labels, minlength=num_classes)
        self.patience = patience
        self.loss = loss

    def judge(self, step: int, answers: Answers) -> GuardMessage | None:
        """Judge the test at the end of a run."""
        num_videos = len(answers.labels)
        if num_videos < FEWEST_TESTED or not self.patience.over(step):
            return None
        of_most_frequent = float(np.mean(answers.labels == self.counts.argmax()))
        chance = max(1 / len(self.counts), of_most_frequent)
        drawn = np.random.default_rng(0).binomial(num_videos, chance, size=10_000)
        most = int(np.percentile(drawn, 97.5, method="nearest"))
        right = int(np.count_nonzero(answers.predicted == answers.labels))
        if right > most:
            return None
        text = (
            f"no better than chance: {right} of {num_videos} videos of {answers.key} are right, "
            f"where guessing reaches up to {most} (97.5 %)"
        )
        loss = None if self.loss is None else self.loss.recent
        if self.loss is not None and loss is not None and loss < (1 - NEAR) * self.loss.level.loss:
            text += (
                f", though the training loss has fallen to {loss:.4g} (chance: "
                f"{self.loss.level.loss:.4g}): the model knows its training videos by heart, as "
                "where labels do not belong to their videos; look at figures/training_clips.png "
                "and data.train_list"
            )
            return GuardMessage("no_better_than_chance", text, "data.train_list")
        text += ": a larger optim.lr, more optim.epochs or other weights are the usual remedies"
        return GuardMessage("no_better_than_chance", text, "optim.lr")


def chance_loss(labels: NDArray[np.int64], num_classes: int, label_smoothing: float) -> float:
    """Return the least mean cross-entropy of a model that gives every video the same answer.

    It is the entropy of the smoothed labels: ln of the number of classes where each has as many
    videos, less otherwise. Mixup and CutMix mix labels of the same list, and so do not change it.
    """
    share = np.bincount(labels, minlength=num_classes) / len(labels)
    share = (1 - label_smoothing) * share + label_smoothing / num_classes
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def mean_loss(tubelet: int, patch: int) -> float:
    """Return the mean squared error of predicting 0, the mean of every normalised tubelet.

    Each colour has the unbiased variance 1 over the n values of a tubelet, so that the mean square
    is (n - 1) / n. Tubelets of a single colour have targets of 0: where a list has many, a model
    that predicts the mean lies below this, and the guard is silent.
    """
    values = tubelet * patch * patch
    return (values - 1) / values
