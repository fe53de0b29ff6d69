"""Distributed training: each process holds the whole model, or a shard of it.

    none   one process
    ddp    every process holds a whole model; gradients are averaged while they are computed
    fsdp   every process holds an equal part of each parameter, of its gradient and of its moments;
           a block is gathered before it computes, and freed after it
    hsdp   fsdp within groups of run.shards processes; the groups are copies of each other

fsdp and hsdp are PyTorch's fully_shard (FSDP2), https://arxiv.org/abs/2304.11277.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from videomae.config import ConfigError, GradientType, RunConfig, Sharding
from videomae.model.classifier import VideoClassifier
from videomae.model.float8 import use_float8
from videomae.model.layers import Block
from videomae.model.mae import VideoMAE
from videomae.run.arithmetic import uses_bf16
from videomae.run.parallel import Processes
from videomae.train.average import RunningMean

if TYPE_CHECKING:  # FSDP takes a while to import, and most runs do without it
    from torch.distributed.device_mesh import DeviceMesh

warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # from torch 2.9
LARGE = 400_000_000
"""Number of parameters from which on sharding=auto shards a model: ViT-H and ViT-g, which take 13
GB and more for weights, gradients, moments and gathered gradients if not sharded."""
REDUCED = {GradientType.float32: torch.float32, GradientType.bf16: torch.bfloat16}
"""Dtype in which gradients are reduced, by run.reduce_dtype."""
BF16_LAYER_NORM = ("cuda",)
"""Kinds of devices whose layer_norm accepts 16-bit weights under autocast; a CPU accepts them with
16-bit inputs only."""
SHARDED = (Sharding.fsdp, Sharding.hsdp)
"""Kinds of sharding in which a process holds only a part of each parameter."""
Model = TypeVar("Model", VideoMAE, VideoClassifier)


class DistributedModel(Generic[Model]):
    """The model of a run and the running mean of its weights, as this process holds them.

    Args:
        model: the whole model, on the process's device. It is changed in place.
        ema_decay: decay of the running mean; None: there is no running mean.

    Raises:
        ConfigError: run.shards does not divide the processes, or run.float8 is not possible.
    """

    def __init__(
        self, model: Model, run: RunConfig, processes: Processes, ema_decay: float | None = None
    ) -> None:
        for module in model.modules():
            if isinstance(module, Block):
                module.recompute = run.recompute
        self.model: Model = model
        self.processes = processes
        self.average: RunningMean[Model] | None = (
            None if ema_decay is None else RunningMean(model, ema_decay)
        )
        self.reduce_dtype = run.reduce_dtype
        self.sharding = sharding_of(run, sum(p.numel() for p in model.parameters()), processes)
        self.shards = num_shards(self.sharding, run.shards, processes)
        if self.sharding in SHARDED or run.float8:
            self.weightless: Model | None = _weightless(model)
        else:
            self.weightless = None
        self.num_float8 = use_float8(model, processes.device) if run.float8 else 0
        if self.sharding in SHARDED:
            mesh = _mesh(processes, self.shards)
            short = uses_bf16(processes.device, run.precision)
            short = short and processes.device.type in BF16_LAYER_NORM
            gathered = torch.bfloat16 if short else None
            for each in [model, self.average.module] if self.average else [model]:
                _shard(each, mesh, gathered, REDUCED[run.reduce_dtype])
        if run.compile:
            compile_blocks(model)

    def __str__(self) -> str:
        float8 = f"; {self.num_float8} linear layers in float8" if self.num_float8 else ""
        return f"{self._sharding_in_words()}{float8}"

    def _sharding_in_words(self) -> str:
        world = self.processes.world
        if self.sharding is Sharding.none:
            return "none: one process"
        if self.sharding is Sharding.ddp:
            return f"ddp: {world} processes, a whole model in each"
        parts = f"each parameter in {self.shards} parts"
        if self.sharding is Sharding.fsdp:
            return f"fsdp: {parts}, one in each process"
        return f"hsdp: {parts}, in {world // self.shards} groups of {self.shards} processes"

    def replicate(self, objective: nn.Module) -> nn.Module:
        """Wrap the model's objective so that gradients are averaged over the processes."""
        if self.sharding is not Sharding.ddp:
            return objective
        device = self.processes.device
        replicated = DistributedDataParallel(
            objective,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
        if self.reduce_dtype is GradientType.bf16:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            replicated.register_comm_hook(None, bf16_compress_hook)
        return replicated

    def whole(self) -> Model:
        """Return the trained model, or its running mean if there is one, unsharded.

        Each process must call it. For a sharded or a float8 model the result is a copy.
        """
        trained: Model = self.average.module if self.average else self.model
        if self.weightless is None:
            return trained
        state = {name: whole_tensor(value) for name, value in trained.state_dict().items()}
        copy = deepcopy(self.weightless)
        copy.load_state_dict(state, assign=True)
        return copy.train(trained.training)


def sharding_of(run: RunConfig, num_parameters: int, processes: Processes) -> Sharding:
    """Return the kind of sharding that run.sharding means for a model of that size."""
    if processes.world == 1:
        return Sharding.none
    if run.sharding is not Sharding.auto:
        return run.sharding
    if num_parameters < LARGE:
        return Sharding.ddp
    return Sharding.fsdp if processes.world == processes.local_world else Sharding.hsdp


def num_shards(sharding: Sharding, asked: int | None, processes: Processes) -> int:
    """Return the number of parts that each parameter is cut into.

    Raises:
        ConfigError: run.shards does not divide the number of processes.
    """
    if sharding is not Sharding.hsdp:
        return processes.world if sharding is Sharding.fsdp else 1
    shards = asked or processes.local_world
    if processes.world % shards:
        raise ConfigError(
            f"run.shards={shards} does not divide the {processes.world} processes of "
            "run.sharding=hsdp into equal groups"
        )
    return shards


@contextmanager
def gradients_exchanged(replicated: nn.Module, *, now: bool) -> Iterator[None]:
    """Exchange the gradients of the block's backward pass between processes if `now`.

    Otherwise they are only added to this process's gradients (gradient accumulation).

    Args:
        replicated: an objective as `DistributedModel.replicate` returns it.
    """
    if isinstance(replicated, DistributedDataParallel):
        if now:
            yield
        else:
            with replicated.no_sync():
                yield
        return
    model: Any = replicated.model
    if hasattr(model, "set_requires_gradient_sync"):  # FSDP2's
        model.set_requires_gradient_sync(now)
        model.set_is_last_backward(now)
    yield


def compile_blocks(model: nn.Module) -> None:
    """Compile each block by itself, so that parameter names and weight gathering are unchanged.

    Blocks of equal sizes share compiled code. Sizes are static: with dynamic ones, the decoder's
    blocks, which share their code with the encoder's, would be compiled for any number of tokens.
    """
    import torch._dynamo  # takes as long as torch itself

    blocks = [module for module in model.modules() if isinstance(module, Block)]
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(blocks))
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 8 * len(blocks))
    for block in blocks:
        block.compiled = torch.compile(block.compute, dynamic=False)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor unsharded; if each process holds a part of it, each process must call it."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor that this process holds, or a plain tensor itself."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def _mesh(processes: Processes, shards: int) -> "DeviceMesh":
    """Make the device mesh: all processes, or groups of `shards` neighbours (of one machine)."""
    from torch.distributed.device_mesh import init_device_mesh

    kind, world = processes.device.type, processes.world
    if shards == world:
        return init_device_mesh(kind, (world,), mesh_dim_names=("shard",))
    grid = (world // shards, shards)
    return init_device_mesh(kind, grid, mesh_dim_names=("copy", "shard"))


def _shard(
    model: nn.Module, mesh: "DeviceMesh", gathered: torch.dtype | None, reduced: torch.dtype
) -> None:
    """Shard a model with FSDP2, after the main process's values were sent to all processes.

    Args:
        gathered: dtype in which a block's weights are gathered; None: unchanged. Weights outside
            the blocks are gathered in float32.
        reduced: dtype in which gradients are summed over the processes.
    """
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.data, 0)
    policy = MixedPrecisionPolicy(gathered, reduced, cast_forward_inputs=False)
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    plain = MixedPrecisionPolicy(reduce_dtype=reduced, cast_forward_inputs=False)
    # The root's few parameters are freed like the blocks': between passes all are sharded.
    fully_shard(model, mesh=mesh, mp_policy=plain, reshard_after_forward=True)
    if isinstance(model, VideoMAE):
        register_fsdp_forward_method(model, "rebuild")
        register_fsdp_forward_method(model, "rebuild_frames")


def _weightless(model: Model) -> Model:
    """Copy a model with its buffers, but with parameters on the meta device, without memory."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in model.parameters()}
    return deepcopy(model, empty)
