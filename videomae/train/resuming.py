"""Find the checkpoint that a run resumes from, and read its run.json; works without torch."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from videomae.config import UserError
from videomae.run.directory import RUN_FILE
from videomae.weights.saved import METADATA, read_run_file
from videomae.weights.weights import Link


class CheckpointError(UserError):
    """Error: a checkpoint is missing or damaged, cannot be written, or belongs to another run."""


def find_checkpoint(directory: Path, resume: str) -> Path | None:
    """Find the checkpoint that a run resumes from; None: it starts anew.

    Args:
        directory: the run's `checkpoints`.
        resume: never, auto, or the path of a checkpoint (or of a run, for its newest).

    Raises:
        CheckpointError: there is no complete checkpoint at the path given.
    """
    if resume == "never":
        return None
    if resume == "auto":
        complete = complete_checkpoints(directory)
        return complete[-1] if complete else None
    path = Path(resume)
    for place in (path / "checkpoints", path):
        if complete := complete_checkpoints(place):
            return complete[-1]
    if not is_complete(path):
        raise CheckpointError(
            f"resume={resume} is no complete checkpoint: give the path of a "
            "checkpoints/step_N directory, or resume=auto, or resume=never"
        )
    return path


def parents_of(path: Path) -> tuple[Link, ...]:
    """Return the parents of a checkpoint's run: the chain of weights that it started from.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    return tuple(Link(**link) for link in read_run(path)["weights"]["parents"])


def complete_checkpoints(directory: Path) -> list[Path]:
    """List the complete checkpoints in a directory, the oldest first."""
    found = [
        path
        for path in (directory.glob("step_*") if os.path.isdir(directory) else ())
        if re.fullmatch(r"step_\d+", path.name) and is_complete(path)
    ]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the step after which a checkpoint was written."""
    return int(path.name.removeprefix("step_"))


def is_complete(path: Path) -> bool:
    """Tell whether a checkpoint is complete: run.json, written last, and .metadata exist."""
    return all(os.path.isfile(path / name) for name in (RUN_FILE, METADATA))


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint, run.json first so that it is incomplete at once; or a link to one."""
    if path.is_symlink():
        path.unlink()
        return
    (path / RUN_FILE).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def read_run(path: Path) -> dict[str, Any]:
    """Read the run.json of a checkpoint.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        return read_run_file(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            unusable(path, f"{RUN_FILE}: {str(error).splitlines()[0]}")
        ) from error


def unusable(path: Path, reason: str) -> str:
    """Return the error message for a checkpoint that cannot be used, with what to do next."""
    others = [str(other) for other in complete_checkpoints(path.parent) if other.name != path.name]
    advice = f"go on from an older one: resume={others[-1]}" if others else "there is no other"
    return f"the checkpoint {path} cannot be used ({reason}); {advice}"
