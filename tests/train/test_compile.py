"""Compiled blocks compute what they compute otherwise."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.train import STEPS, finetuning, metrics, pretraining, train, weights

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "recompute"),
    [
        (pretraining, "none"),
        (pretraining, "selective"),
        (pretraining, "full"),
        (finetuning, "full"),
    ],
)
def test_the_losses_are_those_of_a_run_that_is_not_compiled(
    videos: Path, tmp_path: Path, make: type, recompute: str
) -> None:
    torch._dynamo.reset()
    plain = train(make(videos, tmp_path / "plain"))
    settings = ("run.compile=true", f"run.recompute={recompute}")
    compiled = train(make(videos, tmp_path / "compiled", *settings))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for ours, theirs in zip(metrics(compiled), metrics(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert len(metrics(plain)) == STEPS
    names, others = weights(compiled).keys(), weights(plain).keys()
    assert names == others
    saved = (compiled / "checkpoints").glob("step_*/.metadata")
    assert all(b"_orig_mod" not in path.read_bytes() for path in saved)
