"""Runs in bf16 under CUDA's rules of arithmetic, and with every way of sharing a model."""

from pathlib import Path

import pytest

from tests.train import metrics
from tests.train.processes import Job, in_processes
from tests.train.under_rules import Way, pretraining, train_both, use

WAYS = [
    Way("none", 1, "cudnn"),
    Way("ddp", 2, "flash"),
    Way("fsdp", 2, "cudnn"),
    Way("hsdp", 4, "flash"),
]


@pytest.mark.long
@pytest.mark.parametrize(
    "way",
    [pytest.param(w, marks=() if w.sharding == "fsdp" else pytest.mark.soak) for w in WAYS],
    ids=lambda way: way.sharding,
)
def test_runs_in_bf16_go_to_their_end_and_all_commands_take_their_weights(
    videos: Path, tmp_path: Path, way: Way
) -> None:
    pretrained, finetuned = train_both(videos, tmp_path, way)
    use(videos, tmp_path, pretrained, finetuned, processes=2 if way.sharding == "ddp" else 1)


@pytest.mark.long
def test_a_model_in_parts_trains_in_bf16_on_a_cpu_as_it_is(videos: Path, tmp_path: Path) -> None:
    """Whose layer_norm takes no weights of 16 bits beside inputs of 32."""
    overrides = pretraining(videos, tmp_path, Way("fsdp", 2, "torch"))
    assert in_processes(2, Job("pretrain", [*overrides, "max_steps=1"])) == [0, 0]
    assert metrics(tmp_path)[0]["step"] == 1
