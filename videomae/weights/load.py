"""Load weights into a model: check that they fit, and report what was loaded."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from videomae.config import CLASS, MULTILABEL, ClipConfig, ModelConfig, Positions, token_grid
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.positions import interpolated
from videomae.model.presets import preset_names
from videomae.run.files import read_json
from videomae.run.text import shown
from videomae.weights.formats import read_weights
from videomae.weights.report import LoadReport, some_names
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, Weights, WeightsInfo, as_json

REAL = torch.float32
"""Dtype of all weights in models; other floating-point types were converted when read."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
NEW_IN_A_CLASSIFIER = ("fc_norm.", "head.")
"""Prefixes of parameters that pre-training does not have, and fine-tuning initialises."""
KINDS = {
    Kind.pretrain: "a pre-training model, with a decoder and without a classifier's head",
    Kind.classifier: "a fine-tuned classifier, without a decoder",
    Kind.encoder: "an encoder alone, without a decoder or a classifier's head",
}
NEEDED = {
    Kind.pretrain: "a pre-training model is needed here: give the weights of a pre-training",
    Kind.classifier: "a classifier is needed here: fine-tune these weights first, with "
    "python -m videomae.finetune weights=...",
}


def build_model(info: WeightsInfo) -> VideoMAE | VideoClassifier:
    """Build a model of the kind and sizes in `info`, with newly initialised weights.

    Raises:
        WeightsError: the kind is an encoder alone, which is no complete model.
    """
    match info.kind:
        case Kind.pretrain:
            return VideoMAE(info.model, info.clip)
        case Kind.classifier:
            return VideoClassifier(
                info.model,
                info.clip,
                classes=info.classes or 0,
                drop_path=info.drop_path,
                head_drop=info.head_drop,
            )
        case Kind.encoder:
            raise WeightsError(f"{info.name} is {KINDS[info.kind]}; {NEEDED[Kind.classifier]}")


def load_model(
    path: str | Path,
    *,
    frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    position_grid: tuple[int, int, int] | None = None,
    verbose: bool = True,
) -> VideoMAE | VideoClassifier:
    """Load a model from weights in any supported format, in eval mode, on the CPU, in float32.

    Args:
        path: a weights file of this project, an official .pth, or a directory: of a run, of
            DeepSpeed or of Hugging Face transformers.
        frames: frames per clip; default: as the weights were trained.
        size: side of the clip in pixels, or height and width; default: as trained.
        num_heads: attention heads of the encoder, if the file lacks them or has wrong ones.
        decoder_num_heads: attention heads of the decoder, if the file lacks them or has wrong ones.
        position_grid: token grid (time, height, width) for which fixed positions are computed;
            default: that of the training clips. For other clips they are interpolated.
        verbose: whether to print to stderr what was loaded and what was assumed.

    Raises:
        WeightsError: the file cannot be read, or is not a complete model.
        ConfigError: the overrides do not fit the model.
    """
    weights = read_weights(path, num_heads=num_heads, decoder_num_heads=decoder_num_heads)
    info = weights.info
    model_config = info.model
    if position_grid is not None:
        model_config = replace(model_config, position_grid=list(position_grid))
    clip = info.clip
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        clip = replace(clip, size=height, width=None if width == height else width)
    clip = replace(clip, frames=clip.frames if frames is None else frames)
    model_config = as_trained(model_config, info, clip)
    weights = replace(weights, info=replace(info, model=model_config))
    model, report = model_of(weights, clip)
    if verbose:
        print(shown(f"{weights.path}: {report}"), file=sys.stderr)
    return model


def model_of(
    weights: Weights, clip: ClipConfig | None = None
) -> tuple[VideoMAE | VideoClassifier, LoadReport]:
    """Make a model from weights, in eval mode; its parameters are the weights' own tensors.

    Args:
        clip: frames and size of the model's input; default: as the weights were trained.

    Raises:
        WeightsError: the weights are not a complete model.
    """
    info = weights.info if clip is None else replace(weights.info, clip=clip)
    if info.kind is Kind.encoder:
        check_kind(weights, Kind.classifier)
    with torch.device("meta"):  # no memory and no time for fresh parameters
        model = build_model(info)
    return model.eval(), load_all(model, weights)


def encoder_of(weights: Weights, clip: ClipConfig) -> tuple[VideoMAE | VideoClassifier, LoadReport]:
    """Make a model in eval mode, for its `features` only, from weights of any kind.

    Args:
        clip: frames and size of the model's input; positions are interpolated if it has another
            token grid than the training clips.

    Raises:
        WeightsError: the weights fill only a part of an encoder.
    """
    model_config = as_trained(weights.info.model, weights.info, clip)
    weights = replace(weights, info=replace(weights.info, model=model_config))
    if weights.info.kind is not Kind.encoder:
        return model_of(weights, clip)
    with torch.device("meta"):
        model = VideoClassifier(model_config, clip, classes=1)
    report = load_encoder(model, weights, ())
    for part in (model.fc_norm, model.head):  # not used by `features`
        part.to_empty(device="cpu")
    return model.eval(), report


