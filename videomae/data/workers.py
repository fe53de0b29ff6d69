"""Decoding processes that make batches; one that dies or hangs is replaced.

A process may hang in native code while it holds Python's lock (GIL), so the main process never
depends on its answer: batches lie in memory that is shared from the start, and messages come
through a separate pipe for each process, which the death of another process does not damage.
"""

import atexit
import logging
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from videomae.config import UserError
from videomae.data.slots import ALIGNED, FORKED, Register, Slots, copied, shared_memory
from videomae.data.working import IDLE, Assigned, BatchSource, WorkerSlot, work
from videomae.run.worker_pool import OWN_BYTES, POLL_S, Watch

logger = logging.getLogger(__name__)

T = TypeVar("T")
B = TypeVar("B", bound=NamedTuple)
AHEAD = 2
"""Number of batches that a process makes in advance."""
ASKED = 16
"""Number of tasks ahead of those that are handed out whose files are fetched, where they lie at an
address."""
LENT = 1
"""Number of batches whose memory is still in use while the next batch is made."""
MAX_LOSSES = 2
"""Number of processes that die or hang at one video before the video is given up."""
RESTARTS = 3
"""Number of processes in a row that end at no video, without a batch between, before an error."""


def most_memory(workers: int, batch_bytes: int, max_clip_bytes: int) -> int:
    """Return the largest memory of the decoding processes, in bytes, besides what they share."""
    slots = (AHEAD + LENT) * batch_bytes
    return workers * (slots + max_clip_bytes + batch_bytes + OWN_BYTES)


def asked_ahead(source: BatchSource[T, B], tasks: Iterable[T]) -> Iterator[T]:
    """Yield tasks, of which the next ASKED have been asked for."""
    waiting: deque[T] = deque()
    for task in tasks:
        source.ask(task)
        waiting.append(task)
        if len(waiting) > ASKED:
            yield waiting.popleft()
    yield from waiting


