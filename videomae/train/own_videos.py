"""data.videos=FOLDER: from a folder of one's own videos to the whole config of a run.

The main process makes the lists (videomae.data.own_lists); the others wait for its file. Settings
that nobody gave are fitted (videomae.train.fitting). A run that goes on keeps its own of both.
"""

import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from videomae.config import SCRATCH, ConfigError, FinetuneConfig, ListFormat, PretrainConfig
from videomae.data.own_lists import ListRequest, OwnLists, make_own_lists
from videomae.data.trained_on import STATE, run_of
from videomae.lists.own_folder import in_words
from videomae.lists.prepared import OWN_LISTS
from videomae.lists.published import TEST, TRAIN, VAL
from videomae.run.checks import require
from videomae.run.console import Facts
from videomae.run.directory import CONFIG, alone
from videomae.run.files import read_json, write_text
from videomae.run.given import Given
from videomae.run.launcher import ProcessLost
from videomae.run.run import Run
from videomae.run.worker_pool import POLL_S
from videomae.train.fitting import fitted
from videomae.train.start import check_run
from videomae.weights.formats import read_weights
from videomae.weights.weights import WeightsInfo

logger = logging.getLogger(__name__)

C = TypeVar("C", PretrainConfig, FinetuneConfig)

READY = "ready.json"
"""File by which the main process tells the others that the lists are there."""


def with_own_videos(run: Run, config: C, told: Given) -> C:
    """Return the config with the lists of data.videos, and with settings that fit them.

    Args:
        told: what the command line gave, which stays as it is.

    Raises:
        ConfigError: data.videos is given beside lists.
        OwnFolderError: no lists can be made of the folder.
        RunExistsError, CheckpointError, WeightsError: as those of the run itself.
    """
    if config.data.videos is None:
        return config
    _check_settings(config)
    checkpoint = check_run(config)
    if checkpoint is not None and (before := _as_before(config, told, checkpoint.parent.parent)):
        return before
    directory = Path(config.output_dir) / OWN_LISTS
    weights = None if config.weights in (None, SCRATCH) else str(config.weights)
    request = ListRequest(
        videos=Path(config.data.videos),
        scan=config.data.scan,
        max_clip_bytes=config.data.max_clip_bytes,
        labels=isinstance(config, FinetuneConfig),
        val=isinstance(config, FinetuneConfig) and config.eval_every > 0,
        earlier=_lists_of(Path(weights)) if weights else None,
    )

    def make() -> None:
        with alone(Path(config.output_dir)):
            make_own_lists(request, directory)

    _by_main(run, directory, make)
    lists = OwnLists.read(directory)
    info = None if weights is None else read_weights(weights, like=config.model).info
    return _fitted(run, _with_lists(config, lists, Path(lists.prepared.root)), told, lists, info)


def _lists_of(weights: Path) -> Path | None:
    """Return the directory of the lists that weights were trained on.

    None where they are of no run of this project on a folder.

    Args:
        weights: directory of a run, or a file or a checkpoint in one.
    """
    run = run_of(weights)
    return run / OWN_LISTS if (run / OWN_LISTS / STATE).is_file() else None


def _fitted(run: Run, config: C, told: Given, lists: OwnLists, info: WeightsInfo | None) -> C:
    """Return the config with settings that fit the lists, and log how each came about."""
    count = lists.num_videos(TRAIN)
    gpu = run.device.type == "cuda"
    config, rows = fitted(config, told, count, world=run.processes.world, on_gpu=gpu, weights=info)
    if rows:
        logger.info(Facts(f"settings for {in_words(count, 'video')} to train on", rows))
    return config


def _check_settings(config: PretrainConfig | FinetuneConfig) -> None:
    """Check that nothing else names lists.

    Raises:
        ConfigError: something does, or a fine-tuning has no weights.
    """
    keys = ["prepared", "split"]
    if config.data.prepared is None:  # which gives the others
        keys += ["train_list", "val_list", "test_list", "root"]
    found = [f"data.{key}={value}" for key in keys if (value := getattr(config.data, key))]
    found += [f"data.sources.{name}" for name in config.data.sources]
    if found:
        raise ConfigError(
            f"data.videos={config.data.videos} makes the lists, but there is {', '.join(found)}: "
            "leave one of the two out"
        )
    require(config, "data.videos", *(["weights"] if isinstance(config, FinetuneConfig) else []))
    if not os.path.isdir(str(config.data.videos)):
        raise ConfigError(f"data.videos={config.data.videos} is a file: give the folder of videos")


