"""Accuracy of predictions over videos."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videomae.run.shares import wilson

CLASSES_FOR_TOP5 = 10
"""Smallest number of classes for which top-5 is shown to people: of fewer it says little."""


@dataclass(frozen=True)
class Scores:
    """Predictions of a labelled list of videos, and the accuracies that follow from them."""

    labels: NDArray[np.int64]
    """Class index of each video, (videos,) int64."""
    probs: NDArray[np.float32]
    """Probabilities, (videos, classes); all NaN where the video could not be read: a wrong one."""
    class_names: Sequence[str]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Whether each video could be read, (videos,)."""
        unread: NDArray[np.bool_] = np.isnan(self.probs[:, 0])
        return ~unread

    def correct(self, k: int) -> NDArray[np.bool_]:
        """Whether the label of each video is among the k most probable classes, (videos,).

        Of equally probable classes the one with the lower number comes first.
        """
        best = np.argsort(-np.nan_to_num(self.probs, nan=-1.0), axis=1, kind="stable")
        found: NDArray[np.bool_] = (best[:, :k] == self.labels[:, None]).any(axis=1)
        return found & self.readable

    def per_class(self) -> dict[str, float | None]:
        """Top-1 of each class in percent; None for a class without videos."""
        correct = self.correct(1)
        members = [self.labels == label for label in range(len(self.class_names))]
        return {
            name: _percent(correct[own]) if own.any() else None
            for name, own in zip(self.class_names, members, strict=True)
        }

    def interval(self) -> list[float]:
        """Return the 95 % interval of the top-1 in percent, by Wilson: least and most."""
        correct = self.correct(1)
        return wilson(int(correct.sum()), len(correct))

    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes + 1): videos by true and predicted class; last column: unreadable."""
        classes = len(self.class_names)
        guess = np.nan_to_num(self.probs, nan=-1.0).argmax(1)
        guess[~self.readable] = classes
        table = np.zeros((classes, classes + 1), dtype=np.int64)
        np.add.at(table, (self.labels, guess), 1)
        return table

    def metrics(self) -> dict[str, Any]:
        """Return the accuracies, in percent."""
        per_class = self.per_class()
        present = [value for value in per_class.values() if value is not None]
        return {
            "top1": _percent(self.correct(1)),
            "top1_interval": self.interval(),
            "top5": _percent(self.correct(5)),
            "mean_class_accuracy": float(np.mean(present)),
            "per_class": per_class,
        }

    def results(self, views: Mapping[str, int]) -> dict[str, Any]:
        """Return what results.json holds."""
        found = self.metrics()
        per_class = found.pop("per_class")
        return {
            **found,
            "num_videos": len(self.labels),
            "num_unreadable": int((~self.readable).sum()),
            "views": dict(views),
            "per_class": per_class,
        }


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the area below the steps of precision over recall, from 0 to 1.

    That is the precision at each threshold, weighted by the recall that it adds; videos of equal
    scores share a threshold, so that their order does not matter.

    Args:
        scores: (videos,), more where the class is more probable.
        positive: (videos,): whether a video has the class; at least one does.
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    last_of_equals = np.append(scores[1:] != scores[:-1], True)
    found = positive.cumsum()[last_of_equals]
    precision = found / (np.flatnonzero(last_of_equals) + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def interval_of_mean(splits: Sequence[tuple[float, int]]) -> list[float]:
    """Return the 95 % interval of the mean of the top-1 of splits, in percent: least and most.

    How far the mean reaches below and above is put together from Wilson's intervals of the splits
    (Zou and Donner, 2008: MOVER, as sums of squares); of one split it is Wilson's. The splits are
    taken as independent, so that test lists which share videos make it too narrow.

    Args:
        splits: top-1 of each split in percent, and its number of videos, at least 1.
    """
    shares, bounds = [], []
    for top1, videos in splits:
        right = round(top1 * videos / 100)
        shares.append(100 * right / videos)
        bounds.append(wilson(right, videos))
    mean = sum(shares) / len(shares)
    below, above = (
        math.hypot(*(each[end] - share for each, share in zip(bounds, shares, strict=True)))
        for end in (0, 1)
    )
    return [mean - below / len(shares), mean + above / len(shares)]


def mean_of_splits(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """results.json of several splits: means of accuracies, sums of videos, and each split's own.

    Args:
        results: results.json of each split, by its number.
    """
    every = list(results.values())
    classes = dict.fromkeys(name for each in every for name in each["per_class"])
    found = {name: [each["per_class"].get(name) for each in every] for name in classes}
    seen = {name: [v for v in values if v is not None] for name, values in found.items()}
    accuracies = ("top1", "top5", "mean_class_accuracy")
    counts = ["num_videos", "num_unreadable"]
    if any("num_forgotten" in each for each in every):
        counts.append("num_forgotten")
    shared = Counter[str]()
    for each in every:
        shared.update(each.get("shared_with", {}))
    means = {key: float(np.mean([each[key] for each in every])) for key in accuracies}
    return {
        "top1": means.pop("top1"),
        "top1_interval": interval_of_mean([(each["top1"], each["num_videos"]) for each in every]),
        **means,
        **{key: sum(each.get(key, 0) for each in every) for key in counts},
        "views": every[0]["views"],
        **({"data": every[0]["data"]} if "data" in every[0] else {}),
        **({"shared_with": dict(shared)} if shared else {}),
        "per_class": {name: float(np.mean(v)) if v else None for name, v in seen.items()},
        "splits": {
            number: {key: value for key, value in each.items() if key not in ("per_class", "views")}
            for number, each in results.items()
        },
    }


def _percent(true: NDArray[np.bool_]) -> float:
    """The share that is True. (100 * a mean would make 62.25000000000001 of 249 in 400.)"""
    return 100 * int(true.sum()) / len(true)