class WorkerDied(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """An error: decoding processes end again and again, not because of a video."""


class Loader(Generic[T, B]):
    """Yields the batches of all tasks from decoding processes, which may die or hang.

    A process that has ended, or that decodes one video for longer than source.timeout_s, is
    replaced by another one, which continues its tasks. A video that ends two processes is given up.

    Args:
        workers: number of processes; 0: the main process decodes, without a time limit.
        in_order: whether all batches of a task come before those of the next one; False: batches
            come when they are ready, those of one task in their order.
        pin: whether batches come in pinned memory.
        lend: whether batches come in the shared memory that they were made in, which is valid until
            the next but one is requested.
        register: see Slots; only with lend.
    """

    def __init__(
        self,
        source: BatchSource[T, B],
        tasks: Iterable[T],
        *,
        workers: int,
        in_order: bool,
        pin: bool,
        lend: bool = False,
        register: Register | None = None,
    ) -> None:
        self.source = source
        self.tasks = tasks
        self.workers = workers
        self.in_order = in_order
        self.pin = pin
        self.lend = lend
        self.register = register
        self.losses: Counter[tuple[int, int]] = Counter()  # by task and video
        self.unexplained = 0

    def __iter__(self) -> Generator[B]:
        """Yield all batches. The processes end with the iterator.

        Raises:
            WorkerDied: processes end again and again, not because of a video.
        """
        if self.workers == 0:
            for task in asked_ahead(self.source, self.tasks):
                for batch, _ in self.source.make(task, 0, WorkerSlot()):
                    yield copied(batch, pin=True) if self.pin else batch
            return
        crew = [Worker(self.source, self.lend, self.register) for _ in range(self.workers)]

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
        tasks = enumerate(asked_ahead(self.source, self.tasks))

        def assign(worker: Worker[T, B]) -> None:
            for number, task in tasks:
                worker.assign(number, task)
                return

        lent: deque[tuple[Worker[T, B], Slots]] = deque()

        def give_back() -> None:
            worker, slots = lent.popleft()
            worker.give_back(slots)

        for _ in range(AHEAD):
            for worker in crew:
                assign(worker)
        while busy := [worker for worker in crew if worker.assigned]:
            if self.in_order:
                busy = [min(busy, key=lambda worker: worker.assigned[0].number)]
            worker, made, last = self._receive(busy, crew)
            batch, slots = worker.slots.get(made), worker.slots
            if not self.lend:
                batch = copied(batch, pin=self.pin)
            worker.count_batch(last)
            if last:
                assign(worker)
            self.unexplained = 0
            lent.append((worker, slots))
            if not self.lend:
                give_back()
            yield batch
            if len(lent) > LENT:
                give_back()

    def _receive(
        self, wanted: Sequence["Worker[T, B]"], crew: Sequence["Worker[T, B]"]
    ) -> tuple["Worker[T, B]", B, bool]:
        """Return the next message of the wanted processes: process, batch, and whether it is the
        last.

        Processes that have died or hang are replaced meanwhile.
        """
        watch = Watch()
        while True:
            ready = wait([worker.results for worker in wanted], POLL_S)
            stopped_s = watch.stopped_s()
            for worker in crew:
                worker.excuse(stopped_s)
            for worker in wanted:
                if worker.results not in ready:
                    continue
                try:
                    message = worker.results.recv()
                except (EOFError, OSError):
                    self._replace(worker, worker.exit_reason())
                    break
                if isinstance(message, Exception):
                    raise message
                return worker, *message
            else:
                for worker in crew:
                    if worker.is_late(self.source.timeout_s):
                        limit = f"{self.source.timeout_s:g} s, data.timeout_s"
                        how = f"not decoded in time ({limit})"
                        self._replace(worker, how)

    def _replace(self, worker: "Worker[T, B]", how: str) -> None:
        """Start another process in place of a lost one, and count the loss for its video.

        Args:
            how: how the process ended, for messages.

        Raises:
            WorkerDied: RESTARTS processes in a row ended at no video.
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
            logger.warning(f"a decoding process ended between two videos ({how}): another goes on")
        else:
            self.losses[worker.task, video] += 1
            given_up = self.losses[worker.task, video] >= MAX_LOSSES
            if given_up:
                self.source.given_up[video] = f"{how}, twice"
            path, then = self.source.clips[video].path, "a bad file" if given_up else "tried again"
            logger.warning(f"{path}: {how}: {then}")
        worker.start()


class Worker(Generic[T, B]):
    """A decoding process, controlled by the main process. It can be restarted once stopped.

    Args:
        lends: whether its batches are used in the shared memory, without a copy.
        register: see Slots.
    """

    def __init__(
        self, source: BatchSource[T, B], lends: bool = False, register: Register | None = None
    ) -> None:
        self.source = source
        self.num_slots = AHEAD + LENT * lends
        self.register = register
        self.assigned: deque[Assigned] = deque()  # it is at the first
        self.process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        """Start the process, which begins with the tasks that are assigned."""
        context: Any = multiprocessing.get_context("fork" if FORKED else "spawn")
        # Memory of its own: a process may live on for a while after it was killed.
        self.state = shared_memory(ALIGNED).view(torch.float64)
        self.state[0] = IDLE  # the video that it is at, since when, and for which task
        self.slots = Slots(self.num_slots, self.source.nbytes, self.register)
        tasks, self.tasks = context.Pipe(duplex=False)
        self.results, results = context.Pipe(duplex=False)
        self.process = context.Process(
            target=work,
            args=(self.source, self.state, self.slots, tasks, results),
            daemon=True,
        )
        self.process.start()
        tasks.close()
        results.close()  # so that the pipe ends with the process
        for assigned in self.assigned:
            self._send((assigned, self.source.given_up))

    def assign(self, number: int, task: T) -> None:
        """Assign a task, which the process does after all others."""
        self.assigned.append(Assigned(number, task, first=0))
        self._send((self.assigned[-1], self.source.given_up))

    def count_batch(self, last: bool) -> None:
        """Count a batch that has come.

        Args:
            last: whether it was the last one of its task.
        """
        current = self.assigned.popleft()
        if not last:
            self.assigned.appendleft(current._replace(first=current.first + 1))

    def give_back(self, slots: Slots) -> None:
        """Tell the process that the memory of the oldest batch in its slots is free again."""
        if slots is self.slots:  # not those of a process that is gone
            self._send(None)

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it has died, which shows when its results are asked for
            self.tasks.send(message)

    @property
    def video(self) -> int | None:
        """Index in the list of the video that the process is decoding; None: it is at no video."""
        return None if self.state[0] == IDLE else int(self.state[0])

    @property
    def task(self) -> int:
        """Number of the task that the process is at."""
        return int(self.state[2])

    def excuse(self, seconds: float) -> None:
        """Do not count some seconds towards the time limit of the current video."""
        if seconds and self.video is not None:
            self.state[1] += seconds

    def is_late(self, timeout_s: float) -> bool:
        """Return whether the process has been at one video for longer than timeout_s, in
        seconds."""
        return self.video is not None and time.monotonic() - float(self.state[1]) > timeout_s

    def exit_reason(self) -> str:
        """Return how the process ended, in words."""
        assert self.process is not None
        self.process.join(POLL_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"decoder crashed ({signal.Signals(-code).name})"
        return f"decoder ended its process, status {code}"

    def stop(self) -> None:
        """Kill the process, even if it hangs in a decoder."""
        if self.process is None:
            return
        self.process.kill()
        self.process.join(POLL_S)
        self.tasks.close()
        self.results.close()
        self.process = None
