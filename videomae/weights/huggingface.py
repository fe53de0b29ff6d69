"""Directories of Hugging Face transformers: VideoMAEForPreTraining, VideoMAEForVideoClassification.

config.json says the heads, the epsilons and the classes. The tensors lie in safetensors or in
pytorch_model.bin, perhaps in shards: query, key and value apart, their biases under either of the
two names that versions of transformers gave them.
"""

import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from videomae.config import ClipConfig, ModelConfig, Positions
from videomae.model.pixels import MEAN, STD
from videomae.run.files import inside, read_json, replacing, write_text
from videomae.weights.geometry import geometry
from videomae.weights.official import CLIP, last_norm_eps, settle_positions, state_dict_of
from videomae.weights.tensors import WeightsError, copied, open_content
from videomae.weights.weights import Kind, Weights, WeightsInfo

CONFIG = "config.json"
TENSORS = "model.safetensors"
TENSOR_FILES = (TENSORS, "pytorch_model.bin")
"""What transformers looks for, in this order; each may be an index of shards instead."""
ARCHITECTURES = {
    "VideoMAEForPreTraining": Kind.pretrain,
    "VideoMAEForVideoClassification": Kind.classifier,
    "VideoMAEModel": Kind.encoder,
}
STRIDE = "frame_sampling_rate"
"""In config.json: source frames between two of a clip, as a pipeline of transformers calls them.
Only this project writes it there, and transformers samples frames without looking at it."""
DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 12,
    "decoder_num_attention_heads": 6,
    "layer_norm_eps": 1e-12,
    "norm_pix_loss": True,
    "image_size": 224,
    "num_frames": 16,
    STRIDE: None,
    "num_channels": 3,
    "hidden_act": "gelu",
    "use_mean_pooling": True,
}
"""Of transformers, for what a config.json leaves out."""
SIZES = {
    "hidden_size": "dim",
    "num_hidden_layers": "depth",
    "intermediate_size": "mlp_dim",
    "patch_size": "patch",
    "tubelet_size": "tubelet",
}
"""What the tensors show, too: their setting and ours."""
DECODER_SIZES = {
    "decoder_hidden_size": "decoder_dim",
    "decoder_num_hidden_layers": "decoder_depth",
    "decoder_intermediate_size": "decoder_mlp_dim",
}
FIXED_EPS = 1e-5
"""Of fc_norm and decoder.norm in transformers, whatever config.json says of the others."""
NAMES = (  # ours and theirs, replaced in this order
    ("encoder.patch_embed.proj.", "videomae.embeddings.patch_embeddings.projection."),
    ("encoder.pos_embed", "videomae.embeddings.position_embeddings"),
    ("encoder.blocks.", "videomae.encoder.layer."),
    ("encoder.norm.", "videomae.layernorm."),
    ("decoder.blocks.", "decoder.decoder_layers."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    (".attn.q_bias", ".attention.attention.q_bias"),
    (".attn.v_bias", ".attention.attention.v_bias"),
)
NEWER_NAMES = (
    (".attn.q_bias", ".attention.attention.query.bias"),
    (".attn.v_bias", ".attention.attention.value.bias"),
)
PARTS = tuple(f".attention.attention.{part}.weight" for part in ("query", "key", "value"))
QKV = ".attn.qkv.weight"


def read_huggingface(
    directory: Path, *, num_heads: int | None = None, decoder_num_heads: int | None = None
) -> Weights:
    """Read a directory of transformers.

    Args:
        num_heads: of the encoder, instead of what config.json says.
        decoder_num_heads: likewise of the decoder.

    Raises:
        WeightsError: it is damaged, of another architecture, or of a VideoMAE with settings that
            this project's models do not have.
    """
    config = DEFAULTS | _read_json(directory / CONFIG)
    kind = _kind(config, directory)
    _check_settings(config, kind, directory)
    _check_processor(directory)
    files = _tensor_files(directory)

    def opened() -> dict[str, Tensor]:
        parts = [state_dict_of(open_content(file), file) for file in files]
        return {name: tensor for part in parts for name, tensor in part.items()}

    tensors = _ours(copied(files, opened), kind, directory)
    if kind is Kind.pretrain and "encoder.norm.weight" not in tensors:
        raise WeightsError(
            f"{directory} has no videomae.layernorm, the norm after the encoder that VideoMAE's "
            f"pre-training has (use_mean_pooling={config['use_mean_pooling']})"
        )
    model = geometry(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        directory,
        decoder=kind is Kind.pretrain,
        num_heads=config["num_attention_heads"] if num_heads is None else num_heads,
        decoder_num_heads=(
            config["decoder_num_attention_heads"]
            if decoder_num_heads is None
            else decoder_num_heads
        ),
    )
    _check_shapes(model, config, kind, directory)
    model = replace(
        model,
        norm_eps=config["layer_norm_eps"],
        decoder_norm_eps=FIXED_EPS,
        fc_norm_eps=FIXED_EPS,
        normalise_targets=config["norm_pix_loss"],
    )
    size = config["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    clip = ClipConfig(
        frames=config["num_frames"],
        stride=CLIP.stride if config[STRIDE] is None else config[STRIDE],
        size=height,
        width=None if width == height else width,
    )
    model = settle_positions(tensors, model, clip, directory)
    info = WeightsInfo(kind=kind, name=directory.resolve().name, model=model, clip=clip)
    notes = []
    if config[STRIDE] is None:
        notes.append(
            f"config.json does not say how far apart frames were, so assumed: stride={clip.stride}"
        )
    if kind is Kind.classifier:
        head = tensors.get("head.weight")
        classes = None if head is None or head.ndim != 2 else len(head)
        labels = config.get("id2label")
        names = _class_names(labels, classes)
        if names is None and labels:
            notes.append("the names of the classes are not known: id2label does not give each one")
        unknown = names == [f"LABEL_{i}" for i in range(classes or 0)]  # made up by transformers
        info = replace(info, classes=classes, class_names=None if unknown else names)
    return Weights(directory, tuple(files), info, tensors, tuple(notes))


def save_huggingface(
    directory: Path, tensors: Mapping[str, Tensor], info: WeightsInfo
) -> list[str]:
    """Write a directory that transformers loads.

    Returns:
        What the format cannot hold, in words.

    Raises:
        WeightsError: transformers would compute something else with these weights.
    """
    model, clip = info.model, info.clip
    if model.positions is not Positions.sincos_1d or model.position_grid is not None:
        raise WeightsError(
            "transformers knows only fixed sincos_1d positions made for the clip's own tokens; "
            f"this model has {model.positions.name} ones"
            + (f", made for {model.position_grid} tokens" if model.position_grid else "")
        )
    lost = [
        f"{name}={getattr(model, name)}: transformers has {FIXED_EPS} there, fixed; results differ "
        "by up to about 1e-4"
        for name in last_norm_eps(info.kind)
        if getattr(model, name) != FIXED_EPS
    ]
    if info.mask or info.drop_path or info.head_drop:
        lost.append("masking and drop rates of the training")
    written = {name: tensor.clone() for name, tensor in _theirs(tensors, info.kind).items()}
    with replacing(directory / TENSORS) as temporary:
        save_file(written, temporary, metadata={"format": "pt"})
    processor = json.dumps(_processor(clip), indent=2) + "\n"
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        write_text(directory / name, processor)
    write_text(directory / CONFIG, json.dumps(_config(info), indent=2) + "\n")
    return lost


def _check_processor(directory: Path) -> None:
    """Refuse weights whose processor normalises pixels otherwise than all of VideoMAE's."""
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if not (directory / name).exists():
            continue
        found = _read_json(directory / name)
        for key, ours in (("image_mean", MEAN), ("image_std", STD)):
            theirs = found.get(key, list(ours))
            numbers = isinstance(theirs, list) and all(type(x) in (int, float) for x in theirs)
            if not numbers or len(theirs) != len(ours) or not np.allclose(theirs, ours, atol=1e-3):
                raise WeightsError(
                    f"{directory / name}: {key}={reprlib.repr(theirs)}, but every VideoMAE is made "
                    f"for {list(ours)}: these weights would get other pixels here"
                )


def _config(info: WeightsInfo) -> dict[str, Any]:
    model, clip = info.model, info.clip
    architecture = next(name for name, kind in ARCHITECTURES.items() if kind is info.kind)
    height, width = clip.frame
    config = {
        "architectures": [architecture],
        "model_type": "videomae",
        "attention_probs_dropout_prob": 0.0,
        "decoder_hidden_size": model.decoder_dim,
        "decoder_intermediate_size": model.decoder_mlp_dim,
        "decoder_num_attention_heads": model.decoder_heads,
        "decoder_num_hidden_layers": model.decoder_depth,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": model.dim,
        STRIDE: clip.stride,
        "image_size": height if height == width else [height, width],
        "intermediate_size": model.mlp_dim,
        "layer_norm_eps": model.norm_eps,
        "norm_pix_loss": model.normalise_targets,
        "num_attention_heads": model.heads,
        "num_channels": 3,
        "num_frames": clip.frames,
        "num_hidden_layers": model.depth,
        "patch_size": model.patch,
        "qkv_bias": True,
        "torch_dtype": "float32",
        "tubelet_size": model.tubelet,
        "use_mean_pooling": info.kind is Kind.classifier,
    }
    if info.kind is Kind.classifier:
        names = info.class_names or [f"LABEL_{i}" for i in range(info.classes or 0)]
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    return config


def _processor(clip: ClipConfig) -> dict[str, Any]:
    """How transformers is to prepare frames: as near to this project's evaluation as it can.

    It always averages over the source pixels where a frame shrinks, which the evaluation does not,
    and no setting forbids it. By the bilinear filter pixels differ by 0.4 of 255 on average for
    frames of 240 x 320, 0.7 for 256 x 340 and 3.5 for 720 x 1280 (photographs, shrunk to 224); the
    nearest pixel (3.1, 3.1, 2.1) and the bicubic filter (1.0, 1.0, 3.1) differ more in the sizes of
    the benchmarks.
    """
    height, width = clip.frame
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "video_processor_type": "VideoMAEVideoProcessor",
        "do_resize": True,
        "size": {"shortest_edge": min(height, width)},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error})") from error
    return content


