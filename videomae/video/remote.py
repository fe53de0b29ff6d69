"""Packs at addresses, such as data.root=s3://bucket/pack, through the node's cache.

A process that opens one starts videomae.video.fetching, which holds the connection. Decoding
processes that are forked later ask the same program for shards.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from videomae.run.addresses import AddressError, shown_address
from videomae.run.files import MOST_LINE, json_object, read_json
from videomae.video.fetching import DAMAGED, NO_ROOM, FetchRequest
from videomae.video.interface import DecodeError
from videomae.video.shard_cache import FAILED, ShardCache, Use

PROGRAM = (sys.executable, "-m", "videomae.video.fetching")
POLL_S = 0.02
"""Seconds between two looks at a shard that is waited for, at first; they double up to ASK_S."""
CLOCK_S = 0.05
"""Seconds by which the time of a file may lie before that of the clock."""
ASK_S = 1.0
"""Seconds between two requests for a shard that is waited for."""


class RemoteShards:
    """The files of a pack at an address, as far as they are in the node's cache.

    Args:
        request: address of the pack, and settings of the cache.

    Raises:
        AddressError: there is no pack, or it cannot be reached.
        UserError: the cache cannot be used.
        ValueError: the manifest or the index is damaged.
    """

    def __init__(self, request: FetchRequest) -> None:
        self.name = shown_address(request.address)
        self.request = request
        self.cache = self._start()
        self.held: tuple[int, int, Use] | None = None  # the shard, its file, and its lock
        self.asked: set[int] = set()

    @property
    def root(self) -> Path:
        """Directory of the cache that holds the pack's manifest and index."""
        return self.cache.path("")

    def _start(self) -> ShardCache:
        """Start the fetching program, wait for the pack's manifest and index; return its cache."""
        self.program = subprocess.Popen(
            PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.requests = self.program.stdin
        self.requests.write(json.dumps(asdict(self.request)).encode() + b"\n")
        with self.program.stdout as answers:
            answer = json_object(answers.readline(MOST_LINE)) or {}
        if "key" in answer:
            return ShardCache(Path(answer["directory"]), answer["key"], limit=0)
        code = self.program.wait()
        if "error" not in answer:
            raise AddressError(
                f"{self.name}: the program that fetches it ended with status {code}; what it "
                "printed says why"
            )
        if answer["known"]:
            raise AddressError(answer["error"])
        raise ValueError(answer["error"])

    def ask(self, numbers: Iterable[int], names: Iterable[str]) -> None:
        """Have shards fetched that will be wanted."""
        for number, name in zip(numbers, names, strict=True):
            if number not in self.asked or not self.cache.path(name).exists():
                self.asked.add(number)
                self._send(f"{number}\n")

    def open(self, number: int, name: str) -> int:
        """Wait until a shard is in the cache, and return its open file.

        No process removes the shard until it is given back. A process has one at a time.

        Raises:
            DecodeError: the shard is missing or incomplete at the address.
            AddressError: the connection is lost, or the cache's disk is full.
        """
        if self.held is not None:
            if self.held[0] == number:
                return self.held[1]
            self.give_back(used=False)
        use = Use(self.cache, name)
        try:
            file = self._wait(number, name)
        except BaseException:
            use.release(used=False)
            raise
        self.held = number, file, use
        return file

    def give_back(self, *, used: bool) -> None:
        """Close the shard that is open, so that it may be removed.

        Args:
            used: whether it was read.
        """
        if self.held is not None:
            _, file, use = self.held
            self.held = None
            os.close(file)
            use.release(used=used)

    def _wait(self, number: int, name: str) -> int:
        """Return the open file of a shard once it is in the cache.

        Raises:
            DecodeError, AddressError: it was not fetched.
        """
        path, pause, asked = self.cache.path(name), POLL_S, 0.0
        began = time.time() - CLOCK_S
        while True:
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self._check_failed(name, began)
            if time.monotonic() - asked > ASK_S:
                asked = time.monotonic()
                self._send(f"!{number}\n")
            time.sleep(pause)
            pause = min(2 * pause, ASK_S)

    def _check_failed(self, name: str, since: float) -> None:
        """Check that fetching a shard has not failed since a time, in s.

        Raises:
            DecodeError, AddressError: it has.
        """
        failed = self.cache.beside(name, FAILED)
        try:
            if failed.stat().st_mtime < since:
                return
            found = read_json(failed)
            kind, error = str(found["kind"]), str(found["error"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):  # no room for it
            kind, error = "", f"{self.cache.directory}: {NO_ROOM}"
        if kind == DAMAGED:
            raise DecodeError(error)
        raise AddressError(error)

    def _send(self, line: str) -> None:
        """Send a line to the fetching program; where it has ended, start another."""
        try:
            os.write(self.requests.fileno(), line.encode())
        except BrokenPipeError:
            try:
                cache = self._start()
            except AddressError:
                raise
            except ValueError as error:
                raise AddressError(f"{self.name}: {error}") from error
            if cache.key != self.cache.key:
                raise AddressError(
                    f"{self.name} has become another pack meanwhile: put the earlier one there, or "
                    "begin a new run"
                ) from None
            os.write(self.requests.fileno(), line.encode())
