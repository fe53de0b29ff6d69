"""Batches in memory that processes share: written by one, read by another, never sent.

What is sent of a batch is where its tensors lie. The memory exists before the process that writes
to it; taking a batch over needs no word from that process, and no room in /dev/shm on Linux.
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
"""Whether processes are forks of the one that starts them."""
ALIGNED = 64
"""Bytes."""


class Place(NamedTuple):
    """Where a tensor lies."""

    slot: int
    offset: int
    """In bytes from the slot's beginning."""
    shape: tuple[int, ...]
    dtype: torch.dtype


Register = Callable[[Tensor], Callable[[], None]]
"""Does something with memory, and returns what undoes it."""


class Slots:
    """Room for `count` batches, whose tensors have `nbytes` bytes at most.

    Args:
        register: called with the memory; it is undone when these slots are nobody's any more.
    """

    def __init__(self, count: int, nbytes: int, register: Register | None = None) -> None:
        self.memory = shared_memory(count * aligned(nbytes)).view(count, -1)
        if register is not None:
            weakref.finalize(self, register(self.memory))

    def __len__(self) -> int:
        return len(self.memory)

    def empty(self, slot: int, *shape: int) -> Tensor:
        """An uint8 tensor at the beginning of a slot."""
        return self._at(Place(slot, 0, shape, torch.uint8))

    def put(self, slot: int, batch: B) -> B:
        """The batch with places instead of tensors, which are copied unless `empty` gave them."""
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
        """The batch with the tensors that lie in those places, until others do."""
        return type(batch)._make(self._at(v) if isinstance(v, Place) else v for v in batch)

    def _at(self, place: Place) -> Tensor:
        end = place.offset + prod(place.shape) * place.dtype.itemsize
        assert end <= self.memory.shape[1], "a batch is larger than its maker said"
        return self.memory[place.slot, place.offset : end].view(place.dtype).view(place.shape)


def copied(batch: B, *, pin: bool) -> B:
    """The batch in memory of its own; whether pinned."""

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, pin_memory=pin).copy_(value)

    return type(batch)._make(map(copy, batch))


def shared_memory(size: int) -> Tensor:
    """Memory that a process started from this one has too: (size,) uint8, zeros."""
    if FORKED:
        return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)
    return torch.zeros(size, dtype=torch.uint8).share_memory_()


def aligned(nbytes: int) -> int:
    """So many bytes, and what is left over before the next tensor."""
    return -(-nbytes // ALIGNED) * ALIGNED