def as_trained(model: ModelConfig, info: WeightsInfo, clip: ClipConfig) -> ModelConfig:
    """Return `model` with the settings that its starting weights determine.

    These are the epsilons of the norms, and position_grid, unless `model` sets it: clips of another
    token grid get the positions of the weights' training clips, interpolated.
    """
    model = replace(model, norm_eps=info.model.norm_eps)
    if info.kind is Kind.pretrain:
        model = replace(model, decoder_norm_eps=info.model.decoder_norm_eps)
    if info.kind is Kind.classifier:
        model = replace(model, fc_norm_eps=info.model.fc_norm_eps)
    trained = info.model.position_grid or list(token_grid(info.model, info.clip))
    if (
        model.position_grid is None
        and model.positions is not Positions.learned
        and trained != list(token_grid(model, clip))
    ):
        model = replace(model, position_grid=trained)
    return model


def pick_classes(weights: Weights, head_map: str | Path) -> Weights:
    """Select and reorder the classes of a classifier's head.

    Args:
        head_map: JSON file, a list: entry i is the row of the weights' head that becomes class i,
            as in VideoMAE V2's label_710to400.json.

    Raises:
        WeightsError: the weights have no head, or the list cannot be read or does not fit it.
    """
    rows = weights.info.classes
    if weights.info.target not in (CLASS, MULTILABEL):
        raise WeightsError(
            f"head_map={head_map}: {weights.path} was fine-tuned with "
            f"data.target={weights.info.target}: it has no classes to pick from"
        )
    if rows is None:
        raise WeightsError(f"head_map={head_map}: {weights.path} is {KINDS[weights.info.kind]}")
    try:
        picked = read_json(Path(head_map))
    except (OSError, ValueError) as error:
        raise WeightsError(f"head_map={head_map} cannot be read ({error})") from error
    if not isinstance(picked, list) or not all(type(row) is int for row in picked):
        raise WeightsError(f"head_map={head_map} must hold a JSON list of whole numbers")
    if not picked or len(set(picked)) < len(picked) or not 0 <= min(picked) <= max(picked) < rows:
        raise WeightsError(
            f"head_map={head_map} must name rows of the head of {weights.path}, 0 to {rows - 1}, "
            "each at most once"
        )
    head = {name: weights.tensors[name][picked] for name in ("head.weight", "head.bias")}
    # The names are dropped: only the author of the map knows those of the selected classes.
    info = replace(weights.info, classes=len(picked), class_names=None)
    note = f"head: {len(picked)} of its {rows} classes, by {head_map}"
    return replace(weights, info=info, tensors=weights.tensors | head, notes=(*weights.notes, note))


def check_kind(weights: Weights, needed: Kind) -> None:
    """Raise WeightsError unless the weights are of that kind; the message says what to do."""
    if weights.info.kind is not needed:
        raise WeightsError(f"{weights.path} is {KINDS[weights.info.kind]}; {NEEDED[needed]}")


def load_all(model: VideoMAE | VideoClassifier, weights: Weights) -> LoadReport:
    """Load weights of the same kind into `model`, all parameters of both.

    Parameters on the meta device, without memory, are replaced by the weights' own tensors.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape.
    """
    kind = Kind.pretrain if isinstance(model, VideoMAE) else Kind.classifier
    check_kind(weights, kind)
    _check_same(model.config, weights, of_encoder=kind is Kind.classifier)
    report = _load(model, weights, weights.tensors)
    if report.missing or report.unexpected:
        raise WeightsError(f"{weights.path} does not fit the model: {report}")
    return report


