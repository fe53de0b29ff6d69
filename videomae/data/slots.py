"""Batches in memory that processes share: one process writes a batch, and another reads it.

Only the places of a batch's tensors are sent between processes. The memory is allocated before the
writing process starts. On Linux it takes no space in /dev/shm.
"""

import mmap
import sys
import weakref
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

B = TypeVar("B", bound=NamedTuple)
FORKED = sys.platform == "linux"
"""Whether worker processes are forked from the process that starts them."""
ALIGNED = 64
"""Bytes to which the start of each tensor in a slot is aligned."""


class Place(NamedTuple):
    """Position, shape and dtype of a tensor in shared memory."""

    slot: int
    offset: int
    """Bytes from the beginning of the slot."""
    shape: tuple[int, ...]
    dtype: torch.dtype


Register = Callable[[Tensor], Callable[[], None]]
"""Function that registers memory, such as with a CUDA driver, and returns what unregisters it."""


class Slots:
    """Shared memory for `count` batches, each of at most `nbytes` bytes of tensors.

    Args:
        register: called with the memory, and undone when this object is garbage-collected.
    """

    def __init__(self, count: int, nbytes: int, register: Register | None = None) -> None:
        self.memory = shared_memory(count * aligned(nbytes)).view(count, -1)
        if register is not None:
            weakref.finalize(self, register(self.memory))

    def __len__(self) -> int:
        return len(self.memory)

    def empty(self, slot: int, *shape: int) -> Tensor:
        """Return a uint8 tensor at the beginning of a slot."""
        return self._at(Place(slot, 0, shape, torch.uint8))

    def put(self, slot: int, batch: B) -> B:
        """Copy a batch's tensors into a slot, and return the batch with a Place for each tensor.

        A tensor that `empty` has returned is there already, and is not copied.
        """
        start = self.memory[slot].data_ptr()
        first = next((v for v in batch if isinstance(v, Tensor) and v.data_ptr() == start), None)
        offset = 0 if first is None else aligned(first.nbytes)
        values: list[Any] = []
        for value in batch:
            if not isinstance(value, Tensor):
                values.append(value)
            elif value is first:
                values.append(Place(slot, 0, tuple(value.shape), value.dtype))
            else:
                place = Place(slot, offset, tuple(value.shape), value.dtype)
                self._at(place).copy_(value)
                values.append(place)
                offset += aligned(value.nbytes)
        return type(batch)._make(values)

    def get(self, batch: B) -> B:
        """Return the batch with tensors for its places; they are valid until the slot is reused."""
        return type(batch)._make(self._at(v) if isinstance(v, Place) else v for v in batch)

    def _at(self, place: Place) -> Tensor:
        end = place.offset + prod(place.shape) * place.dtype.itemsize
        assert end <= self.memory.shape[1], "a batch is larger than its source said"
        return self.memory[place.slot, place.offset : end].view(place.dtype).view(place.shape)


def copied(batch: B, *, pin: bool) -> B:
    """Copy a batch's tensors to new memory, which is page-locked if `pin`."""

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, pin_memory=pin).copy_(value)

    return type(batch)._make(map(copy, batch))


def shared_memory(size: int) -> Tensor:
    """Allocate memory that is shared with processes started later: (size,) uint8, zeros."""
    if FORKED:
        return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)
    return torch.zeros(size, dtype=torch.uint8).share_memory_()


def aligned(nbytes: int) -> int:
    """Round a number of bytes up to a multiple of ALIGNED."""
    return -(-nbytes // ALIGNED) * ALIGNED
