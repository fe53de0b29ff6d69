"""The log of a training run: metrics.jsonl, TensorBoard, spikes.jsonl, bad files, the console."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videomae.run.bad_files import TRAIN, BadFile, add_bad_files, bad_row
from videomae.run.console import Bar, console
from videomae.run.directory import BAD_FILES, METRICS, SPIKES, TENSORBOARD
from videomae.run.files import append_text, write_text
from videomae.run.sidefiles import has_step, is_bad_file, is_metrics, mended_rows, read_rows
from videomae.run.sinks import Sink, TensorBoard

logger = logging.getLogger(__name__)


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
        if not is_main:
            return
        for name, check in ((METRICS, is_metrics), (SPIKES, has_step)):
            kept = [row for row in mended_rows(directory / name, check) if row["step"] <= step]
            if kept or name == METRICS:
                write_text(directory / name, "".join(json.dumps(row) + "\n" for row in kept))
            else:
                (directory / name).unlink(missing_ok=True)
        mended_rows(directory / BAD_FILES, is_bad_file)
        write_text(directory / BAD_FILES, "".join(bad_row(file, TRAIN) for file in bad))
        self.sinks.append(TensorBoard(directory / TENSORBOARD, step))
        self.sinks += [service() for service in services]

    def close(self) -> None:
        """Write what is buffered, and close TensorBoard and the services."""
        for sink in self.sinks:
            sink.close()

    def progress(self, step: int, loss: float, waiting: float) -> None:
        """Update the progress bar after a step.

        Args:
            waiting: share of the time that was spent on waiting for data, 0 to 1.
        """
        self.bar.reach(step, f"loss {loss:.4f}  waiting for data {waiting:.0%}")

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Log the numbers of a training step, and a message where there is no progress bar."""
        self.numbers(values)
        if self.sinks and not console.is_terminal:
            logger.info(
                f"step {values['step']}/{self.bar.total}  "
                f"loss {values['loss']:.4f}  "
                f"lr {values['lr']:.2e}  {values['clips_per_s']:.1f} clips/s  waiting for data "
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


def _finite(value: float | None) -> float | None:
    """Return a number, or None if it is not finite, which JSON cannot hold."""
    return value if value is None or math.isfinite(value) else None


def logged(directory: Path, name: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one number of metrics.jsonl, where it was finite."""
    rows = read_rows(directory / METRICS, is_metrics)
    rows = [row for row in rows if row.get(name) is not None]
    return [row["step"] for row in rows], [row[name] for row in rows]
