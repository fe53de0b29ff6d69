"""The start of a run: its checkpoint or starting weights, checked before anything is written."""

import logging
import os
from pathlib import Path

from videomae.config import SCRATCH, ConfigError, DataConfig, TrainConfig
from videomae.data.augment import augmentation_of
from videomae.run.checks import check_place, check_precision
from videomae.run.extensions import extension
from videomae.run.overwrite import check_replaceable, check_unused, would_remove
from videomae.train.resuming import find_checkpoint, parents_of
from videomae.video.opening import check_decoder
from videomae.weights.formats import read_weights
from videomae.weights.weights import Link, Weights

logger = logging.getLogger(__name__)


def check_run(config: TrainConfig) -> Path | None:
    """Check a run's settings, and return the checkpoint it resumes from, if any; write nothing.

    Raises:
        RunExistsError: the output directory holds another run.
        ConfigError: the output directory cannot be written to, replacing it would delete the
            starting weights, the run would train in fp16, or code that a setting names cannot be
            imported.
        CheckpointError: config.resume names no complete checkpoint.
    """
    check_precision(config.run)
    check_decoder(config.data.decoder)
    augmentation_of(config.augment)
    if config.optim.objective is not None:
        extension("optim.objective", config.optim.objective)
    directory = Path(config.output_dir)
    check_place("output_dir", directory)
    checkpoint = find_checkpoint(directory / "checkpoints", config.resume)
    if not is_own(checkpoint, directory):
        restart = config.resume == "auto"
        check_unused(directory, overwrite=config.overwrite, restart=restart)
        check_replaceable(directory)
        weights = Path(config.weights or SCRATCH)
        own = os.path.realpath(weights) == os.path.realpath(directory)
        if own or would_remove(directory, weights):
            raise ConfigError(
                f"weights={config.weights} lies in output_dir={directory}, which a new run "
                "replaces: choose another output_dir"
            )
    return checkpoint


def tell_classes(asked: DataConfig, used: DataConfig) -> None:
    """Log that data.prepared has another number of classes than the exp, and decides it."""
    if asked.classes not in (None, used.classes):
        logger.info(
            f"data.classes={used.classes}, as data.prepared={used.prepared} has them, in place of "
            f"{asked.classes}"
        )


def starting_weights(
    config: TrainConfig, checkpoint: Path | None
) -> tuple[Weights | None, tuple[Link, ...]]:
    """Read the weights that config.weights names, and the parents of a run that starts from them.

    A resumed run has its weights in the checkpoint, so that the named file may be missing.

    Raises:
        WeightsError: the weights cannot be read.
        CheckpointError: `checkpoint` cannot be read.
    """
    if config.weights in (None, SCRATCH):
        return None, ()
    gone = not os.path.exists(str(config.weights))
    if gone and checkpoint and (parents := parents_of(checkpoint)):
        return None, parents
    weights = read_weights(str(config.weights), like=config.model)
    return weights, weights.chain()


def is_own(checkpoint: Path | None, directory: Path) -> bool:
    """Tell whether the run in `directory` is resumed, rather than a new run started there."""
    own = os.path.realpath(directory / "checkpoints")
    return checkpoint is not None and os.path.dirname(os.path.realpath(checkpoint)) == own
