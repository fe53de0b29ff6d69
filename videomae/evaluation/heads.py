"""The heads that data.target chooses from: one class, several classes, numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from videomae.config import REGRESSION, ConfigError
from videomae.evaluation.head import Head, Prediction, Predictions, is_readable
from videomae.evaluation.metrics import CLASSES_FOR_TOP5, Scores, average_precision
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.lists.labels import compare_labels, count_labels
from videomae.lists.targets import all_labels, all_values, labels_of, values_of
from videomae.pictures.figures import save_confusion
from videomae.weights.tensors import WeightsError

TOP = 5
"""Classes that predictions.jsonl tells of each video."""
LEAST_SPREAD = 2**-13
"""Smallest standard deviation of regression targets, as a share of their mean: float32 numbers near
the mean then lie a thousandth of it apart."""


class ClassHead(Head):
    """One class of each video: cross-entropy, softmax, accuracies in percent."""

    def __init__(
        self, names: Sequence[str], clips: ClipList | None, state: Mapping[str, Any]
    ) -> None:
        self.names = names

    def target(self, clip: Clip) -> Tensor:
        return torch.tensor(clip.label)

    def errors(self, outputs: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        return F.cross_entropy(outputs, target, label_smoothing=label_smoothing, reduction="none")

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)

    def metrics(self, predicted: Predictions, clips: ClipList) -> dict[str, Any]:
        return self._scores(predicted, clips).metrics()

    def validation(self, predicted: Predictions, clips: ClipList) -> dict[str, float]:
        scores = self._scores(predicted, clips)
        return {f"top{k}": 100 * scores.correct(k).mean() for k in (1, 5)}

    def told(self, found: Mapping[str, Any]) -> str:
        many = len(self.names) >= CLASSES_FOR_TOP5
        top5 = f"top-5 {found['top5']:.2f} %" if many else ""
        if "top1_interval" not in found:
            return f"top-1 {found['top1']:.2f} %" + (f", {top5}" if top5 else "")
        low, high = found["top1_interval"]
        return (
            f"top-1 {found['top1']:.2f} % ({low:.2f} to {high:.2f})   "
            f"{top5}{'   ' * many}mean of classes {found['mean_class_accuracy']:.2f} %"
        )

    def truth(self, clip: Clip) -> str:
        assert clip.label is not None  # read_clips has checked it
        return self.names[clip.label]

    def answer(self, prediction: Prediction, most: int) -> dict[str, Any]:
        return {"top": _most_probable(self.names, prediction, most)}

    def row(self, clip: Clip, prediction: Prediction | None) -> dict[str, Any]:
        """Probabilities are rounded, so that no file differs by the rounding of a thread."""
        return {
            "label": clip.label,
            "class": self.truth(clip),
            "readable": prediction is not None,
            "top": _rounded(self.names, prediction),
        }

    def shown(self, prediction: Prediction, most: int) -> list[tuple[str, str]]:
        top = _most_probable(self.names, prediction, most)
        return [(guess["class"], f"{100 * guess['prob']:.1f}") for guess in top]

    def columns(self) -> tuple[str, str]:
        return "class", "%"

    def compare(self, lists: Mapping[str, ClipList]) -> list[str]:
        counts = {key: count_labels(clips, len(self.names)) for key, clips in lists.items()}
        return compare_labels(counts, self.names)

    def draw(self, path: Path, predicted: Predictions, clips: ClipList, title: str) -> None:
        save_confusion(path, self._scores(predicted, clips).confusion(), self.names, title)

    def _scores(self, predicted: Predictions, clips: ClipList) -> Scores:
        return Scores(labels=clips.labels(), probs=predicted, class_names=self.names)


class MultilabelHead(Head):
    """Any number of classes of each video: binary cross-entropy, sigmoid, mean average precision.

    The error of a view is the mean over the classes. Label smoothing is spread over yes and no.
    """

    def __init__(
        self, names: Sequence[str], clips: ClipList | None, state: Mapping[str, Any]
    ) -> None:
        self.names = names

    def target(self, clip: Clip) -> Tensor:
        found = torch.zeros(len(self.names))
        found[labels_of(clip.target)] = 1.0
        return found

    def errors(self, outputs: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        target = (1 - label_smoothing) * target + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def metrics(self, predicted: Predictions, clips: ClipList) -> dict[str, Any]:
        """Average precision in percent; None of a class that no video has.

        An unreadable video comes last, after every other, in the order of each class.
        """
        assert clips.targets is not None
        truth = all_labels(clips.targets, len(self.names))
        probs = np.nan_to_num(predicted, nan=-1.0)
        per_class = {
            name: 100 * average_precision(probs[:, place], truth[:, place])
            if truth[:, place].any()
            else None
            for place, name in enumerate(self.names)
        }
        found = [value for value in per_class.values() if value is not None]
        return {"mean_average_precision": float(np.mean(found)), "per_class": per_class}

    def told(self, found: Mapping[str, Any]) -> str:
        return f"mean average precision {found['mean_average_precision']:.2f} %"

    def truth(self, clip: Clip) -> str:
        return ", ".join(self.names[label] for label in labels_of(clip.target)) or "no class"

    def answer(self, prediction: Prediction, most: int) -> dict[str, Any]:
        return {"top": _most_probable(self.names, prediction, most)}

    def row(self, clip: Clip, prediction: Prediction | None) -> dict[str, Any]:
        """Probabilities are rounded, so that no file differs by the rounding of a thread."""
        labels = labels_of(clip.target)
        return {
            "labels": labels,
            "classes": [self.names[label] for label in labels],
            "readable": prediction is not None,
            "top": _rounded(self.names, prediction),
        }

    def shown(self, prediction: Prediction, most: int) -> list[tuple[str, str]]:
        top = _most_probable(self.names, prediction, most)
        return [(guess["class"], f"{100 * guess['prob']:.1f}") for guess in top]

    def columns(self) -> tuple[str, str]:
        return "class", "%"

    def compare(self, lists: Mapping[str, ClipList]) -> list[str]:
        """How many videos each list has of the classes; a video of several counts for each."""
        lines = []
        for key, clips in lists.items():
            assert clips.targets is not None
            truth = all_labels(clips.targets, len(self.names))
            counts = truth.sum(0)
            lines.append(
                f"{key}: {len(clips):,} videos, {truth.sum(1).mean():.2f} classes each; "
                f"{counts.min()} to {counts.max()} videos of a class, "
                f"{(counts == 0).sum()} of {len(self.names)} classes without a video"
            )
        return lines


class RegressionHead(Head):
    """Numbers of each video: smooth L1 error of standardised targets, mean absolute error.

    The smooth L1 error is that of a least-squares fit close by, and linear far away, so that a few
    odd targets do not rule the gradient; it is also closest to what is reported. Targets are
    standardised by mean and standard deviation of the training list, which the weights keep.
    """

    lower_is_better = True

    def __init__(
        self, names: Sequence[str], clips: ClipList | None, state: Mapping[str, Any]
    ) -> None:
        self.names = names
        if clips is not None:
            assert clips.targets is not None
            values = all_values(clips.targets)
            self.mean, self.std = values.mean(0).tolist(), values.std(0).tolist()
            _check_spread(names, values)
            return
        self.mean, self.std = (_checked(state.get(key), len(names)) for key in ("mean", "std"))
        if min(self.std) <= 0:
            raise WeightsError("the weights' metadata hold no standard deviations of targets")

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}

    def target(self, clip: Clip) -> Tensor:
        values = torch.tensor(values_of(clip.target), dtype=torch.float64)
        mean, std = (torch.tensor(each, dtype=torch.float64) for each in (self.mean, self.std))
        return ((values - mean) / std).float()

    def errors(self, outputs: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        return F.smooth_l1_loss(outputs, target, reduction="none").mean(1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """In the units of the list."""
        mean, std = (torch.tensor(each, device=outputs.device) for each in (self.mean, self.std))
        return outputs * std + mean

    def metrics(self, predicted: Predictions, clips: ClipList) -> dict[str, Any]:
        """Mean absolute errors, in the units of the list.

        Of an unreadable video the mean of the training list is predicted.
        """
        assert clips.targets is not None
        found = np.where(is_readable(predicted)[:, None], predicted.astype(np.float64), self.mean)
        errors = np.abs(found - all_values(clips.targets)).mean(0).tolist()
        per_value = dict(zip(self.names, errors, strict=True))
        return {"mean_absolute_error": float(np.mean(errors)), "per_value": per_value}

    def told(self, found: Mapping[str, Any]) -> str:
        return f"mean absolute error {found['mean_absolute_error']:.4g}"

    def truth(self, clip: Clip) -> str:
        return clip.target

    def row(self, clip: Clip, prediction: Prediction | None) -> dict[str, Any]:
        target = dict(zip(self.names, values_of(clip.target), strict=True))
        found = {"values": None} if prediction is None else self.answer(prediction, 0)
        return {"target": target, "readable": prediction is not None, **found}

    def compare(self, lists: Mapping[str, ClipList]) -> list[str]:
        """Mean and standard deviation of each value in each list."""
        lines = []
        for key, clips in lists.items():
            assert clips.targets is not None
            values = all_values(clips.targets)
            each = zip(self.names, values.mean(0), values.std(0), strict=True)
            told = ", ".join(f"{name}: {mean:.4g} ± {std:.4g}" for name, mean, std in each)
            lines.append(f"{key}: {len(clips):,} videos; mean and standard deviation of {told}")
        return lines


def _check_spread(names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Check that each value of a training list differs from line to line, as float32 tells it.

    Args:
        values: (clips, values).

    Raises:
        ConfigError: one does not.
    """
    for name, column in zip(names, values.T, strict=True):
        if np.ptp(column) == 0:
            raise ConfigError(
                f"data.target={REGRESSION}: value {name} is the same on every line of "
                "data.train_list, so that there is nothing to learn: leave it out"
            )
        mean, std = float(column.mean()), float(column.std())
        if std < abs(mean) * LEAST_SPREAD:
            raise ConfigError(
                f"data.target={REGRESSION}: value {name} of data.train_list is {mean:.12g} ± "
                f"{std:.4g}, which the float32 numbers of a model hardly tell apart: subtract "
                f"{mean:.12g} from it in all lists"
            )


def _most_probable(
    names: Sequence[str], probs: Prediction, most: int, digits: int | None = None
) -> list[dict[str, Any]]:
    """The most probable classes; of equally probable ones that with the lower number first."""
    best = (-probs).argsort(kind="stable")[:most]
    return [
        {
            "class": names[label],
            "label": int(label),
            "prob": float(probs[label]) if digits is None else round(float(probs[label]), digits),
        }
        for label in best
    ]


def _rounded(names: Sequence[str], probs: Prediction | None) -> list[dict[str, Any]]:
    return [] if probs is None else _most_probable(names, probs, TOP, digits=4)


def _checked(values: Any, count: int) -> list[float]:
    """Numbers that the metadata of weights hold, one of each output."""
    numbers = isinstance(values, list) and all(type(each) in (int, float) for each in values)
    if not numbers or len(values) != count or not all(map(math.isfinite, values)):
        raise WeightsError(
            f"the weights' metadata do not hold mean and std of {count} targets, as they must for "
            f"data.target={REGRESSION}"
        )
    return [float(each) for each in values]
