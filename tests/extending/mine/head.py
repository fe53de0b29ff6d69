# mine/head.py
"""data.target=mine.head:Ordinal: classes that have an order, such as how well a move was done.

Of K classes it has K - 1 outputs: is the video above class 0, above class 1, ... (Frank and Hall,
2001). Lists have one class on each line, as for data.target=class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videomae.evaluation.head import Head, Predictions, is_readable
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip


class Ordinal(Head):
    lower_is_better = True  # the headline, the first of the metrics, is an error

    def __init__(
        self, names: Sequence[str], clips: ClipList | None, state: Mapping[str, Any]
    ) -> None:
        classes = len(names) if clips is not None else state["classes"]
        self.names = [f"above {label}" for label in range(classes - 1)]

    def state(self) -> dict[str, Any]:
        return {"classes": len(self.names) + 1}

    def target(self, clip: Clip) -> Tensor:
        return (torch.arange(len(self.names)) < clip.label).float()

    def errors(self, outputs: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").sum(1)

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def metrics(self, predicted: Predictions, clips: ClipList) -> dict[str, Any]:
        levels = (predicted > 0.5).sum(1)
        off = np.abs(levels - clips.labels())
        off[~is_readable(predicted)] = len(self.names)  # as wrong as can be
        return {"mean_steps_off": float(off.mean()), "exact": 100 * float((off == 0).mean())}
