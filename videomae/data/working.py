"""The worker process that decodes batches: its tasks, its slot, and how it ends."""

import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import torch
from torch import Tensor

from videomae.data.slots import Slots
from videomae.lists.formats import Clip
from videomae.run.worker_pool import OWN_BYTES, POLL_S, end_with_parent, limit_memory

T = TypeVar("T")
B = TypeVar("B", bound=NamedTuple)
Task = TypeVar("Task", contravariant=True)
Made = TypeVar("Made", bound=NamedTuple, covariant=True)
IDLE = -1.0
"""Value of a worker's state in place of a video's index while it decodes no video."""
NICENESS = 5
"""Increment of a worker process's niceness, so that training has the first call on the CPU."""


class WorkerSlot:
    """Working place of one decoder, in the calling process: its current video, its next batch."""

    def decoding(self, video: int) -> AbstractContextManager[None]:
        """Return a context in which the video of that index in the list is decoded."""
        return nullcontext()

    def empty(self, *shape: int) -> Tensor:
        """Return a uint8 tensor for the next batch, at most one, that is not copied later."""
        return torch.empty(shape, dtype=torch.uint8)


class BatchSource(Protocol[Task, Made]):
    """A source of batches: each task, such as a few items of a list, yields some batches."""

    given_up: dict[int, str]
    """Reason for each video that must not be opened, by its index in the list."""
    nbytes: int
    """Bytes of one batch's tensors, at most."""
    max_clip_bytes: int
    """Bytes of memory that reading one video may take, at most."""
    timeout_s: float
    """Seconds that a process may spend on one video."""

    @property
    def clips(self) -> Sequence[Clip]:
        """The list of clips."""

    def ask(self, task: Task) -> None:
        """Have the files of a task fetched that lie at an address, ahead of their use."""

    def make(self, task: Task, first: int, slot: WorkerSlot) -> Iterator[tuple[Made, bool]]:
        """Yield a task's batches from number `first` on, each with whether it is the last."""


class Assigned(NamedTuple):
    """A task that is assigned to one worker process."""

    number: int
    task: Any
    first: int
    """Number of the task's batches that have been handed out already."""


class SharedWorkerSlot(WorkerSlot):
    """Worker slot of a process of its own, whose batches lie in shared memory.

    Args:
        state: shared float64 tensor: the current video's index or IDLE, the time since when
            (time.monotonic, in s), and the number of its task.
        tasks: connection that brings tasks, and None for every batch that has been taken over.
        parent: process id of the training process.
    """

    def __init__(
        self,
        source: BatchSource[T, B],
        state: Tensor,
        slots: Slots,
        tasks: Connection,
        parent: int,
    ) -> None:
        self.source = source
        self.state = state
        self.slots = slots
        self.tasks = tasks
        self.parent = parent
        self.assigned: deque[Assigned] = deque()
        self.free = deque(range(len(slots)))
        self.used: deque[int] = deque()  # the parent gives them back in this order

    def decoding(self, video: int) -> AbstractContextManager[None]:
        self.state[1] = time.monotonic()
        self.state[0] = video
        return self._until_done()

    @contextmanager
    def _until_done(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.state[0] = IDLE

    def empty(self, *shape: int) -> Tensor:
        return self.slots.empty(self._slot(), *shape)

    def next_task(self) -> Assigned:
        """Wait for the next task, and return it."""
        while not self.assigned:
            self._receive()
        self.state[2] = self.assigned[0].number
        return self.assigned.popleft()

    def finish(self, batch: B) -> B:
        """Move a batch into shared memory; return it with places, as it is sent."""
        slot = self._slot()
        self.used.append(self.free.popleft())
        return self.slots.put(slot, batch)

    def _slot(self) -> int:
        """Wait for a free batch slot, and return its number."""
        while not self.free:
            self._receive()
        return self.free[0]

    def _receive(self) -> None:
        while not self.tasks.poll(POLL_S):
            if os.getppid() != self.parent:
                os._exit(1)
        message = self.tasks.recv()
        if message is None:
            self.free.append(self.used.popleft())
        else:
            task, given_up = message
            self.assigned.append(task)
            self.source.given_up.update(given_up)


def work(
    source: BatchSource[T, B], state: Tensor, slots: Slots, tasks: Connection, results: Connection
) -> None:
    """Run a worker process: receive tasks and send their batches until it is ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    end_with_parent()
    _leave_signals_to(parent.pid)
    torch.set_num_threads(1)
    os.nice(NICENESS)
    limit_memory(source.max_clip_bytes + source.nbytes + OWN_BYTES)
    gc.freeze()  # objects that exist already stay, and stay shared with the main process
    slot = SharedWorkerSlot(source, state, slots, tasks, parent.pid)
    try:
        while True:
            current = slot.next_task()
            for batch, last in source.make(current.task, current.first, slot):
                results.send((slot.finish(batch), last))
            gc.collect()  # open videos are in cycles of small objects that hold much memory
    except Exception as error:  # the main process raises it
        error.add_note("".join(traceback.format_exception(error)))
        _send_error(results, error)


def _send_error(results: Connection, error: Exception) -> None:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError("".join(traceback.format_exception(error)))
    results.send(error)


def _leave_signals_to(parent: int) -> None:
    """Ignore signals that are sent to the whole job; the training process handles them.

    Ctrl-C goes to every process of a terminal, SIGTERM and SIGUSR1 often to every process of a
    job, and the training process still needs the workers then. A worker ends on SIGTERM only when
    its own training process sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> NoReturn:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
