"""A place at an address that python -m videomae.pack writes to, such as out=s3://bucket/pack.

The pack is made in a directory of this machine, from which each shard goes to the address as soon
as it is complete, and the manifest last of all.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videomae.config import ConfigError
from videomae.run.addresses import AddressError, MissingError, RemoteFolder, shown_address
from videomae.run.files import MOST_JSON, parse_json
from videomae.video.packs import MANIFEST, Pack
from videomae.video.shard_cache import cache_directory

WRITABLE = ("s3://", "gs://", "hf://")
"""Beginnings of addresses that packs are written to; web servers do not take files."""


class PackTarget:
    """A folder at an address to which the files of a pack are written.

    Raises:
        ConfigError: the address is of a kind that cannot be written to.
        AddressError: a package that it needs is not installed.
    """

    def __init__(self, address: str) -> None:
        self.name = shown_address(address)
        if not address.startswith(WRITABLE):
            raise ConfigError(
                f"out={self.name}: packs are written to {', '.join(WRITABLE)} and to folders; copy "
                "one from a folder to a web server"
            )
        self.folder = RemoteFolder(address)
        self.key = hashlib.sha256(address.encode()).hexdigest()[:16]

    def staging(self, wanted: str | None) -> Path:
        """Return the directory of this machine in which the pack is made.

        Args:
            wanted: the setting staging; None: a directory beside the node's cache.
        """
        if wanted is not None:
            return Path(wanted)
        return cache_directory(None) / f"packing-{self.key}"

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of the complete pack that is there; None: one can be written there.

        Raises:
            ConfigError: something else has its name.
            AddressError: it cannot be read, or there is no bucket.
        """
        try:
            found = parse_json(self.folder.read(name, MOST_JSON))
        except MissingError:
            self.folder.try_writing()
            return None
        except AddressError:
            raise
        except ValueError as error:
            raise ConfigError(
                f"{self.name}/{name} is no manifest ({error}): move it away"
            ) from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self.name}/{name} is no manifest: move it away")
        return found

    def holds(self, name: str, size: int) -> bool:
        """Return whether a file of this name and size is there."""
        try:
            return self.folder.size(name) == size
        except MissingError:
            return False

    def put(self, path: Path) -> None:
        """Write a file of this machine to the address."""
        self.folder.put(path)


def is_complete(place: Path | PackTarget, settings: Mapping[str, Any]) -> bool:
    """Return whether a directory, or an address, holds the complete pack that these settings make.

    Raises:
        ConfigError: it holds another complete pack.
        PackError: the pack there cannot be read.
        AddressError: the address cannot be reached.
    """
    if isinstance(place, PackTarget):
        name, manifest = place.name, place.manifest(MANIFEST)
        if manifest is None:
            return False
    else:
        if not os.path.exists(place / MANIFEST):
            return False
        name, manifest = str(place), Pack(place).manifest
    if manifest.get("settings") != json.loads(json.dumps(settings)):
        raise ConfigError(
            f"{name} holds a pack of another list or of other settings: choose another out"
        )
    return True
