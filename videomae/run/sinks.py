"""TensorBoard and Weights & Biases, to which a run sends its numbers and pictures."""

import importlib
import logging
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from videomae.config import ConfigError
from videomae.run.files import naming, write_text
from videomae.run.sidefiles import set_aside
from videomae.run.text import redacted

logger = logging.getLogger(__name__)

ANSWERS_S, ENDS_S = 90.0, 300.0
"""Seconds that Weights & Biases may take to start and to end before training continues without
it."""
MOST_WAITING = 10_000
"""Largest number of rows and pictures in the queue to Weights & Biases; further ones are
dropped."""


class Sink(Protocol):
    """A destination of the numbers and pictures of a run."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Record the numbers of a step, by name."""

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        """Record a picture, (H, W, 3) uint8, under a name."""

    def text(self, name: str, text: str, step: int) -> None:
        """Record a sentence under a name."""

    def close(self) -> None:
        """Write what is buffered, and end."""


class TensorBoard:
    """TensorBoard event files in `directory`; events after `step` of an earlier run are hidden."""

    def __init__(self, directory: Path, step: int) -> None:
        self.directory = directory
        with naming(directory):
            self.writer = SummaryWriter(str(directory), purge_step=step + 1)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        with naming(self.directory):
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        with naming(self.directory):
            self.writer.add_image(name, picture, step, dataformats="HWC")

    def text(self, name: str, text: str, step: int) -> None:
        with naming(self.directory):
            self.writer.add_text(name, text, step)

    def close(self) -> None:
        with naming(self.directory):
            self.writer.close()


@contextmanager
def _redacted_command() -> Iterator[None]:
    """Mask the secrets of the command line while wandb.init reads it."""
    arguments = sys.argv
    sys.argv = [redacted(argument) for argument in arguments]
    try:
        yield
    finally:
        sys.argv = arguments


class WeightsAndBiases:
    """A run of Weights & Biases (https://wandb.ai); a training that resumes continues it.

    A separate thread sends the data, so that a service that does not answer cannot stop training.

    Args:
        directory: folder of its files.
        project: name of the project.
        name: name of the run in the project.

    Raises:
        ConfigError: the package wandb is not installed, or the service refuses the run.
    """

    def __init__(self, directory: Path, project: str, name: str) -> None:
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise ConfigError(
                f"run.wandb={project} needs a package that is not there: pip install wandb "
                f"({error})"
            ) from error
        place = directory / "id.txt"
        whole = place.is_file() and re.fullmatch(rb"[\w-]{1,64}\s*", place.read_bytes())
        if place.exists() and not whole:
            logger.warning(
                f"{place} is damaged: it is kept as {set_aside(place).name}, the run gets another"
            )
        if not place.exists():
            write_text(place, secrets.token_hex(4))
        self.picture = wandb.Image
        settings = {
            "project": project,
            "name": name,
            "id": place.read_text(),
            "resume": "allow",
            "dir": str(directory.parent.absolute()),  # its process may be at home elsewhere
            "settings": wandb.Settings(silent=True),
        }
        self._tasks: Queue[Callable[[Any], object] | None] = Queue(MOST_WAITING)
        self._started = Event()
        self._problem: BaseException | None = None
        work = partial(self._work, wandb, settings)
        self._thread = Thread(target=work, name="wandb", daemon=True)
        self._thread.start()
        if not self._started.wait(ANSWERS_S):
            logger.warning(
                f"Weights & Biases has not answered for {ANSWERS_S:.0f} s: training goes on"
            )
        if self._problem is not None:
            if type(self._problem).__module__.startswith("wandb"):
                said = str(self._problem).strip().splitlines()[0]
                raise ConfigError(f"run.wandb={project}: {said}") from self._problem
            raise self._problem

    def _work(self, wandb: Any, settings: Mapping[str, Any]) -> None:
        try:
            with _redacted_command():
                run = wandb.init(**settings)
            run.define_metric("*", step_metric="step")  # a run that goes on may repeat steps
        except BaseException as problem:  # it is raised again where the run was asked for
            self._problem = problem
            return
        finally:
            self._started.set()
        try:
            while task := self._tasks.get():
                task(run)
            run.finish()
        except Exception as problem:
            logger.warning(f"Weights & Biases gets no more: {type(problem).__name__}: {problem}")

    def _send(self, task: Callable[[Any], object]) -> None:
        with suppress(Full):  # it has not answered for long
            self._tasks.put_nowait(task)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self._send(lambda run: run.log({**values, "step": step}))

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        self._send(lambda run: run.log({name: self.picture(picture), "step": step}))

    def text(self, name: str, text: str, step: int) -> None:
        """Show a sentence in the summary of the run there."""
        self._send(lambda run: run.summary.update({name: text}))

    def close(self) -> None:
        with suppress(Full):
            self._tasks.put_nowait(None)
        self._thread.join(ENDS_S)
        if self._thread.is_alive():
            logger.warning(
                f"Weights & Biases has not ended within {ENDS_S:.0f} s: wandb sync sends what lies "
                "in wandb/ of the output_dir"
            )
