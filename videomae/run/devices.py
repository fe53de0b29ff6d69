"""The device of a process, and what to say where it cannot do what is asked of it."""

from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from videomae.config import ConfigError, Device, Precision
from videomae.run.arithmetic import has_bf16

NONE_THERE = ("no NVIDIA driver", "No CUDA GPUs are available", "not compiled with CUDA")
"""How torch says that there is no GPU, or none that this process may see."""
TOO_OLD = "driver on your system is too old"
"""How it says that there is one that it cannot talk to."""


def find_device(asked: Device, local_rank: int) -> torch.device:
    """The device of the process of that number on its machine.

    Raises:
        ConfigError: it is not there, or is there and cannot be used.
    """
    if asked is Device.cpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if reason := why_no_cuda(none_will_do=asked is Device.auto):
            raise ConfigError(reason)
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no CUDA device of its own: there are "
            f"{torch.cuda.device_count()}; start as many processes, or use run.device=cpu"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def why_no_cuda(*, none_will_do: bool) -> str | None:
    """What to tell of CUDA that cannot be used.

    Args:
        none_will_do: whether there is nothing to tell where there is no GPU at all.
    """
    try:
        torch.cuda.init()
        said = "no device answers"
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().splitlines()[0]
    if TOO_OLD in said:
        return (
            f"the NVIDIA driver is older than this torch, which is made for CUDA "
            f"{torch.version.cuda}: update the driver, or install a torch for an older CUDA "
            f"(https://pytorch.org/get-started); run.device=cpu does without the GPU. torch says: "
            f"{said}"
        )
    if any(words in said for words in NONE_THERE):
        return (
            None
            if none_will_do
            else f"run.device=cuda, but torch finds no CUDA device ({said}); use run.device=auto"
        )
    return (
        f"this machine's GPU cannot be used ({said}): python -m videomae.doctor says more; "
        "run.device=cpu does without it"
    )


def check_device(device: torch.device, precision: Precision, world: int) -> None:
    """Check that a device computes in that precision, and that several can talk to each other.

    Raises:
        ConfigError: they do not.
    """
    if device.type != "cuda":
        return
    if precision is Precision.bf16 and not has_bf16(device):
        raise ConfigError(
            f"run.precision=bf16, but {torch.cuda.get_device_name(device)} does not compute in "
            "bf16: leave run.precision at auto, which takes float32 there; evaluate and predict "
            "may use run.precision=fp16"
        )
    if world > 1 and not dist.is_nccl_available():
        raise ConfigError(
            f"{world} processes with GPUs talk through NCCL, which this build of torch lacks: "
            "install the usual one for Linux (pip install torch), or use one process"
        )


@cache
def can_pin() -> bool:
    """Whether this process may pin memory, from which copies to a GPU run beside other work."""
    try:
        torch.empty(1, pin_memory=True)
    except RuntimeError:
        return False
    return True


def pinned(values: Tensor) -> Tensor:
    """A copy from which a device reads without waiting; the values themselves where no memory can
    be pinned, or no more of it."""
    if not can_pin():
        return values
    try:
        return values.pin_memory()
    except RuntimeError:
        return values