def load_encoder(
    model: VideoClassifier,
    weights: Weights,
    class_names: Sequence[str],
    target: str = CLASS,
    head: Mapping[str, Any] = NOTHING,
) -> LoadReport:
    """Load the encoder of a classifier from weights of any kind.

    From a classifier, fc_norm is loaded too, and the head if it is for the same classes: by their
    names, or by their number if the weights do not name them.

    Args:
        target: what the model is for, as data.target has it.
        head: what its head remembers of the training list.

    Raises:
        WeightsError: a tensor of the encoder is missing or of another shape.
    """
    _check_same(model.config, weights, of_encoder=True)
    tensors = {name.removeprefix("encoder."): value for name, value in weights.tensors.items()}
    info, notes = weights.info, list[str]()
    whole = {"head.weight", "head.bias"} <= tensors.keys()
    same = whole and same_classes(info, class_names) and (info.target, info.head) == (target, head)
    if info.kind is Kind.classifier and not same:
        tensors = {name: value for name, value in tensors.items() if not name.startswith("head.")}
        what = "classes" if target == CLASS else f"outputs of data.target={target}"
        notes = [f"head: new, for {len(class_names)} {what} in place of {info.classes} others"]
    report = _load(model, weights, tensors)
    partial = [name for name in report.missing if not name.startswith(NEW_IN_A_CLASSIFIER)]
    if partial:
        raise WeightsError(
            f"{weights.path} fills only part of the encoder; missing: {some_names(partial)}"
        )
    if info.kind is not Kind.classifier:
        report = report.without_pretraining()
    return replace(report, notes=(*report.notes, *notes))


def same_classes(info: WeightsInfo, class_names: Sequence[str]) -> bool:
    """Tell whether a classifier's head is for these classes: by name, or else by their number."""
    if info.class_names is None:
        return info.classes == len(class_names)
    return info.class_names == list(class_names)


def _check_same(ours: ModelConfig, weights: Weights, *, of_encoder: bool) -> None:
    """Raise WeightsError unless the weights' model has the same settings as `ours`.

    Args:
        of_encoder: whether to compare the encoder's settings only.
    """
    info = weights.info
    ignored = {"name", "position_grid"}
    if of_encoder:
        ignored.add("normalise_targets")
    if info.kind is not Kind.classifier:
        ignored.add("fc_norm_eps")
    theirs = info.model
    names = [
        field.name
        for field in fields(ModelConfig)
        if field.name not in ignored
        and not (of_encoder and field.name.startswith("decoder_"))
        and getattr(theirs, field.name) != getattr(ours, field.name)
    ]
    if names:
        pairs = {name: (as_json(vars(theirs)[name]), as_json(vars(ours)[name])) for name in names}
        differing = [
            f"{name} is {there} there, {here} here" for name, (there, here) in pairs.items()
        ]
        settings = " ".join(f"model.{name}={there}" for name, (there, _) in pairs.items())
        chosen = theirs.name != ours.name and theirs.name in preset_names()
        advice = f"model={theirs.name}" if chosen else settings
        clip = ""
        if not info.assumed:
            sizes = (f"data.clip.{name}={x}" for name, x in asdict(info.clip).items() if x)
            clip = f" (their clip: {' '.join(sizes)})"
        raise WeightsError(
            f"{weights.path} holds {theirs.name}, the model is {ours.name}: "
            f"{some_names(differing)}. Choose {advice}{clip} or other weights"
        )


def _load(
    model: VideoMAE | VideoClassifier, weights: Weights, tensors: Mapping[str, Tensor]
) -> LoadReport:
    """Copy tensors to the parameters of the same names; WeightsError if one does not fit."""
    tensors, notes = dict(tensors), list(weights.notes)
    if assumed := weights.info.assumed:
        clip = vars(weights.info.clip)
        said = ", ".join(f"{name}={clip[name]}" for name in assumed)
        notes.append(f"the file does not say, so assumed: {said}")
    grid, to = (
        token_grid(weights.info.model, weights.info.clip),
        token_grid(model.config, model.clip),
    )
    if grid != to:
        notes.append(f"positions of {_by(grid)} tokens interpolated to {_by(to)}")
    own = model.state_dict()
    for name in ("pos_embed", "encoder.pos_embed"):  # learned
        if name in tensors and name in own and grid != to:
            tensors[name] = interpolated(tensors[name], grid, to)
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if wrong:
        raise WeightsError(f"{weights.path} does not fit the model: {some_names(wrong)}")
    loaded = [name for name in own if name in tensors]
    odd = [f"{name} of {tensors[name].dtype}" for name in loaded if tensors[name].dtype != REAL]
    if odd:
        raise WeightsError(f"{weights.path} holds no real numbers for weights: {some_names(odd)}")
    spoiled = [name for name in loaded if not tensors[name].isfinite().all()]
    if spoiled:
        raise WeightsError(
            f"{weights.path} holds values that are not finite: {some_names(spoiled)}"
        )
    with torch.no_grad():
        for name in loaded:
            if own[name].is_meta:
                part, _, parameter = name.rpartition(".")
                setattr(model.get_submodule(part), parameter, nn.Parameter(tensors[name]))
            else:
                own[name].copy_(tensors[name])
    return LoadReport(
        loaded=loaded,
        missing=[name for name in own if name not in tensors],
        unexpected=[name for name in tensors if name not in own],
        notes=tuple(notes),
    )


def _by(grid: tuple[int, int, int]) -> str:
    return " x ".join(map(str, grid))
