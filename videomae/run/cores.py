"""The number of CPU cores that a process may use."""

import os

UNDER_SUBMITIT = "SUBMITIT_EXECUTOR"
"""Environment variable that Hydra's submitit launcher sets; Slurm gives its jobs their ranks."""


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux: what the scheduler granted
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def own_cores(local_world: int) -> int:
    """Return the number of CPU cores for each of `local_world` processes of this machine."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK")
    if UNDER_SUBMITIT in os.environ and granted:  # a process may use these, or all of the job's
        return int(granted)
    return available_cores() // local_world
