"""Precision of matrix products: bf16, fp16 or float32, and the autocast that sets it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from videomae.config import Precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context of a forward pass: bf16, fp16, or none, which is float32."""
    if precision is Precision.fp16:
        return torch.autocast(device.type, torch.float16)
    if uses_bf16(device, precision):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def uses_bf16(device: torch.device, precision: Precision) -> bool:
    """Return whether matrix products run in bf16; for Precision.auto, where the device supports
    it."""
    if precision is Precision.auto:
        return has_bf16(device)
    return precision is Precision.bf16


def has_bf16(device: torch.device) -> bool:
    """Return whether a device is a CUDA device that computes in bf16 without emulation."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
