"""Read and write checkpoints of the official VideoMAE V1 and V2 code.

Such a file holds a state dict, bare or under `model`, `module` (DeepSpeed) or `state_dict`, beside
optimiser states and the settings of the run (`args`). Names may have the prefixes `_orig_mod.`,
`module.`, `model.`, `backbone.` or `encoder.`; values are float32 or float16. Sizes are taken from
the tensors, other settings from `args`.
"""

import argparse
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videomae.config import ClipConfig, MaskConfig, MaskKind, ModelConfig, Positions, token_grid
from videomae.model.positions import position_table
from videomae.run.files import replacing
from videomae.weights.geometry import Shapes, geometry, heads_by_width
from videomae.weights.tensors import WeightsError, copied, open_content
from videomae.weights.weights import Kind, Weights, WeightsInfo

STATE_DICT_KEYS = ("model", "module", "state_dict")
"""Keys under which a checkpoint may hold its weights; the first wins. Source: V2's fine-tuning."""
CLIP = ClipConfig(frames=16, stride=4, size=224)
"""Clip of every released model, assumed if a file does not say."""
ARGS = {"frames": "num_frames", "size": "input_size", "stride": "sampling_rate"}
"""Settings of a clip, with their names in official args."""
OTHER_POSITIONS = (
    "format=videomae holds them; for the code of others, train with model.positions=sincos_1d, on "
    "frames of the size and number that weights= were trained on"
)
"""Advice on weights whose positions no other code computes."""
NORM_EPS = 1e-6
"""Epsilon of every LayerNorm in official code."""
DECODER = ("encoder_to_decoder.weight", "decoder.blocks.0.mlp.fc1.weight", "decoder.head.weight")
"""Names of tensors by which a pre-training model is recognised."""


def read_official(
    path: Path,
    file: Path,
    *,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    like: ModelConfig | None = None,
) -> Weights:
    """Read an official checkpoint, or a safetensors file with official names.

    Args:
        path: the path that the user named.
        file: the file that holds the tensors.
        num_heads: attention heads of the encoder; default: those of the preset of that width.
        decoder_num_heads: attention heads of the decoder; default: those of that width's preset.
        like: model whose heads are used for a width that no preset has.

    Raises:
        WeightsError: the file is damaged, refused, or not a VideoMAE's.
    """

    def opened() -> dict[str, Tensor]:
        return state_dict_of(open_content(file), file)

    settings = _settings(open_content(file))
    names = official_names(opened(), file)
    tensors = {names[name]: tensor for name, tensor in copied([file], opened).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    kind = _kind(shapes)
    model = geometry(
        shapes,
        file,
        decoder=kind is Kind.pretrain,
        num_heads=num_heads,
        decoder_num_heads=decoder_num_heads,
        like=like,
    )
    clip, assumed = _clip(settings, shapes, model)
    model = settle_positions(tensors, model, clip, file)
    if kind is Kind.pretrain and settings.get("normlize_target") is False:  # spelt so there
        model = replace(model, normalise_targets=False)
    info = WeightsInfo(
        kind=kind,
        name=path.stem,
        model=model,
        clip=clip,
        assumed=assumed,
        classes=shapes["head.weight"][0] if kind is Kind.classifier else None,
        mask=_mask(settings) if kind is Kind.pretrain else None,
    )
    if kind is Kind.classifier:
        info = replace(
            info,
            drop_path=_share(settings, "drop_path"),
            head_drop=_share(settings, "head_drop_rate", "fc_drop_rate"),
        )
    return Weights(path, (file,), info, tensors)


def save_official(path: Path, tensors: Mapping[str, Tensor], info: WeightsInfo) -> list[str]:
    """Write an official checkpoint: float32 weights under `model`, settings under `args`.

    Returns:
        a line of text for each property of the weights that the format cannot hold.

    Raises:
        WeightsError: official code would compute something else with these weights.
    """
    model, clip = info.model, info.clip
    if model.positions is Positions.sincos_3d or model.position_grid is not None:
        made_for = f", made for {model.position_grid} tokens" if model.position_grid else ""
        raise WeightsError(
            "official code makes sincos_1d positions for the clip's own tokens; this model has "
            f"{model.positions.name} ones{made_for}. {OTHER_POSITIONS}"
        )
    if clip.width not in (None, clip.size):
        raise WeightsError(f"the official format is of square frames, this model sees {clip}")
    args: dict[str, Any] = {
        theirs: getattr(clip, ours) for ours, theirs in ARGS.items() if ours not in info.assumed
    }
    args["tubelet_size"] = model.tubelet
    if info.kind is Kind.classifier:
        args |= {"nb_classes": info.classes, "drop_path": info.drop_path}
        args |= {"head_drop_rate": info.head_drop}
    else:
        args |= {"decoder_depth": model.decoder_depth, "normlize_target": model.normalise_targets}
    if info.mask:
        args |= {"mask_type": info.mask.kind.value, "mask_ratio": info.mask.ratio}
        args |= {"decoder_mask_ratio": info.mask.decoder_ratio}
    lost = [
        f"{name}={getattr(model, name)}: official code has {NORM_EPS}, so results differ a little"
        for name in ("norm_eps", *last_norm_eps(info.kind))
        if getattr(model, name) != NORM_EPS
    ]
    if info.class_names is not None:
        lost.append("the names of the classes")
    if info.sampling is not None:
        lost.append(f"how frames are sampled: read it with data.sampling={info.sampling.name}")
    if heads_by_width().get(model.dim) != model.heads:
        lost.append(f"the number of heads: read it with num_heads={model.heads}")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        torch.save({"model": contiguous, "args": args}, temporary)
    return lost


def last_norm_eps(kind: Kind) -> tuple[str, ...]:
    """Name the settings of norm epsilons, besides norm_eps, that a model of that kind uses."""
    return ("decoder_norm_eps",) if kind is Kind.pretrain else ("fc_norm_eps",)


def official_names(names: Iterable[str], file: Path) -> dict[str, str]:
    """Map each tensor name of a file to its official name, without the prefixes of wrappers.

    Raises:
        WeightsError: two names become equal.
    """
    plain = {name: name.replace("_orig_mod.", "") for name in names}
    for prefix in ("module.", "model.", "backbone."):
        plain = {name: short.removeprefix(prefix) for name, short in plain.items()}
    if not any(short.startswith("decoder.") for short in plain.values()):
        plain = {name: short.removeprefix("encoder.") for name, short in plain.items()}
    if len(set(plain.values())) < len(plain):
        twice = next(x for x in plain.values() if list(plain.values()).count(x) > 1)
        raise WeightsError(f"{file} holds {twice} twice, under different prefixes")
    return plain


def state_dict_of(content: Any, file: Path) -> dict[str, Tensor]:
    """Find the state dict in the object that torch.save wrote.

    Raises:
        WeightsError: there is none, or a tensor is sparse, quantised or without values.
    """
    if isinstance(content, Mapping):
        for key in STATE_DICT_KEYS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        tensors = {str(name): x for name, x in content.items() if isinstance(x, Tensor)}
        odd = [name for name, x in tensors.items() if not _is_plain(x)]
        if odd:
            raise WeightsError(f"{file} holds {odd[0]} sparse, quantised or without its numbers")
        if len(tensors) == len(content) > 0:
            return tensors
        what = f"a dict of {', '.join(map(str, list(content)[:8])) or 'nothing'}"
    else:
        what = f"a {type(content).__name__}"
    raise WeightsError(
        f"{file} holds {what}; expected a state dict, bare or under one of "
        f"{', '.join(STATE_DICT_KEYS)}"
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_nested)
    )


