"""Activation checkpointing: keep few activations, and recompute the others in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from videomae.config import Recompute

ATEN = torch.ops.aten
KEPT = {
    ATEN.mm.default,
    ATEN.addmm.default,
    ATEN._scaled_mm.default,
    ATEN._scaled_dot_product_flash_attention.default,
    ATEN._scaled_dot_product_cudnn_attention.default,
    ATEN._scaled_dot_product_efficient_attention.default,
    ATEN._scaled_dot_product_flash_attention_for_cpu.default,
}
"""Operations whose results selective recomputation keeps: matrix products and attention. Norms,
GELU, casts and sums are cheap to recompute, and are half of a block's activations."""


def recomputed(
    function: Callable[..., Tensor], x: Tensor, scale: Tensor | None, recompute: Recompute
) -> Tensor:
    """Return function(x, scale), whose backward pass recomputes the activations not kept.

    Args:
        function: must draw no random numbers.
        recompute: none keeps all activations, selective the costly ones, full only x and scale.
    """
    if recompute is Recompute.none or not torch.is_grad_enabled():
        return function(x, scale)
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if recompute is Recompute.selective:
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    result: Tensor = checkpoint(function, x, scale, **options)
    return result


def _policy(_: object, operation: object, *__: object, **___: object) -> CheckpointPolicy:
    kept = operation in KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
