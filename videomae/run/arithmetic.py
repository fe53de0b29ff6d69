"""In which numbers matrix products are computed."""

from contextlib import AbstractContextManager, nullcontext

import torch

from videomae.config import Precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The arithmetic of a forward pass: matrix products in bf16 or fp16, or all in float32."""
    if precision is Precision.fp16:
        return torch.autocast(device.type, torch.float16)
    if uses_bf16(device, precision):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def uses_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether matrix products run in bf16: as asked, or on CUDA devices that have it."""
    if precision is Precision.auto:
        return has_bf16(device)
    return precision is Precision.bf16


def has_bf16(device: torch.device) -> bool:
    """Whether it is a CUDA device that computes in bf16, rather than in emulation."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
