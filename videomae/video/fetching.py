"""The program that fetches the files of a pack at an address into the node's cache.

videomae.video.remote starts it, so that neither training nor a decoding process, which may be
killed or has little memory, holds a connection. It reads lines from stdin: first a JSON object, a
FetchRequest; then the numbers of shards, "17" for one that will be wanted, "!17" for one that a
process waits for. It prints one line, the pack's place in the cache or an error, and ends with its
parent.
"""

import errno
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videomae.config import UserError
from videomae.run.addresses import ATTEMPTS, AddressError, MissingError, RemoteFolder
from videomae.run.console import log_to_console
from videomae.run.files import MOST_JSON, replacing, sha256, write_text
from videomae.run.worker_pool import end_with_parent
from videomae.video.pack_checks import read_manifest
from videomae.video.shard_cache import (
    FAILED,
    ShardCache,
    cache_directory,
    cache_limit,
    key_of,
)

logger = logging.getLogger("videomae.video.fetching")

BLOCK = 1 << 23
"""Bytes that are asked for at a time, at most."""
THREADS = 4
"""Number of shards that are fetched at the same time."""
RETRY_S = 0.2
"""Seconds until a shard is looked at again that another process fetches, or that has no room."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of the system for a disk that has no room."""
NO_ROOM = (
    "the disk of the cache is full, and shards in use cannot be removed: make room, or give "
    "data.cache_dir= on a larger disk"
)
DAMAGED, STOPPED = "damaged", "stopped"
"""Kinds of failures: the shard's videos cannot be read; or nothing goes on, as all connections are
lost."""


@dataclass(frozen=True)
class FetchRequest:
    """The first line that the program reads."""

    address: str
    manifest: str
    """Name of a pack's manifest."""
    cache_dir: str | None
    cache_gb: float | None


class ShardError(Exception):
    """Error: a shard is missing or incomplete at its address."""


class Fetcher:
    """Fetches the shards of one pack, in several threads, those that are waited for first."""

    def __init__(self, folder: RemoteFolder, cache: ShardCache, shards: list[dict[str, Any]]):
        self.folder = folder
        self.cache = cache
        self.shards = shards
        self.urgent: deque[int] = deque()
        self.ahead: deque[int] = deque()
        self.running: set[int] = set()
        self.changed = threading.Condition()
        self.tight = False  # whether it has been said that the disk or the limit is too small

    def start(self) -> None:
        """Start the threads, which end with the process."""
        for _ in range(THREADS):
            threading.Thread(target=self._work, daemon=True).start()

    def ask(self, number: int, *, urgent: bool) -> None:
        """Ask for a shard."""
        with self.changed:
            if urgent and number in self.ahead:
                self.ahead.remove(number)
            wanted = self.urgent if urgent else self.ahead
            if number not in wanted and number not in self.running:
                wanted.append(number)
                self.changed.notify()

    def _work(self) -> None:
        while True:
            with self.changed:
                while not (self.urgent or self.ahead):
                    self.changed.wait()
                urgent = bool(self.urgent)
                number = (self.urgent if urgent else self.ahead).popleft()
                self.running.add(number)
            try:
                done = self.fetch(number, urgent=urgent)
            finally:
                with self.changed:
                    self.running.discard(number)
            if not done:
                time.sleep(RETRY_S)
                with self.changed:
                    (self.urgent if urgent else self.ahead).appendleft(number)

    def fetch(self, number: int, *, urgent: bool) -> bool:
        """Fetch a shard, or note why that failed; return False where it must be tried later."""
        entry = self.shards[number]
        name, failed = entry["name"], self.cache.beside(entry["name"], FAILED)
        if self.cache.ask(name):
            return True
        with self.cache.fetching(name) as mine:
            if not mine:
                return False
            if self.cache.ask(name):
                return True
            if not self.cache.make_room(entry["bytes"], urgent=urgent):
                return False
            try:
                self._fetch(name, entry["bytes"], entry["sha256"])
                failed.unlink(missing_ok=True)
            except (MissingError, ShardError) as error:
                self._fail(failed, DAMAGED, error)
            except (AddressError, OSError) as error:
                self._fail(failed, STOPPED, error)
        return True

    def _fail(self, failed: Path, kind: str, error: Exception) -> None:
        logger.warning(str(error))
        try:
            write_text(failed, json.dumps({"kind": kind, "error": str(error)}))
        except OSError:  # the disk is full: an empty file needs no room
            failed.touch()

    def _fetch(self, name: str, size: int, digest: str) -> None:
        """Fetch a shard, and once more where its bytes are not those of the manifest.

        Raises:
            ShardError: the shard is shorter than the manifest says.
            AddressError: it is missing, or the connection is lost.
            OSError: the cache cannot be written to.
        """
        part, what = self.cache.part(name, size), f"{self.folder.name}/{name}"
        for last in (False, True):
            self._download(part, name, size)
            if (found := sha256(part)) == digest:
                break
            if last:
                logger.warning(
                    f"{what} holds other bytes than its pack's manifest says, twice: SHA-256 "
                    f"{found}, not {digest}. Its videos are compared one by one with the index: "
                    "the damaged ones are bad files. Write this shard there again"
                )
                break
            logger.warning(f"{what} came with other bytes than were written: fetched again")
            part.unlink()
        os.replace(part, self.cache.path(name))
        self.cache.ask(name)

    def _download(self, part: Path, name: str, size: int) -> None:
        """Fetch the rest of a shard into its part file.

        Raises:
            ShardError, AddressError, OSError: as _fetch.
        """
        if (there := self.folder.size(name)) not in (size, None):
            raise ShardError(
                f"{self.folder.name}/{name} has {there} bytes, where its pack's manifest says "
                f"{size}: write this shard there again"
            )
        with part.open("ab", buffering=0) as file:
            if file.tell() > size:
                file.truncate(0)
            while (start := file.seek(0, os.SEEK_END)) < size:
                end = min(start + BLOCK, size)
                content = self.folder.part(name, start, end)
                if len(content) != end - start:
                    raise ShardError(
                        f"{self.folder.name}/{name} ends after {start + len(content)} bytes, where "
                        f"its pack's manifest says {size}: write this shard there again"
                    )
                self._write(file.fileno(), content)
            os.fsync(file.fileno())

    def _write(self, file: int, content: bytes) -> None:
        """Write a block; where the disk is full, after shards that are not in use were removed.

        Raises:
            OSError: the disk stays full.
        """
        rest = memoryview(content)
        for attempt in range(ATTEMPTS):
            try:
                while rest:
                    rest = rest[os.write(file, rest) :]
                return
            except OSError as error:
                if error.errno not in FULL:
                    raise
                if not self.tight:
                    self.tight = True
                    logger.warning(
                        f"{self.cache.directory}: {error.strerror}: the cache goes on with less "
                        "than its limit, and fetches shards again that it has removed"
                    )
                if not self.cache.make_any_room():
                    time.sleep(RETRY_S * 2**attempt)
        raise OSError(
            errno.ENOSPC,
            NO_ROOM,
            str(self.cache.directory),
        )


