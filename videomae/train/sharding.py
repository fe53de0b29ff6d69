"""How the processes of a run hold its model: each a whole one, or each a part.

    none   one process
    ddp    every process holds a whole model; gradients are averaged while they are computed
    fsdp   every process holds an equal part of each parameter, of its gradient and of its moments;
           a block is gathered when it is needed, and let go after it
    hsdp   the same among run.shards processes; these groups are copies of each other

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

warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # torch 2.9's word
LARGE = 400_000_000
"""Parameters from which on sharding=auto shards: ViT-H and ViT-g, with 13 GB and more of weights,
gradients, moments and gathered gradients on every device otherwise."""
REDUCED = {GradientType.float32: torch.float32, GradientType.bf16: torch.bfloat16}
TAKING_SHORT_WEIGHTS = ("cuda",)
"""Devices whose layer_norm takes weights of 16 bits under autocast; a CPU's takes them with inputs
of 16 bits only."""
SHARDED = (Sharding.fsdp, Sharding.hsdp)
Model = TypeVar("Model", VideoMAE, VideoClassifier)


class DistributedModel(Generic[Model]):
    """The model of a run, and the running mean of its weights, as this process holds them.

    Args:
        model: whole, on the process's device. It is changed in place.
        ema_decay: of the running mean; None: there is none.

    Raises:
        ConfigError: run.shards does not divide the processes, or run.float8 cannot be.
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
            short = short and processes.device.type in TAKING_SHORT_WEIGHTS
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
        """The objective of the model, whose gradients are then averaged over the processes."""
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
        """What was trained, the running mean if there is one, as one module that needs no other
        process. Each process must call it. Of a sharded or a float8 model it is a copy.
        """
        trained: Model = self.average.module if self.average else self.model
        if self.weightless is None:
            return trained
        state = {name: whole_tensor(value) for name, value in trained.state_dict().items()}
        copy = deepcopy(self.weightless)
        copy.load_state_dict(state, assign=True)
        return copy.train(trained.training)


def sharding_of(run: RunConfig, num_parameters: int, processes: Processes) -> Sharding:
    """What run.sharding means for a model of that size."""
    if processes.world == 1:
        return Sharding.none
    if run.sharding is not Sharding.auto:
        return run.sharding
    if num_parameters < LARGE:
        return Sharding.ddp
    return Sharding.fsdp if processes.world == processes.local_world else Sharding.hsdp


def num_shards(sharding: Sharding, asked: int | None, processes: Processes) -> int:
    """Parts that a parameter is cut into.

    Raises:
        ConfigError: so many do not divide the processes.
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
    """Whether gradients travel between the processes in the block; else they are added up here.

    Args:
        replicated: what `DistributedModel.replicate` returned.
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
    """Compile each block by itself, so that names stay and gathering its weights is no part of it.

    Blocks of equal sizes share what is compiled. It is made for fixed sizes: else the second of
    encoder and decoder, which share their code, would get one for every number of tokens.
    """
    import torch._dynamo  # takes as long as torch itself

    blocks = [module for module in model.modules() if isinstance(module, Block)]
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(blocks))
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 8 * len(blocks))
    for block in blocks:
        block.compiled = torch.compile(block.compute, dynamic=False)


def whole_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor, of which each process may hold a part; then each must call it."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def _mesh(processes: Processes, shards: int) -> "DeviceMesh":
    """The processes in a row, or in groups of so many (neighbours: those of one machine)."""
    from torch.distributed.device_mesh import init_device_mesh

    kind, world = processes.device.type, processes.world
    if shards == world:
        return init_device_mesh(kind, (world,), mesh_dim_names=("shard",))
    grid = (world // shards, shards)
    return init_device_mesh(kind, grid, mesh_dim_names=("copy", "shard"))


def _shard(
    model: nn.Module, mesh: "DeviceMesh", gathered: torch.dtype | None, reduced: torch.dtype
) -> None:
    """Keep this process's part of every parameter, those of the main process.

    Args:
        gathered: what the weights of a block are gathered as; None: as they are. What lies between
            the blocks is gathered in float32.
        reduced: what gradients are added up in.
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
    # The root's few parameters are let go like the blocks': what is looked at is always a part.
    fully_shard(model, mesh=mesh, mp_policy=plain, reshard_after_forward=True)
    if isinstance(model, VideoMAE):
        register_fsdp_forward_method(model, "rebuild")
        register_fsdp_forward_method(model, "rebuild_frames")


def _weightless(model: Model) -> Model:
    """A copy with buffers, and parameters without memory."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in model.parameters()}
    return deepcopy(model, empty)
