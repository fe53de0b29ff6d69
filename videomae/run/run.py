"""The run that a command passes on: its processes, hardware settings and output directory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from videomae.config import RunConfig, TrainConfig
from videomae.run.console import log_to_console
from videomae.run.given import SMALL, Given
from videomae.run.parallel import Processes, processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """The processes of a command, its hardware settings and its output directory."""

    settings: RunConfig
    """Hardware settings: the section run of the config."""
    processes: Processes
    directory: Path
    """Output directory, in which only the main process writes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.processes.is_main

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.processes.device

    @property
    def num_workers(self) -> int:
        """Number of decoding processes of this process."""
        return self.processes.num_workers(self.settings.workers)


@contextmanager
def open_run(settings: RunConfig, directory: str | Path) -> Iterator[Run]:
    """Join the other processes of a run and show the log until the block ends.

    Raises:
        ConfigError: the device does not support what the settings ask of it.
    """
    with processes(settings) as found, log_to_console(is_main=found.is_main):
        yield Run(settings, found, Path(directory))


def tell_directory(config: TrainConfig, told: Given) -> None:
    """Log where a training writes: its first line, before lists are read and models are built.

    It says too if the model is another than that of the exp that names the directory. The directory
    stays that of the exp, so that earlier runs are found by resume=auto.

    Args:
        told: what the command line gave.
    """
    decided = told.has("name") or told.has("output_dir")
    other = ""
    if "model" in told.keys and told.exp not in (None, SMALL) and not decided:
        other = (
            f" is that of exp={told.exp}, whose model may be another than {config.model.name}: "
            f"name={told.exp}_{config.model.name} gives this run its own"
        )
    logger.info(f"{config.name}: output_dir={config.output_dir}{other}")
