"""The interface of the log that training writes to; videomae.run.log implements it."""

from collections.abc import Sequence
from typing import Protocol

from videomae.run.bad_files import BadFile


class Log(Protocol):
    """Log of a run. Every process calls it with the same values, and the main process writes."""

    def progress(self, step: int, loss: float | None, waiting: float) -> None:
        """Show a finished step; `waiting` is the share of the time spent waiting for data."""

    def metrics(self, values: dict[str, float | None]) -> None:
        """Write the metrics of the last run.log_every steps."""

    def bad_files(self, files: Sequence[BadFile]) -> None:
        """Write newly found unreadable files; each file is passed once."""

    def unread(self, step: int, num_videos: int) -> None:
        """Say that no video of a step's batch could be read."""

    def spike(self, step: int, loss: float, usual: float, videos: Sequence[str]) -> None:
        """Write a loss spike, the usual loss (nan: not known yet) and the videos of the step."""