def open_pack(request: FetchRequest) -> tuple[RemoteFolder, ShardCache, dict[str, Any]]:
    """Fetch manifest and index of a pack; return its folder, its cache and its manifest.

    Raises:
        UserError: there is no pack, it cannot be reached, or the cache cannot be used.
        ValueError: the manifest or the index is damaged.
        OSError: the cache cannot be written to.
    """
    directory = cache_directory(request.cache_dir)
    limit = cache_limit(directory, request.cache_gb)
    folder = RemoteFolder(request.address)
    try:
        content = folder.read(request.manifest, MOST_JSON)
    except MissingError as error:
        raise AddressError(
            f"{folder.name} is no pack: {error}. Addresses lead to packs (python -m videomae.pack "
            "out=), which a manifest completes; videos in plain files need a folder of this machine"
        ) from error
    cache = ShardCache(directory, key_of(request.address, content), limit)
    cache.path("").mkdir(exist_ok=True)
    path = cache.path(request.manifest)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    manifest = read_manifest(path)
    _fetch_index(folder, cache, manifest["index"])
    _tell(folder, cache, manifest["shards"])
    return folder, cache, manifest


def _fetch_index(folder: RemoteFolder, cache: ShardCache, entry: dict[str, Any]) -> None:
    """Fetch the index of a pack, unless it is in the cache.

    Raises:
        ValueError: it is not the one of the manifest.
    """
    name = entry["name"]
    path = cache.path(name)
    if path.is_file() and path.stat().st_size == entry["bytes"] and sha256(path) == entry["sha256"]:
        return
    if entry["bytes"] > cache.limit:
        raise ValueError(f"{name} of {entry['bytes']:,} bytes is larger than data.cache_gb allows")
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            for start in range(0, entry["bytes"], BLOCK):
                end = min(start + BLOCK, entry["bytes"])
                if file.write(folder.part(name, start, end)) != end - start:
                    raise ValueError(f"{name} is shorter than {entry['bytes']:,} bytes")
        if sha256(temporary) != entry["sha256"]:
            raise ValueError(f"{name} holds other bytes than were written")


def _tell(folder: RemoteFolder, cache: ShardCache, shards: list[dict[str, Any]]) -> None:
    """Log how much of a pack is in the cache, and warn of a cache that cannot hold all of it."""
    there = sum(cache.path(shard["name"]).is_file() for shard in shards)
    size = sum(shard["bytes"] for shard in shards)
    logger.info(
        f"{folder.name}: {len(shards):,} shards of {size / 1e9:,.2f} GB, {there:,} of them in the "
        f"cache {cache.directory} (at most {cache.limit / 1e9:,.1f} GB)"
    )
    if size > cache.limit:
        logger.warning(
            f"{folder.name} does not fit into the cache: as the order of training is random, "
            "shards are fetched again and again. Give data.cache_gb and data.cache_dir more room"
        )


def main() -> None:
    """Serve one pack until stdin ends."""
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a job's signals are for the training process
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    request = FetchRequest(**json.loads(sys.stdin.readline()))
    with log_to_console(is_main=os.environ.get("LOCAL_RANK", "0") == "0"):
        try:
            folder, cache, manifest = open_pack(request)
        except (UserError, ValueError, OSError) as error:
            print(json.dumps({"error": str(error), "known": isinstance(error, UserError)}))
            return
        print(json.dumps({"key": cache.key, "directory": str(cache.directory)}), flush=True)
        fetcher = Fetcher(folder, cache, manifest["shards"])
        fetcher.start()
        for line in sys.stdin:
            if line.startswith("!"):
                fetcher.ask(int(line[1:]), urgent=True)
            else:
                fetcher.ask(int(line), urgent=False)


if __name__ == "__main__":
    main()
