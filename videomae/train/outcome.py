"""The result of training: where it ended, and the command that resumes it."""

import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from videomae.run.cores import UNDER_SUBMITIT
from videomae.run.parallel import Processes
from videomae.run.signals import REQUEUES

REQUEUED_IN_S = 60
"""Seconds to wait for Slurm to end a job that was put back into the queue."""


@dataclass(frozen=True)
class Outcome:
    """The last step of a training, and whether a signal stopped it early."""

    step: int
    """The last finished step; its checkpoint is complete."""
    finished: bool
    """Whether `step` was the last step asked for."""
    signal: int | None = None
    """Number of the signal that stopped training early; None: there was none."""


def resume_command(processes: Processes) -> str:
    """Return the command with which the user resumes this run."""
    if UNDER_SUBMITIT in os.environ:
        return "the same sweep, with resume=auto, unless the job goes back into the queue by itself"
    if processes.world > processes.local_world:
        return "the same torchrun command on every machine, with resume=auto"
    arguments = [a for a in sys.argv[1:] if not a.startswith(("resume=", "overwrite="))]
    if processes.world > 1:
        launcher = f"torchrun --standalone --nproc-per-node {processes.local_world} -m"
    else:
        launcher = "python -m"
    module = f"videomae.{Path(sys.argv[0]).stem}"
    return shlex.join([*launcher.split(), module, *arguments, "resume=auto"])


def exit_if_stopped(outcome: Outcome) -> None:
    """End the process as its signal would have, so that launchers see the cause."""
    if outcome.signal is None or outcome.finished:
        return
    if outcome.signal == REQUEUES:
        signal.raise_signal(REQUEUES)  # of several processes, the first one ends all of the job
        time.sleep(REQUEUED_IN_S)
    sys.exit(128 + outcome.signal)
