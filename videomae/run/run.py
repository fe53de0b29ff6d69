"""One run, as everything below a command is given it: its processes, settings and directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from videomae.config import RunConfig
from videomae.run.console import log_to_console
from videomae.run.parallel import Processes, processes


@dataclass(frozen=True)
class Run:
    """The processes of a command, the hardware settings and where it writes."""

    settings: RunConfig
    """The settings of `run`."""
    processes: Processes
    directory: Path
    """What it writes goes there; only the main process writes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.processes.is_main

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.processes.device

    @property
    def num_workers(self) -> int:
        """Decoding processes that this process has."""
        return self.processes.num_workers(self.settings.workers)


@contextmanager
def open_run(settings: RunConfig, directory: str | Path) -> Iterator[Run]:
    """Join the other processes of a run, and show the log; they are left when the block ends.

    Raises:
        ConfigError: the device cannot do what `settings` ask of it.
    """
    with processes(settings) as found, log_to_console(is_main=found.is_main):
        yield Run(settings, found, Path(directory))
