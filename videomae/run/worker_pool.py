"""A pool of processes that read videos: one that dies or hangs costs only its video.

pebble's pool is not used, because one of its processes that is killed from outside can end them
all, and because its time limit also counts the time in which everything is stopped (Ctrl-Z).
"""

import ctypes
import json
import math
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from videomae.config import UserError

K = TypeVar("K")
Answer = dict[str, Any] | str
"""Answer of a program to a request; or, as text, the reason why there is none."""
PR_SET_PDEATHSIG = 1
"""Option number of prctl in Linux: the signal that a process gets when its parent ends."""
POLL_S = 1.0
"""Seconds between two checks of the processes that are waited for."""
SLOW_S = 5.0
"""Seconds by which a check may be late on a busy machine; more means that this process was
stopped."""
STATUS = Path("/proc/self/status")
OWN_BYTES = 3 * 10**8
"""Bytes of memory that a process may use besides reading a clip: libraries that are loaded late,
and memory that was freed but not returned to the system."""


ALLOCATOR = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Environment of a program: Arrow's own allocator takes 1 GiB of the limit with the first table."""
MOST_REQUESTS = 64
"""Number of requests after which another process takes a program's place: the heap of one that
decodes grows as it is cut up, until the limit of memory would hit a sound video."""
SPENT = 75
"""Exit status of a program whose memory did not suffice for a request after others."""
FAILED = 1
"""Exit status of Python after an exception that nothing catches."""
OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
"""Signals that others send to a program; one that it causes itself, such as SIGSEGV, is not of
them."""
CRASHED = "decoder crashed"
requests_before = 0
"""Number of requests that this process, if it is a program, has answered before the present one."""


def ended_from_outside(reason: str) -> bool:
    """Return whether an answer that is a reason says that a signal from outside ended the
    program."""
    return reason in [f"{CRASHED} ({name})" for name in OUTSIDE]


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the system to send this process a signal when its parent ends, even while it hangs.

    This works on Linux only; elsewhere a process that does not hang notices the end itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def limit_memory(more: int) -> None:
    """Limit the memory of this process to `more` bytes above what it uses now.

    Allocations beyond the limit fail. This works on Linux only; elsewhere there is no limit.
    """
    if not STATUS.exists():
        return
    most = _memory_taken() + more
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _memory_taken() -> int:
    """Return the bytes that count towards the limit of memory of this process (Linux)."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines["VmData"].split()[0])


def _memory_left() -> float:
    """Return the bytes that this process may still take; infinity where nothing limits it."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if most == resource.RLIM_INFINITY or not STATUS.exists():
        return math.inf
    return most - _memory_taken()


@contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """Limit the memory of this process, as limit_memory does, while the block runs (Linux)."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory(more)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def serve(answer: Callable[..., Any], prepare: Callable[..., None] | None = None) -> None:
    """Answer requests, one JSON array a line of stdin, until stdin ends. Ctrl-C is ignored.

    An exception in `answer` is the answer, as text, and ends this process.

    Args:
        answer: function of the entries of a request, whose last one is the limit of memory in
            bytes. It returns a dataclass, which is printed as one line of JSON.
        prepare: function of the entries of the first request, called before the memory is limited.
    """
    global requests_before
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for requests_before, line in enumerate(sys.stdin):
        request = json.loads(line)
        if requests_before == 0:
            if prepare is not None:
                prepare(*request)
            limit_memory(request[-1] + OWN_BYTES)
        try:
            found = answer(*request)
        except Exception as error:  # whatever a file or a library brings about, it is named
            print(json.dumps(f"{CRASHED} ({_in_one_line(error)})"), flush=True)
            sys.exit(FAILED)
        if getattr(found, "error", None) and _memory_left() < request[-1]:
            end_if_spent()  # FFmpeg also calls a video damaged where memory does not suffice
        print(json.dumps(asdict(found)), flush=True)
    requests_before = 0


def _in_one_line(error: Exception) -> str:
    """Return the last line of the traceback of an exception."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


def end_if_spent() -> None:
    """End this process if it is a program that has answered other requests, so that `run_all` gives
    the present one to a fresh program.

    It is called where the memory does not suffice.
    """
    if requests_before:
        sys.exit(SPENT)


