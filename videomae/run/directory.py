"""The run directory: the names of its files, and a lock. Only the main process writes there.

config.yaml            the resolved config
environment.json       commit, versions, device, hashes of the lists and of the starting weights
choices.json           what was found fastest on the devices, and is taken again by a restart
metrics.jsonl          one JSON object per logged step; one of its own per probe (knn_top1)
tensorboard/           the same, and pictures
bad_files.jsonl        path, line of the list, error, source if there are several; once per file;
                       like spikes and warnings only where there is one
written.json           the names of all that was written, see videomae.run.record
warnings.jsonl         what a learning guard says: step, guard, text, setting; once a guard
spikes.jsonl           losses far above the usual one: step, loss, usual, videos of the step
predictions.jsonl      one JSON object per test video, in the order of the list
features.safetensors    features of at most 1,000 test videos, for a picture of them
*.damaged              a file of the above that could not be read in full when the run went on
checkpoints/ weights.safetensors results.json figures/     see videomae.train.checkpoint,
                       videomae.weights.weights
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videomae.config import UserError

ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHOICES = "choices.json"
BAD_FILES = "bad_files.jsonl"
SPIKES = "spikes.jsonl"
WARNINGS = "warnings.jsonl"
PROFILE = "profile"
RESULTS = "results.json"
PREDICTIONS = "predictions.jsonl"
TEST_FEATURES = "features.safetensors"
"""File of the features of some test videos."""
BEST, BEST_WEIGHTS = "best.json", "best.safetensors"
"""Files of the best evaluation of a fine-tuning on data.val_list, and of its weights."""
WANDB, MLFLOW = "wandb", "mlflow"
CONFIG = "config.yaml"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
RUN_FILE = "run.json"
"""File of a checkpoint that describes it; it is written last, and makes the checkpoint complete."""
WEIGHTS = "weights.safetensors"


class RunExistsError(UserError):
    """An error: the output directory already holds a run."""


@contextmanager
def alone(
    directory: Path, *, is_main: bool = True, key: str = "output_dir", does: str = "training"
) -> Iterator[None]:
    """Make the directory, and lock it against other runs while the block runs.

    Args:
        is_main: whether this is the main process of its run; the others take no lock.
        key: the setting that names the directory, for the error.
        does: what the other process does there, for the error.

    Raises:
        RunExistsError: another run holds the lock.
    """
    if not is_main:
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # in a file system such as /proc, or one mounted on demand
        raise UserError(f"{key}={directory} cannot be made; choose another {key}") from error
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunExistsError(
                f"{key}={directory}: another process is {does} there right now; wait for it, or "
                f"choose another {key}"
            ) from error
        except OSError:
            pass  # NFS locks no directories, some cluster file systems nothing: no guard there
        yield
    finally:
        os.close(handle)  # which also unlocks
