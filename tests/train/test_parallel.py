"""Several processes on one machine's CPU do what one process does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from tests.conftest import ROOT, TINY, composed, write_list
from tests.train import (
    FINETUNE,
    NUM_VIDEOS,
    PRETRAIN,
    STEPS,
    assert_same_run,
    json_lines,
    metrics,
    pretraining,
    train,
    weights,
)
from tests.train.processes import Job, in_processes
from videomae.config import ConfigError, Device, RunConfig, Sharding
from videomae.evaluate import evaluate
from videomae.run.arithmetic import uses_bf16
from videomae.run.parallel import Processes, processes
from videomae.train.sharding import DistributedModel, num_shards, sharding_of
from videomae.weights.formats import read_weights

TORCHRUN = Path(sys.executable).parent / "torchrun"
BAD = 2
"""The place in the lists of a video that is not there."""
WITHOUT_NOISE = (
    "optim.drop_path=0",
    "optim.head_drop=0",
    "augment.erase_prob=0",
    "augment.mix_block=1",
)
"""What depends on the rank."""


def torchrun(count: int, *arguments: str, cwd: Path, status: int = 0) -> str:
    """Run a program in so many processes; what it printed to stderr."""
    done = subprocess.run(
        [str(TORCHRUN), "--standalone", "--nproc-per-node", str(count), *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """list.txt, and labelled.txt: eleven videos, one of them missing."""
    root = tmp_path_factory.mktemp("lists")
    names = [f"{n}.mp4" if n != BAD else "missing.mp4" for n in range(NUM_VIDEOS)]
    write_list(root / "list.txt", names)
    write_list(root / "labelled.txt", [f"{name} {n % 3}" for n, name in enumerate(names)])
    return root


def pretrain_overrides(videos: Path, lists: Path) -> list[str]:
    return [
        *PRETRAIN,
        "data.max_bad_fraction=1",
        "run.device_batch=1",  # two micro-batches on each of two processes
        f"data.root={videos}",
        f"data.train_list={lists / 'list.txt'}",
    ]


def finetune_overrides(videos: Path, lists: Path) -> list[str]:
    labelled = lists / "labelled.txt"
    return [
        *FINETUNE,
        *WITHOUT_NOISE,
        "optim.layer_decay=0.75",
        "data.max_bad_fraction=1",
        "run.device_batch=1",
        "weights=scratch",
        f"data.root={videos}",
        f"data.train_list={labelled}",
        f"data.test_list={labelled}",
    ]


def close_curves(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    for ours, theirs in zip(first, second, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def files(directory: Path) -> set[str]:
    """Names of what a run wrote, less what is named after the time and the process."""
    names = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    return {name for name in names if "tfevents" not in name and ".hydra" not in name}


@pytest.mark.long
def test_two_processes_pretrain_like_one(videos: Path, lists: Path, tmp_path: Path) -> None:
    overrides = pretrain_overrides(videos, lists)
    one = train(composed("pretrain", *overrides, f"output_dir={tmp_path / 'one'}"))
    two = tmp_path / "two"
    here = [*overrides, f"output_dir={two}", "max_steps=4"]
    assert in_processes(2, Job("pretrain", here, str(tmp_path / "said"))) == [0, 0]
    said = [(tmp_path / f"said{rank}").read_text() for rank in (0, 1)]
    assert "2 x 2 x 1: processes x micro-batches x videos" in said[0]
    assert [each.count("step 4/") for each in said] == [1, 0]
    close_curves(metrics(two), metrics(one)[:4])
    assert json_lines(two / "bad_files.jsonl") == json_lines(one / "bad_files.jsonl")
    assert len(json_lines(two / "bad_files.jsonl")) == 1
    assert len(list((two / "tensorboard").iterdir())) == 1
    only_in_parallel = {"checkpoints/step_4/__1_0.distcp"}
    renamed = {name.replace("step_6", "step_4") for name in files(one)}
    assert files(two) - only_in_parallel == renamed
    assert json.loads((two / "environment.json").read_text())["processes"] == 2

    go_on = composed("pretrain", *overrides, f"output_dir={two}", "resume=auto")
    train(go_on)  # in one process
    close_curves(metrics(two), metrics(one))
    theirs = weights(one)
    for name, tensor in weights(two).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-2, atol=1e-4)


@pytest.mark.long
def test_two_processes_finetune_and_three_evaluate_like_one(
    videos: Path, lists: Path, tmp_path: Path
) -> None:
    overrides = finetune_overrides(videos, lists)
    one, two = tmp_path / "one", tmp_path / "two"
    train(composed("finetune", *overrides, f"output_dir={one}"))

    test = [  # of the same weights
        *TINY,
        "run.device_batch=4",
        "data.classes=3",
        "data.segments=2",
        "data.crops=2",
        f"weights={one}",
        f"data.root={videos}",
        f"data.test_list={lists / 'labelled.txt'}",
    ]
    evaluations = {count: tmp_path / f"evaluated by {count}" for count in (1, 3)}
    evaluate(composed("evaluate", *test, f"output_dir='{evaluations[1]}'"))
    job = Job("evaluate", [*test, f"output_dir='{evaluations[3]}'"])
    assert in_processes(3, job) == [0, 0, 0]
    assert in_processes(2, Job("finetune", [*overrides, f"output_dir={two}"])) == [0, 0]

    close_curves(metrics(two), metrics(one))
    assert len(metrics(one)) == STEPS
    results, others = (json.loads((run / "results.json").read_text()) for run in (one, two))
    for found in (results, others):
        del found["sha256"]["weights"]  # they differ by rounding
    assert others == results
    assert (results["num_videos"], results["num_unreadable"]) == (NUM_VIDEOS, 1)
    assert json_lines(two / "bad_files.jsonl") == json_lines(one / "bad_files.jsonl")
    assert {row["list"] for row in json_lines(two / "bad_files.jsonl")} == {"train", "test"}

    for name in ("results.json", "predictions.jsonl"):
        assert len({(path / name).read_bytes() for path in evaluations.values()}) == 1
    listed = {(path / "bad_files.jsonl").read_text() for path in evaluations.values()}
    assert len(listed) == 1
    assert len({frozenset(files(path)) for path in evaluations.values()}) == 1


def test_several_processes_that_would_train_alone_are_refused(
    videos: Path, lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    output = tmp_path / "none"
    alone = [*finetune_overrides(videos, lists), "run.sharding=none", f"output_dir={output}"]
    with pytest.raises(ConfigError, match=r"run\.sharding=none with 2 processes.*leave .* at auto"):
        train(composed("finetune", *alone))
    assert not output.exists()


@pytest.mark.long
@pytest.mark.parametrize("more", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_sharded_processes_pretrain_like_one_and_go_on_as_others(
    videos: Path, lists: Path, tmp_path: Path, more: bool
) -> None:
    """A run in two processes, then two, then one, each sharing the model otherwise.

    With more, the first two are compiled, and four go on before the next two.
    """
    overrides = pretrain_overrides(videos, lists)
    one, shared = tmp_path / "one", tmp_path / "shared"
    train(composed("pretrain", *overrides, f"output_dir={one}"))
    here = [*overrides, f"output_dir={shared}", "resume=auto"]
    compile_it = ["run.compile=true"] * (more and shutil.which("g++") is not None)
    background = ("run.background_checkpoints=true", "run.checkpoint_every=1")
    legs = [
        (
            2,
            "run.sharding=fsdp",
            "max_steps=2",
            "run.recompute=full",
            "run.image_every=1",
            *compile_it,
        ),
        (4, "run.sharding=hsdp", "run.shards=2", "max_steps=4", *background),
        (2, "run.sharding=ddp", "max_steps=5", "run.recompute=selective", *background),
    ]
    if not more:
        del legs[1]
    for count, *settings in legs:
        assert in_processes(count, Job("pretrain", [*here, *settings])) == [0] * count
        step = (shared / "checkpoints" / "last").read_text()
        kept = read_weights(shared / "checkpoints" / step)  # whoever holds which part
        assert kept.info == read_weights(shared).info
        for name, tensor in weights(shared).items():
            assert torch.equal(kept.tensors[name], tensor)
    train(composed("pretrain", *here))
    close_curves(metrics(shared), metrics(one))
    theirs = weights(one)
    for name, tensor in weights(shared).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-2, atol=1e-4)


@pytest.mark.long
@pytest.mark.soak
def test_sharded_processes_compute_in_float8_like_one(
    videos: Path, lists: Path, tmp_path: Path
) -> None:
    overrides = [*pretrain_overrides(videos, lists), "run.float8=true"]
    one, shared = tmp_path / "one", tmp_path / "shared"
    train(composed("pretrain", *overrides, f"output_dir={one}"))
    here = [*overrides, "run.sharding=fsdp", f"output_dir={shared}"]
    assert in_processes(2, Job("pretrain", here)) == [0, 0]
    losses, others = ([row["loss"] for row in metrics(run)] for run in (one, shared))
    assert others == pytest.approx(losses, rel=0.02)  # what rounds otherwise once rounds far
    assert weights(shared).keys() == weights(one).keys()


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [["fsdp"], pytest.param(["hsdp", "run.shards=2"], marks=pytest.mark.soak)],
    ids=["fsdp", "hsdp"],
)
def test_sharded_processes_finetune_and_evaluate_like_one(
    videos: Path, lists: Path, tmp_path: Path, settings: list[str]
) -> None:
    """With a running mean, evaluations on the way, accumulation and an unreadable video."""
    labelled = lists / "labelled.txt"
    overrides = [
        *finetune_overrides(videos, lists),
        "optim.ema_decay=0.5",
        "eval_every=1",
        "test_weights=best",
        f"data.val_list={labelled}",
        "run.recompute=full",
    ]
    one, shared = tmp_path / "one", tmp_path / "shared"
    train(composed("finetune", *overrides, f"output_dir={one}"))
    count = 2 if settings == ["fsdp"] else 4
    sharding, *rest = settings
    here = [*overrides, f"output_dir={shared}", f"run.sharding={sharding}", *rest]
    assert in_processes(count, Job("finetune", here)) == [0] * count
    close_curves(metrics(shared), metrics(one))
    results, others = (json.loads((run / "results.json").read_text()) for run in (one, shared))
    for found in (results, others):
        del found["sha256"]["weights"]  # they differ by rounding
    assert others == results
    assert len(json_lines(shared / "metrics.jsonl")) > STEPS  # evaluations have lines of their own


@pytest.mark.long
def test_sharded_processes_agree_on_what_they_choose(
    videos: Path, lists: Path, tmp_path: Path
) -> None:
    overrides = pretrain_overrides(videos, lists)
    auto = ["run.device_batch=auto", "run.attention=math"]
    here = [each for each in overrides if "device_batch" not in each] + auto
    one, shared = tmp_path / "one", tmp_path / "shared"
    train(composed("pretrain", *overrides, f"output_dir={one}"))
    settings = [*here, "run.sharding=fsdp", f"output_dir={shared}"]
    assert in_processes(2, Job("pretrain", settings)) == [0, 0]
    close_curves(metrics(shared), metrics(one))
    kept = OmegaConf.load(shared / "config.yaml").run.device_batch
    assert kept == 2  # all of each one's half of four videos
    assert len(json.loads((shared / "choices.json").read_text())) == 2


def run_config(**settings: Any) -> RunConfig:
    return RunConfig(device=Device.cpu, **settings)


def test_how_the_model_is_shared_follows_from_its_size_and_the_machines() -> None:
    alone, machine, machines = (
        Processes(0, world, local, torch.device("cpu"))
        for world, local in ((1, 1), (8, 8), (16, 8))
    )
    sizes = {"vit_large": 330_000_000, "vit_huge": 650_000_000}
    chosen = {
        (name, process.world): sharding_of(run_config(), size, process).name
        for name, size in sizes.items()
        for process in (alone, machine, machines)
    }
    assert chosen == {
        ("vit_large", 1): "none",
        ("vit_large", 8): "ddp",
        ("vit_large", 16): "ddp",
        ("vit_huge", 1): "none",
        ("vit_huge", 8): "fsdp",
        ("vit_huge", 16): "hsdp",
    }
    asked = run_config(sharding=Sharding.ddp)
    assert sharding_of(asked, sizes["vit_huge"], machines) is Sharding.ddp
    assert num_shards(Sharding.hsdp, None, machines) == 8
    assert num_shards(Sharding.hsdp, 4, machines) == 4
    assert num_shards(Sharding.fsdp, None, machines) == 16
    assert num_shards(Sharding.ddp, None, machines) == 1
    with pytest.raises(ConfigError, match=r"run\.shards=3 does not divide the 16 processes"):
        num_shards(Sharding.hsdp, 3, machines)
    with pytest.raises(ConfigError, match=r"run\.shards=2 is for run\.sharding=hsdp, not ddp"):
        run_config(sharding=Sharding.ddp, shards=2)


@pytest.mark.long
def test_when_one_process_is_told_to_stop_both_do_and_both_go_on(
    videos: Path, lists: Path, tmp_path: Path
) -> None:
    overrides = [*finetune_overrides(videos, lists), "optim.drop_path=0.3", "optim.head_drop=0.3"]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert in_processes(2, Job("finetune", [*overrides, f"output_dir={straight}"])) == [0, 0]
    here = [*overrides, f"output_dir={stopped}"]
    codes = in_processes(2, Job("finetune", here, stop_in=2))
    assert codes == [128 + signal.SIGTERM] * 2
    step = int((stopped / "checkpoints" / "last").read_text().removeprefix("step_"))
    assert 2 <= step < STEPS
    assert metrics(stopped) == metrics(straight)[:step]
    assert in_processes(2, Job("finetune", [*here, "resume=auto"])) == [0, 0]
    assert_same_run(stopped, straight)


@pytest.mark.long
def test_processes_that_hang_say_where_and_end(videos: Path, lists: Path, tmp_path: Path) -> None:
    overrides = [*pretrain_overrides(videos, lists), "run.stall_timeout_s=8"]
    overrides.append(f"output_dir={tmp_path / 'run'}")
    job = Job("pretrain", overrides, str(tmp_path / "said"), hang_in=3)
    assert in_processes(2, job) == [1, 1]
    said = [(tmp_path / f"said{rank}").read_text() for rank in (0, 1)]
    assert " 8 s at most" in said[0] + said[1]  # the first to end may take the other along
    assert "in stopping_step" in said[1] or "in train_step" in said[0]


@pytest.mark.long
def test_a_process_that_loses_another_says_so(videos: Path, lists: Path, tmp_path: Path) -> None:
    overrides = [*pretrain_overrides(videos, lists), f"output_dir={tmp_path / 'run'}"]
    job = Job("pretrain", overrides, str(tmp_path / "said"), kill_in=3)
    assert in_processes(2, job) == [1, -signal.SIGKILL]
    said = (tmp_path / "said0").read_text()
    assert "ProcessLost: process 0 of 2 has lost another" in said


RESTARTED = """
import os, signal, time
import torch
from videomae.config import Device, RunConfig
from videomae.run.parallel import processes

attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
if rank == 1:
    time.sleep(1)  # the other one looks for it before it says anew where it is
with processes(RunConfig(device=Device.cpu)) as process:
    total = process.sum(torch.ones(1)).item()
    if attempt < 4 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    process.barrier()
    os.write(2, f"processes: {total} attempt: {attempt}\\n".encode())
"""


@pytest.mark.long
@pytest.mark.soak
def test_processes_started_again_find_each_other(tmp_path: Path) -> None:
    """Often: which of two calls the other depends on their addresses."""
    (tmp_path / "program.py").write_text(RESTARTED)
    said = torchrun(2, "--max-restarts", "4", "program.py", cwd=tmp_path)
    assert said.count("processes: 2.0 attempt: 4") == 2


FAILING = """
from videomae.config import Device, RunConfig, UserError
from videomae.run.command import command
from videomae.run.parallel import processes

@command("recipes")
def main(_):
    with processes(RunConfig(device=Device.cpu)) as process:
        if process.rank == 1:
            raise UserError("the disk is on fire; put it out")
        process.barrier()

main()
"""


@pytest.mark.long
def test_torchrun_ends_with_the_reason(tmp_path: Path) -> None:
    """That of the process that failed, not of one that lost it."""
    (tmp_path / "program.py").write_text(FAILING)
    said = torchrun(2, "program.py", cwd=tmp_path, status=1)
    assert said.startswith("error: the disk is on fire; put it out\n")
    cause = said[said.index("Root Cause") :]
    assert "rank      : 1 " in cause
    assert "error: the disk is on fire; put it out" in cause


def test_where_they_could_not_they_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several machines, the one where no process died counts no attempt."""
    shared = {"RANK": "0", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
    started = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1"}
    for name, value in (shared | started).items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigError, match="torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"),
        processes(run_config()),
    ):
        pass


