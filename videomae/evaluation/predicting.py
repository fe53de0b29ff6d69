"""Predictions of video files: by which names, in which files, and as a table to print."""

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from videomae.config import CLASS, ConfigError, DataConfig, PredictConfig, Sampling, UserError
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import evaluation_batches, evaluation_loader
from videomae.evaluation.head import Head, Prediction
from videomae.evaluation.head_choice import head_of, target_of
from videomae.evaluation.predictions import Predicted, predict_videos
from videomae.evaluation.scoring import predictions_of
from videomae.lists.formats import Clip
from videomae.lists.names import read_names
from videomae.lists.walk import Selection
from videomae.model.classifier import VideoClassifier
from videomae.pictures.figures import save_contact_sheet
from videomae.run.bad_files import BadFile
from videomae.run.checks import check_place
from videomae.run.console import SafeConsole, progress_bar
from videomae.run.files import regular, write_text
from videomae.run.run import Run
from videomae.weights.load import check_kind, model_of
from videomae.weights.usage import difference, with_stride
from videomae.weights.weights import Kind, Weights, WeightsInfo

logger = logging.getLogger(__name__)


class NoPredictionsError(UserError):
    """An error: none of the videos to classify can be read."""


WIDE = 200
"""Line width, in characters, of output to a file or another program, where names are not
wrapped."""


def check_outputs(config: PredictConfig, num_videos: int) -> None:
    """Check that config.output and config.sheet can be written.

    Raises:
        ConfigError: one cannot.
    """
    file = config.file
    if os.path.isdir(file):
        raise ConfigError(f"output={config.output} is a directory: give output=NAME.json")
    if os.path.lexists(file) and not _is_ours(file):
        raise ConfigError(
            f"output={config.output} is there, and holds no predictions: choose another output"
        )
    check_place("output", file.parent)
    sheet = config.pictures
    if sheet is None:
        return
    one = sheet.suffix == ".png"
    if one and num_videos > 1:
        raise ConfigError(
            f"sheet={sheet} is one picture, for {num_videos} videos: give a folder, sheet=DIR"
        )
    if one and os.path.isdir(sheet):
        raise ConfigError(f"sheet={sheet} is a directory: give a sheet=NAME.png that is none")
    check_place("sheet", sheet.parent if one else sheet)


def _is_ours(path: Path) -> bool:
    """Return whether a file holds predictions of this command, so that it may be replaced."""
    try:
        with regular(path).open("rb") as file:
            return re.match(rb'\s*\{\s*"weights":', file.read(64)) is not None
    except (OSError, ValueError):
        return False


class Classifier(NamedTuple):
    """A saved classifier and the settings that it is used with."""

    model: VideoClassifier
    head: Head
    data: DataConfig
    """Clip, sampling and views; without the root of the videos."""
    told: tuple[str, ...]
    """Lines for the log: what was loaded, and which value came from where."""


def classifier_of(config: PredictConfig, weights: Weights) -> Classifier:
    """Make the classifier that weights are, with their own settings but for those of the config.

    Raises:
        WeightsError: they are no classifier.
        ConfigError: config.target or config.class_names does not fit them.
    """
    check_kind(weights, Kind.classifier)
    info = weights.info
    target = target_of(info, config.target or CLASS, "target")
    head = head_of(info, names_of(config, info), target, "target")
    weights, data, lines = settings_of(config, weights)
    model, report = model_of(weights)
    assert isinstance(model, VideoClassifier)
    if target == CLASS and info.class_names is None and config.class_names is None:
        lines.append("the weights do not name their classes, which go by number: class_names=FILE")
    return Classifier(model, head, data, (f"{weights.path}: {report}", *lines))


def settings_of(config: PredictConfig, weights: Weights) -> tuple[Weights, DataConfig, list[str]]:
    """Return weights and the settings by which videos are read for them, and lines for the log."""
    weights, clip, lines = with_stride(weights, config.stride)
    own = weights.info.sampling
    if config.sampling is not None:
        lines += difference("sampling", config.sampling.name, own.name if own else None)
    elif own is None:
        lines.append(
            "the weights do not say how frames are sampled, so assumed: sampling=dense; "
            "give sampling=segment for those of Something-Something V2"
        )
    data = DataConfig(
        clip=clip,
        sampling=config.sampling or own or Sampling.dense,
        segments=config.segments,
        crops=config.crops,
        decoder=config.decoder,
    )
    return weights, data, lines


def names_of(config: PredictConfig, info: WeightsInfo) -> list[str]:
    """Return the names of the classes: from config.class_names, else the weights, else numbers."""
    classes = info.classes or 0
    if config.class_names is not None:
        count = "the number of classes of the weights"
        return read_names(config.class_names, classes, "class_names", count)
    return info.class_names or [str(label) for label in range(classes)]


