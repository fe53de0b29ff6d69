"""A process that decodes: what it is given, where it makes batches, and how it ends."""

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
from videomae.lists.clips import Clip
from videomae.run.programs import OWN_BYTES, POLL_S, end_with_parent, limit_memory

T = TypeVar("T")
B = TypeVar("B", bound=NamedTuple)
Task = TypeVar("Task", contravariant=True)
Made = TypeVar("Made", bound=NamedTuple, covariant=True)
IDLE = -1.0
NICENESS = 5
"""How much a decoding process stands back for the one that trains."""


class Desk:
    """Where a batch is made."""

    def at(self, video: int) -> AbstractContextManager[None]:
        """A context in which the video of that place in the list is decoded."""
        return nullcontext()

    def empty(self, *shape: int) -> Tensor:
        """A tensor of uint8 for the next batch, one at most, that need not be copied later."""
        return torch.empty(shape, dtype=torch.uint8)


class Maker(Protocol[Task, Made]):
    """What batches come from."""

    given_up: dict[int, str]
    """Videos that are not to be opened, by their place in the list: why."""
    nbytes: int
    """Of the tensors of one batch, at most."""
    max_clip_bytes: int
    """Of memory that reading one video may take."""
    timeout_s: float
    """For which a process may be at one video, in seconds."""

    @property
    def clips(self) -> Sequence[Clip]:
        """The list."""

    def make(self, task: Task, first: int, desk: Desk) -> Iterator[tuple[Made, bool]]:
        """The batches of a task without the `first` ones, and whether each is the task's last."""


class Assigned(NamedTuple):
    """A task of one process."""

    number: int
    task: Any
    first: int
    """Batches of it that have been handed out."""


class SharedDesk(Desk):
    """That of a process of its own.

    Args:
        state: the video that it is at, since when, and for which task.
        tasks: tasks come in, and None for every batch that has been taken over.
        parent: the process that wants the batches.
    """

    def __init__(
        self, maker: Maker[T, B], state: Tensor, slots: Slots, tasks: Connection, parent: int
    ) -> None:
        self.maker = maker
        self.state = state
        self.slots = slots
        self.tasks = tasks
        self.parent = parent
        self.assigned: deque[Assigned] = deque()
        self.free = deque(range(len(slots)))
        self.used: deque[int] = deque()  # they are given back in this order

    def at(self, video: int) -> AbstractContextManager[None]:
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
        """What to do; it is waited for."""
        while not self.assigned:
            self._receive()
        self.state[2] = self.assigned[0].number
        return self.assigned.popleft()

    def finish(self, batch: B) -> B:
        """The batch as it is sent."""
        slot = self._slot()
        self.used.append(self.free.popleft())
        return self.slots.put(slot, batch)

    def _slot(self) -> int:
        """That of the next batch; it is waited for."""
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
            self.maker.given_up.update(given_up)


def work(
    maker: Maker[T, B], state: Tensor, slots: Slots, tasks: Connection, results: Connection
) -> None:
    """What a process does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    end_with_parent()
    _leave_signals_to(parent.pid)
    torch.set_num_threads(1)
    os.nice(NICENESS)
    limit_memory(maker.max_clip_bytes + maker.nbytes + OWN_BYTES)
    gc.freeze()  # what is there already stays, and stays shared with the main process
    desk = SharedDesk(maker, state, slots, tasks, parent.pid)
    try:
        while True:
            current = desk.next_task()
            for batch, last in maker.make(current.task, current.first, desk):
                results.send((desk.finish(batch), last))
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
    """Signals to the whole job are the training process's to handle: it still wants the batches.

    Ctrl-C goes to every process of a terminal, SIGTERM and SIGUSR1 often to every process of a
    job. A worker ends on SIGTERM only when its own training process sent it.
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
