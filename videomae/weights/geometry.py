"""Model settings from the names and shapes of tensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videomae.config import ModelConfig
from videomae.model.presets import preset, preset_names
from videomae.weights.tensors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by their official names."""
PATCHES = "patch_embed.proj.weight"
V1_HUGE_DECODER = {640: 8}
"""Number of heads of a decoder by its width, for a released decoder that no preset has."""


def geometry(
    shapes: Shapes,
    file: Path,
    *,
    decoder: bool,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    like: ModelConfig | None = None,
) -> ModelConfig:
    """Return the settings of the model that has these tensors.

    Args:
        shapes: shapes of the tensors by official name.
        file: file that holds the tensors, for messages.
        decoder: whether the tensors include the decoder of pre-training.
        num_heads: number of attention heads of the encoder; None: that of the preset of its width.
        decoder_num_heads: number of attention heads of the decoder; None: that of the preset.
        like: model whose numbers of heads are used for its width if no preset has that width.

    Raises:
        WeightsError: the tensors belong to no VideoMAE, or the number of heads is not known.
    """
    prefix = "encoder." if PATCHES not in shapes else ""
    encoder = _encoder(shapes, prefix, file, num_heads, like)
    if decoder:
        return ModelConfig(**encoder, **_decoder(shapes, file, decoder_num_heads, like))
    return ModelConfig(**encoder, **_decoder_for(encoder["dim"], encoder["patch"]))


def _encoder(
    shapes: Shapes, prefix: str, file: Path, num_heads: int | None, like: ModelConfig | None
) -> dict[str, Any]:
    """Return the settings of the encoder, whose tensors' names have this prefix."""
    dim, tubelet, patch = _tubelet(shapes, prefix + PATCHES, file)
    mlp_dim = _rows(shapes, f"{prefix}blocks.0.mlp.fc1.weight", file)
    depth = _depth(shapes, f"{prefix}blocks.", file)
    known = ({like.dim: like.heads} if like else {}) | heads_by_width()
    heads = known.get(dim) if num_heads is None else num_heads
    if heads is None:
        raise WeightsError(
            f"{file} is {dim} wide, as no preset is, and tensors do not show the number of "
            "attention heads: give num_heads= (in training, model.dim= and model.heads=)"
        )
    own = _preset(dim, patch)
    same = own and (own.depth, own.mlp_dim, own.tubelet) == (depth, mlp_dim, tubelet)
    return {
        "name": own.name if own and same else f"vit_{dim}x{depth}",
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_dim": mlp_dim,
        "patch": patch,
        "tubelet": tubelet,
    }


def _decoder(
    shapes: Shapes, file: Path, num_heads: int | None, like: ModelConfig | None
) -> dict[str, Any]:
    """Return the settings of the decoder of pre-training."""
    dim = _rows(shapes, "encoder_to_decoder.weight", file)
    known = V1_HUGE_DECODER | ({like.decoder_dim: like.decoder_heads} if like else {})
    known |= {p.decoder_dim: p.decoder_heads for p in map(preset, preset_names())}
    heads = known.get(dim) if num_heads is None else num_heads
    if heads is None:
        raise WeightsError(
            f"the decoder of {file} is {dim} wide, as no preset's is, and tensors do not "
            "show the number of attention heads: give decoder_num_heads= (in training, "
            "model.decoder_dim= and model.decoder_heads=)"
        )
    return {
        "decoder_dim": dim,
        "decoder_heads": heads,
        "decoder_mlp_dim": _rows(shapes, "decoder.blocks.0.mlp.fc1.weight", file),
        "decoder_depth": _depth(shapes, "decoder.blocks.", file),
    }


def _decoder_for(dim: int, patch: int) -> dict[str, Any]:
    """Return decoder settings for weights without one: the preset's, or half the encoder's
    width."""
    if own := _preset(dim, patch):
        return {name: value for name, value in vars(own).items() if name.startswith("decoder_")}
    half = max(2, dim // 4 * 2)
    return {"decoder_dim": half, "decoder_heads": 1, "decoder_mlp_dim": 4 * half}


def _preset(dim: int, patch: int) -> ModelConfig | None:
    """Return the first preset with this encoder width and patch side; None if there is none."""
    presets = map(preset, preset_names())
    return next((each for each in presets if (each.dim, each.patch) == (dim, patch)), None)


def heads_by_width() -> dict[int, int]:
    """Return the number of attention heads of the presets' encoders, by width."""
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


def _tubelet(shapes: Shapes, name: str, file: Path) -> tuple[int, int, int]:
    """Return the encoder width, and the frames and the side in pixels of a tubelet."""
    patches = _shape(shapes, name, file)
    if len(patches) == 4:
        raise WeightsError(
            f"{file} is a model of images: its patch embedding {patches} is 2-D. Expected one of "
            "videos, (width, 3, tubelet, patch, patch)"
        )
    if len(patches) != 5 or patches[1] != 3 or patches[3] != patches[4]:
        raise WeightsError(
            f"{file}: {name} is {patches}; expected (width, 3, tubelet, patch, patch)"
        )
    dim, _, tubelet, patch, _ = patches
    return dim, tubelet, patch


def _rows(shapes: Shapes, name: str, file: Path) -> int:
    """Return the number of rows of a matrix among the tensors.

    Raises:
        WeightsError: the tensor is missing, or no matrix.
    """
    shape = _shape(shapes, name, file)
    if len(shape) != 2:
        raise WeightsError(f"{file}: {name} is {shape}; expected a matrix")
    return shape[0]


def _depth(shapes: Shapes, prefix: str, file: Path) -> int:
    """Return the number of blocks whose tensors have this prefix.

    Raises:
        WeightsError: a block is missing.
    """
    found = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in shapes)
    numbers = {int(number[1]) for number in found if number}
    lacking = next((i for i in range(len(numbers)) if i not in numbers), None)
    if lacking is not None:
        raise WeightsError(
            f"{file} holds {prefix}{max(numbers)} but nothing of {prefix}{lacking}: it is not whole"
        )
    return len(numbers)
