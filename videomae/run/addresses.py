"""Folders at an address, such as s3://bucket/pack: their files are read and written by fsspec.

A connection that is lost is tried again, after pauses that grow. No message holds a password.
fsspec is imported when a folder is opened.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from videomae.config import UserError
from videomae.run.text import redacted

logger = logging.getLogger(__name__)

T = TypeVar("T")
SCHEMES = ("hf://", "s3://", "gs://", "https://")
"""Beginnings of a value that make it an address; everything else is a literal path."""
ATTEMPTS = 10
"""Number of times that a request is made before the connection counts as lost."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Seconds before the second attempt, and before any attempt; each pause is twice the last one."""
TIMEOUT_S = 60
"""Seconds without a byte after which a connection counts as lost."""
DENIED = {401, 403, "401", "403"}
"""Status codes of HTTP for a request that lacks the right credentials."""
CREDENTIALS = ("NoCredentials", "PartialCredentials", "TokenRetrieval", "Unauthorized", "Gated")
"""Beginnings of the names of libraries' errors about credentials."""
TRIAL = ".videomae"
"""Name of the file that is written to find out whether files can be written."""
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "https": "aiohttp"}
"""The package that fsspec needs for each scheme."""
LOGIN = {
    "s3": "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_ENDPOINT_URL "
    "names another store than Amazon's, FSSPEC_S3_ANON=true a public bucket",
    "gs": "gcloud auth application-default login, or give GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "hf auth login, or give HF_TOKEN",
    "https": "put user and password into ~/.netrc, or into the address",
}
"""The way to give credentials, by scheme."""


class AddressError(UserError):
    """An error: a folder at an address cannot be used, or its connection is lost."""


class MissingError(AddressError):
    """An error: a file, or the bucket that it should be in, does not exist at an address."""


def is_address(value: object) -> bool:
    """Return whether the value of a setting is an address, and no literal path."""
    return str(value).startswith(SCHEMES)


def shown_address(address: str) -> str:
    """Return an address as it is printed: without a password, and without a slash at its end."""
    return redacted(address).rstrip("/")


class RemoteFolder:
    """A folder at an address.

    Raises:
        AddressError: a package that its scheme needs is not installed.
    """

    def __init__(self, address: str) -> None:
        self.name = shown_address(address)
        self.scheme = address.partition("://")[0]
        try:
            self.files, path = _file_system(address, self.scheme)
        except ImportError as error:
            raise AddressError(
                f"{self.name} needs {PACKAGES[self.scheme]}, which is not installed ({error}): "
                f'pip install "videomae[remote]" {PACKAGES[self.scheme]}'
            ) from error
        self.path = path.rstrip("/")

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a small file.

        Raises:
            MissingError: it does not exist.
            AddressError: it has more than `most` bytes, or cannot be read.
        """
        size = self.size(name)
        if size is not None and size > most:
            raise AddressError(f"{self.name}/{name} has {size:,} bytes, more than {most:,}")
        return self._persistently(name, "read", lambda: self.files.cat_file(self._at(name)))

    def part(self, name: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` (exclusive) of a file; fewer where it ends before.

        Raises:
            MissingError: it does not exist.
            AddressError: it cannot be read, or its server does not send parts of files.
        """
        place = self._at(name)
        content = self._persistently(
            name, "read", lambda: self.files.cat_file(place, start=start, end=end)
        )
        if len(content) > end - start:
            raise AddressError(
                f"{self.name}/{name}: the server sends the whole file where bytes {start} to {end} "
                "are asked for: use one that serves ranges, as nginx and all object stores do"
            )
        return content

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None where the server does not tell.

        Raises:
            MissingError: it does not exist.
            AddressError: it cannot be looked at.
        """
        info = self._persistently(name, "looked at", lambda: self.files.info(self._at(name)))
        size = info.get("size")
        return size if isinstance(size, int) else None

    def put(self, path: Path) -> None:
        """Write a local file into the folder, under its own name, whole or not at all.

        Raises:
            AddressError: it cannot be written.
        """
        place = self._at(path.name)

        def write() -> None:
            self.files.put_file(str(path), place)
            self.files.invalidate_cache()

        self._persistently(path.name, "written", write)
        if (size := self.size(path.name)) != path.stat().st_size:
            raise AddressError(
                f"{self.name}/{path.name} has {size} bytes after {path.stat().st_size} were "
                "written: the same command writes it again"
            )

    def try_writing(self) -> None:
        """Write an empty file into the folder, and remove it.

        Raises:
            AddressError: that cannot be done, as the bucket does not exist, or credentials lack.
        """
        place = self._at(TRIAL)

        def write() -> None:
            self.files.pipe_file(place, b"")
            self.files.rm_file(place)

        self._persistently(TRIAL, "written", write)

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _persistently(self, name: str, verb: str, action: Callable[[], T]) -> T:
        """Return the result of an action, which is tried again while the connection is lost.

        Args:
            name: the file that it is about.
            verb: the action as a participle, for messages.
        """
        what, pause = f"{self.name}/{name}", FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except Exception as error:  # each file system has errors of its own
                if type(error).__module__ == "builtins" and not isinstance(error, OSError):
                    raise
                said = _said(error)
                if (denied := _denial(error)) is not None:
                    raise AddressError(
                        f"{what} may not be {verb} with these credentials ({_said(denied)}): "
                        f"{LOGIN[self.scheme]}"
                    ) from error
                if _is_missing(error):
                    raise MissingError(f"{what} does not exist ({said})") from error
                if attempt == ATTEMPTS:
                    raise AddressError(
                        f"{what} cannot be {verb}: {ATTEMPTS} attempts failed, the last with "
                        f"{said}. Is the address right, and does its server run? The same command "
                        "goes on when it does"
                    ) from error
            logger.warning(
                f"{what} was not {verb} ({said}): attempt {attempt + 1} of {ATTEMPTS} follows in "
                f"{pause:g} s"
            )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")


def _file_system(address: str, scheme: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path of its folder there."""
    import fsspec

    options: dict[str, Any] = {}
    if scheme == "https":
        import aiohttp

        timeout = aiohttp.ClientTimeout(sock_connect=TIMEOUT_S, sock_read=TIMEOUT_S)
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    if scheme == "s3":
        options["config_kwargs"] = {"connect_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S}
    files, path = fsspec.core.url_to_fs(
        address, use_listings_cache=False, skip_instance_cache=True, **options
    )
    return files, str(path)


def _status(error: BaseException) -> object:
    """Return the status code of HTTP that an error holds; None if it holds none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            if (found := getattr(holder, name, None)) is not None:
                return found
    return None


def _is_missing(error: BaseException) -> bool:
    """Return whether an error says that a file does not exist.

    fsspec also raises FileNotFoundError, from another error, where it could not look at a file of a
    web server.
    """
    cause = error.__cause__
    if _status(error) is not None or not isinstance(error, FileNotFoundError):
        return _status(error) == 404
    from_web = cause is not None and type(cause).__module__.startswith(("aiohttp", "asyncio"))
    return cause is None or _is_missing(cause) or not (from_web or isinstance(cause, OSError))


def _denial(error: BaseException) -> BaseException | None:
    """Return the error, or the one that it came from, that is about credentials; None: neither."""
    if (
        isinstance(error, PermissionError)
        or _status(error) in DENIED
        or type(error).__name__.startswith(CREDENTIALS)
    ):
        return error
    return None if error.__cause__ is None else _denial(error.__cause__)


def _said(error: BaseException) -> str:
    """Return the type of an error and the first line of its message, without secrets."""
    lines = redacted(str(error)).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0][:200]}" if lines else name
