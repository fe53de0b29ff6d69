"""Float8 in the blocks, emulated: other matrix products, and nothing else."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import TINY, composed
from tests.train import (
    STEPS,
    assert_same_run,
    finetuning,
    metrics,
    pretraining,
    train,
    weights,
)
from videomae.config import ConfigError, Recompute
from videomae.evaluate import evaluate
from videomae.model.float8 import use_float8
from videomae.model.layers import Attention, Block

CPU = torch.device("cpu")
DIM = 32


def blocks(recompute: Recompute = Recompute.none) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(*(Block(DIM, 2, 2 * DIM, eps=1e-6) for _ in range(2)))
    for module in made.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.q_bias)
            nn.init.normal_(module.v_bias)
        if isinstance(module, Block):
            module.recompute = recompute
    return made


def outcome(made: nn.Module) -> list[torch.Tensor]:
    """Output and gradients, input first."""
    torch.manual_seed(1)
    x = torch.randn(4, 10, DIM, requires_grad=True)
    y = made(x)
    y.square().sum().backward()
    assert x.grad is not None
    named = dict(made.named_parameters())
    return [y.detach(), x.grad, *(named[name].grad for name in sorted(named))]  # type: ignore[list-item]


def test_values_and_gradients_are_near_those_of_float32() -> None:
    made = blocks()
    assert use_float8(made, CPU) == 2 * 4  # qkv, proj, fc1, fc2
    assert made.state_dict().keys() == blocks().state_dict().keys()
    for rough, exact in zip(outcome(made), outcome(blocks()), strict=True):
        off = (rough - exact).norm() / exact.norm()
        assert 0 < off < 0.2  # each factor is off by up to 2**-4, through four layers in a row


@pytest.mark.parametrize("recompute", [Recompute.selective, Recompute.full])
def test_recomputation_changes_nothing(recompute: Recompute) -> None:
    plain, again = blocks(), blocks(recompute)
    for made in (plain, again):
        use_float8(made, CPU)
    for ours, theirs in zip(outcome(again), outcome(plain), strict=True):
        assert torch.equal(ours, theirs)


def test_layers_that_the_hardware_cannot_do_stay() -> None:
    some = nn.Sequential(Block(40, 2, 64, eps=1e-6), nn.Linear(32, 32), Block(32, 2, 40, eps=1e-6))
    assert use_float8(some, CPU) == 2  # qkv and proj of the last
    assert isinstance(some[0], Block)
    assert some[0](torch.randn(1, 3, 40)).isfinite().all()
    with pytest.raises(ConfigError, match=r"multiples of 16; leave it out"):
        use_float8(nn.Sequential(Block(40, 2, 64, eps=1e-6), nn.Linear(32, 32)), CPU)


def test_without_torchao_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(ConfigError, match=r'pip install "videomae\[float8\]"'):
        use_float8(blocks(), CPU)


@pytest.mark.long
def test_a_run_learns_nearly_the_same_and_goes_on_exactly(videos: Path, tmp_path: Path) -> None:
    plain = train(pretraining(videos, tmp_path / "plain"))
    pictured = ("run.float8=true", "run.image_every=2")
    rough = train(pretraining(videos, tmp_path / "rough", *pictured))
    curve = [row["loss"] for row in metrics(rough)]
    assert curve == pytest.approx([row["loss"] for row in metrics(plain)], rel=0.05)
    assert curve != [row["loss"] for row in metrics(plain)]
    assert len(curve) == STEPS
    assert weights(rough).keys() == weights(plain).keys()

    parts = tmp_path / "parts"
    train(pretraining(videos, parts, "run.float8=true", max_steps=2))
    train(pretraining(videos, parts, "run.float8=true", resume="auto"))
    assert_same_run(parts, rough)


@pytest.mark.parametrize("ema", ["null", "0.5"])
def test_what_is_evaluated_are_the_saved_weights_without_float8(
    videos: Path, tmp_path: Path, ema: str
) -> None:
    """To the last bit: rounding to float8 would show."""
    decay = f"optim.ema_decay={ema}"
    config = finetuning(videos, tmp_path / "run", "run.float8=true", decay, "optim.base_lr=5")
    directory = train(config)
    again = tmp_path / "again"
    given = (f"weights={directory}", f"data.test_list={config.data.test_list}", "data.classes=3")
    views = ("data.segments=1", "data.crops=1", f"data.root={videos}", f"output_dir={again}")
    evaluate(composed("evaluate", *TINY, *given, *views))
    name = "predictions.jsonl"
    assert (again / name).read_bytes() == (directory / name).read_bytes()
