"""Parameter groups of equal weight decay and learning-rate scale, and the AdamW optimiser.

Another optimiser must leave its state unchanged where its `found_inf` is 1 (videomae.train.step),
and its state is restored in videomae.train.checkpoint and counted in videomae.train.memory.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from videomae.config import OptimConfig

UNDECAYED = ("mask_token", "pos_embed", "encoder.pos_embed")
"""Parameters of more than one dimension that are no weight matrices, so are not decayed."""


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    depth: int,
    *,
    weight_decay: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Sort parameters into groups for AdamW, each with params, weight_decay and lr_scale.

    Vectors, biases, the mask token and learned positions are not decayed. lr_scale is
    layer_decay ** (depth - i) in block i of `depth`, from 0, layer_decay ** (depth + 1) in the
    tubelet embedding, and 1 after the blocks.

    Source: VideoMAE V2, get_parameter_groups and LayerDecayValueAssigner.
    """
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named:
        decayed = parameter.ndim > 1 and name not in UNDECAYED
        layer = depth + 1 if layer_decay == 1 else _layer(name, depth)
        settings = {
            "weight_decay": weight_decay if decayed else 0.0,
            "lr_scale": layer_decay ** (depth + 1 - layer),
        }
        group = groups.setdefault((layer, decayed), {"params": [], **settings})
        group["params"].append(parameter)
    return list(groups.values())


def adamw(model: nn.Module, depth: int, config: OptimConfig) -> torch.optim.AdamW:
    """Make the AdamW optimiser. Only the fused one leaves all state unchanged in a skipped step."""
    groups = parameter_groups(
        model.named_parameters(),
        depth,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
    )
    beta1, beta2 = config.betas
    return torch.optim.AdamW(groups, lr=0.0, betas=(beta1, beta2), eps=config.eps, fused=True)


def _layer(name: str, depth: int) -> int:
    """Return a parameter's layer: 0 for the embedding, i + 1 for block i, depth + 1 after them."""
    name = name.removeprefix("encoder.")
    if name.startswith(("patch_embed.", "pos_embed", "mask_token")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return depth + 1
