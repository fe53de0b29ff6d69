"""Fine-tuning as a stage: learn to classify videos, and evaluate the result."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from videomae.config import (
    REGRESSION,
    SCRATCH,
    ConfigError,
    FinetuneConfig,
    WhichWeights,
    token_grid,
)
from videomae.data.checks import read_list, training_clips, warn_of_shared
from videomae.data.dataset import TrainingClips, ValidationClips
from videomae.data.forgetting import warn_of_unmatched
from videomae.data.loader import single_examples
from videomae.data.mix import mixing_of
from videomae.data.trained_on import numbers_of, seen_in_training
from videomae.evaluation.head import Head
from videomae.evaluation.head_choice import new_head
from videomae.evaluation.heads import ClassHead
from videomae.evaluation.scoring import LabelledVideos, evaluate_model, hashes_of, score_model
from videomae.lists.clips import ClipList
from videomae.lists.own_folder import in_words
from videomae.lists.targets import values_of
from videomae.model.classifier import VideoClassifier
from videomae.model.flops import finetuning_flops
from videomae.pictures.figures import save_clips, save_loss_curve
from videomae.run.directory import BEST_WEIGHTS, WEIGHTS
from videomae.run.files import sha256
from videomae.run.log import RunLog
from videomae.run.record import made
from videomae.run.run import Run
from videomae.train.best import Best, best_of, load_best
from videomae.train.guards import (
    PATIENCE,
    Answers,
    Level,
    NoBetterThanChance,
    OneClass,
    Patience,
    StuckLoss,
    chance_loss,
)
from videomae.train.objective import Classify, objective_of
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel
from videomae.train.stage import TrainingStage
from videomae.train.start import check_run, starting_weights
from videomae.train.tuning import ModelPart
from videomae.weights.load import as_trained, load_encoder, pick_classes, same_classes
from videomae.weights.weights import Kind, Weights, WeightsInfo, save_weights

logger = logging.getLogger(__name__)

SHOWN = 5
"""Training clips that are decoded and named at the start."""


class Lists(NamedTuple):
    """The lists that a fine-tuning learns from and is tested on."""

    train: ClipList
    val: ClipList
    """Empty unless the run is evaluated on the way."""
    test: ClipList


class Finetuning(TrainingStage):
    """Classify whole videos, from pre-trained weights, with an evaluation at the end.

    Args:
        tested_on: name of the data set of the test list, for the results.

    Raises:
        ConfigError: settings contradict each other, or videos are not there.
        ClipListError: a list cannot be read.
        WeightsError, CheckpointError: what it starts from cannot be read.
        RunExistsError: the run directory holds another run.
    """

    one_class: OneClass | None = None
    at_chance: NoBetterThanChance | None = None

    def __init__(self, run: Run, config: FinetuneConfig, tested_on: str) -> None:
        self.run = run
        self.tested_on = tested_on
        self.lists = read_lists(config)
        self.clips = self.lists.train
        others = {"data.train_list": self.lists.train, "data.val_list": self.lists.val}
        warn_of_unmatched(others | {"data.test_list": self.lists.test})
        self.head = new_head(config.data, self.clips)
        self.shared = warn_of_shared(self.lists.test, "data.test_list", others)
        self.checkpoint = check_run(config)
        self._warn_of_seen(config)
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
            classes=len(self.head.names),
            class_names=list(self.head.names),
            target=config.data.target,
            head=self.head.state(),
            sampling=config.data.sampling,
            drop_path=config.optim.drop_path,
            head_drop=config.optim.head_drop,
            parents=parents,
        )

    def _warn_of_seen(self, config: FinetuneConfig) -> None:
        """Count the test videos that the starting weights have seen, for a warning and results."""
        if config.weights in (None, SCRATCH) or not self.run.is_main:
            return
        seen = seen_in_training(str(config.weights), self.lists.test, str(config.data.root))
        number = len(self.lists.test)
        self.warnings = tuple(each.message("data.test_list", number) for each in seen)
        self.shared |= numbers_of(seen)

    def build(self) -> None:
        config, run = self.config, self.run
        self.model = starting_model(run, config, self.info, self._weights)
        self._weights = None  # as large as the model
        self.distributed = DistributedModel(
            self.model.to(run.device), run.settings, run.processes, config.optim.ema_decay
        )
        self.dataset = TrainingClips(
            self.clips, config.data, config.augment, None, config.seed, self.head.target
        )
        smoothing, errors = config.optim.label_smoothing, self.head.errors
        self.objective = objective_of(
            self.model, config, lambda: Classify(self.model, smoothing, mixing_of(config), errors)
        )
        tokens = math.prod(token_grid(config.model, config.data.clip))
        self.parts = {"encoder": ModelPart(self.model.blocks, tokens)}

    def watch(self, plan: Plan) -> None:
        if type(self.head) is not ClassHead:
            return
        optim, names, labels = self.config.optim, self.head.names, self.clips.labels()
        patience = Patience(plan, PATIENCE, at_end=True)
        if optim.objective is None:
            level = Level(
                chance_loss(labels, len(names), optim.label_smoothing),
                "loss_at_chance",
                f"guessing among {len(names)} classes",
                f"nothing of the labels is learned yet at rates up to {plan.highest_lr:.3g}; give "
                "a larger optim.lr, or a smaller one where the loss has risen, and look at "
                "figures/training_clips.png for labels that do not belong to their videos",
            )
            self.stuck_loss = StuckLoss(level, patience)
        self.one_class = OneClass(names, patience)
        self.at_chance = NoBetterThanChance(labels, len(names), patience, self.stuck_loss)

    def at_start(self) -> None:
        """Show the labels of the lists and some clips, in which a mixed-up list would be seen."""
        show_data(self.run, self.dataset, self.lists, self.head)

    def at_epoch(self, log: RunLog, step: int, stop: Callable[[], bool]) -> None:
        """Try the middle of the validation list's videos, and keep the best weights."""
        run, lists, head = self.run, self.lists, self.head
        trained = self.distributed.whole()
        found = score_model(run, trained, ValidationClips(lists.val, self.config.data), head)
        if found is not None:
            values = head.validation(found.predicted, lists.val)
            log.numbers({"step": step, **{f"val_{name}": x for name, x in values.items()}})
            if self.one_class:
                answers = Answers.of("data.val_list", found.predicted, lists.val.labels())
                log.warn(step, self.one_class.judge(step, answers))
            best = Best.of(values, step, lower_is_better=head.lower_is_better)
            better = best.offer(run.directory, trained, self.info)
            logger.info(
                f"step {step}: {head.told(values)} on the middle of "
                f"{len(lists.val)} videos of data.val_list{', the best so far' * better}"
            )
        run.processes.barrier()

    def at_end(self, log: RunLog, step: int) -> None:
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
            load_best(trained, file)
            lower = self.head.lower_is_better
            chosen = best_of(run.directory, lower_is_better=lower) if run.is_main else {}
            about = {"weights": {"chosen": "best", **chosen}}
            about["weights"]["chosen_on"] = str(config.data.val_list)
        about |= {"shared_with": self.shared, "data": self.tested_on}
        about |= hashes_of(sha256(file), config.data, config.model)
        test = LabelledVideos(lists.test, self.head, config.data)
        predicted = evaluate_model(run, trained, test, about)
        if predicted is not None and self.one_class and self.at_chance:
            answers = Answers.of("data.test_list", predicted, lists.test.labels())
            one_class = self.one_class.judge(step, answers)
            log.warn(step, one_class or self.at_chance.judge(step, answers))


