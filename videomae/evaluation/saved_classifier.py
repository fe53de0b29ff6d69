"""Reading and checking of a saved classifier and of the list that it is evaluated on.

python -m videomae.evaluate uses it; videomae.evaluation.scoring computes the results.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from videomae.config import (
    CLASS,
    MULTILABEL,
    REGRESSION,
    ConfigError,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
)
from videomae.data.checks import labelled_clips
from videomae.evaluation.heads import head_of, output_names, target_of
from videomae.evaluation.scoring import LabelledVideos, clear_results
from videomae.lists.clips import ClipList
from videomae.model.classifier import VideoClassifier
from videomae.run.checks import check_place, require
from videomae.run.directory import BAD_FILES, METRICS
from videomae.run.environment import describe_run
from videomae.run.extensions import is_extension
from videomae.run.files import sha256
from videomae.run.overwrite import begin_record, check_unused
from videomae.run.record import made
from videomae.run.run import Run
from videomae.video.opening import check_decoder
from videomae.weights.formats import read_weights
from videomae.weights.load import as_trained, load_all, pick_classes, same_classes
from videomae.weights.weights import Weights, WeightsInfo

logger = logging.getLogger(__name__)


def check_evaluation(config: EvaluateConfig) -> None:
    """Check that an evaluation has all its settings, and that it replaces only what it may.

    Raises:
        ConfigError: a setting is missing, or cannot work.
        RunExistsError: the output directory holds results already.
    """
    needed = ("data.classes",) if config.data.target in (CLASS, MULTILABEL) else ()
    require(config, "data.test_list", "data.root", *needed, "weights")
    check_decoder(config.data.decoder)
    directory = Path(config.output_dir)
    check_place("output_dir", directory)
    check_unused(directory, overwrite=config.overwrite)


def read_saved(config: EvaluateConfig) -> Weights:
    """Read the weights at config.weights, with the classes that config.head_map picks.

    Raises:
        WeightsError: they cannot be read.
    """
    weights = read_weights(str(config.weights), like=config.model)
    return weights if config.head_map is None else pick_classes(weights, config.head_map)


def read_test_list(config: EvaluateConfig, weights: Weights) -> LabelledVideos:
    """Read the test list, and make the head of the weights that are tested on it.

    Raises:
        ConfigError: they do not fit each other, or the videos are not there.
        ClipListError: the list cannot be read.
    """
    info = weights.info
    data = replace(config.data, target=target_of(info, config.data.target, "data.target"))
    clips = labelled_clips(data, "test_list")
    names = _names(info, data, clips, weights.path)
    return LabelledVideos(clips, head_of(info, names, data.target, "data.target"), data)


def load_classifier(
    config: EvaluateConfig, weights: Weights, test: LabelledVideos
) -> VideoClassifier:
    """Return the classifier that the weights are; print what was loaded.

    Raises:
        WeightsError: they do not fit config.model.
    """
    data = config.data
    model_config = as_trained(config.model, weights.info, data.clip)
    model = VideoClassifier(model_config, data.clip, len(test.head.names))
    logger.info(f"{weights.path}: {load_all(model, weights)}")
    trained = weights.info.sampling
    if trained not in (None, data.sampling):
        logger.info(f"trained with data.sampling={trained.name}, tested with {data.sampling.name}")
    return model


def begin_results(run: Run, config: EvaluateConfig, model: ModelConfig, weights_hash: str) -> None:
    """Prepare the directory of an evaluation: remove earlier results, write its record and config.

    In the directory of a training run, the config of the run stays. Only the main process calls it.

    Args:
        model: settings of the classifier that was loaded.
    """
    directory = run.directory
    begin_record(directory)
    made(directory, BAD_FILES)
    clear_results(directory)
    hashes = {"data.test_list": sha256(Path(str(config.data.test_list))), "weights": weights_hash}
    if not os.path.exists(directory / METRICS):
        describe_run(run, replace(config, model=model), hashes)


def _names(info: WeightsInfo, data: DataConfig, clips: ClipList, path: Path) -> list[str]:
    """The names of a model's outputs, which must mean the same to the weights and to the list.

    Raises:
        ConfigError: they do not.
    """
    known = info.class_names or []
    names = output_names(data, clips)
    if is_extension(data.target):
        return names or known
    if data.target == REGRESSION:
        if len(names) != info.classes:
            raise ConfigError(
                f"{path} predicts {info.classes} numbers of a video, the lines of data.test_list "
                f"have {len(names)}: they belong to different data sets"
            )
        return names if data.class_names else known or names
    _check_classes(info, names, path)
    return names


def _check_classes(info: WeightsInfo, ours: Sequence[str], path: Path) -> None:
    """Check that the classes of the list are those that the weights were trained on.

    Raises:
        ConfigError: their number or their names differ.
    """
    theirs = info.class_names
    if info.classes is None or same_classes(info, ours):  # without a head, loading refuses them
        return
    if theirs is None or len(theirs) != len(ours):
        raise ConfigError(
            f"{path} knows {info.classes} classes, data.classes is {len(ours)}: they belong to "
            "different data sets, unless a head_map says which are which"
        )
    first = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if len(set(pair)) > 1)
    raise ConfigError(
        f"{path} was trained with other class names: class {first} is {theirs[first]!r} there, "
        f"{ours[first]!r} here; give the data.class_names it was trained with"
    )
