"""Checks around a conversion of weights: the target before it, the written file after it.

python -m videomae.convert calls them; videomae.weights.formats reads and writes the formats.
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from videomae.config import ConfigError, ConvertConfig, WeightsFormat
from videomae.run.checks import check_place
from videomae.run.directory import WEIGHTS
from videomae.weights import huggingface
from videomae.weights.formats import read_weights
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import ASSUMABLE, Kind, Weights, WeightsInfo

ENDINGS = {
    WeightsFormat.videomae: (".safetensors",),
    WeightsFormat.official: (".pth", ".pt"),
    WeightsFormat.huggingface: ("",),
}
"""The endings that the name of a target may have, by format."""


def check_target(config: ConvertConfig, target: Path) -> None:
    """Check that a target of that name and format can be written.

    Raises:
        ConfigError: naming the target, and why it cannot.
    """
    assert config.format is not None
    endings = ENDINGS[config.format]
    wrong_kind = os.path.isfile(target) if endings == ("",) else os.path.isdir(target)
    if wrong_kind or (endings != ("",) and target.suffix not in endings):
        what = "a directory" if endings == ("",) else f"a file named *{' or *'.join(endings)}"
        raise ConfigError(f"{config.named}: format={config.format.name} is {what}")
    if os.path.exists(target) and os.path.realpath(target) == os.path.realpath(str(config.weights)):
        raise ConfigError(f"{config.named} is weights= itself: choose another place")
    if os.path.exists(target / WEIGHTS):
        raise ConfigError(f"{config.named} is a run, which has its {WEIGHTS}: choose another")
    if os.path.exists(target) and not config.overwrite:
        raise ConfigError(f"{config.named} is there already: overwrite=true replaces it")
    check_place(config.named.partition("=")[0], target if endings == ("",) else target.parent)


def check_not_source(config: ConvertConfig, target: Path, weights: Weights) -> None:
    """Check that the target replaces no file that the weights are read from.

    Raises:
        ConfigError: it would.
    """
    written = target / huggingface.TENSORS if config.format is WeightsFormat.huggingface else target
    if os.path.realpath(written) in map(os.path.realpath, weights.files):
        raise ConfigError(f"{config.named} would replace {written}, which weights= is read from")


def with_settings(weights: Weights, config: ConvertConfig) -> Weights:
    """Return weights with the frames, stride and size that the settings give."""
    given = {name: value for name in ASSUMABLE if (value := getattr(config, name)) is not None}
    clip = replace(weights.info.clip, **given)
    if "size" in given:
        clip = replace(clip, width=None)
    assumed = tuple(name for name in weights.info.assumed if name not in given)
    return replace(weights, info=replace(weights.info, clip=clip, assumed=assumed))


def described(info: WeightsInfo) -> str:
    """Describe weights in one line: kind, depth, width, heads, LayerNorm eps, clip."""
    model = info.model
    what = (
        f"classifier of {info.classes} classes" if info.kind is Kind.classifier else "pre-training"
    )
    eps = {model.norm_eps, model.decoder_norm_eps, model.fc_norm_eps}
    return (
        f"{model.name}, {what}: depth {model.depth}, {model.dim} wide, {model.heads} heads, "
        f"LayerNorm eps {' and '.join(f'{value:g}' for value in sorted(eps))}, {info.clip}"
    )


def assumption(info: WeightsInfo) -> list[str]:
    """Return a line that says what of the clip is not written as a fact, if there is any."""
    if not info.assumed:
        return []
    wanted = " ".join(f"{name}=N" for name in info.assumed)
    named = ", ".join(info.assumed)
    return [f"assumed, so not written as known: {named} (give {wanted} if you know)"]


def check_written(target: Path, weights: Weights) -> None:
    """Read the converted weights again, and compare them with `weights` bit by bit.

    Raises:
        WeightsError: they differ.
    """
    model = weights.info.model
    written = read_weights(
        target, num_heads=model.heads, decoder_num_heads=model.decoder_heads
    ).tensors
    same = written.keys() == weights.tensors.keys() and all(
        torch.equal(written[name], tensor) for name, tensor in weights.tensors.items()
    )
    if not same:
        raise WeightsError(f"{target} does not hold what {weights.path} does; is the disk sound?")
