"""The processes of one run: one, or several that torchrun starts, and their communication."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from videomae.config import ConfigError, RunConfig, Sharding
from videomae.run.cores import UNDER_SUBMITIT, own_cores
from videomae.run.devices import can_pin, check_device, find_device, pinned
from videomae.run.launcher import ProcessLost
from videomae.run.worker_pool import end_with_parent

T = TypeVar("T")
MOST_WORKERS = 32
"""Largest number of decoding processes for each core of a process."""
KEPT_CORES = 2
"""CPU cores that a process with a GPU keeps for itself: to launch kernels and to copy data."""
UNDER_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Environment variable that torchrun sets for the processes that it starts."""
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Environment variable of torchrun; with 1, each restart of its processes uses a new store."""


@dataclass(frozen=True)
class Processes:
    """The place of this process among the processes of the run, and their communication."""

    rank: int
    world: int
    local_world: int
    """Number of processes on this machine."""
    device: torch.device

    def num_workers(self, asked: int | None) -> int:
        """Return the number of decoding processes for this process.

        Args:
            asked: the setting run.workers; None: the cores of the process that are not busy, at
                least 1.

        Raises:
            ConfigError: so many would fill the memory before a signal could end them.
        """
        if asked is not None:
            most = MOST_WORKERS * own_cores(self.local_world)
            if asked > most:
                raise ConfigError(
                    f"run.workers={asked} is more than {MOST_WORKERS} for each core of this "
                    f"process: give at most {most}, or leave it out"
                )
            return asked
        busy = torch.get_num_threads() if self.device.type == "cpu" else KEPT_CORES
        return max(1, own_cores(self.local_world) - busy)

    @property
    def pins(self) -> bool:
        """Whether batches are held in pinned memory, from which they are copied to a GPU."""
        return self.device.type == "cuda" and can_pin()

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place, without waiting for the device."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank. Each process must call it."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # all have been filled

    def from_main(self, value: T) -> T:
        """Return the main process's value. Each process must call it."""
        return self.gather(value)[0]

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.world > 1:
            dist.barrier()


def send(values: Tensor, device: torch.device) -> Tensor:
    """Return a copy of a tensor on a device, without waiting for the copy to end.

    From memory that is not pinned, the driver may wait.
    """
    if values.device == device:
        return values
    if device.type == "cuda":
        values = pinned(values)
    return values.to(device, non_blocking=True)


class Fetched:
    """An asynchronous copy of a tensor from the device to the CPU."""

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._done: torch.cuda.Event | None = None
        if values.is_cuda:
            self._values = torch.empty_like(values, device="cpu", pin_memory=can_pin())
            self._values.copy_(values, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()

    def wait(self) -> Tensor:
        """Return the tensor, on the CPU, when the copy is done."""
        if self._done is not None:
            self._done.synchronize()
        return self._values


@contextmanager
def processes(run: RunConfig) -> Iterator[Processes]:
    """Join the other processes of the run, and leave them at the end; after an error, by exiting.

    Raises:
        ConfigError: run.device is not there or lacks run.precision, there is no NCCL,
            run.sharding forbids several processes, or torchrun starts the processes of several
            machines anew where the old ones left their addresses.
        ProcessLost: another process ended, or could not be reached, while the block ran.
    """
    if UNDER_TORCHRUN in os.environ:  # whose end would leave a run behind that nobody watches
        end_with_parent(signal.SIGTERM)
    if UNDER_SUBMITIT in os.environ and "RANK" not in os.environ:
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if world > 1 and run.sharding is Sharding.none:
        raise ConfigError(
            f"run.sharding=none with {world} processes would train {world} models side by side; "
            "leave run.sharding at auto, or use one process"
        )
    device = find_device(run.device, local_rank)
    check_device(device, run.precision, world)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # The other half decodes: threads that wait for a busy core make a step many times slower.
        torch.set_num_threads(max(1, own_cores(local_world) // 2))
    if world > 1:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=_store(), rank=rank, world_size=world)
    try:
        yield Processes(rank, world, local_world, device)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            reason = str(error).strip().splitlines()[0]
            raise ProcessLost(
                f"process {rank} of {world} has lost another, whose own last words, or the "
                f"launcher's, say why ({reason}). Complete checkpoints are kept: resume=auto"
            ) from error
        raise
    if world > 1:  # not after an error, which the others would see before they read the reason
        dist.destroy_process_group()


def _store() -> dist.Store | None:
    """Return the store through which restarted processes find each other; None: torch's default.

    torch's default is a store of torchrun, which still holds the addresses of the processes before
    the restart. A prefix with torchrun's count of restarts separates them on one machine; on
    several machines, each one has its own count.

    Raises:
        ConfigError: torchrun has restarted processes of several machines without OWN_STORE=1.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    if attempt == "0":
        return None
    if os.environ["GROUP_WORLD_SIZE"] != "1":
        raise ConfigError(
            f"torchrun has started these processes again (attempt {attempt}), but they would look "
            f"for those that are gone: start torchrun with {OWN_STORE}=1 on every machine, or use "
            "scripts/several_nodes.sh or scripts/slurm.sh. Nothing is lost: resume=auto"
        )
    store, _, _ = next(dist.rendezvous("env://"))
    return dist.PrefixStore(f"attempt {attempt}", store)
