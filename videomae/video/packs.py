"""Reader of packed data sets, which python -m videomae.pack writes and commands take as a root.

    shard-000000.tar   000000000.mp4 000000000.json 000000001.mp4 ...: uncompressed, and named as
                       WebDataset does
    index.arrow        a row of each video, sorted by its source and range: see pack_checks
    manifest.json      how the pack was made, what it holds, the SHA-256 of shards and index
    list.txt           the lines of the list whose videos are in the pack; of a Parquet list,
                       list.parquet
    bad_files.jsonl    the videos that are not, and why

A video is looked up in the memory-mapped index, and read from its shard by one read.
"""

import logging
import os
import shlex
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from videomae.config import MAX_CLIP_BYTES, ConfigError, UserError
from videomae.lists.formats import Clip, span_told
from videomae.lists.parquet import is_parquet
from videomae.run.addresses import AddressError, is_address, shown_address
from videomae.run.console import Facts
from videomae.run.files import inside, sha256
from videomae.video.fetching import FetchRequest
from videomae.video.interface import DecodeError
from videomae.video.pack_checks import TO_END, read_index, read_manifest
from videomae.video.packed import PackedVideo
from videomae.video.remote import RemoteShards

logger = logging.getLogger(__name__)

PACK_INDEX = "index.arrow"
"""Name of the file whose presence makes a root a pack."""
MANIFEST, LIST, BAD = "manifest.json", "list.txt", "bad_files.jsonl"
PARQUET_LIST = "list.parquet"
PACK_FILES = ("shard-*.tar", PACK_INDEX, MANIFEST, LIST, PARQUET_LIST, BAD)
OPEN_SHARDS = 256
"""Number of shards that a process keeps open, at most."""


class PackError(UserError):
    """Error: a pack is unfinished, damaged, or of another version."""


def refuse_pack(root: Path) -> None:
    """Check that the folder of a list's videos is no pack, whose videos are no files.

    Raises:
        ConfigError: it is one.
    """
    if (root / PACK_INDEX).exists():
        raise ConfigError(
            f"root={root} is a pack, which holds no video files: give the folder that it was made "
            f"of; python -m videomae.pack check=true {shlex.quote(f'out={root}')} reads it again"
        )


SourceKey = tuple[str, int, int]
"""Key of a packed video: its name in the index, its first frame, and its end or TO_END."""


def source_of(clip: Clip) -> str:
    """Return the name by which a pack's index knows the file or folder of a clip."""
    if clip.start is None:
        return clip.path
    return f"{clip.path} {clip.start} {'all' if clip.total is None else clip.total}"


def key_of(clip: Clip) -> SourceKey:
    """Return the key by which a pack's index knows the video of a clip."""
    return source_of(clip), clip.start_frame, TO_END if clip.end_frame is None else clip.end_frame


def named(clip: Clip) -> str:
    """Return a clip in words, for messages."""
    return source_of(clip) if clip.span is None else f"{span_told(clip.span)} of {clip.path}"


