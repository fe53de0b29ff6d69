"""Evaluate a fine-tuned model on a labelled list: every test video over segments x crops.

    python -m videomae.evaluate +exp=ucf101 weights=RUN data.test_list=LIST data.root=VIDEOS

Takes every fine-tuning exp unchanged, and its overrides. Each video is decoded once; the mean
probability of its views decides. A video that cannot be read counts as wrong and is listed in
bad_files.jsonl. Writes results.json, predictions.jsonl (the most probable classes of each video)
and figures/confusion.png to output_dir (outputs/NAME/evaluation).

    data.prepared=DIR data.split=1  list, root and classes from python -m videomae.prepare
    data.split=all weights=DIR      every split with the weights of DIR/split1 ..., and their mean
    data.segments=5 data.crops=3    views of a video: temporal x spatial positions
    data.class_names=FILE           line i names class i; must agree with the weights
    overwrite=true                  replace the results that output_dir holds
"""

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
)
from videomae.data.checks import check_videos
from videomae.evaluation.heads import head_of, output_names, target_of
from videomae.evaluation.scoring import LabelledVideos, clear_results, evaluate_model, hashes_of
from videomae.evaluation.splits import config_of_splits, write_mean
from videomae.lists.clips import ClipList, read_clips
from videomae.model.classifier import VideoClassifier
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.directory import BAD_FILES, METRICS
from videomae.run.environment import describe_run
from videomae.run.extensions import is_extension
from videomae.run.files import sha256
from videomae.run.overwrite import begin_record, check_unused
from videomae.run.record import made
from videomae.run.run import Run, open_run
from videomae.video.opening import check_decoder
from videomae.weights.formats import read_weights
from videomae.weights.load import as_trained, load_all, pick_classes, same_classes
from videomae.weights.weights import WeightsInfo


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate the classifier at config.weights, or that of each split."""
    splits = config_of_splits(config)
    with open_run(config.run, config.output_dir) as run:
        for split in splits:
            evaluate_split(replace(run, directory=Path(split.output_dir)), split)
        write_mean(run, config, splits)


def evaluate_split(run: Run, config: EvaluateConfig) -> None:
    """Evaluate one classifier on its test list."""
    data = config.data
    classes = ("data.classes",) if data.target in (CLASS, MULTILABEL) else ()
    require(config, "data.test_list", "data.root", *classes, "weights")
    check_decoder(data.decoder)
    directory, say = run.directory, run.say
    check_place("output_dir", directory)
    check_unused(directory, overwrite=config.overwrite)
    weights = read_weights(str(config.weights), like=config.model)
    if config.head_map is not None:
        weights = pick_classes(weights, config.head_map)
    info = weights.info
    data = replace(data, target=target_of(info, data.target, "data.target"))
    clips = read_clips(str(data.test_list), data, labelled=True, key="data.test_list")
    check_videos(clips, data, "data.test_list")
    names = _names(info, data, clips, weights.path)
    head = head_of(info, names, data.target, "data.target")
    model_config = as_trained(config.model, weights.info, data.clip)
    config = replace(config, model=model_config)
    model = VideoClassifier(config.model, data.clip, len(head.names))
    say.line(f"{weights.path}: {load_all(model, weights)}")
    trained = weights.info.sampling
    if trained not in (None, data.sampling):
        say.line(f"trained with data.sampling={trained.name}, tested with {data.sampling.name}")
    weights_hash = weights.sha256()
    run.processes.barrier()  # every process has looked before anything changes
    if run.is_main:
        begin_record(directory)
        made(directory, BAD_FILES)
        clear_results(directory)
        list_hash = sha256(Path(str(data.test_list)))
        hashes = {"data.test_list": list_hash, "weights": weights_hash}
        if not os.path.exists(directory / METRICS):  # else the config is a training run's
            describe_run(run, config, hashes)
    del weights  # as large as the model
    model.to(run.device)
    about = hashes_of(weights_hash, data, config.model)
    evaluate_model(run, model, LabelledVideos(clips, head, data), about)


def _names(info: WeightsInfo, data: DataConfig, clips: ClipList, path: Path) -> list[str]:
    """The names of a model's outputs, which must mean the same to the weights and to the list.

    Raises:
        ConfigError: they do not.
    """
    known = info.class_names or []
    if is_extension(data.target):
        return output_names(data, clips) or known
    names = output_names(data, clips)
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
    """Refuse labels that mean something else to the weights than to the list."""
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


main = command("evaluate")(evaluate)

if __name__ == "__main__":
    main()
