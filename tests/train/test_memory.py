"""run.device_batch=auto: what the memory takes, agreed and kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.train import assert_same_run, finetuning, pretraining, train
from videomae.config import ConfigError, RunConfig
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.train import memory
from videomae.train.memory import MemoryNeed


def kept_batch(output: Path) -> object:
    return yaml.safe_load((output / "config.yaml").read_text())["run"]["device_batch"]


def test_how_many_fit() -> None:
    assert MemoryNeed(fixed=10, per_video=3).fits(40) == 10
    assert MemoryNeed(fixed=10, per_video=3).fits(5) == 0
    assert MemoryNeed(fixed=0, per_video=0).fits(5) == 5


@pytest.mark.parametrize("make", [pretraining, finetuning])
def test_what_fits_is_taken_written_down_and_taken_again(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Any,
) -> None:
    """Room for three of four videos: two at once."""
    needs = []

    def room(*arguments: Any) -> MemoryNeed:
        needs.append(measure_memory(*arguments))
        return needs[-1]

    measure_memory = memory.measure_memory
    monkeypatch.setattr(memory, "measure_memory", room)
    monkeypatch.setattr(
        memory, "available_bytes", lambda *_: needs[-1].fixed + 3.5 * needs[-1].per_video
    )
    auto = (
        ("run.device_batch=auto", "augment.mix_block=2")
        if make is finetuning
        else ("run.device_batch=auto",)
    )
    output = train(make(videos, tmp_path / "auto", *auto, max_steps=3))
    said = capsys.readouterr().err
    assert "run.device_batch=auto: 2 videos at once, memory for " in said
    assert kept_batch(output) == 2
    assert needs[0].per_video > 10_000
    whole = train(make(videos, tmp_path / "two", *auto[1:], "run.device_batch=2"))
    monkeypatch.setattr(memory, "measure_memory", None)  # nothing is measured when it goes on
    train(make(videos, output, *auto, resume="auto"))
    assert "2 videos at once, as before" in capsys.readouterr().err
    assert kept_batch(output) == 2
    assert_same_run(output, whole)


def test_no_room_for_one_video_names_what_helps(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda *_: 1000.0)
    with pytest.raises(ConfigError, match=r"too little memory for one video.*run\.recompute"):
        train(pretraining(videos, tmp_path / "run", "run.device_batch=auto"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_device_that_runs_out_while_measuring_says_so_too(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> MemoryNeed:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(memory, "measure_memory", full)
    with pytest.raises(ConfigError, match=r"(?s)too little memory for .*fsdp"):
        train(finetuning(videos, tmp_path / "run", "run.device_batch=auto"))


def test_only_a_number_or_auto(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.device_batch must be a number or auto, got 'all'"):
        pretraining(videos, tmp_path, "run.device_batch=all")
    assert pretraining(videos, tmp_path, "run.device_batch=auto").run.untrained_batch == 8


class Two(Processes):
    """This process and another, whose device takes two videos."""

    def gather(self, value: Any) -> list[Any]:
        return [value, (2, 0.5)]


@pytest.mark.parametrize(("group", "agreed"), [(1, 2), (2, 2), (3, None)])
def test_the_device_with_the_least_room_decides_for_all(
    videos: Path, monkeypatch: pytest.MonkeyPatch, group: int, agreed: int | None
) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda *_: MemoryNeed(0, 1e6))
    monkeypatch.setattr(memory, "available_bytes", lambda *_: 1e9)
    objective: Any = torch.nn.Module()
    objective.model = torch.nn.Linear(1, 1)
    run = Run(RunConfig(), Two(0, 2, 2, torch.device("cpu")), Path())
    clips: Any = None  # on a CPU nothing is asked of them
    if agreed:
        assert memory.agreed_batch(objective, clips, run, group) == agreed
    else:
        with pytest.raises(ConfigError, match=r"3 videos .* \(0\.50 GB each\): .*mix_block=1"):
            memory.agreed_batch(objective, clips, run, group)