def _with_lists(config: C, lists: OwnLists, root: Path) -> C:
    """Return the config with the lists and the classes of a folder."""
    data = replace(
        config.data,
        train_list=lists.file(TRAIN),
        root=str(root),
        list_format=ListFormat.video_label,
        num_train=None,
    )
    if isinstance(config, FinetuneConfig):
        data = replace(
            data,
            val_list=lists.file(VAL),
            test_list=lists.file(TEST),
            classes=lists.prepared.classes,
            class_names=lists.class_names,
        )
    return replace(config, data=data)


def _by_main(run: Run, directory: Path, work: Callable[[], None]) -> None:
    """Do some work on the main process, while the others wait for a file of its.

    They do not wait at a barrier, whose time limit a long scan would pass.

    Raises:
        ProcessLost: on another process, where the main one could not do it.
    """
    processes = run.processes
    if processes.world == 1:
        work()
        return
    token, file = processes.from_main(secrets.token_hex(8)), directory / READY
    if not processes.is_main:
        while (done := _answer(file, token)) is None:
            time.sleep(POLL_S)
        if not done:
            raise ProcessLost("the main process could not make the lists, and says why")
        return
    done = False
    try:
        work()
        done = True
    finally:
        write_text(file, f'{{"token": "{token}", "done": {str(done).lower()}}}\n')


def _answer(file: Path, token: str) -> bool | None:
    """Return whether the main process has done its work; None where it has not ended."""
    try:
        said = read_json(file)
        return bool(said["done"]) if said["token"] == token else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _as_before(config: C, told: Given, directory: Path) -> C | None:
    """Return the config with the lists and the fitted settings of the run that goes on.

    None where that run was not of a folder, or its config.yaml cannot be read.

    Args:
        directory: of that run.

    Raises:
        ConfigError: eval_every is set, and that run has no validation list.
    """
    if not (directory / OWN_LISTS / STATE).is_file():
        return None
    try:
        loaded = OmegaConf.load(directory / CONFIG)
        if not isinstance(loaded, DictConfig) or not OmegaConf.select(loaded, "data.videos"):
            return None
        sections = {
            name: _section(getattr(config, name), loaded[name], name, told)
            for name in ("model", "augment", "optim", "mask")
            if hasattr(config, name)
        }
        clip = _section(config.data.clip, loaded.data.clip, "data.clip", told)
        repeats = config.data.repeats if told.has("data.repeats") else int(loaded.data.repeats)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return None
    lists = OwnLists.read(directory / OWN_LISTS)
    if isinstance(config, FinetuneConfig) and config.eval_every and not lists.file(VAL):
        raise ConfigError(
            f"eval_every={config.eval_every}: the run in {directory} began without a validation "
            "list: go on with eval_every=0, or begin anew, with resume=never and another output_dir"
        )
    inside = os.path.relpath(lists.prepared.root, os.path.realpath(str(loaded.data.videos)))
    root = Path(str(config.data.videos)).resolve() / inside
    logger.info(f"the run goes on with its own lists and settings: {lists.directory}")
    data = replace(config.data, clip=clip, repeats=repeats)
    return _with_lists(replace(config, data=data, **sections), lists, root)


def _section(current: Any, loaded: Any, prefix: str, told: Given) -> Any:
    """Return a section of a config.yaml, but for what the command line gives."""
    schema = OmegaConf.structured(type(current))
    OmegaConf.set_readonly(schema, False)
    found = OmegaConf.to_object(OmegaConf.merge(schema, loaded))
    kept = {
        each.name: getattr(current, each.name)
        for each in fields(current)
        if told.has(f"{prefix}.{each.name}")
    }
    return replace(found, **kept)  # type: ignore[type-var]
