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

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from videomae.arithmetic import autocast
from videomae.checks import check_place, check_videos, require
from videomae.config import (
    ConfigError,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    Precision,
    RunConfig,
    UserError,
)
from videomae.data.dataset import BadFile, EvaluationClips
from videomae.data.loader import evaluation_batches, evaluation_loader
from videomae.files import sha256, write_text
from videomae.lists.clips import Clip, class_names, read_clips
from videomae.model.classifier import VideoClassifier
from videomae.model.formats import read_weights
from videomae.model.load import as_trained, load_all, pick_classes, same_classes
from videomae.model.weights import WeightsInfo, as_json
from videomae.pixels import normalise
from videomae.record import made
from videomae.report import runlog
from videomae.report.console import Say, note
from videomae.report.figures import save_confusion
from videomae.report.metrics import Scores
from videomae.report.overwrite import begin_record, check_unused
from videomae.report.views import gather_probs, predict_videos
from videomae.run import describe_run
from videomae.schema import command
from videomae.splits import config_of_splits, write_mean
from videomae.train.parallel import Processes, processes
from videomae.video.opening import check_decoder

TOP = 5
"""Classes that predictions.jsonl tells of each video."""


class NothingReadableError(UserError):
    """A test list without a readable video."""


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate the classifier at config.weights, or that of each split."""
    splits = config_of_splits(config)
    with processes(config.run) as process:
        for each in splits:
            evaluate_split(each, process)
        write_mean(config, splits, process)


def evaluate_split(config: EvaluateConfig, process: Processes) -> None:
    """Evaluate one classifier on its test list."""
    data = config.data
    require(
        {
            "data.test_list": data.test_list,
            "data.root": data.root,
            "data.classes": data.classes,
            "weights": config.weights,
        }
    )
    check_decoder(data.decoder)
    directory = Path(config.output_dir)
    say = Say(process.is_main)
    check_place("output_dir", directory)
    check_unused(directory, overwrite=config.overwrite)
    names = class_names(data)
    clips = read_clips(str(data.test_list), data, labelled=True, key="data.test_list")
    check_videos(clips, data, "data.test_list")
    weights = read_weights(str(config.weights), like=config.model)
    if config.head_map is not None:
        weights = pick_classes(weights, config.head_map)
    _check_classes(weights.info, names, weights.path)
    model_config = as_trained(config.model, weights.info, data.clip)
    config = replace(config, model=model_config)
    model = VideoClassifier(config.model, data.clip, len(names))
    say.line(f"{weights.path}: {load_all(model, weights)}")
    trained = weights.info.sampling
    if trained not in (None, data.sampling):
        say.line(f"trained with data.sampling={trained.name}, tested with {data.sampling.name}")
    weights_hash = weights.sha256()
    process.barrier()  # every process has looked before anything changes
    if process.is_main:
        begin_record(directory)
        made(directory, runlog.BAD_FILES)
        runlog.clear_results(directory)
        list_hash = sha256(Path(str(data.test_list)))
        hashes = {"data.test_list": list_hash, "weights": weights_hash}
        if not os.path.exists(directory / runlog.METRICS):  # else the config is a training run's
            describe_run(config, directory, process, hashes)
    del weights  # as large as the model
    model.to(process.device)
    about = hashes_of(weights_hash, data, config.model)
    evaluate_model(model, clips, names, data, config.run, directory, process, say, about)


class Evaluation(NamedTuple):
    """What a model made of a list."""

    scores: Scores
    bad: list[BadFile]
    num_short: int


def score_model(
    model: VideoClassifier,
    dataset: EvaluationClips,
    names: Sequence[str],
    run: RunConfig,
    process: Processes,
    say: Say,
) -> Evaluation | None:
    """Predict every video of a list. All processes call it; the main one gets the result.

    Each process takes every world-th batch; nothing is shared until the end, so unequal shares and
    a list that the processes do not divide are no trouble.

    Raises:
        PredictionError: a prediction is not finite.
    """
    model.eval()
    num_videos, num_views = len(dataset.clips), dataset.shape[0]
    batch = max(1, run.untrained_batch // num_views)
    loader = evaluation_loader(
        dataset,
        rank=process.rank,
        world=process.world,
        batch=batch,
        workers=process.num_workers(run.workers),
        pin=process.pins,
        note=note,
    )
    batches = evaluation_batches(num_videos, rank=process.rank, world=process.world, batch=batch)
    share = sum(map(len, batches))
    predict = partial(logits_of, model, process.device, run.precision)
    with say.bar("evaluating", total=share) as bar:
        parts = process.gather(predict_videos(predict, loader, bar.advance))
    if not process.is_main:
        return None
    predictions = {index: probs for part in parts for index, probs in part.probs.items()}
    scores = Scores(
        labels=dataset.clips.labels(),
        probs=gather_probs(predictions, num_videos, len(names)),
        class_names=names,
    )
    bad = sorted(file for part in parts for file in part.bad)
    return Evaluation(scores, bad, sum(part.num_short for part in parts))


def evaluate_model(
    model: VideoClassifier,
    clips: Sequence[Clip],
    names: Sequence[str],
    data: DataConfig,
    run: RunConfig,
    directory: Path,
    process: Processes,
    say: Say,
    about: Mapping[str, Any],
) -> None:
    """Write what `model` makes of `clips`: results.json, predictions.jsonl, the confusion matrix.

    All processes call it.

    Args:
        about: what else results.json says.

    Raises:
        NothingReadableError: there is nothing to say of the model.
        PredictionError: its predictions are not finite.
    """
    evaluation = score_model(model, EvaluationClips(clips, data), names, run, process, say)
    if evaluation is None:
        return
    scores, bad, num_short = evaluation
    results = scores.results({"segments": data.segments, "crops": data.crops}) | dict(about)
    runlog.add_bad_files(directory, bad, runlog.TEST, say)
    if not scores.readable.any():
        raise NothingReadableError(
            f"none of the {len(clips)} test videos can be read; {runlog.BAD_FILES} in {directory} "
            "says why"
        )
    write_text(made(directory, runlog.PREDICTIONS), prediction_lines(clips, scores))
    write_text(made(directory, runlog.RESULTS), json.dumps(results, indent=2) + "\n")
    views = data.segments * data.crops
    title = f"top-1 {results['top1']:.2f} %, {len(clips)} videos, {views} view(s) of each"
    picture = made(directory, "figures/confusion.png")
    save_confusion(picture, scores.confusion(), names, title)
    low, high = results["top1_interval"]
    say.line(
        f"top-1 {results['top1']:.2f} % ({low:.2f} to {high:.2f})   "
        f"top-5 {results['top5']:.2f} %   mean of classes {results['mean_class_accuracy']:.2f} %   "
        f"{len(clips)} videos, {len(bad)} unreadable, {num_short} shorter than a clip, "
        f"{data.segments} x {data.crops} views: "
        f"{directory / runlog.RESULTS}"
    )


def logits_of(
    model: VideoClassifier, device: torch.device, precision: Precision, frames: Tensor
) -> Tensor:
    """Of views: (V, T, H, W, 3) uint8 -> (V, classes)."""
    with autocast(device, precision):
        logits: Tensor = model(normalise(frames.to(device, non_blocking=True)))
    return logits


def prediction_lines(clips: Sequence[Clip], scores: Scores) -> str:
    """The text of predictions.jsonl: a line for each video, in the order of the list.

    Probabilities are rounded to four places, so that no file differs by the rounding of a thread.
    """
    lines = []
    for index, clip in enumerate(clips):
        readable = bool(scores.readable[index])
        probs = scores.probs[index]
        best = (-probs).argsort(kind="stable")[:TOP] if readable else []
        row = {
            "line": clip.line,
            "video": clip.path,
            "label": clip.label,
            "class": scores.class_names[int(scores.labels[index])],
            "readable": readable,
            "top": [
                {
                    "class": scores.class_names[label],
                    "label": int(label),
                    "prob": round(float(probs[label]), 4),
                }
                for label in best
            ],
        }
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def hashes_of(weights: str, data: DataConfig, model: ModelConfig) -> dict[str, Any]:
    """What results.json says of where its numbers come from.

    Args:
        weights: hash of the weights file.
    """
    settings = {"model": asdict(model), "clip": asdict(data.clip), "sampling": data.sampling}
    return {
        "sha256": {
            "weights": weights,
            "test_list": sha256(Path(str(data.test_list))),
            "settings": hashlib.sha256(as_json(settings).encode()).hexdigest(),
        }
    }


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
