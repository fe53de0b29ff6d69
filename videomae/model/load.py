"""From a weights file to a model: what must fit, what may be missing, and what was done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from videomae.config import ModelConfig
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.weights import Kind, Weights, WeightsError, WeightsInfo, as_json, read_weights

NEW_IN_A_CLASSIFIER = ("fc_norm.", "head.")
"""What pre-training does not provide, and fine-tuning starts anew."""


def build_model(info: WeightsInfo) -> VideoMAE | VideoClassifier:
    """A model of the kind and shape that `info` describes, with fresh weights."""
    if info.kind is Kind.pretrain:
        return VideoMAE(info.model, info.clip)
    return VideoClassifier(info.model, info.clip, classes=len(info.class_names or ()))


def load_model(
    path: str | Path,
    *,
    frames: int | None = None,
    size: int | None = None,
    num_heads: int | None = None,
) -> VideoMAE | VideoClassifier:
    """The model of a weights file, in eval mode, on the CPU, in float32.

    Args:
        path: a weights file, or a directory that holds weights.safetensors.
        frames: frames per clip, instead of what the file says.
        size: side of the clip in pixels, likewise.
        num_heads: attention heads of the encoder, likewise.

    Raises:
        WeightsError: the file cannot be read or is not one of this project's.
        ConfigError: the overrides do not fit the model.
    """
    weights = read_weights(path)
    info = weights.info
    info = replace(
        info,
        clip=replace(
            info.clip,
            frames=info.clip.frames if frames is None else frames,
            size=info.clip.size if size is None else size,
        ),
        model=replace(info.model, heads=info.model.heads if num_heads is None else num_heads),
    )
    model = build_model(info)
    load_all(model, replace(weights, info=info))
    return model.eval()


def load_all(model: VideoMAE | VideoClassifier, weights: Weights) -> "LoadReport":
    """Fill every parameter of `model`; for weights of the same kind.

    Raises:
        WeightsError: any tensor is missing, left over or of another shape.
    """
    kind = Kind.pretrain if isinstance(model, VideoMAE) else Kind.classifier
    if weights.info.kind is not kind:
        raise WeightsError(
            f"{weights.path} holds {weights.info.kind.name} weights, "
            f"but {kind.name} weights are needed here"
        )
    _check_clip(model, weights)
    names = [field.name for field in fields(ModelConfig)]
    _check_same(model, weights, names if kind is Kind.pretrain else _of_encoder(names))
    report = _load(model, weights, weights.tensors)
    if report.missing or report.unexpected:
        raise WeightsError(f"{weights.path} does not fit the model: {report}")
    return report


def load_encoder(
    model: VideoClassifier, weights: Weights, class_names: Sequence[str]
) -> "LoadReport":
    """Fill the encoder of a classifier, from weights of either kind.

    A classifier's fc_norm travels too, and its head where it was trained on the same classes.

    Raises:
        WeightsError: any tensor of the encoder is missing or of another shape, or the weights
            were trained on clips of other frames or size.
    """
    _check_clip(model, weights)
    _check_same(model, weights, _of_encoder([field.name for field in fields(ModelConfig)]))
    tensors = {name.removeprefix("encoder."): value for name, value in weights.tensors.items()}
    whole = {"head.weight", "head.bias"} <= tensors.keys()
    if not whole or weights.info.class_names != list(class_names):
        tensors = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    report = _load(model, weights, tensors)
    partial = [name for name in report.missing if not name.startswith(NEW_IN_A_CLASSIFIER)]
    if partial:
        raise WeightsError(
            f"{weights.path} fills only part of the encoder; missing: {_some(partial)}"
        )
    return report


@dataclass(frozen=True)
class LoadReport:
    """Which tensors found their place."""

    loaded: list[str]
    missing: list[str]
    """In the model, not in the file: they keep their fresh values."""
    unexpected: list[str]
    """In the file, not in the model: they are left out."""

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} tensors loaded; missing: {_some(self.missing)}; "
            f"unexpected: {_some(self.unexpected)}"
        )


def _check_clip(model: VideoMAE | VideoClassifier, weights: Weights) -> None:
    """WeightsError unless the weights were trained on clips of the model's frames and size."""
    theirs, ours = weights.info.clip, model.clip
    if (theirs.frames, theirs.size) != (ours.frames, ours.size):
        raise WeightsError(
            f"{weights.path} was trained on {theirs.frames} frames of {theirs.size} px, this run "
            f"uses {ours.frames} of {ours.size} px: set data.clip.frames={theirs.frames} "
            f"data.clip.size={theirs.size}"
        )


def _of_encoder(settings: Sequence[str]) -> list[str]:
    return [name for name in settings if "decoder" not in name]


def _check_same(
    model: VideoMAE | VideoClassifier, weights: Weights, settings: Sequence[str]
) -> None:
    """WeightsError unless the weights were made with these settings of the model's config."""
    theirs, ours = vars(weights.info.model), vars(model.config)
    differing = [
        f"{name} is {as_json(theirs[name])} there, {as_json(ours[name])} here"
        for name in settings
        if name != "name" and theirs[name] != ours[name]
    ]
    if differing:
        theirs_name, ours_name = weights.info.model.name, model.config.name
        advice = f"model={theirs_name}" if theirs_name != ours_name else "the same settings"
        raise WeightsError(
            f"{weights.path} holds {theirs_name}, the model is {ours_name}: "
            f"{_some(differing)}. Choose {advice} or other weights"
        )


def _load(
    model: VideoMAE | VideoClassifier, weights: Weights, tensors: Mapping[str, Tensor]
) -> LoadReport:
    """Copy the tensors whose names `model` has; WeightsError where a shape differs."""
    own = model.state_dict()
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if wrong:
        raise WeightsError(f"{weights.path} is not what it says it is: {_some(wrong)}")
    loaded = [name for name in own if name in tensors]
    spoiled = [name for name in loaded if not tensors[name].isfinite().all()]
    if spoiled:
        raise WeightsError(f"{weights.path} holds values that are not finite: {_some(spoiled)}")
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(tensors[name])
    return LoadReport(
        loaded=loaded,
        missing=[name for name in own if name not in tensors],
        unexpected=[name for name in tensors if name not in own],
    )


def _some(names: list[str], most: int = 6) -> str:
    """The first few of a list, for a message."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "none"
