"""Where training says what it does; videomae.run.log has the real one."""

from collections.abc import Sequence
from typing import Protocol

from videomae.run.bad_files import BadFile


class Log(Protocol):
    """Called by every process alike; the main process writes."""

    def progress(self, step: int, loss: float, waiting: float) -> None:
        """After every step. `waiting` is the share of the time spent on waiting for data."""

    def metrics(self, values: dict[str, float | None]) -> None:
        """Every run.log_every steps."""

    def bad_files(self, files: Sequence[BadFile]) -> None:
        """Files found unreadable, each once."""

    def spike(self, step: int, loss: float, usual: float, videos: Sequence[str]) -> None:
        """A loss far above the usual one (nan: not known yet), and the videos of the step."""
