"""Batches on their way to the device: copied while it works, from where they were decoded.

On CUDA a stream of its own copies from shared memory that the driver knows (registered, so that it
neither moves nor is copied first). Whether that works is tried when a run starts; if not, batches
are copied to pinned memory first, and on the stream that computes.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from videomae.data.slots import shared_memory
from videomae.run.devices import pinned

TRIED = 1 << 16
"""Bytes."""


class Delivery:
    """Copies to one device.

    Args:
        aside: on a stream of its own, from registered memory. (CUDA)
    """

    def __init__(self, device: torch.device, *, aside: bool = False) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if aside else None
        self._copied: deque[torch.cuda.Event] = deque()

    @property
    def register(self) -> Callable[[Tensor], Callable[[], None]] | None:
        """What is to be done with memory that is copied from, if anything: see `registered`."""
        return registered if self.stream is not None else None

    def room(self, *shape: int) -> Tensor:
        """Where uint8 values of a batch will be put."""
        with torch.cuda.stream(self.stream):  # None: the current one
            return torch.empty(shape, dtype=torch.uint8, device=self.device)

    def put(self, room: Tensor, values: Tensor) -> None:
        """Copy, without waiting for it: `settle` tells when `values` may be overwritten."""
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
        """Let what is asked of the device from now on wait for what was put there."""
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            room.record_stream(current)  # its memory is not another batch's before that is done
        return room

    def settle(self, outstanding: int = 0) -> None:
        """Wait until all but the last few copies are done."""
        while len(self._copied) > outstanding:
            self._copied.popleft().synchronize()


def registered(memory: Tensor) -> Callable[[], None]:
    """Make shared memory known to the driver; returns what undoes it.

    Raises:
        RuntimeError: the driver cannot, as where a limit on locked memory is too low.
    """
    cuda = torch.cuda.cudart()
    place = memory.data_ptr()
    torch.cuda.check_error(int(cuda.cudaHostRegister(place, memory.nbytes, 0)))
    return partial(_unregister, place)


def _unregister(place: int) -> None:
    torch.cuda.cudart().cudaHostUnregister(place)  # at the end of a process it may be too late


def delivery_to(device: torch.device) -> tuple[Delivery, str]:
    """The fastest that works on this device, and a line that says which, if there is a choice."""
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
    """What goes wrong where some bytes are copied from shared memory; None: nothing."""
    memory = shared_memory(TRIED)
    memory.copy_(torch.arange(TRIED) % 251)
    undo = delivery.register(memory) if delivery.register else None
    try:
        room = delivery.room(TRIED)
        delivery.put(room, memory)
        there = delivery.arrive(room).clone()
        delivery.settle()
        memory.zero_()  # settled: it is nobody's any more
        right = bool((there.cpu() == (torch.arange(TRIED) % 251)).all())
    finally:
        if undo:
            undo()
    return None if right else "other bytes arrived than were sent"
