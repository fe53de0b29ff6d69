"""Processes that decode: what they make comes in order, and none that dies or hangs is waited for.

One may be stuck in native code with Python's lock in its hands. So the main process asks none for
anything: batches lie in memory that was shared from the start, and what else is to say comes
through a pipe of each process's own, which another's end does not spoil.
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
from videomae.run.programs import OWN_BYTES, POLL_S, Watch

logger = logging.getLogger(__name__)

T = TypeVar("T")
B = TypeVar("B", bound=NamedTuple)
AHEAD = 2
"""Batches that a process makes before they are asked for."""
LENT = 1
"""Batches whose memory is still somebody's while the next is made."""
PATIENCE = 2
"""Processes that one video may take along before it is given up."""
RESTARTS = 3
"""Losses in a row that no video is to blame for, and between which no batch came."""


def most_memory(workers: int, batch_bytes: int, max_clip_bytes: int) -> int:
    """Bytes that so many decoding processes may take beside what they share with this one."""
    slots = (AHEAD + LENT) * batch_bytes
    return workers * (slots + max_clip_bytes + batch_bytes + OWN_BYTES)


class WorkerDied(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """Decoding processes end, whatever they are given to do."""


class Loader(Generic[T, B]):
    """Yields the batches of all tasks from decoding processes, which may die or hang.

    A process that has ended, or that decodes one video for longer than source.timeout_s, is
    replaced by another one, which continues its tasks. A video that ends two processes is given up.

    Args:
        workers: processes; 0: this one decodes, unwatched.
        in_order: whether the batches of one task come before those of the next; False: as they are
            ready, those of one task in their order.
        pin: whether batches come in pinned memory.
        lend: whether batches come in the memory that they were made in, which is theirs until the
            next but one is asked for.
        register: see Slots. (lend)
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
        """All batches. The processes end with the iterator.

        Raises:
            WorkerDied: processes end whatever they are given to do.
        """
        if self.workers == 0:
            for task in self.tasks:
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
        tasks = enumerate(self.tasks)

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
            worker.has_made(last)
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
        """What the first of the wanted processes that has something ready has made."""
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
                    self._replace(worker, worker.ended())
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
            logger.warning(f"a decoding process ended between two videos ({how}): another goes on")
        else:
            self.losses[worker.task, video] += 1
            given_up = self.losses[worker.task, video] >= PATIENCE
            if given_up:
                self.source.given_up[video] = f"{how}, twice"
            path, then = self.source.clips[video].path, "a bad file" if given_up else "tried again"
            logger.warning(f"{path}: {how}: {then}")
        worker.start()


class Worker(Generic[T, B]):
    """A process that decodes, as the main one sees it. It can be started again once stopped.

    Args:
        lends: whether its batches are used where they lie.
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
        """Start the process, on what is assigned."""
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
        """Give it something to do after all else."""
        self.assigned.append(Assigned(number, task, first=0))
        self._send((self.assigned[-1], self.source.given_up))

    def has_made(self, last: bool) -> None:
        """A batch has come; was it the task's last?"""
        current = self.assigned.popleft()
        if not last:
            self.assigned.appendleft(current._replace(first=current.first + 1))

    def give_back(self, slots: Slots) -> None:
        """The batch that came first of those in these slots is nobody's any more."""
        if slots is self.slots:  # not those of a process that is gone
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

    def excuse(self, seconds: float) -> None:
        """Do not count that much of the time for which it has been at its video."""
        if seconds and self.video is not None:
            self.state[1] += seconds

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
