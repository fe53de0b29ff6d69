"""CUDA tensors without a GPU: they have shapes, types and a device, and no values. Those on the CPU
are as ever.

    with fake_cuda() as watch:
        model = on_cuda(VideoMAE(config, clip))
        ...
    assert watch.waits == []

What mixes devices raises, as on a GPU. What makes the host wait for the GPU is written down: values
that are read, shapes that depend on values, and copies to or from memory that do not say they need
not wait. Backward passes need a GPU; a parameter's gradient appears in their place.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from videomae.model import pixels
from videomae.run import devices, parallel
from videomae.train import step

CUDA = torch.device("cuda", 0)
READING = ("_local_scalar_dense", "nonzero", "is_nonzero", "unique", "masked_select", "equal")
"""Operations whose result the host waits for."""
Module = TypeVar("Module", bound=nn.Module)


class Watch(FakeTensorMode):
    """Sees every operation, and lets those on CUDA tensors be without values."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.waits: list[str] = []
        """What made the host wait: the operation, and where in this package."""
        self.num_seen = 0
        """Operations on tensors without values."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function.__name__.startswith("to."):  # in inference mode, as several at once
            with self:
                return function.decompose(*args, **kwargs)
        if self._waits(function.__name__, args, kwargs):
            frames = [f for f in traceback.extract_stack() if "/videomae/" in f.filename]
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "elsewhere"
            self.waits.append(f"{function} at {place}")
        values = tree_leaves((args, kwargs))
        to = kwargs.get("device")
        if not any(isinstance(each, FakeTensor) for each in values) and not _is_cuda(to):
            return function(*args, **kwargs)
        self.num_seen += 1
        return super().__torch_dispatch__(function, types, args, kwargs)

    @staticmethod
    def _waits(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        if not any(_on_cuda(each) for each in tree_leaves((args, kwargs))):
            return _sends(args, kwargs) and not kwargs.get("non_blocking")
        if name.partition(".")[0] in READING:
            return True
        fetches = name.startswith("_to_copy") and kwargs.get("device") == torch.device("cpu")
        return fetches and not kwargs.get("non_blocking")


def _sends(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a tensor on the CPU is copied to CUDA."""
    tensors = [each for each in tree_leaves(args) if isinstance(each, Tensor)]
    return bool(tensors) and _is_cuda(kwargs.get("device"))


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _on_cuda(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cuda"


class NotFetched(parallel.Fetched):
    """A copy that stays where it is."""

    def __init__(self, values: Tensor) -> None:
        assert values.device == CUDA
        self._values, self._done = values, None


@contextmanager
def fake_cuda() -> Iterator[Watch]:
    """Let the block work on tensors of a GPU that is not there."""
    with pytest.MonkeyPatch.context() as patch:
        common = "torch.cuda.amp.common.amp_definitely_not_available"
        patch.setattr(common, lambda: False)  # else autocast turns itself off
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(step, "Fetched", NotFetched)
        patch.setattr(nn.Module, "to", lambda module, _: on_cuda(module))
        for module in (devices, parallel):
            patch.setattr(module, "can_pin", lambda: False)
        pixels._constants.cache_clear()  # they are kept for each device
        try:
            with Watch() as watch:
                pixels._constants(CUDA)  # once in a process
                watch.waits.clear()
                yield watch
        finally:
            pixels._constants.cache_clear()


def on_cuda(module: Module) -> Module:
    """A module of real weights as one of fake ones on the GPU."""
    for each in module.modules():
        for name, value in list(each._parameters.items()):
            if value is not None:
                each._parameters[name] = nn.Parameter(torch.empty(value.shape, device=CUDA))
        for name, value in list(each._buffers.items()):
            if value is not None:
                each._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=CUDA)
    return module


@contextmanager
def gradients_appear(module: nn.Module) -> Iterator[None]:
    """Let every backward pass in the block leave an empty gradient in each parameter."""

    def backward(loss: Tensor) -> None:
        assert loss.device == CUDA
        assert loss.dtype is torch.float32
        for parameter in module.parameters():
            parameter.grad = torch.empty_like(parameter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "backward", backward)
        yield
