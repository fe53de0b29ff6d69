"""Reading and checking of a saved classifier and of the list that it is evaluated on.

python -m videomae.evaluate uses it; videomae.evaluation.scoring computes the results.
"""

import logging
import os
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
from videomae.data.forgetting import warn_of_unmatched
from videomae.evaluation.head_choice import head_of, output_names, target_of
from videomae.evaluation.run_of_weights import lists_of_run
from videomae.evaluation.scoring import LabelledVideos, clear_results
from videomae.lists.clips import ClipList
from videomae.lists.prepared import data_name
from videomae.model.classifier import VideoClassifier
from videomae.run.checks import check_place, require
from videomae.run.directory import BAD_FILES, METRICS
from videomae.run.environment import describe_run
from videomae.run.extensions import is_extension
from videomae.run.files import sha256
from videomae.run.given import Given
from videomae.run.overwrite import begin_record, check_unused
from videomae.run.record import made
from videomae.run.run import Run
from videomae.video.opening import check_decoder
from videomae.weights.formats import read_weights
from videomae.weights.load import as_trained, check_kind, load_all, pick_classes
from videomae.weights.usage import Usage, model_of_usage, usage_of
from videomae.weights.weights import Kind

logger = logging.getLogger(__name__)

NO_RESUME = "replace its results by overwrite=true, or choose another name or output_dir"
"""Advice where output_dir holds results already: an evaluation begins again from its start."""


def check_evaluation(config: EvaluateConfig) -> None:
    """Check that an evaluation has all its settings, and that it replaces only what it may.

    Raises:
        ConfigError: a setting is missing, or cannot work.
        RunExistsError: the output directory holds results already.
    """
    require(config, *config.required(), prepared=lists_of_run(config))
    check_decoder(config.data.decoder)
    directory = Path(config.output_dir)
    check_place("output_dir", directory)
    check_unused(directory, overwrite=config.overwrite, remedy=NO_RESUME)


def read_saved(config: EvaluateConfig, told: Given) -> Usage:
    """Read the weights at config.weights, with the classes that config.head_map picks.

    Args:
        told: what the command line gave.

    Returns:
        the weights, and config.data with their clip, their sampling and their number of classes.

    Raises:
        WeightsError: they cannot be read.
        ConfigError: data.classes on the command line is another number.
    """
    heads = config.model.heads if told.itself("model.heads") else None
    weights = read_weights(str(config.weights), num_heads=heads, like=config.model)
    check_kind(weights, Kind.classifier)
    if config.head_map is not None:
        weights = pick_classes(weights, config.head_map)
    usage = usage_of(weights, config.data, told)
    data, info = usage.data, weights.info
    data = replace(data, target=target_of(info, data.target, "data.target"))
    if data.target in (CLASS, MULTILABEL):
        if told.itself("data.classes") and data.classes != info.classes:
            raise ConfigError(
                f"{weights.path} knows {info.classes} classes, data.classes is {data.classes}: "
                "they belong to different data sets, unless a head_map says which are which"
            )
        if data.classes not in (None, info.classes):
            logger.info(
                f"data.classes={data.classes} is not asked: {weights.path} knows {info.classes}"
            )
        data = replace(data, classes=info.classes)
    return replace(usage, data=data)


def read_test_list(usage: Usage, told: Given) -> LabelledVideos:
    """Read the test list, and make the head of the weights that are tested on it.

    Args:
        usage: the weights, and settings that fit them, as `read_saved` returns them.
        told: what the command line gave.

    Raises:
        ConfigError: they do not fit each other, or the videos are not there.
        ClipListError: the list cannot be read.
    """
    info, data = usage.weights.info, usage.data
    clips = labelled_clips(data, "test_list")
    warn_of_unmatched({"data.test_list": clips})
    names = _names(usage, clips, told)
    return LabelledVideos(clips, head_of(info, names, data.target, "data.target"), data)


