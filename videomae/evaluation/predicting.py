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
from typing import Any

from rich.table import Table
from rich.text import Text

from videomae.config import ConfigError, DataConfig, PredictConfig
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import evaluation_batches, evaluation_loader
from videomae.evaluation.head import Head, Prediction
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
from videomae.weights.weights import WeightsInfo

logger = logging.getLogger(__name__)

WIDE = 200
"""Line width, in characters, of output to a file or another program, where names are not
wrapped."""


def check_outputs(config: PredictConfig, num_videos: int) -> None:
    """Check that config.output and config.sheet can be written.

    Raises:
        ConfigError: one cannot.
    """
    if os.path.isdir(config.output):
        raise ConfigError(f"output={config.output} is a directory: give output=NAME.json")
    if os.path.lexists(config.output) and not _is_ours(Path(config.output)):
        raise ConfigError(
            f"output={config.output} is there, and holds no predictions: choose another output"
        )
    check_place("output", Path(config.output).parent)
    if config.sheet is None:
        return
    sheet = Path(config.sheet)
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
                if config.sheet is not None:
                    clip = clips[index]
                    (name, value), *_ = head.shown(values, 1)
                    title = f"{clip.path}: {name}, {value}{head.columns()[1]}"
                    frames = batch.clip[batch.video == index]
                    path = _sheet(config.sheet, clip)
                    try:
                        save_contact_sheet(path, frames, data.segments, data.crops, title)
                    except OSError as error:
                        if error.errno != errno.ENAMETOOLONG:
                            raise
                        logger.info(f"{clip.path}: no file can have the name of its picture")
    return found


def _sheet(sheet: str, clip: Clip) -> Path:
    """Return the path of the contact sheet of one video."""
    return Path(sheet) if sheet.endswith(".png") else Path(sheet) / f"{clip.path}.png"


def write_predictions(
    run: Run,
    config: PredictConfig,
    selection: Selection,
    head: Head,
    weights: str,
    parts: Sequence[Predicted],
) -> bool:
    """Write and print the predictions of all processes, on the main process.

    Args:
        weights: name of the weights.
        parts: predictions of each process.

    Returns:
        Whether all videos could be read; True on other processes.
    """
    if not run.is_main:
        return True
    clips = selection.clips
    found = {index: one for part in parts for index, one in part.values.items()}
    errors = {file.video: file for part in parts for file in part.bad}
    rows = [
        _row(config, clip, head, found.get(index), errors.get(index))
        for index, clip in enumerate(clips)
    ]
    rows += [{"video": name, "error": why} for name, why in selection.unusable.items()]
    views = {"segments": config.segments, "crops": config.crops}
    document = {"weights": str(config.weights), "name": weights, "views": views, "videos": rows}
    write_text(Path(config.output), json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    width = None if sys.stdout.isatty() else WIDE
    table = _table(rows, head, {clips[index].path: one for index, one in found.items()}, config.top)
    SafeConsole(highlight=False, width=width).print(table)
    logger.info(f"{len(found)} of {len(rows)} videos: {config.output}")
    return not errors and not selection.unusable


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
