"""TensorBoard, Weights & Biases and MLflow, to which a run sends its numbers and pictures."""

import importlib
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from videomae.config import ConfigError, RunConfig
from videomae.run.directory import MLFLOW, WANDB
from videomae.run.files import naming, write_text
from videomae.run.sidefiles import set_aside
from videomae.run.text import redacted

logger = logging.getLogger(__name__)

ANSWERS_S, ENDS_S = 90.0, 300.0
"""Seconds that a service may take to start and to end before training continues without it."""
MOST_WAITING = 10_000
"""Largest number of rows and pictures in the queue to a service; further ones are dropped."""


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
        from torch.utils.tensorboard import SummaryWriter  # after a run's first line

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


class Sender:
    """A thread that sends to a service, so that one that does not answer cannot stop training.

    Args:
        service: name of the service, for messages.
        begin: opens the run there and returns it; called in the thread.
        end: closes the run there.
    """

    def __init__(
        self, service: str, begin: Callable[[], Any], end: Callable[[Any], object]
    ) -> None:
        self.service = service
        self.problem: BaseException | None = None
        """Exception of `begin`; None: there was none yet."""
        self._tasks: Queue[Callable[[Any], object] | None] = Queue(MOST_WAITING)
        self._started = Event()
        self._late = False
        work = partial(self._work, begin, end)
        self._thread = Thread(target=work, name=service, daemon=True)
        self._thread.start()
        if not self._started.wait(ANSWERS_S):
            self._late = True
            logger.warning(f"{service} has not answered for {ANSWERS_S:.0f} s: training goes on")

    def _work(self, begin: Callable[[], Any], end: Callable[[Any], object]) -> None:
        try:
            run = begin()
        except BaseException as problem:  # the thread that made this one looks at it
            self.problem = problem
            if self._late:  # it no longer looks
                self._lost(problem)
            return
        finally:
            self._started.set()
        try:
            while task := self._tasks.get():
                task(run)
            end(run)
        except Exception as problem:
            self._lost(problem)

    def _lost(self, problem: BaseException) -> None:
        logger.warning(f"{self.service} gets no more: {told(problem)}")

    def send(self, task: Callable[[Any], object]) -> None:
        """Put a task, which is called with the run, into the queue."""
        with suppress(Full):  # it has not answered for long
            self._tasks.put_nowait(task)

    def close(self, remedy: str) -> None:
        """Wait until the queue is empty and the run is closed there, ENDS_S at most.

        Args:
            remedy: the end of the warning that the service has not ended.
        """
        with suppress(Full):
            self._tasks.put_nowait(None)
        self._thread.join(ENDS_S)
        if self._thread.is_alive():
            logger.warning(f"{self.service} has not ended within {ENDS_S:.0f} s: {remedy}")


def told(problem: BaseException) -> str:
    """Return the class and the first line of an exception."""
    first = (str(problem).strip().splitlines() or ["no reason given"])[0]
    return f"{type(problem).__name__}: {first}"


class WeightsAndBiases:
    """A run of Weights & Biases (https://wandb.ai); a training that resumes continues it.

    Args:
        directory: folder of its files.
        project: name of the project.
        name: name of the run in the project.

    Raises:
        ConfigError: the package wandb is not installed, or the service refuses the run.
    """

    def __init__(self, directory: Path, project: str, name: str) -> None:
        wandb = _package("wandb", f"run.wandb={project}")
        id_ = _kept_id(directory / "id.txt")
        if id_ is None:
            id_ = secrets.token_hex(4)
            write_text(directory / "id.txt", id_)
        self.picture = wandb.Image
        settings = {
            "project": project,
            "name": name,
            "id": id_,
            "resume": "allow",
            "dir": str(directory.parent.absolute()),  # its process may be at home elsewhere
            "settings": wandb.Settings(silent=True),
        }
        begin = partial(self._begin, wandb, settings)
        self._sender = Sender("Weights & Biases", begin, lambda run: run.finish())
        problem = self._sender.problem
        if problem is not None:
            if type(problem).__module__.startswith("wandb"):
                said = str(problem).strip().splitlines()[0]
                raise ConfigError(f"run.wandb={project}: {said}") from problem
            raise problem

    def _begin(self, wandb: Any, settings: Mapping[str, Any]) -> Any:
        with _redacted_command():
            run = wandb.init(**settings)
        run.define_metric("*", step_metric="step")  # a run that goes on may repeat steps
        return run

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self._sender.send(lambda run: run.log({**values, "step": step}))

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        self._sender.send(lambda run: run.log({name: self.picture(picture), "step": step}))

    def text(self, name: str, text: str, step: int) -> None:
        """Show a sentence in the summary of the run there."""
        self._sender.send(lambda run: run.summary.update({name: text}))

    def close(self) -> None:
        self._sender.close("wandb sync sends what lies in wandb/ of the output_dir")