class Pack:
    """A pack that is open for reading.

    Args:
        root: directory of its manifest and index.
        remote: place of its shards, where it lies at an address; None: they lie in `root`.

    Raises:
        PackError: its manifest or index cannot be read, or is inconsistent.
    """

    def __init__(self, root: Path, remote: RemoteShards | None = None) -> None:
        self.root = root
        self.remote = remote
        self.name = remote.name if remote else str(root)
        try:
            self.manifest = read_manifest(root / MANIFEST)
            self.columns = read_index(root, self.manifest)
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PackError(
                f"{root} cannot be read as a pack ({reason}): copy it again, or write it again "
                "with python -m videomae.pack"
            ) from error
        self.shards: list[dict[str, Any]] = self.manifest["shards"]
        self.files: dict[int, int] = {}

    @classmethod
    def at(
        cls, address: str, cache_dir: str | None = None, cache_gb: float | None = None
    ) -> "Pack":
        """Open a pack at an address, such as s3://bucket/pack, through the node's cache.

        Args:
            cache_dir, cache_gb: see DataConfig.

        Raises:
            AddressError: there is no pack, or it cannot be reached.
            PackError: its manifest or index is damaged.
        """
        request = FetchRequest(address, MANIFEST, cache_dir, cache_gb)
        try:
            remote = RemoteShards(request)
        except AddressError:
            raise
        except ValueError as error:
            raise PackError(
                f"{shown_address(address)} cannot be read as a pack ({error}): copy it there "
                "again, or write it again with python -m videomae.pack"
            ) from error
        return cls(remote.root, remote)

    def __len__(self) -> int:
        return len(self.columns["source"])

    def holds(self, clip: Clip) -> bool:
        """Tell whether the clip's video is in the pack."""
        return self._find(clip) is not None

    def holds_file(self, clip: Clip) -> bool:
        """Tell whether the clip's file is in the pack, be it with another range of frames."""
        source = source_of(clip)
        row = bisect_left(range(len(self)), source, key=lambda row: self.key(row)[0])
        return row < len(self) and self.key(row)[0] == source

    def open(self, clip: Clip, max_bytes: int = MAX_CLIP_BYTES) -> PackedVideo:
        """Open the video of a clip.

        Args:
            max_bytes: bytes of memory that reading the video may take.

        Raises:
            DecodeError: the video is not in the pack, or its bytes are damaged.
        """
        row = self._find(clip)
        if row is None:
            advice = "" if clip.span is None else ", whose list has other ranges: pack this list"
            raise DecodeError(f"{named(clip)} is not in the pack {self.name}{advice}")
        number, offset, length, crc32, num_frames = (
            self.columns[name][row].as_py()
            for name in ("shard", "offset", "length", "crc32", "num_frames")
        )
        name = self.shards[number]["name"]
        path = f"{self.name}/{name}"
        if length > max_bytes:
            raise DecodeError(
                f"{path}: {named(clip)} has {length} bytes, more than "
                f"max_clip_bytes={max_bytes} allows"
            )
        try:
            file = self._file(number, inside(self.root, name))
            room = max(0, os.fstat(file).st_size - offset)  # as an index may claim any length
            content = os.pread(file, min(length, room), offset)
        except AddressError:
            raise
        except (OSError, ValueError) as error:
            raise DecodeError(f"{path}: {error}") from error
        finally:
            if self.remote:
                self.remote.give_back(used=True)
        if len(content) != length or zlib.crc32(content) != crc32:
            raise DecodeError(
                f"{path}: the {length} bytes at {offset} are not those of {named(clip)}; "
                f"python -m videomae.pack out={self.name} check=true says what is damaged"
            )
        encoding = self.manifest["settings"]["encoding"]
        return PackedVideo(
            Path(path) / clip.path,
            content,
            num_frames=num_frames,
            stride=encoding["stride"],
            keyint=encoding["keyint"],
            max_bytes=max_bytes,
        )

    def ask(self, clips: Iterable[Clip]) -> None:
        """Have the shards fetched that clips will be read from, where the pack is at an address."""
        if self.remote:
            rows = [row for clip in clips if (row := self._find(clip)) is not None]
            numbers = dict.fromkeys(self.columns["shard"][row].as_py() for row in rows)
            self.remote.ask(numbers, (self.shards[number]["name"] for number in numbers))

    def wait(self, clip: Clip) -> None:
        """Wait until the shard of a clip can be read; a clip without one is not waited for.

        Raises:
            AddressError: the connection is lost, or the cache's disk is full.
        """
        if self.remote and (row := self._find(clip)) is not None:
            number = self.columns["shard"][row].as_py()
            with suppress(DecodeError):  # of which the reading of the clip tells
                self.remote.open(number, self.shards[number]["name"])

    def damage(self, *, thorough: bool) -> list[str]:
        """Check the pack's files; return a line for each that is missing or damaged.

        Args:
            thorough: whether to hash every byte, or else to compare the sizes only.
        """
        found: list[str] = []
        if self.remote:  # each file is compared with the manifest when it is fetched
            return self._damage_there() if thorough else found
        for entry in [*self.shards, self.manifest["index"]]:
            path = self.root / entry["name"]
            if not path.exists():
                found.append(f"{entry['name']} is missing")
            elif path.stat().st_size != entry["bytes"]:
                found.append(
                    f"{entry['name']} has {path.stat().st_size} bytes, not {entry['bytes']}"
                )
            elif thorough and sha256(path) != entry["sha256"]:
                found.append(f"{entry['name']} holds other bytes than were written")
        return found

    def _damage_there(self) -> list[str]:
        """Fetch every shard of a pack at an address; return a line for each that is damaged."""
        assert self.remote is not None
        found = []
        for number, entry in enumerate(self.shards):
            try:
                self.remote.open(number, entry["name"])
                if sha256(self.root / entry["name"]) != entry["sha256"]:
                    found.append(f"{entry['name']} holds other bytes than were written")
                self.remote.give_back(used=True)
            except DecodeError as error:
                found.append(str(error))
        return found

    def _find(self, clip: Clip) -> int | None:
        """Return the row of a clip in the index; None: it is not in the pack."""
        wanted = key_of(clip)
        row = bisect_left(range(len(self)), wanted, key=self.key)
        return row if row < len(self) and self.key(row) == wanted else None

    def key(self, row: int) -> SourceKey:
        """Return the key of a row of the index."""
        source = str(self.columns["source"][row])
        if "start_frame" not in self.columns:
            return source, 0, TO_END
        start, end = (self.columns[name][row].as_py() for name in ("start_frame", "end_frame"))
        return source, start, TO_END if end is None else end

    def _file(self, number: int, path: Path) -> int:
        if self.remote:
            return self.remote.open(number, path.name)
        if number not in self.files:
            if len(self.files) >= OPEN_SHARDS:
                os.close(self.files.pop(next(iter(self.files))))
            self.files[number] = os.open(path, os.O_RDONLY)
        return self.files[number]


