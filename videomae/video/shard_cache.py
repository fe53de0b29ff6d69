"""Cache of a node for the shards of packs at addresses, which all processes of the node share.

    DIRECTORY/KEY/manifest.json index.arrow    a pack's own; KEY stands for its address and content
    DIRECTORY/KEY/shard-000000.tar             complete; its time is that of the last request for it
    DIRECTORY/KEY/shard-000000.tar.use         locked while a process waits for the shard or reads
                                               it; its time is that of the last use
    DIRECTORY/KEY/shard-000000.tar.fetch       locked by the process that fetches the shard
    DIRECTORY/KEY/shard-000000.tar.SIZE.part   what is fetched of SIZE bytes: a killed process's is
                                               continued
    DIRECTORY/KEY/shard-000000.tar.failed      why the shard could not be fetched

A process that is killed releases its locks. Least recently used shards are removed first, shards
that are in use never.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videomae.config import ConfigError

SHARD = "shard-*.tar"
USE, FETCH, PART, FAILED = ".use", ".fetch", ".part", ".failed"
PROMISED_S = 600.0
"""Seconds for which a shard that was asked for, and not used yet, is kept from what is fetched
ahead."""
SPARE = 0.1
"""Share of the free disk that the cache leaves free where it has no limit of its own."""
NAMED_BY = 32
"""Number of hexadecimal digits of a pack's key."""


class Held(NamedTuple):
    """A shard file that evictions leave alone: its path, and the time of its last use."""

    path: Path
    bytes: int
    used: float
    """Time of the last use, in s; that of the request if there was none since."""
    promised: bool
    """Whether the shard was asked for and has not been used yet."""


@dataclass(frozen=True)
class ShardCache:
    """The cache of a node, and the part of it that belongs to one pack.

    Args:
        directory: directory of the cache.
        key: name of the pack's own folder in it.
        limit: bytes of the cache, at most, as far as shards in use allow.
    """

    directory: Path
    key: str
    limit: int

    def path(self, name: str) -> Path:
        """Return where a file of the pack lies once it is fetched."""
        return self.directory / self.key / name

    def beside(self, name: str, ending: str) -> Path:
        """Return the path of a file about a shard: its lock, its part, or why it failed."""
        return self.directory / self.key / f"{name}{ending}"

    def part(self, name: str, size: int) -> Path:
        """Return where a shard of `size` bytes lies while it is fetched."""
        return self.beside(name, f".{size}{PART}")

    @contextmanager
    def fetching(self, name: str) -> Iterator[bool]:
        """Lock a shard for being fetched; give False where another process fetches it."""
        with _locked(self.beside(name, FETCH), fcntl.LOCK_EX) as mine:
            yield mine

    def ask(self, name: str) -> bool:
        """Note that a shard is wanted, and return whether it is there."""
        with suppress(FileNotFoundError):
            os.utime(self.path(name))
            return True
        return False

    def make_room(self, size: int, *, urgent: bool) -> bool:
        """Remove shards until `size` more bytes fit; return whether they do.

        Args:
            urgent: whether a process waits for the bytes: then shards that were fetched ahead may
                be removed too, and the limit is exceeded rather than that nothing goes on.
        """
        with _locked(self.directory / ".evict", fcntl.LOCK_EX, wait=True):
            shards = self._shards()
            total = sum(shard.bytes for shard in shards) + self._fetched_now()
            while total + size > self.limit:
                removed = self._remove_one(shards, urgent=urgent)
                if removed is None:
                    return urgent
                total -= removed
        return True

    def make_any_room(self) -> bool:
        """Remove one shard, as where the disk is full; return whether one could be removed."""
        with _locked(self.directory / ".evict", fcntl.LOCK_EX, wait=True):
            return self._remove_one(self._shards(), urgent=True) is not None

    def _shards(self) -> list[Held]:
        """Return all complete shards of the node, those that should go first first."""
        found, now = [], time.time()
        for path in self.directory.glob(f"*/{SHARD}"):
            with suppress(FileNotFoundError):
                status = path.stat()
                use = path.with_name(path.name + USE)
                used = use.stat().st_mtime if use.exists() else 0.0
                promised = status.st_mtime > used and now - status.st_mtime < PROMISED_S
                found.append(Held(path, status.st_size, max(used, status.st_mtime), promised))
        kept = sorted((shard for shard in found if shard.promised), key=lambda each: -each.used)
        return [*sorted((s for s in found if not s.promised), key=lambda each: each.used), *kept]

    def _fetched_now(self) -> int:
        """Return the bytes that the shards will have that are being fetched.

        Parts that killed processes of other packs left are removed.
        """
        total = 0
        for path in self.directory.glob(f"*/{SHARD}.*{PART}"):
            shard = path.name.removesuffix(PART)
            name, _, size = shard.rpartition(".")
            with _locked(path.with_name(name + FETCH), fcntl.LOCK_EX) as free:
                if free and path.parent.name != self.key:
                    path.unlink(missing_ok=True)
                elif not free and size.isdigit():
                    total += int(size)
        return total

    def _remove_one(self, shards: list[Held], *, urgent: bool) -> int | None:
        """Remove the first shard that may go from a list and from the disk; return its bytes."""
        for shard in list(shards):
            if shard.promised and not urgent:
                return None
            shards.remove(shard)
            with _locked(shard.path.with_name(shard.path.name + USE), fcntl.LOCK_EX) as free:
                if free:
                    shard.path.unlink(missing_ok=True)
                    return shard.bytes
        return None


