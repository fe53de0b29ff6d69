"""From the names and shapes of tensors to the model they belong to."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videomae.config import ModelConfig
from videomae.model.presets import preset, preset_names
from videomae.weights.tensors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]
"""By official name."""
PATCHES = "patch_embed.proj.weight"
V1_HUGE_DECODER = {640: 8}
"""Heads by width of a decoder that no preset has."""


def geometry(
    shapes: Shapes,
    file: Path,
    *,
    decoder: bool,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    like: ModelConfig | None = None,
) -> ModelConfig:
    """The model that tensors of these official names and shapes belong to.

    Args:
        file: that holds them, for messages.
        decoder: whether they have the decoder of pre-training.
        num_heads: of the encoder; default: the preset's of that width.
        decoder_num_heads: likewise of the decoder.
        like: the model whose heads are taken for a width that no preset has.

    Raises:
        WeightsError: they belong to no VideoMAE, or the number of heads is not known.
    """
    prefix = "encoder." if PATCHES not in shapes else ""
    patches = _shape(shapes, prefix + PATCHES, file)
    if len(patches) == 4:
        raise WeightsError(
            f"{file} is a model of images: its patch embedding {patches} is 2-D. Expected one of "
            "videos, (width, 3, tubelet, patch, patch)"
        )
    if len(patches) != 5 or patches[1] != 3 or patches[3] != patches[4]:
        raise WeightsError(
            f"{file}: {prefix}{PATCHES} is {patches}; expected (width, 3, tubelet, patch, patch)"
        )
    dim, _, tubelet, patch, _ = patches
    mlp_dim = _rows(shapes, f"{prefix}blocks.0.mlp.fc1.weight", file)
    depth = _depth(shapes, f"{prefix}blocks.", file)
    presets = [preset(name) for name in preset_names()]
    own = next((p for p in presets if (p.dim, p.patch) == (dim, patch)), None)
    known = ({like.dim: like.heads} if like else {}) | heads_by_width()
    heads = known.get(dim) if num_heads is None else num_heads
    if heads is None:
        raise WeightsError(
            f"{file} is {dim} wide, as no preset is, and tensors do not show the number of "
            "attention heads: give num_heads= (in training, model.dim= and model.heads=)"
        )
    same = own and (own.depth, own.mlp_dim, own.tubelet) == (depth, mlp_dim, tubelet)
    encoder: dict[str, Any] = {
        "name": own.name if own and same else f"vit_{dim}x{depth}",
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_dim": mlp_dim,
        "patch": patch,
        "tubelet": tubelet,
    }
    if not decoder:
        return ModelConfig(**encoder, **_decoder_of(own, dim))
    decoder_dim = _rows(shapes, "encoder_to_decoder.weight", file)
    known = V1_HUGE_DECODER | ({like.decoder_dim: like.decoder_heads} if like else {})
    known |= {p.decoder_dim: p.decoder_heads for p in presets}
    decoder_heads = known.get(decoder_dim) if decoder_num_heads is None else decoder_num_heads
    if decoder_heads is None:
        raise WeightsError(
            f"the decoder of {file} is {decoder_dim} wide, as no preset's is, and tensors do not "
            "show the number of attention heads: give decoder_num_heads= (in training, "
            "model.decoder_dim= and model.decoder_heads=)"
        )
    return ModelConfig(
        **encoder,
        decoder_dim=decoder_dim,
        decoder_heads=decoder_heads,
        decoder_mlp_dim=_rows(shapes, "decoder.blocks.0.mlp.fc1.weight", file),
        decoder_depth=_depth(shapes, "decoder.blocks.", file),
    )


def _decoder_of(preset: ModelConfig | None, dim: int) -> dict[str, Any]:
    """A decoder for weights that have none: the preset's, or half as wide as the encoder."""
    if preset:
        return {name: value for name, value in vars(preset).items() if name.startswith("decoder_")}
    half = max(2, dim // 4 * 2)
    return {"decoder_dim": half, "decoder_heads": 1, "decoder_mlp_dim": 4 * half}


def heads_by_width() -> dict[int, int]:
    """Attention heads of the encoder by its width."""
    return {config.dim: config.heads for config in map(preset, preset_names())}


def _shape(shapes: Shapes, name: str, file: Path) -> tuple[int, ...]:
    if name in shapes:
        return shapes[name]
    if any(other.startswith("videomae.") for other in shapes):
        raise WeightsError(
            f"{file} has the tensors of a Hugging Face directory: give the whole directory, with "
            "its config.json"
        )
    raise WeightsError(
        f"{file} holds no {name}, so it is no VideoMAE; its tensors are "
        f"{', '.join(list(shapes)[:4]) or 'none'} ..."
    )


def _rows(shapes: Shapes, name: str, file: Path) -> int:
    """Of a matrix."""
    shape = _shape(shapes, name, file)
    if len(shape) != 2:
        raise WeightsError(f"{file}: {name} is {shape}; expected a matrix")
    return shape[0]


def _depth(shapes: Shapes, prefix: str, file: Path) -> int:
    """How many blocks there are."""
    found = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in shapes)
    numbers = {int(number[1]) for number in found if number}
    lacking = next((i for i in range(len(numbers)) if i not in numbers), None)
    if lacking is not None:
        raise WeightsError(
            f"{file} holds {prefix}{max(numbers)} but nothing of {prefix}{lacking}: it is not whole"
        )
    return len(numbers)
