"""GPUs that lack something, or cannot be used: plain words, or the slower way."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.train import pretraining
from videomae.config import ConfigError, Device, Precision, RunConfig
from videomae.lists.formats import Clip
from videomae.run import devices, parallel
from videomae.run.arithmetic import autocast, uses_bf16
from videomae.run.console import log_to_console
from videomae.run.devices import can_pin, check_device, find_device
from videomae.run.parallel import Processes, processes, send
from videomae.run.run import Run
from videomae.train.planning import plan_run

GPU = torch.device("cuda", 0)
ALONE = Processes(0, 1, 1, torch.device("cpu"))
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version\nfrom the URL: http://www.nvidia.com"
)


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let torch find no CUDA, for the reason given."""

    def set_reason(reason: str, kind: type[Exception] = RuntimeError) -> None:
        def init() -> None:
            raise kind(reason)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.version, "cuda", "13.2")

    return set_reason


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU without bf16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")


@pytest.mark.parametrize("asked", [Device.auto, Device.cuda])
def test_a_driver_older_than_torch_is_named(no_cuda: Any, asked: Device) -> None:
    """Also where any device will do: days on a CPU are not what a GPU's owner wants."""
    no_cuda(TOO_OLD)
    with pytest.raises(ConfigError) as caught, processes(RunConfig(device=asked)):
        pass
    said = str(caught.value)
    assert "the NVIDIA driver is older than this torch, which is made for CUDA 13.2" in said
    assert "update the driver" in said
    assert "run.device=cpu" in said
    assert "found version 11040" in said
    assert "\n" not in said


def test_a_gpu_that_fails_otherwise_is_no_reason_for_the_cpu_either(no_cuda: Any) -> None:
    no_cuda("CUDA unknown error - this may be due to an incorrectly set up environment")
    with pytest.raises(ConfigError, match=r"CUDA unknown error.*videomae\.doctor.*run\.device=cpu"):
        find_device(Device.auto, 0)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Found no NVIDIA driver on your system. Please check", RuntimeError),
        ("No CUDA GPUs are available", RuntimeError),
        ("Torch not compiled with CUDA enabled", AssertionError),
    ],
)
def test_where_there_is_no_gpu_the_cpu_will_do_unless_one_is_asked_for(
    no_cuda: Any, reason: str, kind: type[Exception]
) -> None:
    no_cuda(reason, kind)
    assert find_device(Device.auto, 0) == find_device(Device.cpu, 0) == torch.device("cpu")
    with pytest.raises(ConfigError, match=rf"run\.device=cuda.*{reason[:20]}.*run\.device=auto"):
        find_device(Device.cuda, 0)


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_without_bf16_computes_in_float32_unless_bf16_is_asked_for() -> None:
    assert find_device(Device.auto, 0) == GPU
    assert not uses_bf16(GPU, Precision.auto)
    with autocast(GPU, Precision.auto):
        assert not torch.is_autocast_enabled("cuda")
    for precision in (Precision.auto, Precision.float32, Precision.fp16):
        check_device(GPU, precision, world=1)
    config = RunConfig(device=Device.cuda, precision=Precision.bf16)
    with pytest.raises(ConfigError, match=r"bf16, but Tesla V100 .*at auto"), processes(config):
        pass
    check_device(torch.device("cpu"), Precision.bf16, world=1)


@pytest.mark.usefixtures("old_gpu")
def test_several_gpus_without_nccl_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigError, match=r"2 processes .* NCCL, .* lacks: install"),
        processes(RunConfig(device=Device.cuda)),
    ):
        pass
    check_device(GPU, Precision.auto, world=1)
    check_device(torch.device("cpu"), Precision.auto, world=2)


@pytest.mark.usefixtures("old_gpu")
def test_the_start_says_what_a_gpu_cannot_do(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(parallel, "can_pin", lambda: False)
    clips = [Clip(f"{number}.mp4", number) for number in range(11)]
    config = pretraining(videos, tmp_path)
    with log_to_console():
        plan_run(Run(config.run, Processes(0, 1, 1, GPU), tmp_path), config, clips)
    said = " ".join(capsys.readouterr().err.split())
    assert "precision float32 run.precision=auto; Tesla V100 does not compute in bf16" in said
    assert "copies to the GPU slow this process cannot pin memory" in said
    with log_to_console():
        plan_run(Run(config.run, ALONE, tmp_path), config, clips)
    said = " ".join(capsys.readouterr().err.split())
    assert "precision float32 run.precision=auto memory" in said


class Pinned(torch.Tensor):
    """A tensor that goes to the CPU where a GPU is asked for."""

    def pin_memory(self, *_: Any) -> "Pinned":
        raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS")

    def to(self, *_: Any, **__: Any) -> Any:
        return self


def test_where_memory_cannot_be_pinned_copies_take_the_slower_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: Any, pin_memory: bool = False, **__: Any) -> None:
        assert pin_memory
        raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS")

    can_pin.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", refused)
        assert not can_pin()
    assert not Processes(0, 1, 1, GPU).pins
    values = torch.ones(2).as_subclass(Pinned)
    assert send(values, GPU) is values
    can_pin.cache_clear()
    assert not ALONE.pins
    for module in (devices, parallel):
        monkeypatch.setattr(module, "can_pin", lambda: True)
    assert Processes(0, 1, 1, GPU).pins
    assert send(values, GPU) is values  # no more memory can be pinned