def _kind(config: Mapping[str, Any], directory: Path) -> Kind:
    """Which model a config.json describes.

    Raises:
        WeightsError: none that this project has.
    """
    listed = config.get("architectures")
    architecture = str(listed[0]) if isinstance(listed, list) and listed else None
    if config.get("model_type") != "videomae" or architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{directory} holds a {architecture or 'model without a name'} (model_type "
            f"{config.get('model_type')}); expected one of {', '.join(ARCHITECTURES)}. Official "
            "tensors in such a directory are read when weights= names their file itself"
        )
    if config["hidden_act"] != "gelu" or config["num_channels"] != 3:
        raise WeightsError(
            f"{directory}: hidden_act={config['hidden_act']}, num_channels="
            f"{config['num_channels']}; expected gelu and 3"
        )
    kind = ARCHITECTURES[architecture]
    if kind is Kind.classifier and not config["use_mean_pooling"]:
        raise WeightsError(
            f"{directory} classifies its first token (use_mean_pooling=false); expected one that "
            "classifies the mean of all tokens, as VideoMAE's fine-tuning does"
        )
    return kind


def _check_settings(config: Mapping[str, Any], kind: Kind, directory: Path) -> None:
    """WeightsError unless what is read of a config.json is of the right type."""
    size = config["image_size"]
    sides = size if isinstance(size, list) else [size, size]
    eps = config["layer_norm_eps"]
    right = {
        "num_attention_heads": _is_count(config["num_attention_heads"]),
        "num_frames": _is_count(config["num_frames"]),
        STRIDE: config[STRIDE] is None or _is_count(config[STRIDE]),
        "image_size": len(sides) == 2 and all(map(_is_count, sides)),
        "layer_norm_eps": type(eps) in (int, float) and 0 < eps < math.inf,
    }
    if kind is Kind.pretrain:
        right["decoder_num_attention_heads"] = _is_count(config["decoder_num_attention_heads"])
        right["norm_pix_loss"] = isinstance(config["norm_pix_loss"], bool)
    if wrong := [f"{name}={config[name]!r}" for name in right if not right[name]]:
        raise WeightsError(f"{directory / CONFIG} makes no sense: {', '.join(wrong)}")


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _check_shapes(
    model: ModelConfig, config: Mapping[str, Any], kind: Kind, directory: Path
) -> None:
    """WeightsError where config.json says other sizes than the tensors have."""
    sizes = SIZES | (DECODER_SIZES if kind is Kind.pretrain else {})
    wrong = [
        f"{theirs}={config[theirs]!r} but the tensors have {getattr(model, ours)}"
        for theirs, ours in sizes.items()
        if theirs in config
        and config[theirs] not in (getattr(model, ours), [getattr(model, ours)] * 2)
    ]
    if wrong:
        raise WeightsError(f"{directory / CONFIG} says {', '.join(wrong)}")


