"""Scores of a classifier on a labelled list: predicted, counted and written down."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from videomae.config import (
    CLASS,
    DataConfig,
    ModelConfig,
    Precision,
    UserError,
)
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import evaluation_batches, evaluation_loader
from videomae.evaluation.attention import draw_attention
from videomae.evaluation.head import Head, Predictions, is_readable, results
from videomae.evaluation.kept_features import keeping_features, write_features
from videomae.evaluation.predictions import gather_predictions, predict_videos
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.model.classifier import VideoClassifier
from videomae.model.pixels import normalise
from videomae.run.arithmetic import autocast
from videomae.run.bad_files import TEST, TRAIN, BadFile, add_bad_files, replace_bad_files
from videomae.run.console import progress_bar
from videomae.run.directory import BAD_FILES, PREDICTIONS, RESULTS, TEST_FEATURES
from videomae.run.files import sha256, write_text
from videomae.run.record import made
from videomae.run.run import Run
from videomae.run.sidefiles import is_bad_file, mended_rows
from videomae.weights.weights import as_json

logger = logging.getLogger(__name__)

ATTENTION = "figures/attention.png"


class NothingReadableError(UserError):
    """A test list without a readable video."""


class Evaluation(NamedTuple):
    """The predictions of a model for a list, and how they came about."""

    predicted: Predictions
    bad: list[BadFile]
    num_short: int
    features: dict[int, Tensor]
    """Features of some readable videos, by their index in the list; empty where none are kept."""


def score_model(
    run: Run,
    model: VideoClassifier,
    dataset: EvaluationClips,
    head: Head,
    *,
    features: bool = False,
) -> Evaluation | None:
    """Predict every video of a list. All processes call it; the main one gets the result.

    Each process takes every world-th batch; nothing is shared until the end, so unequal shares and
    a list that the processes do not divide are no trouble.

    Args:
        features: whether the features of some videos are kept.

    Raises:
        PredictionError: a prediction is not finite.
    """
    model.eval()
    num_videos, num_views = len(dataset.clips), dataset.shape[0]
    process = run.processes
    batch = max(1, run.settings.untrained_batch // num_views)
    loader = evaluation_loader(
        dataset,
        rank=process.rank,
        world=process.world,
        batch=batch,
        workers=run.num_workers,
        pin=process.pins,
    )
    batches = evaluation_batches(num_videos, rank=process.rank, world=process.world, batch=batch)
    share = sum(map(len, batches))
    predict = partial(predictions_of, model, head, run.device, run.settings.precision)
    keeping: AbstractContextManager[dict[int, Tensor]] = nullcontext({})
    if features:
        keeping = keeping_features(model, batches, num_videos)
    with progress_bar("evaluating", total=share) as bar, keeping as kept:
        predicted = predict_videos(predict, loader, bar.advance)
        own = {index: each for index, each in kept.items() if index in predicted.values}
        parts, all_kept = process.gather(predicted), process.gather(own)
    if not process.is_main:
        return None
    found = {index: values for part in parts for index, values in part.values.items()}
    bad = sorted(file for part in parts for file in part.bad)
    return Evaluation(
        gather_predictions(found, num_videos, len(head.names)),
        bad,
        sum(part.num_short for part in parts),
        dict(sorted(each for part in all_kept for each in part.items())),
    )


class LabelledVideos(NamedTuple):
    """A labelled list that a classifier is tested on."""

    clips: ClipList
    head: Head
    data: DataConfig


def evaluate_model(
    run: Run, model: VideoClassifier, test: LabelledVideos, about: Mapping[str, Any]
) -> Predictions | None:
    """Write what `model` makes of a list: results.json, predictions.jsonl, features, pictures.

    All processes call it; the main one gets the predictions.

    Args:
        about: what else results.json says.

    Raises:
        NothingReadableError: there is nothing to say of the model.
        PredictionError: its predictions are not finite.
    """
    (clips, head, data), directory = test, run.directory
    labelled = data.target == CLASS
    evaluation = score_model(run, model, EvaluationClips(clips, data), head, features=labelled)
    if evaluation is None:
        return None
    predicted, bad, num_short, features = evaluation
    add_bad_files(directory, bad, TEST)
    if not is_readable(predicted).any():
        raise NothingReadableError(
            f"none of the {len(clips)} test videos can be read; {BAD_FILES} in {directory} says why"
        )
    found = results(head, predicted, clips, {"segments": data.segments, "crops": data.crops})
    if data.tombstones is not None:
        found |= {"num_forgotten": len(clips.left_out)}
    write_text(made(directory, PREDICTIONS), prediction_lines(clips, head, predicted))
    write_text(made(directory, RESULTS), json.dumps(found | dict(about), indent=2) + "\n")
    views = data.segments * data.crops
    headline = head.told(found)
    title = f"{headline.partition(' (')[0]}, {len(clips)} videos, {views} view(s) of each"
    head.draw(made(directory, "figures/confusion.png"), predicted, clips, title)
    if features:
        write_features(directory, features, clips)
    picture = made(directory, ATTENTION)
    parts = dict.fromkeys(clips.sources, data)
    draw_attention(model, clips, parts, picture, run.settings.precision, head.truth)
    forgotten = "" if data.tombstones is None else f"{len(clips.left_out)} forgotten, "
    logger.info(
        f"{headline}   {len(clips)} videos, {forgotten}{len(bad)} unreadable, {num_short} "
        f"shorter than a clip, {data.segments} x {data.crops} views: {directory / RESULTS}"
    )
    return predicted


def predictions_of(
    model: VideoClassifier,
    head: Head,
    device: torch.device,
    precision: Precision,
    frames: Tensor,
) -> Tensor:
    """Predict views by a model and its head: (V, T, H, W, 3) uint8 -> (V, outputs) float32."""
    with autocast(device, precision):
        outputs: Tensor = model(normalise(frames.to(device, non_blocking=True)))
    return head.predictions(outputs.float())


def prediction_lines(clips: Sequence[Clip], head: Head, predicted: Predictions) -> str:
    """The text of predictions.jsonl: a line for each video, in the order of the list."""
    lines = []
    for clip, values, readable in zip(clips, predicted, is_readable(predicted), strict=True):
        row: dict[str, Any] = {"line": clip.line, "video": clip.path}
        if clip.span is not None:
            row |= {"start_frame": clip.start_frame, "end_frame": clip.end_frame}
        row |= head.row(clip, values if readable else None)
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def hashes_of(weights: str, data: DataConfig, model: ModelConfig) -> dict[str, Any]:
    """Return the hashes in results.json that tell where its numbers come from.

    Args:
        weights: hash of the weights file.
    """
    settings = {"model": asdict(model), "clip": asdict(data.clip), "sampling": data.sampling}
    return {
        "sha256": {
            "weights": weights,
            "test_list": sha256(Path(str(data.test_list))),
            "settings": hashlib.sha256(as_json(settings).encode()).hexdigest(),
        }
    }


def clear_results(directory: Path) -> None:
    """Remove what an evaluation has made, and leave the training run that may lie there."""
    for name in (RESULTS, PREDICTIONS, TEST_FEATURES, "figures/confusion.png", ATTENTION):
        (directory / name).unlink(missing_ok=True)
    bad = mended_rows(directory / BAD_FILES, is_bad_file)
    rows = [row for row in bad if row["list"] == TRAIN]
    replace_bad_files(directory, [json.dumps(row) + "\n" for row in rows])
