"""Checkpoints by the step, and by the main process's clock."""

import json
from pathlib import Path

import pytest

from tests.conftest import composed
from tests.train import STEPS, metrics, pretraining, train, weights
from tests.train.processes import Job, in_processes
from tests.train.under_rules import Way
from tests.train.under_rules import pretraining as pretraining_under_rules
from videomae.config import RunConfig
from videomae.run.files import sha256
from videomae.train.intervals import CheckpointTimer
from videomae.weights.formats import read_weights


class Clock:
    """Shows what it is set to, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_main_processes_minutes_count_and_all_hear_of_them_one_step_late() -> None:
    clocks = [Clock(), Clock()]
    run = RunConfig(checkpoint_every=None, checkpoint_every_min=2.0)
    times = [
        CheckpointTimer(run, is_main=rank == 0, clock=clock) for rank, clock in enumerate(clocks)
    ]
    saved = []
    for step in range(1, 25):
        clocks[0].now += 30.0
        clocks[1].now += 500.0  # another process's does not count
        due = [each.due(step) for each in times]
        assert due[0] == due[1]
        if due[0]:
            saved.append(step)
            for each in times:
                each.restart()
        asked = any(each.expired() for each in times)
        for each in times:
            each.request(asked)
    assert saved == [5, 10, 15, 20]  # asked for at 4, 9 ... with two minutes gone


def test_whichever_comes_first_counts() -> None:
    clock = Clock()
    both = RunConfig(checkpoint_every=10, checkpoint_every_min=1.0)
    times = CheckpointTimer(both, is_main=True, clock=clock)
    assert [step for step in range(1, 31) if times.due(step)] == [10, 20, 30]
    clock.now = 59.0
    assert not times.expired()
    clock.now = 60.0
    assert times.expired()
    times.request(True)
    assert times.due(3)
    times.restart()
    assert not times.due(3)
    assert not times.expired()
    steps = CheckpointTimer(RunConfig(), is_main=True, clock=clock)
    clock.now = 1e9
    assert not steps.expired()


def kept(directory: Path) -> list[int]:
    return sorted(int(p.name.removeprefix("step_")) for p in directory.glob("checkpoints/step_*"))


def test_a_run_saves_by_the_minute_and_learns_the_same(videos: Path, tmp_path: Path) -> None:
    plain = train(pretraining(videos, tmp_path / "plain"))
    often = ("run.checkpoint_every=null", "run.checkpoint_every_min=1e-9")
    timed = train(pretraining(videos, tmp_path / "timed", *often, "run.keep_checkpoints=9"))
    assert kept(plain) == [STEPS]
    assert kept(timed) == [2, 4, 6]  # asked for in a step, and heard in the next
    assert metrics(timed) == metrics(plain)
    ours, theirs = weights(timed), weights(plain)
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.long
@pytest.mark.parametrize(
    "way",
    [Way("ddp", 2, "torch"), pytest.param(Way("hsdp", 4, "torch"), marks=pytest.mark.soak)],
    ids=str,
)
def test_processes_save_by_one_clock_add_up_in_16_bits_and_hash_what_they_wrote(
    videos: Path, tmp_path: Path, way: Way
) -> None:
    overrides = pretraining_under_rules(videos, tmp_path / "run", way)
    overrides += ["run.checkpoint_every=null", "run.checkpoint_every_min=1e-9", "mask=tube"]
    overrides += [
        "run.keep_checkpoints=9",
        "run.reduce_dtype=bf16",
        "run.precision=float32",
        "probe.every_epochs=0",
    ]
    job = Job("pretrain", overrides)
    assert in_processes(way.processes, job) == [0] * way.processes
    assert kept(tmp_path / "run") == [2, 3]
    checkpoint = tmp_path / "run/checkpoints/step_3"
    digests = json.loads((checkpoint / "run.json").read_text())["sha256"]
    files = {path.name for path in checkpoint.iterdir()} - {"run.json"}
    assert set(digests) == files
    assert len(files) == way.processes + 1
    assert all(sha256(checkpoint / name) == digest for name, digest in digests.items())
    assert read_weights(checkpoint).tensors.keys() == weights(tmp_path / "run").keys()

    single = composed("pretrain", *overrides, f"output_dir={tmp_path}/one", "run.sharding=auto")
    ours, theirs = metrics(tmp_path / "run"), metrics(train(single))
    for row, other in zip(ours, theirs, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
    apart = abs(ours[0]["grad_norm"] / theirs[0]["grad_norm"] - 1)
    assert 2e-6 < apart < 1e-3  # in float32 it is 1e-7