def _tensor_files(directory: Path) -> list[Path]:
    """Where the tensors are.

    Raises:
        WeightsError: nowhere, or not all of them.
    """
    for name in TENSOR_FILES:
        index = directory / f"{name}.index.json"
        if (directory / name).is_file():
            return [directory / name]
        if index.is_file():
            places = _read_json(index).get("weight_map")
            shards = list(places.values()) if isinstance(places, dict) else []
            if not shards or not all(isinstance(shard, str) for shard in shards):
                raise WeightsError(f"{index} has no weight_map that says where each tensor is")
            try:
                files = [inside(directory, shard) for shard in sorted(set(shards))]
            except ValueError as error:
                raise WeightsError(f"{index}: {error}; its shards lie beside it") from error
            if missing := [file.name for file in files if not file.is_file()]:
                raise WeightsError(f"{index} names {', '.join(missing)}, which is not there")
            return files
    raise WeightsError(
        f"{directory} has a {CONFIG} but no tensors: expected {' or '.join(TENSOR_FILES)}"
    )


def _ours(tensors: dict[str, Tensor], kind: Kind, directory: Path) -> dict[str, Tensor]:
    """Official names and joined query, key and value, from theirs; empties `tensors`."""
    ours: dict[str, Tensor] = {}
    for theirs in list(tensors):
        if theirs.endswith(PARTS[1:]) or theirs not in tensors:
            continue  # joined to the query
        name = theirs
        if kind is Kind.encoder and not theirs.startswith("videomae."):
            name = f"videomae.{theirs}"
        name = re.sub(r"^classifier\.", "head.", name)
        name = re.sub(r"^position_embeddings$", "pos_embed", name)
        for our_part, their_part in (*NAMES, *NEWER_NAMES, (QKV, PARTS[0])):
            name = name.replace(their_part, our_part)
        if kind is not Kind.pretrain:
            name = name.removeprefix("encoder.")
        if name in ours:
            raise WeightsError(f"{directory} holds {name} twice, under its older and newer name")
        if theirs.endswith(PARTS[0]):
            block = theirs.removesuffix(PARTS[0])
            if missing := [part for part in PARTS if block + part not in tensors]:
                raise WeightsError(f"{directory} lacks {block}{missing[0]}")
            parts = [tensors.pop(block + part) for part in PARTS]
            if any(part.ndim == 0 or part.shape != parts[0].shape for part in parts):
                shapes = ", ".join(str(list(part.shape)) for part in parts)
                raise WeightsError(f"{directory} has {block}{PARTS[0]} and others of {shapes}")
            ours[name] = torch.cat(parts)
        else:
            ours[name] = tensors.pop(theirs)
    return ours | tensors  # keys and values without a query: left over


def _theirs(tensors: Mapping[str, Tensor], kind: Kind) -> dict[str, Tensor]:
    """The reverse of `_ours`."""
    theirs: dict[str, Tensor] = {}
    for ours, tensor in tensors.items():
        name = f"encoder.{ours}" if ours.startswith(("patch_embed.", "blocks.")) else ours
        name = re.sub(r"^head\.", "classifier.", name)
        for our_part, their_part in NAMES:
            name = name.replace(our_part, their_part)
        if name.endswith(QKV):
            block = name.removesuffix(QKV)
            for part, rows in zip(PARTS, tensor.chunk(3), strict=True):
                theirs[block + part] = rows
        else:
            theirs[name] = tensor
    return theirs


def _class_names(labels: object, classes: int | None) -> list[str] | None:
    """The names of the classes in order, if there is one of its own for each."""
    if not isinstance(labels, Mapping) or not isinstance(classes, int):
        return None
    names = [labels.get(str(i)) for i in range(classes)]
    known = [name for name in names if isinstance(name, str)]
    return known if len(set(known)) == classes == len(labels) else None