def load_classifier(
    config: EvaluateConfig, usage: Usage, test: LabelledVideos, told: Given
) -> VideoClassifier:
    """Return the classifier that the weights are; log what was loaded and with which settings.

    Raises:
        WeightsError: they do not fit the model that the command line names.
    """
    weights, clip = usage.weights, test.data.clip
    info, wanted, differing = model_of_usage(weights.info, config.model, told)
    weights = replace(weights, info=info)
    model_config = as_trained(wanted, info, clip)
    model = VideoClassifier(model_config, clip, len(test.head.names))
    logger.info(f"{weights.path}: {load_all(model, weights)}")
    for line in (*usage.told, *differing):
        logger.info(line)
    return model


def begin_results(
    run: Run, config: EvaluateConfig, data: DataConfig, model: ModelConfig, weights_hash: str
) -> None:
    """Prepare the directory of an evaluation: remove earlier results, write its record and config.

    In the directory of a training run, the config of the run stays. Only the main process calls it.

    Args:
        data: the data settings that are used.
        model: settings of the classifier that was loaded.
    """
    directory = run.directory
    begin_record(directory)
    made(directory, BAD_FILES)
    clear_results(directory)
    hashes = {"data.test_list": sha256(Path(str(config.data.test_list))), "weights": weights_hash}
    if not os.path.exists(directory / METRICS):
        describe_run(run, replace(config, data=data, model=model), hashes)


def name_of_data(config: EvaluateConfig, data: DataConfig, told: Given) -> str:
    """Return the name of the data set that is evaluated on.

    The data config of an exp names it only if it has as many classes as the weights.

    Args:
        data: the data settings that are used.
        told: what the command line gave.
    """
    other = told.itself("data.classes") or config.data.classes not in (None, data.classes)
    return data_name(data, None if other else told.data)


def _names(usage: Usage, clips: ClipList, told: Given) -> list[str]:
    """The names of a model's outputs, which must mean the same to the weights and to the list.

    Raises:
        ConfigError: they do not.
    """
    info, data, path = usage.weights.info, usage.data, usage.weights.path
    known = info.class_names or []
    if is_extension(data.target):
        return output_names(data, clips) or known
    if data.target == REGRESSION:
        names = output_names(data, clips)
        if len(names) != info.classes:
            raise ConfigError(
                f"{path} predicts {info.classes} numbers of a video, the lines of data.test_list "
                f"have {len(names)}: they belong to different data sets"
            )
        return names if data.class_names else known or names
    numbers = [str(label) for label in range(info.classes or 0)]
    if known in ([], numbers):  # nobody named them
        return output_names(data, clips)
    named = data.class_names is not None
    if not named or (not told.itself("data.class_names") and not _is_there(data)):
        return known
    return _agreed(known, output_names(data, clips), path, told)


def _is_there(data: DataConfig) -> bool:
    """Return whether the file of names is there, which an exp may name in vain."""
    return os.path.exists(str(data.class_names))


def _agreed(known: list[str], ours: list[str], path: Path, told: Given) -> list[str]:
    """Return the names of the classes, where the weights and data.class_names name them.

    Names on the command line may be others, but not the weights' own for other classes.

    Raises:
        ConfigError: the two do not agree.
    """
    differ = [(place, *pair) for place, pair in enumerate(zip(known, ours, strict=True))]
    differ = [(place, theirs, name) for place, theirs, name in differ if theirs != name]
    moved = any(name in known for _, _, name in differ)
    if not differ:
        return known
    place, theirs, name = differ[0]
    if moved or not told.itself("data.class_names"):
        raise ConfigError(
            f"{path} was trained with other class names: class {place} is {theirs!r} there, "
            f"{name!r} here; give the data.class_names it was trained with"
        )
    logger.info(
        f"data.class_names from the command line; the weights have {len(differ)} other names, "
        f"{theirs!r} for {name!r}"
    )
    return ours
