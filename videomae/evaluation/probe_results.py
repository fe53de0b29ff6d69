"""Results of probes, fitted on features of the training videos and tested on the test videos.

python -m videomae.probe uses it; videomae.evaluation.probing fits the heads.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from videomae.config import ProbeConfig, ProbeKind
from videomae.evaluation.features import FeatureExtractor, Features
from videomae.evaluation.metrics import CLASSES_FOR_TOP5, Scores
from videomae.evaluation.probes import AttentiveProbe, LinearProbe, knn_probs
from videomae.evaluation.probing import ProbeError, Recipe, Views, choose_and_fit, logits_of
from videomae.lists.clips import ClipList
from videomae.run.console import SafeConsole
from videomae.run.directory import BAD_FILES, RESULTS
from videomae.run.files import write_text
from videomae.run.record import made
from videomae.run.run import Run

logger = logging.getLogger(__name__)


def fit_and_score(
    config: ProbeConfig,
    encoder: FeatureExtractor,
    train: Features,
    test: Features,
    lists: Sequence[ClipList],
    names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Fit each probe of config.probe.kinds, and return its entry of results.json, by its name.

    Args:
        lists: the training and the test list.
        names: the names of the classes.

    Raises:
        ProbeError: there is nothing to fit a probe on, or to test it on.
    """
    for name, features in (("train", train), ("test", test)):
        if len(features.video) == 0:
            raise ProbeError(
                f"none of the videos of data.{name}_list can be read; {BAD_FILES} in "
                f"{config.output_dir} says why"
            )
    train_labels, test_labels = (torch.from_numpy(clips.labels()) for clips in lists)
    results = {}
    for kind in dict.fromkeys(config.probe.kinds):
        probs, said = _probs(config, kind, encoder, train, test, train_labels, len(names))
        if "lr" in said:
            on = f"the best on {said['num_held_out']} held-out training videos"
            tried = len(config.probe.lrs)
            how = f"{on}, of {tried} rates" if tried > 1 else "the only one given"
            logger.info(f"{kind.name}: lr {said['lr']:g}, {how}")
        table = np.full((len(test_labels), len(names)), np.nan, dtype=np.float32)
        table[test.video.numpy()] = probs.numpy()
        scores = Scores(test_labels.numpy(), table, names)
        results[kind.name] = scores.results({"segments": 1, "crops": 1}) | said
    left_out = {"num_train": len(train_labels), "num_train_unreadable": len(train.bad)}
    return {name: entry | left_out for name, entry in results.items()}


def _probs(
    config: ProbeConfig,
    kind: ProbeKind,
    encoder: FeatureExtractor,
    train: Features,
    test: Features,
    train_labels: Tensor,
    classes: int,
) -> tuple[Tensor, dict[str, Any]]:
    """Fit one probe on the training views, and predict the readable test videos.

    Returns:
        (test videos, classes) float32 on the CPU, and the entries of the results on the fit.
    """
    settings, device, model = config.probe, encoder.device, encoder.model.config
    labels = train_labels[train.video]
    if kind is ProbeKind.knn:
        k, temperature = settings.k, settings.temperature
        sides = (test.mean.to(device), train.mean.to(device), labels.to(device))
        probs = knn_probs(*sides, classes=classes, k=k, temperature=temperature).cpu()
        return probs, {"k": min(k, len(labels)), "temperature": temperature}
    make: Callable[[], nn.Module]
    if kind is ProbeKind.linear:
        make = partial(LinearProbe, train.mean, classes)
        take_train, take_test = train.mean.__getitem__, test.mean.__getitem__
        epochs = settings.linear_epochs
    else:
        make = partial(AttentiveProbe, model.dim, model.heads, classes)
        take_train, take_test = partial(_stacked, train.tokens), partial(_stacked, test.tokens)
        epochs = settings.attentive_epochs
    recipe = Recipe(
        epochs,
        settings.batch,
        settings.weight_decay,
        config.seed,
        settings.min_steps,
        name=f"{kind.name} probe",
    )
    chosen = choose_and_fit(
        make, Views(take_train, labels), train.video, settings.lrs, recipe, device
    )
    rows = torch.arange(len(test.video))
    probs = logits_of(chosen.head, take_test, rows, settings.batch, device).softmax(1)
    return probs, {
        "lr": chosen.lr,
        "num_held_out": chosen.num_held_out,
        "held_out_top1": {f"{lr:g}": top1 for lr, top1 in chosen.held_out_top1.items()},
    }


def _stacked(tokens: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Read the tokens of some views from disk: row numbers (B,) int64 -> (B, N, D) float32."""
    return torch.stack([tokens[row] for row in rows.tolist()]).float()


def write_results(
    run: Run, results: Mapping[str, Mapping[str, Any]], shared: Mapping[str, int], num_test: int
) -> None:
    """Write results.json, an entry for each probe, and print the accuracies.

    Args:
        shared: number of test videos that each other list holds too, by its name.
        num_test: number of videos of the test list.
    """
    if shared:
        results = {name: {**entry, "shared_with": shared} for name, entry in results.items()}
    file = made(run.directory, RESULTS)
    write_text(file, json.dumps(results, indent=2) + "\n")
    SafeConsole(highlight=False).print(_accuracies(results))
    logger.info(f"{num_test} test videos: {file}")


def _accuracies(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table of all probes' accuracies, in percent."""
    accuracies = {"top-1": "top1", "top-5": "top5", "mean of classes": "mean_class_accuracy"}
    if all(len(entry["per_class"]) < CLASSES_FOR_TOP5 for entry in results.values()):
        del accuracies["top-5"]
    table = Table(box=None)
    for column in ("probe", *accuracies, "videos", "unreadable"):
        table.add_column(column, justify="left" if column == "probe" else "right")
    for name, entry in results.items():
        percent = (entry[key] for key in accuracies.values())
        counts = (entry[key] for key in ("num_videos", "num_unreadable"))
        table.add_row(name, *(f"{value:.2f}" for value in percent), *map(str, counts))
    return table
