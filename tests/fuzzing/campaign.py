"""Thousands of attempts on mutated files, each judged, and a table of how they ended."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzzing import watch
from tests.fuzzing.base import OUTCOMES, Target
from tests.fuzzing.originals import write
from tests.fuzzing.planted import PLANTED
from tests.fuzzing.server import MORE_MB, Answer, Request
from tests.fuzzing.targets import TARGETS

KINDS = tuple(dict.fromkeys(target.kind for target in TARGETS))
SERVER = (sys.executable, "-m", "tests.fuzzing.server")
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """One attempt: a mutation, or an attack where the number is negative."""

    kind: str
    number: int

    @property
    def target(self) -> Target:
        """What is attempted."""
        return self._place()[0]

    @property
    def own_number(self) -> int:
        """The number that the target gives it."""
        return self._place()[1]

    def _place(self) -> tuple[Target, int]:
        targets = [each for each in (*TARGETS, *PLANTED) if each.kind == self.kind]
        if self.number >= 0:
            return targets[self.number % len(targets)], self.number
        every = [(target, -1 - n) for target in targets for n in range(len(target.attacks))]
        return every[-1 - self.number]

    def repeated(self, seed: int) -> str:
        """The command that repeats this attempt alone."""
        given = f"--kinds {self.kind} --only={self.number} --seed {seed}"
        return f"python scripts/soak.py fuzz {given}"


@dataclass(frozen=True)
class Row:
    """What came of a case."""

    case: Case
    answer: Answer
    watched: bool


def all_attacks(kinds: Iterable[str] = KINDS) -> list[Case]:
    """Every attack on these kinds."""
    counts = Counter[str]()
    for target in TARGETS:
        counts[target.kind] += len(target.attacks)
    return [Case(kind, -1 - number) for kind in kinds for number in range(counts[kind])]


def all_mutations(count: int, kinds: Sequence[str] = KINDS) -> list[Case]:
    """So many mutations, as many of each kind."""
    return [Case(kinds[n % len(kinds)], n // len(kinds)) for n in range(count)]


class Listener:
    """Counts who calls at a port of this machine, by TCP or UDP."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.tcp.getsockname())
        self.address = "{}:{}".format(*self.tcp.getsockname())
        self.calls = 0
        threading.Thread(target=self._answer, daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self.tcp.accept()
            except OSError:
                return
            self.calls += 1
            caller.close()

    def _receive(self) -> None:
        while True:
            try:
                self.udp.recv(1)
            except OSError:
                return
            self.calls += 1

    def close(self) -> None:
        """Listen no more."""
        self.tcp.close()
        self.udp.close()


class Client:
    """A server process, and what is known of the originals that it has made.

    Args:
        folder: what it writes into.
        outside: a video that no attempt has any business with.
        watched: whether strace watches it.
    """

    def __init__(self, folder: Path, outside: Path, *, watched: bool) -> None:
        self.folder = folder
        self.outside = outside
        self.listener = Listener()
        self.usual: dict[str, Answer] = {}
        self.watched = watched
        self.process: subprocess.Popen[str] | None = None
        self.starts = 0

    def attempt(self, case: Case, seed: int) -> Answer:
        """Make the originals if they are not there yet, then the attempt."""
        name = f"{case.target.kind}/{case.target.name}"
        request = Request(name, None, seed, self.listener.address, str(self.outside))
        if name not in self.usual:
            self.usual[name] = self._ask(request)
        usual = self.usual[name]
        if usual.failed:
            return usual
        numbered = asdict(request) | {"number": case.own_number}
        known = {"expected": usual.facts, "usual_mb": usual.peak_mb}
        return self._ask(Request(**numbered | known))

    def _ask(self, request: Request) -> Answer:
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        calls = self.listener.calls
        self.process.stdin.write(json.dumps(asdict(request)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        self.requests += 1
        if not line:
            self.stop()
            return Answer("the server ended", "", "", 0, 0, None, True)
        answer = Answer(**json.loads(line))
        outside = self.log.outside(self.requests - 1) if self.log else []
        if outside is None:
            return _failed(answer, "not watched", "strace's log is behind")
        found = "; ".join(outside[:5])
        if called := self.listener.calls - calls:
            return _failed(answer, "called", f"{called} times; {found}")
        return _failed(answer, "outside", found) if outside else answer

    def _start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.requests, self.log = 0, None
        command: Sequence[str] = [*SERVER, str(self.folder)]
        if self.watched:
            self.starts += 1
            self.log = watch.Watch(self.folder / f"log{self.starts}", [self.folder])
            command = self.log.traced(command)
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"}
        own |= {"MPLCONFIGDIR": str(self.folder), "HOME": str(self.folder)}
        quiet = (self.folder / "server.txt").open("ab")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=quiet,
            text=True,
            env=os.environ | own,
            cwd=self.folder,
        )

    def stop(self) -> None:
        """End the server."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def _failed(answer: Answer, outcome: str, detail: str) -> Answer:
    values = asdict(answer) | {"outcome": outcome, "detail": detail, "failed": True}
    return Answer(**values)


def run(
    cases: Sequence[Case],
    folder: Path,
    seed: int,
    workers: int,
    *,
    every: int = 1,
    tell: Callable[[Row], None] = lambda _: None,
) -> list[Row]:
    """Attempt all cases, those of one target one after the other.

    Args:
        folder: for the originals and the attempts.
        workers: servers beside each other.
        every: of how many attempts strace watches one, where it is installed; 0: none.
        tell: is told of each row, in one thread at a time.
    """
    by_target: dict[str, list[Case]] = {}
    for case in cases:
        by_target.setdefault(f"{case.kind}/{case.target.name}", []).append(case)
    todo: queue.SimpleQueue[list[Case]] = queue.SimpleQueue()
    for group in sorted(by_target.values(), key=len, reverse=True):
        todo.put(group)
    outside = folder / "outside" / "secret.mp4"
    write(outside)
    rows: list[Row] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        clients = {
            watched: Client(folder / f"server{number}{watched:d}", outside, watched=watched)
            for watched in (False, True)
        }
        try:
            while True:
                try:
                    group = todo.get_nowait()
                except queue.Empty:
                    return
                for place, case in enumerate(group):
                    watched = every > 0 and place % every == 0 and watch.available()
                    answer = clients[watched].attempt(case, seed)
                    with lock:
                        rows.append(Row(case, answer, watched))
                        tell(rows[-1])
        finally:
            for client in clients.values():
                client.stop()
                client.listener.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rows


def told(row: Row, seed: int) -> str:
    """A failure: what was done, what came of it, and how to see it again."""
    answer = row.answer
    return (
        f"FAILED: {row.case.kind}/{row.case.target.name} {row.case.number}: {answer.outcome} "
        f"({answer.what})\n  {answer.detail.strip()[-2000:]}\n  {row.case.repeated(seed)}"
    )


def table(rows: Sequence[Row], seconds: float) -> list[str]:
    """How many attempts on each kind ended in which way."""
    heads = ["kind", "files", *OUTCOMES, "else", "watched", "most MB more", "longest s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind in (*KINDS, None):
        own = [row for row in rows if kind in (None, row.case.kind)]
        if not own:
            continue
        counts = Counter("else" if row.answer.failed else row.answer.outcome for row in own)
        cells = [kind or "all", len(own), *(counts[name] for name in (*OUTCOMES, "else"))]
        cells += [sum(row.watched for row in own), f"{max(r.answer.more_mb for r in own):.0f}"]
        cells += [f"{max(row.answer.seconds for row in own):.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, f"{seconds:.0f} s; more than {MORE_MB:.0f} MB beyond the usual would fail"]


def main_run(
    folder: Path,
    seed: int,
    count: int,
    kinds: Sequence[str],
    only: int | None,
    workers: int,
    every: int,
) -> bool:
    """The campaign of scripts/soak.py: print failures as they come, then the table."""
    began = time.monotonic()
    if only is None:
        cases = [*all_attacks(kinds), *all_mutations(count, kinds)]
    else:
        cases = [Case(kind, only) for kind in kinds]
    if every and not watch.available():
        print("not watched: strace is not installed (apt-get install strace)")

    def tell(row: Row) -> None:
        if row.answer.failed:
            print(told(row, seed), flush=True)
        elif only is not None:
            answer = row.answer
            print(f"{row.case.target.name}: {answer.outcome} ({answer.what}) {answer.detail}")

    rows = run(cases, folder, seed, workers, every=every, tell=tell)
    print("\n".join(table(rows, time.monotonic() - began)))
    return not any(row.answer.failed for row in rows)
