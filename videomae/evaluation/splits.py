"""Runs over every split of a prepared data set (data.split=all), and the mean of their results."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from videomae.config import CLASS, ConfigError, EvaluateConfig, FinetuneConfig
from videomae.evaluation.metrics import CLASSES_FOR_TOP5, mean_of_splits
from videomae.lists.prepared import ALL, read_prepared, with_prepared
from videomae.run.directory import RESULTS
from videomae.run.environment import describe_run
from videomae.run.files import write_text
from videomae.run.given import Given
from videomae.run.overwrite import check_no_training
from videomae.run.record import made
from videomae.run.run import Run

logger = logging.getLogger(__name__)

C = TypeVar("C", FinetuneConfig, EvaluateConfig)


def config_of_splits(config: C, told: Given) -> list[C]:
    """Return the config of each split, with its lists; only one unless data.split=all.

    Each split has its own directory, split1 ... below output_dir. An evaluation takes the weights
    of the split's own run, since test videos of one split are training videos of another.

    Args:
        told: what the command line gave.

    Raises:
        ConfigError: there is no such prepared directory or split, or no weights for each.
    """
    if config.data.split != ALL:
        return [replace(config, data=with_prepared(config.data, told))]
    if config.data.target != CLASS:
        raise ConfigError(
            f"data.split={ALL} takes the mean of accuracies, which data.target="
            f"{config.data.target} has not: give one split after the other"
        )
    numbers = read_prepared(Path(str(config.data.prepared))).splits
    if not numbers:
        raise ConfigError(
            f"data.split={ALL}: data.prepared={config.data.prepared} has no splits: leave it out"
        )
    if isinstance(config, FinetuneConfig) and config.resume not in ("auto", "never"):
        raise ConfigError(
            f"data.split={ALL} with resume={config.resume}: it is the checkpoint of one split; "
            "give resume=auto, by which each split goes on"
        )
    check_no_training(Path(config.output_dir))  # the mean of the splits is written there
    configs = []
    for number in numbers:
        weights = config.weights
        if isinstance(config, EvaluateConfig) and weights is not None:
            weights = str(Path(weights) / f"split{number}")
            if not os.path.isdir(weights):
                raise ConfigError(
                    f"data.split={ALL}: weights={config.weights} holds no split{number}: give the "
                    f"output_dir of python -m videomae.finetune with data.split={ALL}; weights of "
                    f"one split, such as a downloaded file, are evaluated on it: "
                    f"data.split={number}"
                )
        configs.append(
            replace(
                config,
                name=f"{config.name}_split{number}",
                output_dir=str(Path(config.output_dir) / f"split{number}"),
                weights=weights,
                data=with_prepared(replace(config.data, split=str(number)), told),
            )
        )
    return configs


def write_mean(run: Run, config: C, splits: Sequence[C], began: datetime) -> None:
    """Write the results.json with the mean of all splits, if data.split=all.

    Args:
        splits: the config of each split with what was used, such as the model of its weights.
        began: when the first of the splits began, with its time zone.
    """
    if config.data.split != ALL or not run.is_main:
        return
    found = {
        str(each.data.split): json.loads((Path(each.output_dir) / RESULTS).read_text())
        for each in splits
    }
    mean = mean_of_splits(found)
    directory = run.directory
    of_each = ("split", "train_list", "test_list", "num_train")
    data = replace(splits[0].data, **{name: getattr(config.data, name) for name in of_each})
    whole = replace(
        splits[0],
        name=config.name,
        output_dir=config.output_dir,
        weights=config.weights,
        data=data,
    )
    describe_run(run, whole, {}, began)
    path = made(directory, RESULTS)
    write_text(path, json.dumps(mean, indent=2) + "\n")
    low, high = mean["top1_interval"]
    many = len(mean["per_class"]) >= CLASSES_FOR_TOP5
    top5 = f"top-5 {mean['top5']:.2f} %   " if many else ""
    forgotten = ""
    if "num_forgotten" in mean:
        forgotten = f", {mean['num_forgotten']} forgotten in all"
    if config.max_steps is not None:
        forgotten += f", each run with max_steps={config.max_steps}"
    each = ", ".join(f"{result['top1']:.2f}" for result in found.values())
    logger.info(
        f"mean of {len(found)} splits: top-1 {mean['top1']:.2f} % ({low:.2f} to {high:.2f}; splits "
        f"{each})   "
        f"{top5}mean of classes {mean['mean_class_accuracy']:.2f} %{forgotten}: {path}"
    )