def predict_share(
    run: Run,
    config: PredictConfig,
    model: VideoClassifier,
    clips: Sequence[Clip],
    head: Head,
    data: DataConfig,
) -> Predicted:
    """Return the predictions of this process's share of the clips, and write their contact
    sheets."""
    batch_size = max(1, config.run.untrained_batch // (data.segments * data.crops))
    process = run.processes
    rank, world = process.rank, process.world
    loader = evaluation_loader(
        EvaluationClips(clips, data),
        rank=rank,
        world=world,
        batch=batch_size,
        workers=run.num_workers,
        pin=process.pins,
    )
    predict = partial(predictions_of, model, head, process.device, config.run.precision)
    found = Predicted({}, [], 0)
    batches = evaluation_batches(len(clips), rank=rank, world=world, batch=batch_size)
    share = sum(map(len, batches))
    with progress_bar("predicting", total=share) as bar:
        for batch in loader:
            some = predict_videos(predict, [batch], bar.advance)
            found.values.update(some.values)
            found.bad.extend(some.bad)
            for index, values in some.values.items():
                if config.pictures is not None:
                    clip = clips[index]
                    (name, value), *_ = head.shown(values, 1)
                    title = f"{clip.path}: {name}, {value}{head.columns()[1]}"
                    frames = batch.clip[batch.video == index]
                    path = _sheet(config.pictures, clip)
                    try:
                        save_contact_sheet(path, frames, data.segments, data.crops, title)
                    except OSError as error:
                        if error.errno != errno.ENAMETOOLONG:
                            raise
                        logger.info(f"{clip.path}: no file can have the name of its picture")
    return found


def _sheet(sheet: Path, clip: Clip) -> Path:
    """Return the path of the contact sheet of one video."""
    return sheet if sheet.suffix == ".png" else sheet / f"{clip.path}.png"


def write_predictions(
    run: Run,
    config: PredictConfig,
    selection: Selection,
    head: Head,
    weights: str,
    parts: Sequence[Predicted],
) -> None:
    """Write and print the predictions of all processes, on the main process.

    Args:
        weights: name of the weights.
        parts: predictions of each process.

    Raises:
        NoPredictionsError: none of the videos can be read.
    """
    if not run.is_main:
        return
    clips = selection.clips
    found = {index: one for part in parts for index, one in part.values.items()}
    errors = {file.video: file for part in parts for file in part.bad}
    rows = [
        _row(config, clip, head, found.get(index), errors.get(index))
        for index, clip in enumerate(clips)
    ]
    rows += [{"video": name, "error": why} for name, why in selection.unusable.items()]
    views = {"segments": config.segments, "crops": config.crops}
    document = {
        "weights": str(config.weights),
        "name": weights,
        "views": views,
        "num_videos": len(rows),
        "num_unreadable": len(rows) - len(found),
        "videos": rows,
    }
    write_text(config.file, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    width = None if sys.stdout.isatty() else WIDE
    table = _table(rows, head, {clips[index].path: one for index, one in found.items()}, config.top)
    SafeConsole(highlight=False, width=width).print(table)
    if not found:
        raise NoPredictionsError(
            f"none of the {len(rows)} videos can be read; {config.file} says why"
        )
    bad = len(rows) - len(found)
    also = f", {bad} cannot be read and are named there" if bad else ""
    pictures = f"; pictures: {config.pictures}" if config.pictures is not None else ""
    logger.info(f"{len(found)} of {len(rows)} videos: {config.file}{also}{pictures}")


def _row(
    config: PredictConfig,
    clip: Clip,
    head: Head,
    values: Prediction | None,
    bad: BadFile | None,
) -> dict[str, Any]:
    """Return the entry of one video in the JSON output."""
    if values is None:
        assert bad is not None
        return {"video": clip.path, "error": bad.error}
    return {"video": clip.path, **head.answer(values, config.top)}


def _table(
    rows: list[dict[str, Any]], head: Head, found: dict[str, Prediction], most: int
) -> Table:
    """Return the predictions as a table to print, with a line for each class or number.

    Args:
        found: predictions by the path of the video.
    """
    table = Table(box=None)
    for number, column in enumerate(("video", *head.columns())):
        table.add_column(column, overflow="fold", justify="right" if number == 2 else "left")
    for row in rows:
        video = Text(row["video"])
        if "error" in row:
            table.add_row(video, Text(f"cannot be read: {row['error']}", style="red"), "")
        shown = head.shown(found[row["video"]], most) if "error" not in row else []
        for number, (name, value) in enumerate(shown):
            told = Text(name, style="" if number else "bold")
            table.add_row("" if number else video, told, value)
    return table
