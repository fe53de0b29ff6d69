"""Attention in the way that is fastest here, found by trying.

All ways compute the same, softmax(q k^T / sqrt(d)) v: torch's implementations, each also with zeros
appended to the heads, since some are made for heads of 64 or 128 and ViT-g's have 88. The zeros add
nothing to a product, and what comes out for them is left away.
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
WIDTHS = (32, 64, 96, 128)
"""Of heads, that implementations are made for."""


@dataclass(frozen=True)
class Way:
    """How attention is computed."""

    backend: AttentionBackend = AttentionBackend.torch
    width: int | None = None
    """Of a head with its zeros; None: no zeros."""

    def __str__(self) -> str:
        name = self.backend.name
        return name if self.width is None else f"{name}, heads of {self.width}"


def attend(q: Tensor, k: Tensor, v: Tensor, way: Way) -> Tensor:
    """Each (B, h, N, d) -> (B, h, N, d).

    Raises:
        RuntimeError: that way cannot do it here.
    """
    dim = q.shape[-1]
    if way.width is not None:
        q, k, v = (F.pad(part, (0, way.width - dim)) for part in (q, k, v))
    backend = SDP.get(way.backend)
    with nullcontext() if backend is None else sdpa_kernel(backend):
        mixed = F.scaled_dot_product_attention(q, k, v, scale=dim**-0.5)
    return mixed[..., :dim]


def ways(asked: AttentionBackend, dim: int) -> list[Way]:
    """What is to be tried for heads of that width."""
    if asked is not AttentionBackend.auto:
        return [Way(asked)]
    widths = [None, *(width for width in WIDTHS if width > dim)] if dim not in WIDTHS else [None]
    fused = [each for each in SDP if each is not AttentionBackend.math]
    return [Way(), *(Way(each, width) for each in fused for width in widths)]


def measure(
    tried: Sequence[Way],
    shape: tuple[int, int, int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[Way, float]:
    """Seconds of the device that each takes forward and backward, the fastest first; those that
    cannot do it on this device are left out.

    Args:
        shape: (B, h, N, d) of queries, keys and values.
    """
    own = torch.Generator(device).manual_seed(0)  # others' random numbers stay as they are
    batch, heads, tokens, dim = shape
    qkv = torch.randn(batch, tokens, 3, heads, dim, device=device, generator=own).to(dtype)
    qkv.requires_grad_()
    times = {}
    for way in tried:
        try:
            times[way] = device_seconds(partial(_pass, qkv, way), device)
        except RuntimeError:  # as torch says that there is no such kernel
            continue
    return dict(sorted(times.items(), key=lambda item: item[1]))


def _pass(qkv: Tensor, way: Way) -> None:
    """Forward and backward, laid out in memory as in a block."""
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    mixed = attend(q, k, v, way).transpose(1, 2).flatten(2)
    torch.autograd.grad(mixed, qkv, torch.ones_like(mixed))
