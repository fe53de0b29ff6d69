"""Processes that decode: what they make comes in order, and none that dies or hangs is waited for.

Batches lie in memory that a process shares with the main one from its start, so taking one over
needs no word from a process that may be stuck in native code with Python's lock in its hands, and
no room in /dev/shm. Pipes carry the rest, one pair for each process: another's end spoils nothing.
"""

import atexit
import gc
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from math import prod
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

import torch
from torch import Tensor

from videomae.config import UserError
from videomae.data.clips import Clip

T = TypeVar("T")
B = TypeVar("B", bound=NamedTuple)
Task = TypeVar("Task", contravariant=True)
Made = TypeVar("Made", bound=NamedTuple, covariant=True)
AHEAD = 2
"""Batches that a process makes before they are asked for."""
POLL_S = 1.0
"""How often the main process looks around while it waits."""
PATIENCE = 2
"""Processes that one video may take along before it is given up."""
RESTARTS = 3
"""Losses in a row that no video is to blame for, and between which no batch came."""
IDLE = -1.0
ALIGNED = 64
"""Bytes."""
FORKED = sys.platform == "linux"


class WorkerDied(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """Decoding processes end, whatever they are given to do."""


class Maker(Protocol[Task, Made]):
    """What batches come from."""

    given_up: dict[int, str]
    """Videos that are not to be opened, by their place in the list: why."""
    nbytes: int
    """Of the tensors of one batch, at most."""

    @property
    def clips(self) -> Sequence[Clip]:
        """The list."""

    def make(
        self, task: Task, first: int, at: Callable[[int], AbstractContextManager[None]]
    ) -> Iterator[tuple[Made, bool]]:
        """The batches of a task without the `first` ones, and whether each is the task's last.

        Args:
            at: a context in which the video of that place in the list is decoded.
        """


class Loader(Generic[T, B]):
    """The batches of all tasks, whatever becomes of the processes that make them.

    A process that is gone, or at one video for longer than timeout_s, is replaced by another, which
    goes on with its tasks. A video that takes two processes along is given up.

    Args:
        workers: processes; 0: this one decodes, unwatched.
        in_order: whether the batches of one task come before those of the next; False: as they are
            ready, those of one task in their order.
        pin: whether batches come in pinned memory.
        note: is told of every loss.
    """

    def __init__(
        self,
        maker: Maker[T, B],
        tasks: Iterable[T],
        *,
        workers: int,
        in_order: bool,
        pin: bool,
        timeout_s: float,
        note: Callable[[str], None],
    ) -> None:
        self.maker = maker
        self.tasks = tasks
        self.workers = workers
        self.in_order = in_order
        self.pin = pin
        self.timeout_s = timeout_s
        self.note = note
        self.losses: Counter[tuple[int, int]] = Counter()  # by task and video
        self.unexplained = 0

    def __iter__(self) -> Generator[B]:
        """All batches. The processes end with the iterator.

        Raises:
            WorkerDied: processes end whatever they are given to do.
        """
        if self.workers == 0:
            for task in self.tasks:
                for batch, _ in self.maker.make(task, 0, lambda _: nullcontext()):
                    yield _kept(batch, pin=True) if self.pin else batch
            return
        crew = [Worker(self.maker) for _ in range(self.workers)]

        def stop() -> None:
            for worker in crew:
                worker.stop()

        atexit.register(stop)  # before multiprocessing waits for processes that may hang
        try:
            for worker in crew:
                worker.start()
            yield from self._batches(crew)
        finally:
            stop()
            atexit.unregister(stop)

    def _batches(self, crew: Sequence["Worker[T, B]"]) -> Iterator[B]:
        tasks = enumerate(self.tasks)

        def assign(worker: Worker[T, B]) -> None:
            for number, task in tasks:
                worker.assign(number, task)
                return

        for _ in range(AHEAD):
            for worker in crew:
                assign(worker)
        while busy := [worker for worker in crew if worker.assigned]:
            if self.in_order:
                busy = [min(busy, key=lambda worker: worker.assigned[0].number)]
            worker, made, last = self._receive(busy, crew)
            batch = _kept(_taken(made, worker.slots), self.pin)
            worker.give_back(last)
            if last:
                assign(worker)
            self.unexplained = 0
            yield batch

    def _receive(
        self, wanted: Sequence["Worker[T, B]"], crew: Sequence["Worker[T, B]"]
    ) -> tuple["Worker[T, B]", B, bool]:
        """What the first of the wanted processes that has something ready has made."""
        while True:
            ready = wait([worker.results for worker in wanted], POLL_S)
            for worker in wanted:
                if worker.results not in ready:
                    continue
                try:
                    message = worker.results.recv()
                except (EOFError, OSError):
                    self._replace(worker, worker.ended())
                    break
                if isinstance(message, Exception):
                    raise message
                return worker, *message
            else:
                for worker in crew:
                    if worker.is_late(self.timeout_s):
                        how = f"not decoded in time ({self.timeout_s:g} s, data.timeout_s)"
                        self._replace(worker, how)

    def _replace(self, worker: "Worker[T, B]", how: str) -> None:
        """Note whose fault the loss is, and start another process in its place.

        Raises:
            WorkerDied: it is nobody's, again and again.
        """
        video = worker.video
        worker.stop()
        if video is None:
            self.unexplained += 1
            if self.unexplained >= RESTARTS:
                raise WorkerDied(
                    f"{RESTARTS} times in a row a decoding process ended before a batch was made, "
                    f"and not at a video ({how}). The system ends them if memory runs out: fewer "
                    "run.workers need less. Complete checkpoints are kept: go on with resume=auto"
                )
            self.note(f"a decoding process ended between two videos ({how}): another goes on")
        else:
            self.losses[worker.task, video] += 1
            given_up = self.losses[worker.task, video] >= PATIENCE
            if given_up:
                self.maker.given_up[video] = f"{how}, twice"
            path, then = self.maker.clips[video].path, "a bad file" if given_up else "tried again"
            self.note(f"{path}: {how}: {then}")
        worker.start()


class Assigned(NamedTuple):
    """A task of one process."""

    number: int
    task: Any
    first: int
    """Batches of it that have been handed out."""


class Worker(Generic[T, B]):
    """A process that decodes, as the main one sees it. It can be started again once stopped."""

    def __init__(self, maker: Maker[T, B]) -> None:
        self.maker = maker
        self.assigned: deque[Assigned] = deque()  # it is at the first
        self.process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        """Start the process, on what is assigned."""
        context: Any = multiprocessing.get_context("fork" if FORKED else "spawn")
        size = -(-self.maker.nbytes // ALIGNED) * ALIGNED
        memory = _shared(ALIGNED + AHEAD * size)  # its own: a process may outlive being killed
        self.state = memory[:ALIGNED].view(torch.float64)
        self.state[0] = IDLE  # the video that it is at, since when, and for which task
        self.slots = memory[ALIGNED:].view(AHEAD, size)
        tasks, self.tasks = context.Pipe(duplex=False)
        self.results, results = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_work,
            args=(self.maker, self.state, self.slots, tasks, results),
            daemon=True,
        )
        self.process.start()
        tasks.close()
        results.close()  # so that the pipe ends with the process
        for assigned in self.assigned:
            self._send((assigned, self.maker.given_up))

    def assign(self, number: int, task: T) -> None:
        """Give it something to do after all else."""
        self.assigned.append(Assigned(number, task, first=0))
        self._send((self.assigned[-1], self.maker.given_up))

    def give_back(self, last: bool) -> None:
        """A batch has been taken over from its slot; was it the task's last?"""
        current = self.assigned.popleft()
        if not last:
            self.assigned.appendleft(current._replace(first=current.first + 1))
        self._send(None)

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it has died, which shows when its results are asked for
            self.tasks.send(message)

    @property
    def video(self) -> int | None:
        """The place in the list of the video that it is at."""
        return None if self.state[0] == IDLE else int(self.state[0])

    @property
    def task(self) -> int:
        """The number of the task that it is at."""
        return int(self.state[2])

    def is_late(self, timeout_s: float) -> bool:
        """Whether it has been at one video for longer than that."""
        return self.video is not None and time.monotonic() - float(self.state[1]) > timeout_s

    def ended(self) -> str:
        """How it ended."""
        assert self.process is not None
        self.process.join(POLL_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"decoder crashed ({signal.Signals(-code).name})"
        return f"decoder ended its process, status {code}"

    def stop(self) -> None:
        """End the process, also if it is stuck in a decoder."""
        if self.process is None:
            return
        self.process.kill()
        self.process.join(POLL_S)
        self.tasks.close()
        self.results.close()
        self.process = None


class Placed(NamedTuple):
    """Where a tensor lies."""

    slot: int
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def _work(
    maker: Maker[T, B], state: Tensor, slots: Tensor, tasks: Connection, results: Connection
) -> None:
    """What a process does: tasks come in, batches go out, None says that a slot is free again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    _leave_signals_to(parent.pid)
    torch.set_num_threads(1)
    gc.freeze()  # what is there already stays, and stays shared with the main process
    assigned: deque[Assigned] = deque()
    free = deque(range(len(slots)))
    used: deque[int] = deque()  # given back in this order

    @contextmanager
    def at(video: int) -> Iterator[None]:
        state[1] = time.monotonic()
        state[0] = video
        try:
            yield
        finally:
            state[0] = IDLE

    def receive() -> None:
        while not tasks.poll(POLL_S):
            if os.getppid() != parent.pid:
                os._exit(1)
        message = tasks.recv()
        if message is None:
            free.append(used.popleft())
        else:
            task, given_up = message
            assigned.append(task)
            maker.given_up.update(given_up)

    try:
        while True:
            while not assigned:
                receive()
            current = assigned.popleft()
            state[2] = current.number
            for batch, last in maker.make(current.task, current.first, at):
                while not free:
                    receive()
                used.append(free.popleft())
                results.send((_placed(batch, slots, used[-1]), last))
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


def _shared(size: int) -> Tensor:
    """Memory that a process started from this one has too: (size,) uint8."""
    if FORKED:
        return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)
    return torch.zeros(size, dtype=torch.uint8).share_memory_()


def _placed(batch: B, slots: Tensor, slot: int) -> B:
    """The batch with its tensors copied into a slot, and their places in them."""
    offset, values = 0, []
    for value in batch:
        if not isinstance(value, Tensor):
            values.append(value)
            continue
        place = Placed(slot, offset, tuple(value.shape), value.dtype)
        _at(place, slots).copy_(value)
        values.append(place)
        offset += -(-value.nbytes // ALIGNED) * ALIGNED
    return type(batch)._make(values)


def _taken(batch: B, slots: Tensor) -> B:
    """The batch with the tensors that lie in those places, until the slot is given back."""
    return type(batch)._make(_at(v, slots) if isinstance(v, Placed) else v for v in batch)


def _at(place: Placed, slots: Tensor) -> Tensor:
    nbytes = prod(place.shape) * place.dtype.itemsize
    assert place.offset + nbytes <= slots.shape[1], "Maker.nbytes is too low"
    memory = slots[place.slot, place.offset : place.offset + nbytes]
    return memory.view(place.dtype).view(place.shape)


def _kept(batch: B, pin: bool) -> B:
    """A copy in memory of its own."""

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, pin_memory=pin).copy_(value)

    return type(batch)._make(map(copy, batch))


def _leave_signals_to(parent: int) -> None:
    """Signals to the whole job are the training process's to handle: it still wants the batches.

    Ctrl-C goes to every process of a terminal, SIGTERM often to every process of a job. A worker
    ends on SIGTERM only when its own training process sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> NoReturn:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
