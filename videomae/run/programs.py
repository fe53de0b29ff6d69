"""Several processes that look at videos. One that dies or hangs takes its video along, no more."""

import ctypes
import json
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

K = TypeVar("K")
Answer = dict[str, Any] | str
"""What a program answers to a request; or why it does not."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl."""
POLL_S = 1.0
"""How often whoever waits for other processes looks around."""
SLOW_S = 5.0
"""By how much a look may come later on a busy machine."""
STATUS = Path("/proc/self/status")
OWN_BYTES = 3 * 10**8
"""Memory that a process may take beside what reading a clip takes: libraries that are loaded late,
and what was freed but not given back."""


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the system send this process a signal once its parent is gone, even where it hangs.

    Linux only; elsewhere a process that does not hang notices by itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def limit_memory(more: int) -> None:
    """Let this process take so many bytes more than it has now; what asks for others is refused.

    Linux only; elsewhere nothing limits it.
    """
    if not STATUS.exists():
        return
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    most = 1024 * int(lines["VmData"].split()[0]) + more
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


@contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """Let this process take so many bytes more than it has now while the block runs (Linux)."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory(more)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def serve(answer: Callable[..., Any]) -> None:
    """Answer requests, JSON arrays on lines of stdin, until there are no more.

    Ctrl-C is for the process that asks.

    Args:
        answer: takes the entries of a request, of which the last is the memory, in bytes, that it
            may take, and returns a dataclass, which is printed as JSON on a line.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number, line in enumerate(sys.stdin):
        request = json.loads(line)
        if number == 0:
            limit_memory(request[-1] + OWN_BYTES)
        print(json.dumps(asdict(answer(*request))), flush=True)


class Watch:
    """Tells how long this process, which looks about every POLL_S, was stopped.

    Ctrl-Z and Slurm's suspension stop whoever is waited for, too: that time is nobody's fault.
    """

    def __init__(self) -> None:
        self.looked = time.monotonic()

    def asleep(self) -> float:
        """Seconds since the last look that are more than a slow machine would explain."""
        before, self.looked = self.looked, time.monotonic()
        late = self.looked - before - POLL_S
        return late if late > SLOW_S else 0.0


class Program(Generic[K]):
    """A running program, and the request it is at: JSON on a line in, JSON on a line out."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL  # FFmpeg's own words go to stderr
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout

    def start(self, key: K, request: Any) -> None:
        """Give it its next request."""
        self.key, self.began = key, time.monotonic()
        with suppress(BrokenPipeError):  # it has died: its answer will be empty
            self.requests.write(json.dumps(request).encode() + b"\n")
            self.requests.flush()

    def answer(self) -> dict[str, Any] | None:
        """What it says; None: it has died."""
        line = self.answers.readline()
        return json.loads(line) if line else None

    def stop(self) -> str:
        """End it, and say how it ended."""
        self.process.kill()
        code = self.process.wait()
        self.answers.close()
        with suppress(BrokenPipeError):
            self.requests.close()
        return signal.Signals(-code).name if code < 0 else f"status {code}"


def run_all(
    command: Sequence[str], requests: Iterable[tuple[K, Any]], workers: int, timeout_s: float
) -> Iterator[tuple[K, Answer]]:
    """The key of every request and its answer, in the order in which they are answered.

    Args:
        command: runs a program that answers requests until there are no more.
        workers: processes.
        timeout_s: an answer that takes longer is not waited for.
    """
    waiting = iter(requests)
    running: dict[int, Program[K]] = {}
    with selectors.DefaultSelector() as selector:

        def launch(key: K, request: Any) -> None:
            program: Program[K] = Program(command)
            program.start(key, request)
            running[program.answers.fileno()] = program
            selector.register(program.answers, selectors.EVENT_READ)

        def retire(program: Program[K]) -> str:
            selector.unregister(program.answers)
            del running[program.answers.fileno()]
            return program.stop()

        watch = Watch()
        try:
            for each in islice(waiting, workers):
                launch(*each)
            while running:
                ready = {key.fd for key, _ in selector.select(timeout=min(POLL_S, timeout_s))}
                asleep, now = watch.asleep(), time.monotonic()
                for number, program in list(running.items()):
                    program.began += asleep
                    key, late = program.key, now - program.began > timeout_s
                    if number not in ready and not late:
                        continue
                    answer: Answer | None = (
                        program.answer()
                        if number in ready
                        else f"not decoded in time ({timeout_s:g} s)"
                    )
                    following = next(waiting, None)
                    if not isinstance(answer, dict) or following is None:
                        ended = retire(program)
                        answer = answer or f"decoder crashed ({ended})"
                        if following is not None:
                            launch(*following)
                    else:
                        program.start(*following)
                    yield key, answer
        finally:
            for program in running.values():
                program.stop()
