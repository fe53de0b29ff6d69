"""The views of a video to one prediction."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import UserError
from videomae.data.loader import Batch
from videomae.evaluation.head import Prediction, Predictions
from videomae.run.bad_files import BadFile


class PredictionError(UserError):
    """A model whose predictions mean nothing."""


class Predicted(NamedTuple):
    """The predictions of a model for some videos."""

    values: dict[int, Prediction]
    """Prediction of each readable video, by its index in the list."""
    bad: list[BadFile]
    num_short: int
    """Videos in which a clip repeats frames."""


@torch.inference_mode()
def predict_videos(
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    advance: Callable[[int], None],
) -> Predicted:
    """Return the mean over the views of each video.

    Args:
        predict: frames (V, T, H, W, 3) uint8 -> (V, outputs) float32: probabilities, or numbers.
        batches: each with all views of its videos, side by side.
        advance: called with the number of videos done.

    Raises:
        PredictionError: a prediction is not finite.
    """
    found: dict[int, Prediction] = {}
    bad: list[BadFile] = []
    num_short = 0
    for batch in batches:
        predicted = predict(batch.clip)
        videos, counts = torch.unique_consecutive(batch.video, return_counts=True)
        assert counts.min() == counts.max()
        means = predicted.unflatten(0, (len(videos), -1)).mean(1).cpu().numpy()
        bad += batch.bad
        num_short += batch.num_short
        unreadable = {file.video for file in batch.bad}
        for index, mean in zip(videos.tolist(), means, strict=True):
            if index in unreadable:
                continue
            if not np.isfinite(mean).all():
                raise PredictionError(
                    f"the model's predictions for video {index + 1} of the list are not finite: "
                    "its weights are damaged, or training went wrong"
                )
            found[index] = mean
        advance(len(videos))
    return Predicted(found, bad, num_short)


def gather_predictions(
    found: dict[int, Prediction], num_videos: int, num_outputs: int
) -> Predictions:
    """(videos, outputs), all NaN for a video without a prediction."""
    table = np.full((num_videos, num_outputs), np.nan, dtype=np.float32)
    for index, prediction in found.items():
        table[index] = prediction
    return table
