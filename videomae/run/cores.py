"""How many cores a process may use."""

import os

UNDER_SUBMITIT = "SUBMITIT_EXECUTOR"
"""Set by Hydra's submitit launcher, whose jobs Slurm tells their ranks."""


def available_cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux: what the scheduler granted
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def own_cores(local_world: int) -> int:
    """Cores for each of so many processes of this machine."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK")
    if UNDER_SUBMITIT in os.environ and granted:  # a process may use these, or all of the job's
        return int(granted)
    return available_cores() // local_world
