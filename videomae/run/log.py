"""What a run says of itself on the way: metrics.jsonl, TensorBoard, spikes.jsonl, the console."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videomae.run.bad_files import TRAIN, BadFile, add_bad_files, bad_row
from videomae.run.console import Bar, console
from videomae.run.directory import BAD_FILES, METRICS, SPIKES, TENSORBOARD, WANDB
from videomae.run.files import write_text
from videomae.run.sidefiles import has_step, is_bad_file, is_metrics, mended_rows, read_rows
from videomae.run.sinks import Sink, TensorBoard, WeightsAndBiases

logger = logging.getLogger(__name__)


class RunLog:
    """Metrics, pictures and bad files of one training run; does nothing off the main process.

    Args:
        directory: the run's.
        is_main: whether this is the process that writes.
        step: that the run goes on from; what was logged after it is cut.
        bad: unreadable files known at that step.
    """

    def __init__(
        self,
        directory: Path,
        bar: Bar,
        *,
        is_main: bool,
        step: int,
        bad: Sequence[BadFile] = (),
        wandb: tuple[str, str] | None = None,
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
        if wandb is not None:
            self.sinks.append(WeightsAndBiases(directory / WANDB, *wandb))

    def close(self) -> None:
        """Flush what is buffered."""
        for sink in self.sinks:
            sink.close()

    def progress(self, step: int, loss: float, waiting: float) -> None:
        """After every step. `waiting` is the share of the time spent on waiting for data."""
        self.bar.reach(step, f"loss {loss:.4f}  waiting for data {waiting:.0%}")

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """The numbers of a step, and a line of them where there is no progress bar."""
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
        """One line of metrics.jsonl, and the same numbers to TensorBoard, without a word."""
        if not self.sinks:
            return
        finite = {k: _finite(v) for k, v in values.items()}
        with (self.directory / METRICS).open("a") as file:
            file.write(json.dumps(finite) + "\n")
        step = int(values["step"] or 0)
        told = {k: v for k, v in finite.items() if k != "step" and v is not None}
        for sink in self.sinks:
            sink.numbers(told, step)

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """(H, W, 3) to TensorBoard."""
        for sink in self.sinks:
            sink.image(name, picture, step)

    def bad_files(self, files: Sequence[BadFile]) -> None:
        """Training videos found unreadable, each once."""
        if self.is_main:
            add_bad_files(self.directory, files, TRAIN)

    def spike(self, step: int, loss: float, usual: float, videos: Sequence[str]) -> None:
        """A loss far above the usual one, with the videos of its step, to spikes.jsonl."""
        if not self.is_main:
            return
        row = {"step": step, "loss": _finite(loss), "usual": _finite(usual), "videos": list(videos)}
        with (self.directory / SPIKES).open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info(
            f"step {step}: loss {loss:.4g}, usually {usual:.4g}; {SPIKES} in the output_dir names "
            f"its {len(videos)} videos"
        )


def _finite(value: float | None) -> float | None:
    """JSON has no other numbers."""
    return value if value is None or math.isfinite(value) else None


def logged(directory: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one number of metrics.jsonl, where it was finite."""
    rows = read_rows(directory / METRICS, is_metrics)
    rows = [row for row in rows if row.get(name) is not None]
    return [row["step"] for row in rows], [row[name] for row in rows]
