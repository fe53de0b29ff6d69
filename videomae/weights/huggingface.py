"""Directories of Hugging Face transformers: VideoMAEForPreTraining, VideoMAEForVideoClassification.

config.json holds the numbers of heads, the epsilons and the classes. The tensors are in safetensors
or pytorch_model.bin files, perhaps in shards. Query, key and value are separate tensors; their
biases have one of two names, depending on the version of transformers.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from videomae.config import Positions
from videomae.run.files import inside, replacing
from videomae.weights.geometry import geometry
from videomae.weights.huggingface_config import (
    CONFIG,
    FIXED_EPS,
    HuggingFaceConfig,
    read_object,
    write_config,
)
from videomae.weights.huggingface_names import official_tensors, transformers_tensors
from videomae.weights.official import (
    OTHER_POSITIONS,
    last_norm_eps,
    settle_positions,
    state_dict_of,
)
from videomae.weights.tensors import WeightsError, copied, open_content
from videomae.weights.weights import Kind, Weights, WeightsInfo

TENSORS = "model.safetensors"
TENSOR_FILES = (TENSORS, "pytorch_model.bin")
"""Files of tensors, in the order in which transformers looks for them; instead of each, there may
be an index of shards."""


def read_huggingface(
    directory: Path, *, num_heads: int | None = None, decoder_num_heads: int | None = None
) -> Weights:
    """Read weights from a directory of transformers.

    Args:
        num_heads: number of attention heads of the encoder; None: as config.json says.
        decoder_num_heads: number of attention heads of the decoder; None: as config.json says.

    Raises:
        WeightsError: the directory is damaged, of another architecture, or of a VideoMAE with
            settings that
            this project's models do not have.
    """
    config = HuggingFaceConfig.read(directory)
    kind, values = config.kind, config.values
    files = _tensor_files(directory)

    def opened() -> dict[str, Tensor]:
        parts = [state_dict_of(open_content(file), file) for file in files]
        return {name: tensor for part in parts for name, tensor in part.items()}

    tensors = official_tensors(copied(files, opened), kind, directory)
    if kind is Kind.pretrain and "encoder.norm.weight" not in tensors:
        raise WeightsError(
            f"{directory} has no videomae.layernorm, the norm after the encoder that VideoMAE's "
            f"pre-training has (use_mean_pooling={values['use_mean_pooling']})"
        )
    heads, decoder_heads = values["num_attention_heads"], values["decoder_num_attention_heads"]
    found = geometry(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        directory,
        decoder=kind is Kind.pretrain,
        num_heads=heads if num_heads is None else num_heads,
        decoder_num_heads=decoder_heads if decoder_num_heads is None else decoder_num_heads,
    )
    model = config.completed(found)
    clip = config.clip
    model = settle_positions(tensors, model, clip, directory)
    name, assumed = directory.resolve().name, config.assumed
    info = WeightsInfo(kind=kind, name=name, model=model, clip=clip, assumed=assumed)
    notes: list[str] = []
    if kind is Kind.classifier:
        info = replace(info, sampling=config.sampling)
        info, notes = _with_classes(info, tensors.get("head.weight"), config)
    return Weights(directory, tuple(files), info, tensors, tuple(notes))


def save_huggingface(
    directory: Path, tensors: Mapping[str, Tensor], info: WeightsInfo
) -> list[str]:
    """Write a directory that transformers loads.

    Returns:
        Descriptions of what the format cannot hold.

    Raises:
        WeightsError: transformers would compute something else with these weights.
    """
    model = info.model
    if model.positions is not Positions.sincos_1d or model.position_grid is not None:
        raise WeightsError(
            "transformers knows only fixed sincos_1d positions made for the clip's own tokens; "
            f"this model has {model.positions.name} ones"
            + (f", made for {model.position_grid} tokens" if model.position_grid else "")
            + f". {OTHER_POSITIONS}"
        )
    lost = [
        f"{name}={getattr(model, name)}: transformers has {FIXED_EPS} there, fixed; results differ "
        "by up to about 1e-4"
        for name in last_norm_eps(info.kind)
        if getattr(model, name) != FIXED_EPS
    ]
    if info.mask or info.drop_path or info.head_drop:
        lost.append("masking and drop rates of the training")
    written = {
        name: tensor.clone() for name, tensor in transformers_tensors(tensors, info.kind).items()
    }
    with replacing(directory / TENSORS) as temporary:
        save_file(written, temporary, metadata={"format": "pt"})
    write_config(directory, info)
    return lost


def _with_classes(
    info: WeightsInfo, head: Tensor | None, config: HuggingFaceConfig
) -> tuple[WeightsInfo, list[str]]:
    """Return `info` with the number and names of the classes, and notes on what is not known."""
    classes = None if head is None or head.ndim != 2 else len(head)
    names = config.class_names(classes)
    notes = []
    if names is None and config.values.get("id2label"):
        notes.append("the names of the classes are not known: id2label does not give each one")
    unknown = names == [f"LABEL_{i}" for i in range(classes or 0)]  # made up by transformers
    return replace(info, classes=classes, class_names=None if unknown else names), notes


def _tensor_files(directory: Path) -> list[Path]:
    """Return the files of a directory that hold its tensors.

    Raises:
        WeightsError: there are none, or some are missing.
    """
    for name in TENSOR_FILES:
        index = directory / f"{name}.index.json"
        if (directory / name).is_file():
            return [directory / name]
        if index.is_file():
            places = read_object(index).get("weight_map")
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
