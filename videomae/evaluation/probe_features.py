"""The encoder that a probe tests, and its features of the training and the test list.

python -m videomae.probe uses it; videomae.evaluation.probe_results fits probes on the features.
"""

import logging
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from videomae.config import ConfigError, DataConfig, ProbeConfig, ProbeKind, token_grid
from videomae.evaluation.features import (
    SHARD,
    FeatureCache,
    FeatureExtractor,
    Features,
    of_pack,
    settings_of_features,
)
from videomae.lists.clips import ClipList, lines_hash
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.run.arithmetic import uses_bf16
from videomae.run.checks import check_place
from videomae.run.directory import BAD_FILES, RESULTS, TEST_FEATURES, RunExistsError
from videomae.run.environment import describe_run
from videomae.run.files import sha256
from videomae.run.given import Given
from videomae.run.overwrite import check_no_training
from videomae.run.record import made
from videomae.run.run import Run
from videomae.weights.formats import read_weights
from videomae.weights.load import encoder_of
from videomae.weights.usage import usage_of

logger = logging.getLogger(__name__)

FEATURES = "features"
"""Name of the folder of the features, in the output directory."""


def check_output(directory: Path, *, overwrite: bool) -> None:
    """Check that results can be written to a directory, and replace others only if `overwrite`.

    Raises:
        ConfigError: they cannot be written there.
        RunExistsError: it holds a training run, or results while `overwrite` is false.
    """
    check_place("output_dir", directory)
    check_no_training(directory)
    if os.path.exists(directory / RESULTS) and not overwrite:
        raise RunExistsError(
            f"output_dir={directory} already holds {RESULTS}: replace it by "
            "overwrite=true (the features are kept), or choose another output_dir"
        )


class FrozenEncoder(NamedTuple):
    """An encoder in eval mode on the CPU, and the facts that its features depend on."""

    model: VideoMAE | VideoClassifier
    data: DataConfig
    """Settings of the lists, with the clip size of the encoder."""
    made_of: dict[str, Any]
    """Facts about the encoder that are part of the key of its stored features."""


def random_encoder(config: ProbeConfig) -> FrozenEncoder:
    """Return an encoder with random weights, drawn from config.seed, as a baseline."""
    torch.manual_seed(config.seed)
    made_of = {"weights": config.weights, "model": asdict(config.model), "seed": config.seed}
    data = replace(config.data, crops=1)
    return FrozenEncoder(VideoMAE(config.model, data.clip).eval(), data, made_of)


def saved_encoder(config: ProbeConfig, told: Given) -> FrozenEncoder:
    """Return the encoder at config.weights, and log how it was loaded and with which settings.

    Args:
        told: what the command line gave.

    Raises:
        WeightsError: the weights cannot be read, or fill only part of an encoder.
    """
    heads, decoder_heads = config.num_heads, config.decoder_num_heads
    weights = read_weights(str(config.weights), num_heads=heads, decoder_num_heads=decoder_heads)
    usage = usage_of(weights, config.data, told)
    model, report = encoder_of(usage.weights, usage.data.clip)
    logger.info(f"{weights.path}: {report}")
    for line in usage.told:
        logger.info(line)
    made_of = {"weights": weights.sha256(), "heads": model.config.heads}
    return FrozenEncoder(model, replace(usage.data, crops=1), made_of)


def begin_results(run: Run, config: ProbeConfig, frozen: FrozenEncoder) -> None:
    """Prepare the output directory: remove earlier results, and write the conditions of the new
    ones.

    Only the main process calls it. Existing features are kept.
    """
    directory = run.directory
    hashes = {
        f"data.{key}": sha256(Path(str(getattr(config.data, key))))
        for key in ("train_list", "test_list")
    }
    for name in (RESULTS, BAD_FILES, TEST_FEATURES):
        (directory / name).unlink(missing_ok=True)
    describe_run(run, config, hashes | {"weights": str(frozen.made_of["weights"])})
    made(directory, BAD_FILES)


def list_features(
    run: Run,
    config: ProbeConfig,
    encoder: FeatureExtractor,
    frozen: FrozenEncoder,
    clips: ClipList,
    key: str,
) -> Features:
    """Return the features of one list, computed or read from disk. All processes call it.

    Args:
        encoder: `frozen` on the device that computes.
        key: train_list or test_list.

    Raises:
        ConfigError: the disk is too small for the tokens.
    """
    data = replace(frozen.data, segments=config.probe.views if key == "train_list" else 1)
    attentive = ProbeKind.attentive in config.probe.kinds
    made_of = frozen.made_of | {"bf16": uses_bf16(run.device, config.run.precision)}
    made_of |= (
        settings_of_features(data)
        | of_pack(data)
        | {"list": sha256(Path(str(getattr(config.data, key))))}
    )
    if clips.left_out:
        made_of |= {"forgotten": lines_hash(clips.left_out)}
    folder = Path(config.output_dir) / FEATURES
    cache = FeatureCache(folder, made_of, clips, tokens=attentive)
    if attentive and run.is_main:
        videos = min(len(clips), SHARD * len(cache.missing()))
        tokens = np.prod(token_grid(encoder.model.config, data.clip))
        needed = int(videos * data.segments * tokens * encoder.model.config.dim * 2)
        free = shutil.disk_usage(config.output_dir).free
        if needed > free:
            raise ConfigError(
                f"the tokens of {videos} videos of data.{key} take {needed / 1e9:,.1f} GB, "
                f"output_dir={config.output_dir} has {free / 1e9:,.1f} GB left: choose another, "
                "or probe.kinds=[knn,linear], which need no tokens"
            )
    cache.fill(run, encoder, data)
    return cache.read()
