"""The head of a fine-tuned model: what it learns of a video, its loss, its metrics, its words.

The heads of this project are in videomae.evaluation.heads; data.target chooses one of them, or
names a class of your own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from videomae.config import UserError
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip

Prediction = NDArray[np.float32]
"""(outputs,): what a model makes of a video: probabilities of classes, or numbers."""
Predictions = NDArray[np.float32]
"""(videos, outputs): of a list; all NaN where a video could not be read."""


class Head(ABC):
    """The last layer's meaning: as many outputs as there are names.

    data.target=package.module:Name names a class of your own. It extends this one; what is abstract
    here is the least that it gives. It is made once in a process as Name(names, clips, state), and
    must do the same whenever it is made of the same.

    Args:
        names: those of data.class_names, or the numbers below data.classes; none where neither is
            set.
        clips: the training list, at the start of a fine-tuning; None where weights are used.
        state: what `state` returned at that start, where weights are used; else empty.

    Raises:
        videomae.config.ConfigError: it cannot learn from these.
    """

    names: Sequence[str]
    """Names of the outputs, all different; at least one."""
    lower_is_better = False
    """Whether the best weights are those with the lowest headline, the first of `metrics`."""

    @abstractmethod
    def __init__(
        self, names: Sequence[str], clips: ClipList | None, state: Mapping[str, Any]
    ) -> None: ...

    def state(self) -> dict[str, Any]:
        """Return what weights must tell for the head to be made again: values that JSON can hold.

        Weights may come from others: what is given back as `state` must be checked.
        """
        return {}

    @abstractmethod
    def target(self, clip: Clip) -> Tensor:
        """Return what is learned of a video, from its label, or its target as the list has it.

        Either the number of a class, () int64, or a vector, (K,) float32, of the same size for
        every video. Views that are mixed have the mean of their vectors. It is called in decoding
        processes.
        """

    @abstractmethod
    def errors(self, outputs: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Return the error of each view, (V,) float32, on their device, without waiting for it.

        Args:
            outputs: (V, outputs) float32.
            target: (V,) int64 or (V, K) float32.
            label_smoothing: optim.label_smoothing.
        """

    @abstractmethod
    def predictions(self, outputs: Tensor) -> Tensor:
        """Return what is averaged over the views of a video: (V, outputs) float32 -> same."""

    @abstractmethod
    def metrics(self, predicted: Predictions, clips: ClipList) -> dict[str, Any]:
        """Return what results.json says of a list: numbers, and mappings of numbers.

        The first is the headline, by which the best weights are chosen. An unreadable video must
        not make a result better.
        """

    def validation(self, predicted: Predictions, clips: ClipList) -> dict[str, float]:
        """Return what an evaluation on the way logs, as val_NAME; the headline first."""
        name, value = next(iter(measured(self, predicted, clips).items()))
        return {name: value}

    def told(self, found: Mapping[str, Any]) -> str:
        """Return results, or those of an evaluation on the way, in a line for people."""
        numbers = {name: each for name, each in found.items() if isinstance(each, float)}
        return ", ".join(f"{name.replace('_', ' ')} {each:.4g}" for name, each in numbers.items())

    def truth(self, clip: Clip) -> str:
        """Return what the list says of a video, for people."""
        return clip.target or str(clip.label)

    def answer(self, prediction: Prediction, most: int) -> dict[str, Any]:
        """Return a prediction as predictions.json has it, `most` classes at most."""
        values = zip(self.names, prediction.tolist(), strict=True)
        return {"values": {name: float(f"{value:.6g}") for name, value in values}}

    def row(self, clip: Clip, prediction: Prediction | None) -> dict[str, Any]:
        """Return what predictions.jsonl says of a test video; None: it could not be read."""
        found = {} if prediction is None else self.answer(prediction, 0)
        return {"target": self.truth(clip), "readable": prediction is not None, **found}

    def shown(self, prediction: Prediction, most: int) -> list[tuple[str, str]]:
        """Return names and values of a prediction for people, `most` classes at most."""
        return [
            (name, f"{value:.6g}")
            for name, value in zip(self.names, prediction.tolist(), strict=True)
        ]

    def columns(self) -> tuple[str, str]:
        """Return what heads the names and the values of `shown`."""
        return "value", ""

    def compare(self, lists: Mapping[str, ClipList]) -> list[str]:
        """Return lines that compare what two lists hold, by the setting that names each."""
        return []

    def draw(self, path: Path, predicted: Predictions, clips: ClipList, title: str) -> None:
        """Draw the picture of an evaluation, figures/confusion.png, if there is one."""
        return


def is_readable(predicted: Predictions) -> NDArray[np.bool_]:
    """Return which videos could be read: (videos,)."""
    unread: NDArray[np.bool_] = np.isnan(predicted[:, 0])
    return ~unread


class HeadError(UserError):
    """Error: a head of the user's own does not return what it must."""


def measured(head: Head, predicted: Predictions, clips: ClipList) -> dict[str, Any]:
    """Return the metrics of a head as JSON can hold them: those of NumPy and torch as Python's.

    Raises:
        HeadError: JSON cannot hold them, or there are none.
    """
    kind = f"{type(head).__module__}:{type(head).__qualname__}"
    found = head.metrics(predicted, clips)
    if not isinstance(found, Mapping) or not found:
        raise HeadError(f"metrics of {kind} returns {found!r}: it must return numbers by name")
    return {str(name): _plain(each, f"metrics of {kind}: {name}") for name, each in found.items()}


def _plain(value: object, where: str) -> Any:
    """Return a number, or numbers by name, in Python's types; `where` names it in errors."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each, f"{where}: {name}") for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    values = value if isinstance(value, list) else [value]
    if not all(each is None or isinstance(each, int | float) for each in values):
        raise HeadError(f"{where} is {value!r}, and must be a number, or numbers by name")
    return value


def results(
    head: Head, predicted: Predictions, clips: ClipList, views: Mapping[str, int]
) -> dict[str, Any]:
    """Return what results.json holds: metrics, counts of videos, views, and what is by name."""
    found = measured(head, predicted, clips)
    readable = is_readable(predicted)
    by_name = {name: each for name, each in found.items() if isinstance(each, dict)}
    return {
        **{name: each for name, each in found.items() if name not in by_name},
        "num_videos": len(readable),
        "num_unreadable": int((~readable).sum()),
        "views": dict(views),
        **by_name,
    }
