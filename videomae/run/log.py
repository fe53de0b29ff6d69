"""The log of a training run: metrics.jsonl, TensorBoard, spikes, warnings, bad files, console."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videomae.run.bad_files import TRAIN, BadFile, add_bad_files, bad_row, replace_bad_files
from videomae.run.console import Bar, console
from videomae.run.directory import BAD_FILES, METRICS, SPIKES, TENSORBOARD, WARNINGS
from videomae.run.files import append_text, write_text
from videomae.run.sidefiles import (
    has_step,
    is_bad_file,
    is_metrics,
    is_warning,
    mended_rows,
    read_rows,
)
from videomae.run.sinks import Sink, TensorBoard

logger = logging.getLogger(__name__)


class GuardMessage(NamedTuple):
    """A message of a learning guard (videomae.train.guards): a row of warnings.jsonl."""

    guard: str
    """Name of the guard."""
    text: str
    """A sentence with the measured values."""
    setting: str
    """Name of the setting to change."""


class RunLog:
    """Metrics, pictures and bad files of one training run; does nothing off the main process.

    Args:
        directory: the run directory.
        bar: the progress bar of the training.
        is_main: whether this is the main process, which writes.
        step: the step that the run resumes from; what was logged after it is removed.
        bad: unreadable files known at that step.
        services: make further sinks: Weights & Biases, MLflow.
    """

    def __init__(
        self,
        directory: Path,
        bar: Bar,
        *,
        is_main: bool,
        step: int,
        bad: Sequence[BadFile] = (),
        services: Sequence[Callable[[], Sink]] = (),
    ) -> None:
        self.directory = directory
        self.bar = bar
        self.is_main = is_main
        self.sinks: list[Sink] = []
        self._warned: set[str] = set()  # the guards that have spoken
        if not is_main:
            return
        for name, check in ((METRICS, is_metrics), (SPIKES, has_step), (WARNINGS, is_warning)):
            kept = [row for row in mended_rows(directory / name, check) if row["step"] <= step]
            if kept or name == METRICS:
                write_text(directory / name, "".join(json.dumps(row) + "\n" for row in kept))
            else:
                (directory / name).unlink(missing_ok=True)
            if name == WARNINGS:
                self._warned = {row["guard"] for row in kept}
        mended_rows(directory / BAD_FILES, is_bad_file)
        replace_bad_files(directory, [bad_row(file, TRAIN) for file in bad])
        self.sinks.append(TensorBoard(directory / TENSORBOARD, step))
        self.sinks += [service() for service in services]

    def close(self) -> None:
        """Write what is buffered, and close TensorBoard and the services."""
        for sink in self.sinks:
            sink.close()

    def progress(self, step: int, loss: float | None, waiting: float) -> None:
        """Update the progress bar after a step.

        Args:
            loss: None if no video of the step could be read.
            waiting: share of the time that was spent on waiting for data, 0 to 1.
        """
        self.bar.reach(step, f"{_loss_in_words(loss)}  waiting for data {waiting:.0%}")

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Log the numbers of a training step, and a message where there is no progress bar."""
        self.numbers(values)
        if self.sinks and not console.is_terminal:
            logger.info(
                f"step {values['step']}/{self.bar.total}  "
                f"{_loss_in_words(values['loss'])}  "
                f"lr {values['lr']:.2e}  {_rate_in_words(values['clips_per_s'])} clips/s  "
                "waiting for data "
                f"{(values['data_s'] or 0) / max(values['step_s'] or 0, 1e-9):.0%}"
                f"{self.bar.left()}"
            )

    def numbers(self, values: Mapping[str, float | None]) -> None:
        """Write numbers to metrics.jsonl and TensorBoard, without a message on the console."""
        if not self.sinks:
            return
        finite = {k: _finite(v) for k, v in values.items()}
        append_text(self.directory / METRICS, json.dumps(finite) + "\n")
        step = int(values["step"] or 0)
        told = {k: v for k, v in finite.items() if k != "step" and v is not None}
        for sink in self.sinks:
            sink.numbers(told, step)

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Write a picture, (H, W, 3) uint8, to TensorBoard and the services."""
        for sink in self.sinks:
            sink.image(name, picture, step)

    def bad_files(self, files: Sequence[BadFile]) -> None:
        """Write newly found unreadable training videos to bad_files.jsonl."""
        if self.is_main:
            add_bad_files(self.directory, files, TRAIN)

    def unread(self, step: int, num_videos: int) -> None:
        """Say that none of the videos of a step's batch could be read."""
        logger.info(
            f"step {step}: no video of this batch could be read ({num_videos} of {num_videos}): "
            "the weights stay as they were"
        )

    def warn(self, step: int, message: GuardMessage | None) -> None:
        """Write the message of a learning guard to warnings.jsonl and the sinks.

        Each guard is heard once a run; None: it has found nothing.
        """
        if message is None or not self.is_main or message.guard in self._warned:
            return
        self._warned.add(message.guard)
        row = {"step": step, **message._asdict()}
        append_text(self.directory / WARNINGS, json.dumps(row) + "\n")
        when = f"step {step}: " if step else ""
        logger.warning(f"WARNING: {when}{message.text}")
        for sink in self.sinks:
            sink.text(f"warnings/{message.guard}", message.text, step)

    def spike(self, step: int, loss: float, usual: float, videos: Sequence[str]) -> None:
        """Write a loss far above the usual one, and the videos of its step, to spikes.jsonl."""
        if not self.is_main:
            return
        row = {"step": step, "loss": _finite(loss), "usual": _finite(usual), "videos": list(videos)}
        append_text(self.directory / SPIKES, json.dumps(row) + "\n")
        logger.info(
            f"step {step}: loss {loss:.4g}, usually {usual:.4g}; {SPIKES} in the output_dir names "
            f"its {len(videos)} videos"
        )


def _loss_in_words(loss: float | None) -> str:
    """Return a loss for people; None: no video of the step could be read."""
    return "no readable video" if loss is None else f"loss {loss:.4f}"


def _rate_in_words(clips_per_s: float | None) -> str:
    """Return a rate for people, such as 484.8 or, of a slow machine, 0.047."""
    rate = clips_per_s or 0.0
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def _finite(value: float | None) -> float | None:
    """Return a number, or None if it is not finite, which JSON cannot hold."""
    return value if value is None or math.isfinite(value) else None


def logged(directory: Path, name: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one number of metrics.jsonl, where it was finite."""
    rows = read_rows(directory / METRICS, is_metrics)
    rows = [row for row in rows if row.get(name) is not None]
    return [row["step"] for row in rows], [row[name] for row in rows]
