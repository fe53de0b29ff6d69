"""Commands in processes of their own, which import everything once between them.

A process that starts anew spends five seconds of a core on its imports. These are copies of one
that has done so; tests of torchrun, of launchers and of start-up start real ones.
"""

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.conftest import composed
from tests.cuda_rules import cuda_rules
from tests.train import step_of, train
from videomae.evaluate import evaluate
from videomae.extract import extract
from videomae.finetune import finetune
from videomae.pretrain import pretrain
from videomae.probe import probe
from videomae.train import trainer
from videomae.train.step import train_step


class Job(NamedTuple):
    """A command for several processes."""

    command: str
    overrides: list[str]
    said: str = ""
    """The file that a process writes its stderr to, its rank added."""
    stop_in: int = 0
    """The step in which process 1 gets a SIGTERM."""
    hang_in: int = 0
    """The step in which process 1 does nothing more."""
    kill_in: int = 0
    """The step in which process 1 is killed."""
    directory: str = "."
    """Where relative paths begin."""
    rules: bool = False
    """Whether the CPU keeps CUDA's rules. Then pictures are drawn, too."""

    def run(self, environment: dict[str, str]) -> None:
        """In one of the processes, as torchrun would start it."""
        os.environ.update(environment)
        os.chdir(self.directory)
        torch.set_num_threads(1)
        if self.said:
            os.dup2(os.open(self.said + environment["RANK"], os.O_CREAT | os.O_WRONLY), 2)
        if environment["RANK"] == "1":
            trainer.train_step = self.stopping_step
        config = composed(self.command, *self.overrides)
        commands: dict[str, Callable[[Any], object]] = {"evaluate": evaluate, "probe": probe}
        commands["extract"] = extract
        drawing = {"pretrain": pretrain, "finetune": finetune} if self.rules else {}
        with cuda_rules() if self.rules else nullcontext():
            (commands | drawing).get(self.command, train)(config)

    def stopping_step(self, *args: Any) -> Any:
        if step_of(args) == self.stop_in:
            signal.raise_signal(signal.SIGTERM)
        if step_of(args) == self.hang_in:
            threading.Event().wait()
        if step_of(args) == self.kill_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(*args)


def in_processes(count: int, job: Job) -> list[int | None]:
    """Run a job in so many processes; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared = world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    processes = [started(job.run, shared | rank) for rank in ranks]
    for process in processes:
        process.join(timeout=120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def started(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process in which a function of this module, or a method of a Job, runs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def call_in(directory: Path, said: Path, command: str, overrides: list[str]) -> None:
    """Run a command as `python -m videomae.COMMAND` does in `directory`; stderr goes to `said`."""
    os.chdir(directory)
    os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
    torch.set_num_threads(1)
    module = importlib.import_module(f"videomae.{command}")
    sys.argv = [str(module.__file__), *overrides]
    module.main()