def _settings(content: Any) -> Mapping[str, Any]:
    """Return the settings (`args`) of the run that wrote a checkpoint; empty if it has none."""
    args = content.get("args") if isinstance(content, Mapping) else None
    if isinstance(args, argparse.Namespace):
        return vars(args)
    return args if isinstance(args, Mapping) else {}


def _kind(shapes: Shapes) -> Kind:
    if all(name in shapes for name in DECODER):
        return Kind.pretrain
    return Kind.classifier if len(shapes.get("head.weight", ())) == 2 else Kind.encoder


def _clip(
    settings: Mapping[str, Any], shapes: Shapes, model: ModelConfig
) -> tuple[ClipConfig, tuple[str, ...]]:
    """Return the clip that a model was trained on, and the settings of it that are assumed.

    Where positions are stored, their number tells the size, for the frames that are assumed: the
    two are no longer open.
    """
    found = {
        ours: settings[theirs]
        for ours, theirs in ARGS.items()
        if type(settings.get(theirs)) is int and settings[theirs] > 0
    }
    assumed = {"frames": CLIP.frames, "size": CLIP.size, "stride": CLIP.stride}
    stored = shapes.get("encoder.pos_embed", shapes.get("pos_embed"))
    is_stored = bool(stored) and len(stored or ()) == 3
    if stored and is_stored and "size" not in found:
        steps = max(1, found.get("frames", CLIP.frames) // model.tubelet)
        assumed["size"] = round((stored[1] / steps) ** 0.5) * model.patch
    still_open = ("stride",) if is_stored else tuple(assumed)
    return ClipConfig(**assumed | found), tuple(key for key in still_open if key not in found)


def settle_positions(
    tensors: dict[str, Tensor], model: ModelConfig, clip: ClipConfig, file: Path
) -> ModelConfig:
    """Delete stored positions that equal the fixed ones; the encoder's others count as learned."""
    grid = token_grid(model, clip)
    for name in ("pos_embed", "encoder.pos_embed"):  # in pre-training the first is the decoder's
        if name in tensors and _is_fixed(tensors[name], grid):
            del tensors[name]
    name = "encoder.pos_embed" if "decoder.head.weight" in tensors else "pos_embed"
    stored = tensors.get(name)
    if stored is None:
        return model
    tokens = grid[0] * grid[1] * grid[2]
    if stored.shape != (1, tokens, model.dim):
        raise WeightsError(
            f"{file} holds positions of {tuple(stored.shape)}, but {clip} are "
            f"{' x '.join(map(str, grid))} = {tokens} tokens, {model.dim} wide"
        )
    return replace(model, positions=Positions.learned)


def _is_fixed(stored: Tensor, grid: tuple[int, int, int]) -> bool:
    """Tell whether stored positions equal the sine-cosine table."""
    if stored.ndim != 3 or stored.shape[:2] != (1, math.prod(grid)) or stored.shape[2] < 1:
        return False
    table = position_table(Positions.sincos_1d, grid, stored.shape[-1])
    return stored.shape == table.shape and torch.allclose(stored, table, atol=1e-3)


def _mask(settings: Mapping[str, Any]) -> MaskConfig | None:
    """Return the masking that a model was pre-trained with; None if its settings do not say."""
    try:
        return MaskConfig(
            MaskKind(settings["mask_type"]),
            ratio=float(settings["mask_ratio"]),
            decoder_ratio=float(settings.get("decoder_mask_ratio", 0.0)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _share(settings: Mapping[str, Any], *names: str) -> float:
    """Return the first of the named settings that is a number in [0, 1]; 0: there is none."""
    for name in names:
        value = settings.get(name)
        if isinstance(value, float | int) and 0 <= value <= 1:
            return float(value)
    return 0.0
