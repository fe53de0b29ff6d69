"""Fine-tuning as a stage: learn to classify videos, and evaluate the result."""

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
from videomae.data.mix import mixing_of
from videomae.evaluation.scoring import LabelledVideos, evaluate_model, hashes_of, score_model
from videomae.lists.clips import ClipList, read_clips
from videomae.lists.labels import compare_labels, count_labels
from videomae.lists.names import class_names
from videomae.model.classifier import VideoClassifier
from videomae.model.flops import finetuning_flops
from videomae.pictures.figures import save_clips, save_loss_curve
from videomae.run.checks import require
from videomae.run.console import note
from videomae.run.directory import BEST, BEST_WEIGHTS, WEIGHTS
from videomae.run.files import sha256, write_text
from videomae.run.log import RunLog, logged
from videomae.run.record import made
from videomae.run.run import Run
from videomae.run.sidefiles import is_best, mended_object
from videomae.train.objective import Classify, own_objective
from videomae.train.sharding import DistributedModel
from videomae.train.stage import Stage
from videomae.train.start import SCRATCH, check_run, starting_weights
from videomae.train.tuning import Part
from videomae.weights.formats import read_weights
from videomae.weights.load import as_trained, load_all, load_encoder, pick_classes, same_classes
from videomae.weights.weights import Kind, Weights, WeightsInfo, save_weights

SHOWN = 5
"""Training clips that are decoded and named at the start."""


class Lists(NamedTuple):
    """What is learned from, and what it is tested on."""

    names: list[str]
    """Of the classes."""
    train: ClipList
    val: ClipList
    """Empty unless the run is evaluated on the way."""
    test: ClipList


class Finetuning(Stage):
    """Classify whole videos, from pre-trained weights, with an evaluation at the end.

    Raises:
        ConfigError: settings are missing or contradict each other, or videos are not there.
        ClipListError: a list cannot be read.
        WeightsError, CheckpointError: what it starts from cannot be read.
        RunExistsError: the run directory holds another run.
    """

    def __init__(self, run: Run, config: FinetuneConfig) -> None:
        self.run = run
        self.lists = read_lists(config)
        self.clips = self.lists.train
        others = {"data.train_list": self.lists.train, "data.val_list": self.lists.val}
        self.shared = warn_of_shared(self.lists.test, "data.test_list", others, run.say)
        self.checkpoint = check_run(config)
        self._weights, parents = starting_weights(config, self.checkpoint)
        if self._weights is not None:
            model = as_trained(config.model, self._weights.info, config.data.clip)
            config = replace(config, model=model)
        self.config: FinetuneConfig = config
        self.epochs_apart = max(1, config.eval_every) if self.lists.val else 0
        self.flops = finetuning_flops(config.model, config.data.clip)
        self.info = WeightsInfo(
            kind=Kind.classifier,
            name=config.name,
            model=config.model,
            clip=config.data.clip,
            classes=len(self.lists.names),
            class_names=self.lists.names,
            sampling=config.data.sampling,
            drop_path=config.optim.drop_path,
            head_drop=config.optim.head_drop,
            parents=parents,
        )

    def build(self) -> None:
        config, run = self.config, self.run
        self.model = starting_model(run, config, self.lists.names, self._weights)
        self._weights = None  # as large as the model
        self.distributed = DistributedModel(
            self.model.to(run.device), run.settings, run.processes, config.optim.ema_decay
        )
        self.dataset = TrainingClips(self.clips, config.data, config.augment, None, config.seed)
        self.objective = own_objective(self.model, config) or Classify(
            self.model, config.optim.label_smoothing, mixing_of(config)
        )
        tokens = math.prod(token_grid(config.model, config.data.clip))
        self.parts = {"encoder": Part(self.model.blocks, tokens)}

    def at_start(self) -> None:
        """Show the labels of the lists and some clips, in which a mixed-up list would be seen."""
        show_data(self.run, self.dataset, self.lists)

    def at_epoch(self, log: RunLog, step: int, stop: Callable[[], bool]) -> None:
        """Classify the middle of the validation list's videos, and keep the best weights."""
        run, lists = self.run, self.lists
        trained = self.distributed.whole()
        found = score_model(run, trained, ValidationClips(lists.val, self.config.data), lists.names)
        if found is not None:
            top1, top5 = (100 * found.scores.correct(k).mean() for k in (1, 5))
            log.numbers({"step": step, "val_top1": top1, "val_top5": top5})
            better = offer(run.directory, step, top1, trained, self.info)
            run.say.line(
                f"step {step}: top-1 {top1:.2f} %, top-5 {top5:.2f} % on the middle of "
                f"{len(lists.val)} videos of data.val_list{', the best so far' * better}"
            )
        run.processes.barrier()

    def at_end(self, step: int) -> None:
        """Write the weights and the curve of the loss, and evaluate on the test list."""
        config, run, lists = self.config, self.run, self.lists
        trained = self.distributed.whole()
        if run.is_main:
            info = replace(self.info, step=step)
            save_weights(made(run.directory, WEIGHTS), trained.state_dict(), info)
            save_loss_curve(run.directory)
        run.processes.barrier()
        file = run.directory / WEIGHTS
        about: dict[str, Any] = {"weights": {"chosen": "last", "step": step}}
        if config.test_weights is WhichWeights.best:
            file = run.directory / BEST_WEIGHTS
            load_all(trained, read_weights(file))
            chosen = best_of(run.directory) if run.is_main else {}
            about = {"weights": {"chosen": "best", **chosen}}
            about["weights"]["chosen_on"] = str(config.data.val_list)
        about |= {"shared_with": self.shared}
        about |= hashes_of(sha256(file), config.data, config.model)
        evaluate_model(run, trained, LabelledVideos(lists.test, lists.names, config.data), about)


def read_lists(config: FinetuneConfig) -> Lists:
    """The lists of a run, and the first videos of each looked for.

    Raises:
        ConfigError: settings are missing or contradict each other, or videos are not there.
        ClipListError: a list cannot be read.
    """
    data = config.data
    lists = ("data.train_list", "data.test_list")
    require(config, *lists, "data.root", "data.classes", "weights")
    if config.head_map is not None and config.weights == SCRATCH:
        raise ConfigError(f"head_map={config.head_map}: weights={SCRATCH} have no head to map")

    def labelled(key: str, path: str | None) -> ClipList:
        require(config, key)
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
    run: Run, config: FinetuneConfig, names: Sequence[str], weights: Weights | None
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
    run.say.line(f"{weights.path}: {load_encoder(model, weights, names)}")
    return model


def show_data(run: Run, dataset: TrainingClips, lists: Lists) -> None:
    """Say how the labels of the lists are spread, and name some clips and picture them decoded."""
    names, say = lists.names, run.say
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
    path = made(run.directory, "figures/training_clips.png")
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


def _first(names: Sequence[str] | None) -> str:
    return f"the first named {names[0]!r}" if names else "not named"