def list_of(out: Path, source: Path) -> Path:
    """Return the path of a pack's own list, which is of the kind of the list that was packed."""
    return out / (PARQUET_LIST if is_parquet(source) else LIST)


def check_pack(out: str | Path) -> None:
    """Read every byte of a pack, in a directory or at an address, and print that it is whole.

    Raises:
        UserError: files are missing or damaged, which the message names.
    """
    found = Pack.at(str(out)) if is_address(out) else Pack(Path(out))
    if damage := found.damage(thorough=True):
        raise UserError(
            f"{found.name} is damaged: {'; '.join(damage)}. Copy these files again, or pack anew"
        )
    logger.info(f"{found.name}: every byte is as it was written")


def print_pack(out: str, manifest: Mapping[str, Any], listed: Path) -> None:
    """Print what a pack holds, and how to use it.

    Args:
        out: its directory or address, without a password.
        listed: a list to use it with.
    """
    size = sum(shard["bytes"] for shard in manifest["shards"])
    left_out = manifest["num_left_out"]
    rows = [
        ("videos", f"{manifest['num_videos']:,}", f"{manifest['num_frames']:,} frames"),
        ("left out", f"{left_out:,}", f"{out}/{BAD}" if left_out else ""),
        (
            "size",
            f"{size / 1e6:,.1f} MB",
            f"the sources have {manifest['source_bytes'] / 1e6:,.1f}",
        ),
        ("shards", f"{len(manifest['shards']):,}", ""),
    ]
    if manifest["num_videos"]:
        worst = f"of the luma against the shrunk sources; worst frame {manifest['min_psnr']:.1f}"
        rows.append(("PSNR", f"{manifest['psnr']:.1f} dB", worst))
    logger.info(Facts(out, rows))
    settings = shlex.join([f"data.train_list={listed}", f"data.root={out}"])
    logger.info(f"use it as a root: {settings}")
