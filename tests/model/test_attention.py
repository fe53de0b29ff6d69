"""Every attention kernel gives what the formula gives, values and gradients."""

import math

import pytest
import torch
from torch import Tensor

from videomae.config import AttentionBackend
from videomae.model.attention import AttentionKernel, attend, candidate_kernels, measure

CPU = torch.device("cpu")
DIM = 88
"""Of ViT-g's heads."""


def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bhqk,bhkd->bhqd", scores.exp() / scores.exp().sum(-1, keepdim=True), v)


def with_gradients(function: object, *tensors: Tensor) -> list[Tensor]:
    inputs = [tensor.clone().requires_grad_() for tensor in tensors]
    out = function(*inputs)  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out.sin().sum(), inputs)]


@pytest.mark.parametrize("width", [None, 96, 128])
@pytest.mark.parametrize("backend", ["torch", "flash", "math"])
def test_values_and_gradients_are_those_of_the_formula(backend: str, width: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, 10, DIM, generator=generator) for _ in range(3)]
    kernel = AttentionKernel(AttentionBackend[backend], width)
    ours = with_gradients(lambda *qkv: attend(*qkv, kernel), *tensors)
    for here, there in zip(ours, with_gradients(formula, *tensors), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


def test_what_is_tried() -> None:
    assert [str(kernel) for kernel in candidate_kernels(AttentionBackend.auto, 64)] == [
        *("torch", "flash", "cudnn", "efficient")
    ]
    assert [str(kernel) for kernel in candidate_kernels(AttentionBackend.auto, DIM)] == [
        "torch",
        *("flash", "flash, heads of 96", "flash, heads of 128"),
        *("cudnn", "cudnn, heads of 96", "cudnn, heads of 128"),
        *("efficient", "efficient, heads of 96", "efficient, heads of 128"),
    ]
    assert candidate_kernels(AttentionBackend.math, DIM) == [AttentionKernel(AttentionBackend.math)]


def test_only_what_a_device_has_is_measured_and_the_fastest_comes_first() -> None:
    state = torch.random.get_rng_state()
    times = measure(
        candidate_kernels(AttentionBackend.auto, DIM), (2, 3, 10, DIM), CPU, torch.float32
    )
    assert {kernel.backend.name for kernel in times} == {"torch", "flash"}
    assert len(times) == 4
    assert list(times.values()) == sorted(times.values())
    assert min(times.values()) > 0
    assert torch.random.get_rng_state().equal(state)
    assert (
        measure(candidate_kernels(AttentionBackend.cudnn, DIM), (2, 3, 10, DIM), CPU, torch.float32)
        == {}
    )
