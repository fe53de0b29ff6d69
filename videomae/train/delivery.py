"""Copy batches from shared memory to the device while the device computes.

On CUDA the copies run on a stream of their own, from shared memory that is registered with the
driver (page-locked). A run tests at its start whether that works. If it does not, batches are first
copied to pinned memory, and then copied on the stream that computes.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from videomae.data.slots import shared_memory
from videomae.run.devices import pinned

TRIED = 1 << 16
"""Bytes that are copied to test a Delivery."""


class Delivery:
    """Asynchronous copies of batches to one device.

    Args:
        aside: whether to copy on a stream of its own, from registered memory; CUDA only.
    """

    def __init__(self, device: torch.device, *, aside: bool = False) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if aside else None
        self._copied: deque[torch.cuda.Event] = deque()

    @property
    def register(self) -> Callable[[Tensor], Callable[[], None]] | None:
        """Function that registers the memory to copy from, see `registered`; None: no need."""
        return registered if self.stream is not None else None

    def room(self, *shape: int) -> Tensor:
        """Allocate uint8 memory on the device for a batch."""
        with torch.cuda.stream(self.stream):  # None: the current one
            return torch.empty(shape, dtype=torch.uint8, device=self.device)

    def put(self, room: Tensor, values: Tensor) -> None:
        """Start to copy `values` to `room`; only after `settle` may `values` be overwritten."""
        if self.stream is None:
            if self.device.type == "cuda":
                values = pinned(values)
            room.copy_(values, non_blocking=True)
            return
        with torch.cuda.stream(self.stream):
            room.copy_(values, non_blocking=True)
            self._copied.append(event := torch.cuda.Event())
            event.record()

    def arrive(self, room: Tensor) -> Tensor:
        """Make later work on the device wait for the copy to `room`, and return `room`."""
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            room.record_stream(current)  # keeps its memory until the stream is done with it
        return room

    def settle(self, outstanding: int = 0) -> None:
        """Wait until at most `outstanding` copies are not done yet."""
        while len(self._copied) > outstanding:
            self._copied.popleft().synchronize()


def registered(memory: Tensor) -> Callable[[], None]:
    """Register shared memory with the CUDA driver; return the function that unregisters it.

    Raises:
        RuntimeError: the driver refuses, for example as the limit on locked memory is too low.
    """
    cuda = torch.cuda.cudart()
    place = memory.data_ptr()
    torch.cuda.check_error(int(cuda.cudaHostRegister(place, memory.nbytes, 0)))
    return partial(_unregister, place)


def _unregister(place: int) -> None:
    torch.cuda.cudart().cudaHostUnregister(place)  # unchecked: the driver may have shut down


def delivery_to(device: torch.device) -> tuple[Delivery, str]:
    """Return the fastest Delivery that works on this device, and a line of text that reports it.

    The line is empty where there is no choice.
    """
    if device.type != "cuda":
        return Delivery(device), ""
    try:
        delivery = Delivery(device, aside=True)
        problem = trial(delivery)
    except (RuntimeError, AttributeError) as error:
        problem = str(error).splitlines()[0]
    if problem:
        return Delivery(device), f"batches are copied on the stream that computes: {problem}"
    return delivery, "batches are copied on a stream of their own, from registered memory"


def trial(delivery: Delivery) -> str | None:
    """Copy some bytes from shared memory to the device and compare them; return what is wrong.

    None means that all is right.
    """
    memory = shared_memory(TRIED)
    memory.copy_(torch.arange(TRIED) % 251)
    undo = delivery.register(memory) if delivery.register else None
    try:
        room = delivery.room(TRIED)
        delivery.put(room, memory)
        there = delivery.arrive(room).clone()
        delivery.settle()
        memory.zero_()  # allowed once settled
        right = bool((there.cpu() == (torch.arange(TRIED) % 251)).all())
    finally:
        if undo:
            undo()
    return None if right else "other bytes arrived than were sent"
