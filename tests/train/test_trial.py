"""A step that does not fit into memory is told of before a run begins."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train import finetuning, metrics, pretraining, train, weights
from videomae.config import ConfigError, Precision, Recompute, RunConfig, Sharding
from videomae.run.parallel import Processes
from videomae.train import trial
from videomae.train.objective import Classify, Reconstruct
from videomae.train.schedule import Plan
from videomae.train.trial import remedies

MIXED = ("augment.mixup=0.8", "augment.erase_prob=0.25", "optim.ema_decay=0.5")
OUT = "CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU's memory be tried."""
    monkeypatch.setattr(trial, "LIMITED", ("cpu",))


@pytest.mark.parametrize(("make", "settings"), [(pretraining, ()), (finetuning, MIXED)])
def test_the_trial_changes_nothing(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: type,
    settings: tuple[str, ...],
) -> None:
    plain = train(make(videos, tmp_path / "plain", *settings, max_steps=2))
    monkeypatch.setattr(trial, "LIMITED", ("cpu",))
    other = train(make(videos, tmp_path / "tried", *settings, max_steps=2))
    assert metrics(other) == metrics(plain)
    ours, theirs = weights(other), weights(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("make", "kind", "settings"),
    [(pretraining, Reconstruct, ()), (finetuning, Classify, ("augment.mix_block=1",))],
)
def test_a_step_that_does_not_fit_names_the_flags_and_replaces_no_run(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: type,
    kind: type,
    settings: tuple[str, ...],
) -> None:
    before = train(make(videos, tmp_path / "run", max_steps=1))
    kept = metrics(before)

    def forward(*_: object) -> None:
        raise torch.OutOfMemoryError(OUT)

    monkeypatch.setattr(kind, "forward", forward)
    with pytest.raises(ConfigError) as caught:
        train(make(videos, before, *settings, overwrite=True))
    said = str(caught.value)
    assert "too little memory for a step with 2 videos (4 views) at once" in said
    assert "run.device_batch=1" in said
    assert "run.recompute=full" in said
    assert "Tried to allocate 2.00 GiB" in said
    assert "\n" not in said
    assert metrics(before) == kept
    one = make(videos, tmp_path / "one", *settings, "run.device_batch=1")
    with pytest.raises(ConfigError, match=r"with 1 videos \(2 views\)") as caught:
        train(replace(one, run=replace(one.run, recompute=Recompute.full)))
    said = str(caught.value)
    assert "run.device_batch" not in said
    assert "run.recompute" not in said
    assert "several GPUs with run.sharding=fsdp" in said
    assert "data.repeats" in said
    assert not (tmp_path / "one" / "metrics.jsonl").exists()


def test_what_helps_depends_on_what_is_used_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    gpu, run = torch.device("cuda", 0), RunConfig(precision=Precision.float32)
    plan = Plan(100, 16, 1, 2, 4, 2, 6, 6, 0, 1e-3, 0.0)

    def advice(sharding: Sharding, plan: Plan = plan, run: RunConfig = run) -> str:
        return "; ".join(remedies(plan, run, sharding, Processes(0, 2, 2, gpu), group=2))

    said = advice(Sharding.ddp)
    assert said.startswith("run.device_batch=2 (the rest is accumulated")
    assert "run.sharding=fsdp" in said
    assert "run.precision=bf16" in said
    assert "more GPUs" in advice(Sharding.fsdp)
    pair = advice(
        Sharding.hsdp, replace(plan, micro_batch=2), replace(run, precision=Precision.auto)
    )
    assert "augment.mix_block=1" in pair
    assert "run.device_batch" not in pair
