"""The device of a process, and the errors where it cannot be used as the settings ask."""

from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from videomae.config import ConfigError, Device, Precision
from videomae.run.arithmetic import has_bf16

NONE_THERE = ("no NVIDIA driver", "No CUDA GPUs are available", "not compiled with CUDA")
"""Parts of torch's error messages where there is no GPU, or none that this process may see."""
TOO_OLD = "driver on your system is too old"
"""Part of torch's error message where the NVIDIA driver is too old."""


def find_device(asked: Device, local_rank: int) -> torch.device:
    """Return the device of a process, and make a GPU the current CUDA device.

    Args:
        local_rank: number of the process on its machine, from 0.

    Raises:
        ConfigError: the device does not exist, or cannot be used.
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
    """Return the reason why CUDA cannot be used, as an error message.

    Args:
        none_will_do: whether a machine without any GPU is no error; the result is then None.
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
    """Check that a device supports a precision, and that several GPUs have NCCL to communicate.

    Args:
        world: number of processes of the run.

    Raises:
        ConfigError: it does not, or they have not.
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
    """Return whether this process may pin memory, which asynchronous copies to a GPU need."""
    try:
        torch.empty(1, pin_memory=True)
    except RuntimeError:
        return False
    return True


def pinned(values: Tensor) -> Tensor:
    """Return a copy of a tensor in pinned memory, or the tensor itself if none can be pinned."""
    if not can_pin():
        return values
    try:
        return values.pin_memory()
    except RuntimeError:
        return values
