"""Tar archives whose bytes depend on nothing but the files in them: the shards of a pack."""

import tarfile
from typing import IO

BLOCK = 512
"""Bytes of a tar header; the content after it is padded to a multiple of this size."""
TAR_END = bytes(2 * BLOCK)


def padded(length: int) -> int:
    """Return the bytes that a file of `length` bytes takes in an archive, without its header."""
    return -(-length // BLOCK) * BLOCK


def write_member(file: IO[bytes], name: str, content: bytes) -> None:
    """Append a file to a tar archive, without owner or time, so that bytes are reproducible."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    file.write(info.tobuf(tarfile.USTAR_FORMAT))
    file.write(content + bytes(padded(len(content)) - len(content)))