@contextmanager
def _locked(path: Path, kind: int, *, wait: bool = False) -> Iterator[bool]:
    """Lock a file, which is made where it is missing; give whether it is locked.

    Args:
        kind: fcntl.LOCK_EX or fcntl.LOCK_SH.
        wait: whether to wait until no other process holds the lock.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(file)


class Use:
    """A lock on a shard while a process waits for it or reads it."""

    def __init__(self, cache: ShardCache, name: str) -> None:
        self.lock = os.open(cache.beside(name, USE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(self.lock, fcntl.LOCK_SH)

    def release(self, *, used: bool) -> None:
        """Release the lock.

        Args:
            used: whether the shard was read, which is noted.
        """
        if used:
            os.utime(self.lock)
        os.close(self.lock)


def cache_directory(wanted: str | None) -> Path:
    """Return the directory of the node's cache, which is made where it is missing.

    Args:
        wanted: data.cache_dir; None: a directory of the user's own among the temporary ones.

    Raises:
        ConfigError: it cannot be made or written to, or belongs to another user.
    """
    if wanted is not None:
        path = Path(wanted).absolute()
    else:
        path = Path(tempfile.gettempdir()) / f"videomae-{os.getuid()}"
    try:
        path.mkdir(mode=0o777 if wanted is not None else 0o700, parents=True, exist_ok=True)
        own = wanted is not None or (path.stat().st_uid == os.getuid() and not path.is_symlink())
    except OSError as error:
        raise ConfigError(
            f"data.cache_dir={path} cannot be made ({error}): give another"
        ) from error
    if not own:
        raise ConfigError(f"{path} belongs to another user: give data.cache_dir=DIR of your own")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"data.cache_dir={path} cannot be written to: give another")
    return path


def cache_limit(directory: Path, gigabytes: float | None) -> int:
    """Return how many bytes the cache may have.

    Args:
        gigabytes: data.cache_gb; None: all that is free but a tenth, and what the cache has.
    """
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    has = sum(path.stat().st_size for path in directory.glob(f"*/{SHARD}"))
    return has + int((1 - SPARE) * shutil.disk_usage(directory).free)


def key_of(address: str, manifest: bytes) -> str:
    """Return the name of a pack's folder in the cache: packs of other bytes have other names."""
    return hashlib.sha256(address.encode() + b"\n" + manifest).hexdigest()[:NAMED_BY]
