"""Attention kernels, and how to measure which of them is fastest on a device.

All kernels compute softmax(q k^T / sqrt(d)) v. They are torch's implementations, each also with
zeros appended to the heads, since some are made for heads of 64 or 128 and ViT-g's have 88. The
zeros add nothing to a product, and their outputs are cut off.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from videomae.config import AttentionBackend
from videomae.model.timing import device_seconds

SDP = {
    AttentionBackend.flash: SDPBackend.FLASH_ATTENTION,
    AttentionBackend.cudnn: SDPBackend.CUDNN_ATTENTION,
    AttentionBackend.efficient: SDPBackend.EFFICIENT_ATTENTION,
    AttentionBackend.math: SDPBackend.MATH,
}
HEAD_DIMS = (32, 64, 96, 128)
"""Widths of a head that fast implementations are made for."""


@dataclass(frozen=True)
class AttentionKernel:
    """One implementation of attention, and the width to which it pads the heads."""

    backend: AttentionBackend = AttentionBackend.torch
    padded_dim: int | None = None
    """Width of a head with the appended zeros; None: no zeros are appended."""

    def __str__(self) -> str:
        name = self.backend.name
        return name if self.padded_dim is None else f"{name}, heads of {self.padded_dim}"


def attend(q: Tensor, k: Tensor, v: Tensor, kernel: AttentionKernel) -> Tensor:
    """Compute multi-head attention with one kernel: q, k, v (B, h, N, d) -> (B, h, N, d).

    Raises:
        RuntimeError: the kernel does not support this device, dtype or width.
    """
    dim = q.shape[-1]
    if kernel.padded_dim is not None:
        q, k, v = (F.pad(part, (0, kernel.padded_dim - dim)) for part in (q, k, v))
    backend = SDP.get(kernel.backend)
    with nullcontext() if backend is None else sdpa_kernel(backend):
        mixed = F.scaled_dot_product_attention(q, k, v, scale=dim**-0.5)
    return mixed[..., :dim]


def candidate_kernels(asked: AttentionBackend, dim: int) -> list[AttentionKernel]:
    """List the kernels to measure for heads of width `dim`, as run.attention asks."""
    if asked is not AttentionBackend.auto:
        return [AttentionKernel(asked)]
    padded = [] if dim in HEAD_DIMS else [width for width in HEAD_DIMS if width > dim]
    fused = [each for each in SDP if each is not AttentionBackend.math]
    kernels = [AttentionKernel(each, width) for each in fused for width in (None, *padded)]
    return [AttentionKernel(), *kernels]


def measure(
    kernels: Sequence[AttentionKernel],
    shape: tuple[int, int, int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[AttentionKernel, float]:
    """Measure each kernel's device time in seconds, forward and backward, and sort by it.

    Kernels that the device does not support are left out.

    Args:
        shape: (B, h, N, d) of queries, keys and values.
    """
    own = torch.Generator(device).manual_seed(0)  # the global generator stays as it is
    batch, heads, tokens, dim = shape
    qkv = torch.randn(batch, tokens, 3, heads, dim, device=device, generator=own).to(dtype)
    qkv.requires_grad_()
    times = {}
    for kernel in kernels:
        try:
            times[kernel] = device_seconds(partial(_pass, qkv, kernel), device)
        except RuntimeError:  # torch raises it where there is no such kernel
            continue
    return dict(sorted(times.items(), key=lambda item: item[1]))


def _pass(qkv: Tensor, kernel: AttentionKernel) -> None:
    """Run forward and backward on qkv (B, N, 3, h, d), the memory layout inside a block."""
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    mixed = attend(q, k, v, kernel).transpose(1, 2).flatten(2)
    torch.autograd.grad(mixed, qkv, torch.ones_like(mixed))
