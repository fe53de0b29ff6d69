"""Convert weights between the formats of this project, the VideoMAE code and Hugging Face.

    python -m videomae.convert weights=PATH target=FILE.safetensors format=videomae
    python -m videomae.convert weights=PATH target=FILE.pth         format=official
    python -m videomae.convert weights=PATH target=DIRECTORY        format=huggingface

weights=PATH is of any released kind: a run directory, an official .pth, a DeepSpeed or Hugging Face
directory; pre-training models and classifiers. What was loaded, what had to be assumed and what the
target cannot hold is printed; the target is read again and compared bit by bit.

    num_heads=N decoder_num_heads=N   attention heads, where neither the file nor a preset says
    frames=N size=N stride=N          what they were trained on, where the file does not say
    class_names=FILE                  line i names class i
    head_map=FILE                     JSON list: row of the head for each class of the target
    overwrite=true                    replace the target
"""

import os
from dataclasses import replace
from pathlib import Path

import torch

from videomae.config import ConfigError, ConvertConfig, WeightsFormat
from videomae.lists.names import read_names
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.console import tell
from videomae.run.directory import WEIGHTS
from videomae.weights import huggingface
from videomae.weights.formats import read_weights, write_weights
from videomae.weights.load import model_of, pick_classes
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, Weights, WeightsInfo

ENDINGS = {
    WeightsFormat.videomae: (".safetensors",),
    WeightsFormat.official: (".pth", ".pt"),
    WeightsFormat.huggingface: ("",),
}
"""What the name of a target ends in."""


def convert(config: ConvertConfig) -> None:
    """Write config.weights as config.format says."""
    require(config, "weights", "target", "format")
    assert config.target is not None
    assert config.format is not None
    target = Path(config.target)
    _check_target(config, target)
    weights = read_weights(
        str(config.weights),
        num_heads=config.num_heads,
        decoder_num_heads=config.decoder_num_heads,
    )
    written = target / huggingface.TENSORS if config.format is WeightsFormat.huggingface else target
    if os.path.realpath(written) in map(os.path.realpath, weights.files):
        raise ConfigError(f"target={target} would replace {written}, which weights= is read from")
    weights = replace(weights, info=_said(weights.info, config))
    if config.head_map is not None:
        weights = pick_classes(weights, config.head_map)
    if config.class_names is not None:
        if weights.info.classes is None:
            raise ConfigError(f"class_names={config.class_names}: {weights.path} has no classes")
        count = "the number of classes"
        names = read_names(config.class_names, weights.info.classes, "class_names", count)
        weights = replace(weights, info=replace(weights.info, class_names=names))
    model, report = model_of(weights)
    tell(f"{weights.path}: {report}")
    tell(f"  {_described(weights.info)}")
    info = replace(weights.info, parents=weights.chain())
    lost = write_weights(target, config.format, model.state_dict(), info)
    _check_written(target, config, weights)
    tell(f"{target}: {config.format.name}, {len(report.loaded)} tensors, equal bit by bit")
    for note in lost:
        tell(f"  not held by this format: {note}")


def _check_target(config: ConvertConfig, target: Path) -> None:
    """ConfigError unless a target of that name and format can be written."""
    assert config.format is not None
    endings = ENDINGS[config.format]
    wrong_kind = os.path.isfile(target) if endings == ("",) else os.path.isdir(target)
    if wrong_kind or (endings != ("",) and target.suffix not in endings):
        what = "a directory" if endings == ("",) else f"a file named *{' or *'.join(endings)}"
        raise ConfigError(f"target={target}: format={config.format.name} is {what}")
    if os.path.exists(target) and os.path.realpath(target) == os.path.realpath(str(config.weights)):
        raise ConfigError(f"target={target} is weights= itself: choose another target")
    if os.path.exists(target / WEIGHTS):
        raise ConfigError(f"target={target} is a run, which has its {WEIGHTS}: choose another")
    if os.path.exists(target) and not config.overwrite:
        raise ConfigError(f"target={target} is there already: overwrite=true replaces it")
    check_place("target", target if endings == ("",) else target.parent)


def _said(info: WeightsInfo, config: ConvertConfig) -> WeightsInfo:
    """`info` with what the user knows better."""
    clip = replace(
        info.clip,
        frames=info.clip.frames if config.frames is None else config.frames,
        stride=info.clip.stride if config.stride is None else config.stride,
    )
    if config.size is not None:
        clip = replace(clip, size=config.size, width=None)
    return replace(info, clip=clip)


def _described(info: WeightsInfo) -> str:
    """What some weights are, in a line."""
    model = info.model
    what = (
        f"classifier of {info.classes} classes" if info.kind is Kind.classifier else "pre-training"
    )
    eps = {model.norm_eps, model.decoder_norm_eps, model.fc_norm_eps}
    return (
        f"{model.name}, {what}: depth {model.depth}, {model.dim} wide, {model.heads} heads, "
        f"LayerNorm eps {' and '.join(f'{value:g}' for value in sorted(eps))}, {info.clip}"
    )


def _check_written(target: Path, config: ConvertConfig, weights: Weights) -> None:
    """Read what was written, and compare."""
    model = weights.info.model
    written = read_weights(
        target, num_heads=model.heads, decoder_num_heads=model.decoder_heads
    ).tensors
    same = written.keys() == weights.tensors.keys() and all(
        torch.equal(written[name], tensor) for name, tensor in weights.tensors.items()
    )
    if not same:
        raise WeightsError(f"{target} does not hold what {weights.path} does; is the disk sound?")


main = command("convert")(convert)

if __name__ == "__main__":
    main()
