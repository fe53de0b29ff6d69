"""Renaming of the tensors of a VideoMAE between transformers and the official code.

In transformers, query, key and value are separate tensors; their biases have one of two names,
depending on the version of transformers.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind

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


def official_tensors(tensors: dict[str, Tensor], kind: Kind, directory: Path) -> dict[str, Tensor]:
    """Return tensors under official names, with query, key and value joined; `tensors` is emptied.

    Raises:
        WeightsError: a tensor is there twice, or a query, key or value is missing.
    """
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


def transformers_tensors(tensors: Mapping[str, Tensor], kind: Kind) -> dict[str, Tensor]:
    """Return tensors under the names of transformers, with query, key and value separate."""
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
