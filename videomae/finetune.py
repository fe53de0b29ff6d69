"""Fine-tune pre-trained weights for action recognition, then evaluate the result.

    python -m videomae.finetune +exp=ucf101 weights=W data.train_list=L data.test_list=L data.root=D
    torchrun --nproc-per-node 8 -m videomae.finetune +exp=ucf101 run=node8 weights=W data...

weights=PATH is a run directory or its weights.safetensors, an official .pth, or a DeepSpeed or
Hugging Face directory: pre-trained, or fine-tuned (the head is replaced where the classes differ).
weights=scratch starts from random weights. What was loaded, missing and unexpected is printed, and
a partial encoder is an error. Other overrides:

    data.train_list=FILE data.test_list=FILE   "path label" on each line, relative to data.root
    data.prepared=DIR data.split=1             all of these, from python -m videomae.prepare
    data.split=all                             every split in turn, and the mean of their results
    data.classes=N data.class_names=FILE       how many classes; line i names class i
    data.segments=5 data.crops=3               views of a test video
    eval_every=1 data.val_list=FILE            evaluate after each epoch, keep the best weights
    test_weights=best                          take those to the test list in the end
    augment=plain                              crops alone, without RandAugment, mixup, CutMix ...
    optim.ema_decay=0.9999                     a running mean of the weights
    head_map=FILE                              JSON list: row of the weights' head for each class
    output_dir= resume= overwrite= max_steps= seed= model= run=   as in python -m videomae.pretrain

The run directory then holds results.json, predictions.jsonl and figures/confusion.png.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from videomae.config import ConfigError, FinetuneConfig, WhichWeights, token_grid
from videomae.data.checks import check_videos, training_clips, warn_of_shared
from videomae.data.dataset import TrainingClips, ValidationClips
from videomae.data.loader import single_examples
from videomae.data.mix import Mixing, block_of
from videomae.evaluation.scoring import evaluate_model, hashes_of, score_model
from videomae.evaluation.splits import config_of_splits, write_mean
from videomae.lists.clips import ClipList, class_names, read_clips
from videomae.lists.labels import compare_labels, count_labels
from videomae.model.classifier import VideoClassifier
from videomae.model.flops import finetuning_flops
from videomae.pictures.figures import save_clips, save_loss_curve
from videomae.run.checks import require
from videomae.run.console import Say, note
from videomae.run.directory import BEST, BEST_WEIGHTS, WEIGHTS
from videomae.run.files import sha256, write_text
from videomae.run.log import RunLog, logged
from videomae.run.parallel import Processes, processes
from videomae.run.record import made
from videomae.run.schema import command
from videomae.run.sidefiles import is_best, mended_object
from videomae.train.loop import Outcome
from videomae.train.objective import Classify
from videomae.train.planning import choices_of, plan_run, settle_batch
from videomae.train.runs import exit_if_stopped, train_run
from videomae.train.sharding import DistributedModel
from videomae.train.start import SCRATCH, check_run, starting_weights
from videomae.train.tuning import Part, tune
from videomae.weights.formats import read_weights
from videomae.weights.load import as_trained, load_all, load_encoder, pick_classes, same_classes
from videomae.weights.weights import Kind, Weights, WeightsInfo, save_weights

SHOWN = 5
"""Training clips that are decoded and named at the start."""


def finetune(config: FinetuneConfig) -> None:
    """Fine-tuning and evaluation as `config` says, on one split or on each."""
    splits = config_of_splits(config)
    with processes(config.run) as process:
        for each in splits:
            outcome = finetune_split(each, process)
            if not outcome.finished:
                break
        else:
            write_mean(config, splits, process)
    exit_if_stopped(outcome)


class Lists(NamedTuple):
    """What is learned from, and what it is tested on."""

    names: list[str]
    """Of the classes."""
    train: ClipList
    val: ClipList
    """Empty unless the run is evaluated on the way."""
    test: ClipList


def finetune_split(config: FinetuneConfig, process: Processes) -> Outcome:
    """One fine-tuning run and its evaluation."""
    lists = read_lists(config)
    say = Say(process.is_main)
    others = {"data.train_list": lists.train, "data.val_list": lists.val}
    shared = warn_of_shared(lists.test, "data.test_list", others, say)
    checkpoint = check_run(config)
    weights, parents = starting_weights(config, checkpoint)
    data = config.data
    if weights is not None:
        model_config = as_trained(config.model, weights.info, data.clip)
        config = replace(config, model=model_config)
    plan = plan_run(config, lists.train, process, say)
    model = starting_model(config, lists.names, weights, say)
    del weights  # as large as the model
    distributed = DistributedModel(
        model.to(process.device), config.run, process, config.optim.ema_decay
    )
    say.line(f"sharding: {distributed}")

    dataset = TrainingClips(lists.train, data, config.augment, None, config.seed)
    objective = Classify(model, config.optim.label_smoothing, mixing(config))
    config, plan = settle_batch(config, plan, objective, dataset, checkpoint, process, say)
    parts = {"encoder": Part(model.blocks, math.prod(token_grid(config.model, data.clip)))}
    views, choices = plan.micro_batch * data.repeats, choices_of(checkpoint, process)
    for line in tune(parts, views, config.run, process, choices):
        say.line(line)
    directory = Path(config.output_dir)
    info = WeightsInfo(
        kind=Kind.classifier,
        name=config.name,
        model=config.model,
        clip=data.clip,
        classes=len(lists.names),
        class_names=lists.names,
        sampling=data.sampling,
        drop_path=config.optim.drop_path,
        head_drop=config.optim.head_drop,
        parents=parents,
    )

    def validate(log: RunLog, step: int, _: Callable[[], bool]) -> None:
        middles = ValidationClips(lists.val, data)
        trained = distributed.whole()
        found = score_model(trained, middles, lists.names, config.run, process, say)
        if found is not None:
            top1, top5 = (100 * found.scores.correct(k).mean() for k in (1, 5))
            log.numbers({"step": step, "val_top1": top1, "val_top5": top5})
            better = offer(directory, step, top1, trained, info)
            say.line(
                f"step {step}: top-1 {top1:.2f} %, top-5 {top5:.2f} % on the middle of "
                f"{len(lists.val)} videos of data.val_list{', the best so far' * better}"
            )
        process.barrier()

    outcome = train_run(
        config,
        objective,
        distributed,
        dataset,
        plan,
        checkpoint,
        info,
        process,
        choices,
        say,
        on_start=lambda: show_data(dataset, lists, directory, say),
        on_epoch=validate if lists.val else None,
        epochs_apart=max(1, config.eval_every),
        flops=finetuning_flops(config.model, data.clip),
    )
    if outcome.finished:
        trained = distributed.whole()
        if process.is_main:
            info = replace(info, step=outcome.step)
            save_weights(made(directory, WEIGHTS), trained.state_dict(), info)
            save_loss_curve(directory)
        process.barrier()
        file = directory / WEIGHTS
        about: dict[str, Any] = {"weights": {"chosen": "last", "step": outcome.step}}
        if config.test_weights is WhichWeights.best:
            file = directory / BEST_WEIGHTS
            load_all(trained, read_weights(file))
            chosen = best_of(directory) if process.is_main else {}
            about = {"weights": {"chosen": "best", **chosen}}
            about["weights"]["chosen_on"] = str(data.val_list)
        about |= {"shared_with": shared}
        about |= hashes_of(sha256(file), data, config.model)
        evaluate_model(
            trained, lists.test, lists.names, data, config.run, directory, process, say, about
        )
    return outcome


def read_lists(config: FinetuneConfig) -> Lists:
    """The lists of a run, and the first videos of each looked for.

    Raises:
        ConfigError: settings are missing or contradict each other, or videos are not there.
        ClipListError: a list cannot be read.
    """
    data = config.data
    require(
        {
            "data.train_list": data.train_list,
            "data.test_list": data.test_list,
            "data.root": data.root,
            "data.classes": data.classes,
            "weights": config.weights,
        }
    )
    if config.head_map is not None and config.weights == SCRATCH:
        raise ConfigError(f"head_map={config.head_map}: weights={SCRATCH} have no head to map")

    def labelled(key: str, path: str | None) -> ClipList:
        require({key: path})
        clips = read_clips(str(path), data, labelled=True, key=key)
        check_videos(clips, data, key)
        return clips

    return Lists(
        class_names(data),
        training_clips(data, labelled=True),
        labelled("data.val_list", data.val_list) if config.eval_every else ClipList.of([]),
        labelled("data.test_list", data.test_list),
    )


def starting_model(
    config: FinetuneConfig, names: Sequence[str], weights: Weights | None, say: Say
) -> VideoClassifier:
    """The classifier of step 0: random where the weights have nothing for it.

    Raises:
        ConfigError: config.head_map makes other classes than the run's.
        WeightsError: the weights do not fit.
    """
    torch.manual_seed(config.seed)
    model = VideoClassifier(
        config.model,
        config.data.clip,
        len(names),
        drop_path=config.optim.drop_path,
        head_drop=config.optim.head_drop,
    )
    if weights is None:
        return model
    if config.head_map is not None:
        weights = pick_classes(weights, config.head_map)
        if not same_classes(weights.info, names):  # else the head would be a new one
            raise ConfigError(
                f"head_map={config.head_map} makes {weights.info.classes} classes of "
                f"{weights.path}, {_first(weights.info.class_names)}; here they are "
                f"{len(names)}, {_first(names)}: give the data.classes and "
                "data.class_names that it makes, or no head_map"
            )
    say.line(f"{weights.path}: {load_encoder(model, weights, names)}")
    return model


def show_data(dataset: TrainingClips, lists: Lists, directory: Path, say: Say) -> None:
    """Say how the labels of the lists are spread, and name some clips and picture them decoded."""
    names = lists.names
    other = {"data.val_list": lists.val} if lists.val else {"data.test_list": lists.test}
    both = {"data.train_list": lists.train} | other
    for line in compare_labels(
        {key: count_labels(clips, len(names)) for key, clips in both.items()}, names
    ):
        say.line(line)
    places = np.unique(np.linspace(0, len(dataset.clips) - 1, SHOWN).astype(int)).tolist()
    captions, shown = [], []
    for place, batch in zip(places, single_examples(dataset, places, note), strict=True):
        clip = dataset.clips[place]
        bad, label = batch.bad, int(batch.label[0])
        found = f"cannot be read: {bad[0].error}" if bad else names[label]
        shown.append(batch.clip[0])
        captions.append(f"line {clip.line}: {clip.path}: {found}")
        say.line(f"  {captions[-1]}")
    path = made(directory, "figures/training_clips.png")
    save_clips(path, torch.stack(shown), captions)
    say.line(f"these {len(places)} clips as the first epoch would crop them: {path}")


def offer(
    directory: Path, step: int, top1: float, model: VideoClassifier, info: WeightsInfo
) -> bool:
    """Keep the weights of an evaluation if it is the best so far; whether it is.

    One that a run remembers from after `step` is of a future that it has left.
    """
    best = best_of(directory)
    if best and best["step"] < step and best["val_top1"] >= top1:
        return False
    save_weights(made(directory, BEST_WEIGHTS), model.state_dict(), replace(info, step=step))
    write_text(made(directory, BEST), json.dumps({"step": step, "val_top1": top1}) + "\n")
    return True


def best_of(directory: Path) -> dict[str, Any]:
    """Step and top-1 of the best evaluation of a run, if there was one.

    Where best.json is damaged, the metrics say it again.
    """
    path = directory / BEST
    there = path.exists()
    best = mended_object(path, is_best)
    if best is not None or not there:
        return best or {}
    steps, values = logged(directory, "val_top1")
    if not values:
        return {}
    top1 = max(values)
    best = {"step": steps[values.index(top1)], "val_top1": top1}
    write_text(path, json.dumps(best) + "\n")
    return best


def mixing(config: FinetuneConfig) -> Mixing | None:
    """Mixup and CutMix as a run has them, if any."""
    augment, data = config.augment, config.data
    if not (augment.mixup or augment.cutmix):
        return None
    block = block_of(augment, config.optim.global_batch)
    return Mixing(augment, block, data.clip.frame, data.repeats, config.seed)


def _first(names: Sequence[str] | None) -> str:
    return f"the first named {names[0]!r}" if names else "not named"


main = command("finetune")(finetune)

if __name__ == "__main__":
    main()
