"""Ray clusters of several nodes on this machine, whose nodes can be killed."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RAY = (sys.executable, "-m", "ray.scripts.scripts")
"""The command ray."""
OBJECTS_BYTES = 80_000_000
START_S = 120
"""Seconds that a node has to start, on a busy machine."""


class Cluster:
    """A head node that others join; each has one CPU, and a session of processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.environment = os.environ | own | {"RAY_ADDRESS": "", "RAY_USAGE_STATS_ENABLED": "0"}
        self.head = self._start("--head", f"--port={self.address.partition(':')[2]}")
        self.nodes = [self.head]
        self._wait(self.head)

    def add(self) -> subprocess.Popen[bytes]:
        """Start a node, and wait for it."""
        node = self._start(f"--address={self.address}")
        self.nodes.append(node)
        self._wait(node)
        return node

    def _start(self, *given: str) -> subprocess.Popen[bytes]:
        self.log = self.folder / f"{secrets.token_hex(4)}.log"
        line = [*RAY, "start", "--block", "--num-cpus=1", "--disable-usage-stats", *given]
        line += ["--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"]
        line.append(f"--object-store-memory={OBJECTS_BYTES}")
        if "--head" in given:
            line += [f"--temp-dir={self.folder}", "--include-dashboard=false"]
            line.append(f"--ray-client-server-port={free_port()}")
        with self.log.open("wb") as log:
            return subprocess.Popen(
                line, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )

    def _wait(self, node: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_S
        while "Ray runtime started" not in self.log.read_text():
            assert node.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Kill all processes of a node at once, as if its machine failed."""
        while left := processes(node.pid):  # one that begins meanwhile is of the next round
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        node.wait()
        self.nodes.remove(node)


def processes(session: int, name: str = "") -> list[int]:
    """The processes of a session whose command line holds a name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            state, _, _, own = (folder / "stat").read_text().rpartition(") ")[2].split()[:4]
            line = (folder / "cmdline").read_bytes()
            if int(own) == session and state != "Z" and name.encode() in line:
                found.append(int(folder.name))
    return found


@contextmanager
def cluster(nodes: int) -> Iterator[Cluster]:
    """Run a Ray cluster of some nodes."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        made = Cluster(Path(name))  # a short path: Ray's sockets lie there
        try:
            for _ in range(nodes - 1):
                made.add()
            yield made
        finally:
            for node in list(made.nodes):
                made.kill(node)


def free_port() -> int:
    """A TCP port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
