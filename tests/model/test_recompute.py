"""Activation checkpointing: less is kept, and nothing else changes."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from videomae.config import Recompute
from videomae.model.layers import Block

DIM, TOKENS = 32, 24


def block(recompute: Recompute, drop_path: float = 0.0) -> Block:
    torch.manual_seed(0)
    made = Block(DIM, 4, 4 * DIM, eps=1e-6, drop_path=drop_path)
    made.recompute = recompute
    return made.train()


def kept_bytes(made: Block) -> int:
    """What a forward pass leaves for the backward pass, weights aside."""
    weights = {parameter.data_ptr() for parameter in made.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.ones(8, TOKENS, DIM, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made(x)
    return sum(kept.values())


def outcome(made: Block) -> Iterator[Tensor]:
    """Output and gradients of two passes."""
    torch.manual_seed(1)
    x = torch.randn(8, TOKENS, DIM, requires_grad=True)
    y = made(made(x))
    y.square().sum().backward()
    assert x.grad is not None
    yield from (y.detach(), x.grad)
    yield from (p.grad for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
@pytest.mark.parametrize("recompute", [Recompute.selective, Recompute.full])
def test_the_numbers_are_the_same(recompute: Recompute, drop_path: float) -> None:
    plain = list(outcome(block(Recompute.none, drop_path)))
    again = list(outcome(block(recompute, drop_path)))
    assert len(plain) == len(again) == 2 + 13
    for ours, theirs in zip(again, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("recompute", list(Recompute))
def test_without_gradients_nothing_is_kept(recompute: Recompute) -> None:
    made, x = block(recompute), torch.randn(2, TOKENS, DIM)
    with torch.inference_mode():
        torch.testing.assert_close(made(x), block(Recompute.none)(x), rtol=0, atol=0)


def test_full_keeps_the_input_alone() -> None:
    view = 8 * TOKENS * DIM * 4
    assert kept_bytes(block(Recompute.full)) <= view
    assert kept_bytes(block(Recompute.none)) > 8 * view