class Watch:
    """Measures how long this process, which checks every POLL_S, was stopped.

    Ctrl-Z and Slurm's suspension also stop the processes that are waited for, so that this time
    must not count towards their time limits.
    """

    def __init__(self) -> None:
        self.looked = time.monotonic()

    def stopped_s(self) -> float:
        """Return the seconds since the last check in which this process was stopped; 0 if it was
        not."""
        before, self.looked = self.looked, time.monotonic()
        late = self.looked - before - POLL_S
        return late if late > SLOW_S else 0.0


class Program(Generic[K]):
    """A running program and its current request; requests and answers are lines of JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command, self.environment = command, os.environ | ALLOCATOR
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL  # FFmpeg's own words go to stderr
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=quiet, env=self.environment
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.num_requests = 0

    def start(self, key: K, request: Any) -> None:
        """Send the program its next request.

        Args:
            key: identifies the request for the caller.
        """
        self.key, self.request, self.began = key, request, time.monotonic()
        self.num_requests += 1
        with suppress(BrokenPipeError):  # it has died: its answer will be empty
            self.requests.write(json.dumps(request).encode() + b"\n")
            self.requests.flush()

    def answer(self) -> Answer | None:
        """Return the program's answer to its request; None if the program has died."""
        line = self.answers.readline()
        return json.loads(line) if line else None

    def tried_again(self, answer: Answer | None, ended: str | None) -> bool:
        """Return whether a fresh program is given the request of this one, which ended by itself.

        It is, if this one has answered others: what they left behind, such as a heap that is cut
        up, may be the reason. A program that ends by an exception before its first answer never
        answers any: what it needs is not installed.

        Raises:
            UserError: the program cannot start.
        """
        if isinstance(answer, dict):
            return False
        if self.num_requests > 1:
            return ended not in OUTSIDE
        if answer is None and ended == f"status {FAILED}":
            raise UserError(self._why_not_started())
        return False

    def _why_not_started(self) -> str:
        """Return what the program says that ends by an exception before it answers."""
        given = json.dumps(self.request).encode() + b"\n"
        done = subprocess.run(
            self.command, input=given, capture_output=True, env=self.environment, check=False
        )
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        program = " ".join(self.command[1:3])
        return (
            f"python {program} cannot start ({last or f'status {FAILED}'}): python -m "
            "videomae.doctor says what is missing"
        )

    def stop(self) -> str:
        """Kill the program, and return how it ended: the name of a signal, or its exit status."""
        self.process.kill()
        code = self.process.wait()
        self.answers.close()
        with suppress(BrokenPipeError):
            self.requests.close()
        return signal.Signals(-code).name if code < 0 else f"status {code}"


def run_all(
    command: Sequence[str], requests: Iterable[tuple[K, Any]], workers: int, timeout_s: float
) -> Iterator[tuple[K, Answer]]:
    """Yield the key of every request and its answer, in the order of the answers.

    Args:
        command: command line of a program that answers requests, see `serve`.
        requests: key and content of each request.
        workers: number of processes.
        timeout_s: seconds that an answer may take; a program that takes longer is killed.

    Raises:
        UserError: the program cannot start.
    """
    waiting = iter(requests)
    running: dict[int, Program[K]] = {}
    too_late = f"not decoded in time ({timeout_s:g} s)"
    with selectors.DefaultSelector() as selector:

        def launch(key: K, request: Any) -> None:
            program: Program[K] = Program(command)
            program.start(key, request)
            running[program.answers.fileno()] = program
            selector.register(program.answers, selectors.EVENT_READ)

        def retire(program: Program[K]) -> str:
            selector.unregister(running.pop(program.answers.fileno()).answers)
            return program.stop()

        watch = Watch()
        try:
            for each in islice(waiting, workers):
                launch(*each)
            while running:
                ready = {key.fd for key, _ in selector.select(timeout=min(POLL_S, timeout_s))}
                stopped_s, now = watch.stopped_s(), time.monotonic()
                for number, program in list(running.items()):
                    program.began += stopped_s
                    key, late = program.key, now - program.began > timeout_s
                    if number not in ready and not late:
                        continue
                    answer: Answer | None = program.answer() if number in ready else too_late
                    worn = program.num_requests >= MOST_REQUESTS or not isinstance(answer, dict)
                    ended = retire(program) if worn else None
                    if number in ready and program.tried_again(answer, ended):
                        launch(key, program.request)
                        continue
                    following = next(waiting, None)
                    if following is None:
                        ended = ended or retire(program)
                    elif ended is None:
                        program.start(*following)
                    else:
                        launch(*following)
                    yield key, answer or f"{CRASHED} ({ended})"
        finally:
            for program in running.values():
                program.stop()
