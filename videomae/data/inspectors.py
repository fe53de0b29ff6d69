"""Several processes that inspect videos. One that dies or hangs takes its video along, no more."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from videomae.data import integrity
from videomae.data.integrity import Inspection


@dataclass(frozen=True)
class Job:
    """A video to inspect."""

    path: Path
    frames: tuple[str, int, int] | None = None
    """Of a folder of frames: template, first number, how many. None: a file."""


class Inspector:
    """A process that runs videomae.data.integrity, and the job it is at."""

    def __init__(self, job: Job) -> None:
        program = [sys.executable, "-P", integrity.__file__]
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL  # FFmpeg's own words go to stderr
        self.process = subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=quiet)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.start(job)

    def start(self, job: Job) -> None:
        """Give it its next job."""
        self.job, self.began = job, time.monotonic()
        with suppress(BrokenPipeError):  # it has died: its answer will be empty
            self.requests.write(json.dumps([os.fspath(job.path), job.frames]).encode() + b"\n")
            self.requests.flush()

    def answer(self) -> Inspection | None:
        """What it found; None: it has died."""
        line = self.answers.readline()
        return Inspection(**json.loads(line)) if line else None

    def stop(self) -> str:
        """End it, and say how it ended."""
        self.process.kill()
        code = self.process.wait()
        self.answers.close()
        with suppress(BrokenPipeError):
            self.requests.close()
        return signal.Signals(-code).name if code < 0 else f"status {code}"


def inspect_all(
    jobs: Iterable[Job], workers: int, timeout_s: float
) -> Iterator[tuple[Job, Inspection]]:
    """Every job and what was found, in the order in which they are done.

    Args:
        workers: processes.
        timeout_s: a video that takes longer counts as damaged.
    """
    waiting = iter(jobs)
    running: dict[int, Inspector] = {}
    with selectors.DefaultSelector() as selector:

        def launch(job: Job) -> None:
            inspector = Inspector(job)
            running[inspector.answers.fileno()] = inspector
            selector.register(inspector.answers, selectors.EVENT_READ)

        def retire(inspector: Inspector) -> str:
            selector.unregister(inspector.answers)
            del running[inspector.answers.fileno()]
            return inspector.stop()

        try:
            for job in islice(waiting, workers):
                launch(job)
            while running:
                ready = {key.fd for key, _ in selector.select(timeout=min(1.0, timeout_s))}
                for number, inspector in list(running.items()):
                    job, late = inspector.job, time.monotonic() - inspector.began > timeout_s
                    if number in ready:
                        found = inspector.answer()
                    elif not late:
                        continue
                    else:
                        found = Inspection(ok=False, error=f"not decoded in time ({timeout_s:g} s)")
                    following = next(waiting, None)
                    if found is None or number not in ready or following is None:
                        ended = retire(inspector)
                        found = found or Inspection(ok=False, error=f"decoder crashed ({ended})")
                        if following is not None:
                            launch(following)
                    else:
                        inspector.start(following)
                    yield job, found
        finally:
            for inspector in running.values():
                inspector.stop()