class MLflow:
    """A run of MLflow (https://mlflow.org); a training that resumes continues it.

    It goes to the store that the environment variable MLFLOW_TRACKING_URI names; without one, to an
    SQLite file in `directory`. A store that cannot be used is a warning, and the training goes on.
    MLflow's own reports of how it is used are switched off, unless the environment switches them
    on.

    Args:
        directory: folder of its files.
        experiment: name of the experiment, which is made where there is none.
        name: name of the run in the experiment.

    Raises:
        ConfigError: a package is not installed.
    """

    def __init__(self, directory: Path, experiment: str, name: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as it is imported
        setting = f"run.mlflow={experiment}"
        self._mlflow = _package("mlflow", setting)
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            _package("alembic", setting)  # which brings SQLAlchemy; both only SQLite needs
        self._directory = directory.absolute()
        begin = partial(self._begin, address, experiment, name)
        self._sender = Sender("MLflow", begin, self._end)
        if self._sender.problem is not None:
            logger.warning(
                f"{setting}: MLflow cannot be used, and training goes on without it: "
                f"{told(self._sender.problem)}"
            )

    def _begin(self, address: str | None, experiment: str, name: str) -> tuple[Any, str]:
        """Return the client, and the id of the run, which is that of an earlier part of it."""
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        artifacts = None
        if not address:
            if odd := set("?#%") & set(str(self._directory)):
                raise ConfigError(
                    f"{self._directory} has a {odd.pop()}, which means something else in the "
                    "address of an SQLite file: set MLFLOW_TRACKING_URI"
                )
            self._directory.mkdir(exist_ok=True)
            address = f"sqlite:///{self._directory / 'mlflow.db'}"
            artifacts = (self._directory / "artifacts").as_uri()
        client = self._mlflow.MlflowClient(tracking_uri=address)
        kept = self._directory / "id.txt"
        run_id = _kept_id(kept)
        if run_id is not None:
            try:
                client.update_run(run_id, status="RUNNING")
                return client, run_id
            except self._mlflow.MlflowException as problem:  # another store, or it was deleted
                logger.warning(f"MLflow knows no run {run_id}, and gets a new one: {told(problem)}")
        found = client.get_experiment_by_name(experiment)
        number = (
            client.create_experiment(experiment, artifacts)
            if found is None
            else found.experiment_id
        )
        run = client.create_run(number, run_name=name)
        write_text(kept, run.info.run_id)
        return client, run.info.run_id

    def _end(self, run: tuple[Any, str]) -> None:
        client, run_id = run
        client.set_terminated(run_id)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        when = int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        rows = [metric(name, value, when, step) for name, value in values.items()]
        self._sender.send(lambda run: run[0].log_batch(run[1], metrics=rows))

    def image(self, name: str, picture: NDArray[np.uint8], step: int) -> None:
        self._sender.send(lambda run: run[0].log_image(run[1], picture, key=name, step=step))

    def text(self, name: str, text: str, step: int) -> None:
        """Keep a sentence as a tag of the run there."""
        self._sender.send(lambda run: run[0].set_tag(run[1], name, text))

    def close(self) -> None:
        self._sender.close("metrics.jsonl of the output_dir holds the numbers")


def services(directory: Path, settings: RunConfig, name: str) -> list[Callable[[], Sink]]:
    """Return what makes the services that a run's settings name; the main process calls it.

    Args:
        directory: the run directory.
        name: name of the run.
    """
    found: list[Callable[[], Sink]] = []
    if settings.wandb:
        found.append(partial(WeightsAndBiases, directory / WANDB, settings.wandb, name))
    if settings.mlflow:
        found.append(partial(MLflow, directory / MLFLOW, settings.mlflow, name))
    return found


def _package(name: str, setting: str) -> Any:
    """Import a package that only one setting needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = setting.partition("=")[0].removeprefix("run.")
        raise ConfigError(
            f'{setting} needs a package that is not there: pip install "videomae[{extra}]" '
            f"({error})"
        ) from error


def _kept_id(path: Path) -> str | None:
    """Return the id of a service's run in a file; None if there is none. A damaged file is
    renamed."""
    if path.is_file() and re.fullmatch(rb"[\w-]{1,64}\s*", path.read_bytes()):
        return path.read_text().strip()
    if path.exists():
        logger.warning(
            f"{path} is damaged: it is kept as {set_aside(path).name}, the run gets another"
        )
    return None
