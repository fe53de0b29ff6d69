"""Compiled blocks compute what they compute otherwise."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from tests.train import STEPS, finetuning, metrics, pretraining, train, weights
from videomae.model.layers import Block
from videomae.train.sharding import compile_blocks

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


WAYS: list[tuple[type, list[str]]] = [
    (pretraining, ["run.recompute=none"]),
    (pretraining, ["run.recompute=selective", "run.attention=flash"]),
    (pretraining, ["run.recompute=full"]),
    (finetuning, ["run.recompute=full", "run.attention=math"]),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "settings", "backend"),
    [
        (*WAYS[1], "aot_eager"),  # compiles all but the C++, which takes long
        (*WAYS[3], "aot_eager"),
        *(pytest.param(*way, "aot_eager", marks=pytest.mark.soak) for way in WAYS[::2]),
        *(pytest.param(*way, "inductor", marks=pytest.mark.soak) for way in WAYS),
    ],
)
def test_the_losses_are_those_of_a_run_that_is_not_compiled(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: type,
    settings: list[str],
    backend: str,
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    counters.clear()
    plain = train(make(videos, tmp_path / "plain"))
    compiled = train(make(videos, tmp_path / "compiled", "run.compile=true", *settings))
    assert 0 < counters["stats"]["unique_graphs"] <= 2
    for ours, theirs in zip(metrics(compiled), metrics(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert len(metrics(plain)) == STEPS
    names, others = weights(compiled).keys(), weights(plain).keys()
    assert names == others
    saved = (compiled / "checkpoints").glob("step_*/.metadata")
    assert all(b"_orig_mod" not in path.read_bytes() for path in saved)


def graphs(function: Callable[[], object]) -> int:
    """How many are compiled by it."""
    before = counters["stats"]["unique_graphs"]
    function()
    return int(counters["stats"]["unique_graphs"] - before)


def test_every_size_and_no_rate_of_drop_path_has_a_graph_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    rates = (0.0, 0.1, 0.2, 0.3)
    blocks = nn.ModuleList(Block(16, 2, 32, eps=1e-6, drop_path=rate) for rate in rates)
    others = nn.ModuleList(Block(8, 2, 16, eps=1e-6) for _ in range(2))
    for each in (blocks, others):
        compile_blocks(each)

    def train(batch: int, tokens: int) -> None:
        for each, dim in ((blocks, 16), (others, 8)):
            x = torch.randn(batch, tokens, dim, requires_grad=True)
            for block in each:
                x = block(x)
            x.sum().backward()

    def evaluate() -> None:
        blocks.eval()
        with torch.no_grad():
            blocks[0](torch.randn(3, 7, 16))
            blocks[3](torch.randn(5, 9, 16))
        blocks.train()
        with torch.no_grad():
            blocks[3](torch.randn(4, 6, 16))

    assert graphs(lambda: train(2, 6)) == 3  # one without drop path, one with it, the others
    assert graphs(lambda: train(2, 6)) == 0
    assert graphs(evaluate) == 0
    assert graphs(lambda: train(4, 8)) == 3
    assert graphs(lambda: train(2, 6)) == 0