def read_lists(config: FinetuneConfig) -> Lists:
    """The lists of a run, and the first videos of each looked for.

    Raises:
        ConfigError: settings contradict each other, or videos are not there.
        ClipListError: a list cannot be read.
    """
    data = config.data
    if config.head_map is not None and config.weights == SCRATCH:
        raise ConfigError(f"head_map={config.head_map}: weights={SCRATCH} have no head to map")

    def labelled(key: str, path: str | None) -> ClipList:
        return read_list(str(path), data, labelled=True, key=key)

    found = Lists(
        training_clips(data, labelled=True),
        labelled("data.val_list", data.val_list) if config.eval_every else ClipList.of([]),
        labelled("data.test_list", data.test_list),
    )
    if data.target == REGRESSION:
        _check_counts(found)
    return found


def _check_counts(lists: Lists) -> None:
    """Check that the lines of all lists of a regression hold as many numbers.

    Raises:
        ConfigError: they do not.
    """
    wanted = len(values_of(lists.train[0].target))
    for key, clips in {"data.val_list": lists.val, "data.test_list": lists.test}.items():
        if clips and (count := len(values_of(clips[0].target))) != wanted:
            raise ConfigError(
                f"each line of data.train_list ends in {in_words(wanted, 'number')}, of {key} in "
                f"{count}: they belong to different data sets"
            )


def starting_model(
    run: Run, config: FinetuneConfig, info: WeightsInfo, weights: Weights | None
) -> VideoClassifier:
    """The classifier of step 0: random where the weights have nothing for it.

    Args:
        info: what is trained.

    Raises:
        ConfigError: config.head_map makes other classes than the run's.
        WeightsError: the weights do not fit.
    """
    torch.manual_seed(config.seed)
    names = info.class_names or []
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
    report = load_encoder(model, weights, names, info.target, info.head)
    logger.info(f"{weights.path}: {report}")
    theirs, here = weights.info.clip, config.data.clip
    if not weights.info.assumed and (theirs.frames, theirs.frame) != (here.frames, here.frame):
        logger.warning(
            f"WARNING: the weights were trained on {theirs}, here are {here}: positions are "
            f"interpolated; data.clip.frames={theirs.frames} data.clip.size={theirs.size} keeps "
            "theirs"
        )
    return model


def show_data(run: Run, dataset: TrainingClips, lists: Lists, head: Head) -> None:
    """Say how the labels of the lists are spread, and name some clips and picture them decoded."""
    other = {"data.val_list": lists.val} if lists.val else {"data.test_list": lists.test}
    both = {"data.train_list": lists.train.without_forgotten()} | other
    for line in head.compare(both):
        logger.info(line)
    kept = dataset.clips.kept()
    places = kept[np.unique(np.linspace(0, len(kept) - 1, SHOWN).astype(int))].tolist()
    captions, shown = [], []
    for place, batch in zip(places, single_examples(dataset, places), strict=True):
        clip = dataset.clips[place]
        bad = batch.bad
        found = f"cannot be read: {bad[0].error}" if bad else head.truth(clip)
        shown.append(batch.clip[0])
        captions.append(f"line {clip.line}: {clip.name}: {found}")
        logger.info(f"  {captions[-1]}")
    path = made(run.directory, "figures/training_clips.png")
    save_clips(path, torch.stack(shown), captions)
    logger.info(f"these {len(places)} clips as the first epoch would crop them: {path}")


def _first(names: Sequence[str] | None) -> str:
    return f"the first named {names[0]!r}" if names else "not named"
