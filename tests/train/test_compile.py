"""Compiled blocks compute what they compute otherwise."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.train import STEPS, finetuning, metrics, pretraining, train, weights

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (pretraining, ["run.recompute=none"]),
        (pretraining, ["run.recompute=selective", "run.attention=flash"]),
        (pretraining, ["run.recompute=full"]),
        (finetuning, ["run.recompute=full", "run.attention=math"]),
    ],
)
def test_the_losses_are_those_of_a_run_that_is_not_compiled(
    videos: Path, tmp_path: Path, make: type, settings: list[str]
) -> None:
    torch._dynamo.reset()
    plain = train(make(videos, tmp_path / "plain"))
    compiled = train(make(videos, tmp_path / "compiled", "run.compile=true", *settings))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for ours, theirs in zip(metrics(compiled), metrics(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert len(metrics(plain)) == STEPS
    names, others = weights(compiled).keys(), weights(plain).keys()
    assert names == others
    saved = (compiled / "checkpoints").glob("step_*/.metadata")
    assert all(b"_orig_mod" not in path.read_bytes() for path in saved)