def test_a_process_alone_needs_nothing(videos: Path, tmp_path: Path) -> None:
    for sharding in Sharding:
        with processes(RunConfig(device=Device.cpu, sharding=sharding)) as process:
            assert (process.rank, process.world, process.is_main) == (0, 1, True)
            assert not dist.is_initialized()
            values = torch.tensor([1.0, 2.0])
            assert process.sum(values).tolist() == [1, 2]
            assert process.gather("a") == ["a"]
            process.barrier()
            distributed: DistributedModel[Any] = DistributedModel(
                torch.nn.Linear(1, 1), RunConfig(sharding=sharding), process
            )
            assert distributed.replicate(distributed.model) is distributed.model
            assert distributed.whole() is distributed.model
            assert str(distributed) == "none: one process"


def test_several_processes_without_sharing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    config = RunConfig(device=Device.cpu, sharding=Sharding.none)
    with (
        pytest.raises(ConfigError, match=r"run\.sharding=none with 2 processes"),
        processes(config),
    ):
        pass


def test_a_batch_that_the_processes_do_not_divide_is_refused(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"global_batch=4 .* 3 processes; .*: 3 or 6"):
        train(pretraining(videos, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused() -> None:
    config = RunConfig(device=Device.cuda)
    with pytest.raises(ConfigError, match=r"run.device=cuda.*run.device=auto"), processes(config):
        pass
    with processes(replace(config, device=Device.auto)) as process:
        assert process.device.type == "cpu"
        assert not uses_bf16(process.device, config.precision)
