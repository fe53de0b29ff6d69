"""Write a pack: transcoded videos go into shards in the order of their list.

    staging/N.mp4      the video of clip N until its shard is complete
    progress.jsonl     the settings, then the result for each clip, in any order; the hash of each
                       shard; and which shards are at the address that the pack goes to

A shard is written whole, under its own name, once all of its videos are transcoded. Its bytes
depend only on the list and the settings. Both files above are removed when the pack is complete.
"""

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

from videomae.config import UserError
from videomae.config.typed import check_types
from videomae.lists.formats import Clip
from videomae.run.files import (
    remove_temporaries,
    replacing,
    sha256,
    write_text,
)
from videomae.run.journal import Journal, OtherJobError
from videomae.video.inspection import Inspection
from videomae.video.pack_checks import schema_of, write_index
from videomae.video.pack_target import PackTarget
from videomae.video.packs import (
    MANIFEST,
    PACK_FILES,
    PACK_INDEX,
    SourceKey,
    key_of,
    source_of,
)
from videomae.video.tar import BLOCK, TAR_END, padded, write_member
from videomae.video.transcode import Encoding, Transcoded

STAGING, PROGRESS = "staging", "progress.jsonl"


class PackingError(UserError):
    """Error: a pack cannot be written or resumed in its directory."""


class Packing:
    """Writer of a pack. It is a context manager, which locks the pack for other processes.

    Args:
        out: directory of the pack.
        clips: clips of the videos to pack, each video once, in the pack's order.
        encoding: encoder settings for all videos.
        shard_bytes: size of a shard in bytes, at most, if it holds more than one video.
        settings: settings that must be equal for a pack to be resumed.
        more: further columns of the index for the pack of a Parquet list, a text for each clip;
            None: it is the pack of a text list.
        target: place at an address to which the files go from `out`; None: they stay there.

    Raises:
        PackingError: another process writes there, or the pack was begun with other settings.
    """

    def __init__(
        self,
        out: Path,
        clips: Sequence[Clip],
        encoding: Encoding,
        shard_bytes: int,
        settings: Mapping[str, Any],
        more: Mapping[str, Sequence[str | None]] | None = None,
        target: PackTarget | None = None,
    ) -> None:
        self.out = out
        self.target = target
        self.sent: set[int] = set()  # the shards that are at the target
        self.clips = clips
        self.encoding = encoding
        self.shard_bytes = shard_bytes
        self.journal = Journal(out / PROGRESS, settings, alone=True)
        self.settings = self.journal.settings
        self.done: dict[int, Transcoded] = {}
        self.shards: list[dict[str, Any]] = []
        self.more = more
        self.rows: list[tuple[SourceKey, dict[str, Any]]] = []
        self.next = 0  # the first clip that is not assigned to a shard yet
        self.members: list[int] = []  # clips of the shard that is being filled
        self.size = 0

    def __enter__(self) -> "Packing":
        path = self.out / PROGRESS
        self.out.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            self._check_free()
        try:
            self.journal.__enter__()
        except BlockingIOError as error:
            raise PackingError(f"another process packs into {self.out}: wait for it") from error
        except OtherJobError as error:
            raise PackingError(self._differs(error.settings)) from error
        (self.out / STAGING).mkdir(exist_ok=True)
        remove_temporaries(self.out, PACK_FILES)
        self._restore(self.journal.entries)
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.__exit__()

    def _check_free(self) -> None:
        """Raise PackingError if files of another pack exist before this pack is begun."""
        there = [path.name for name in (STAGING, *PACK_FILES) for path in self.out.glob(name)]
        if there:
            raise PackingError(
                f"{self.out} holds things named like those of a pack, and no {PROGRESS} of one "
                f"({', '.join(sorted(there)[:5])}): choose another out, or move them away"
            )

    def staged(self, number: int) -> Path:
        """Return the path to which a clip's transcoded video must be written."""
        return self.out / STAGING / f"{number:09}.mp4"

    def add(self, number: int, made: Transcoded) -> None:
        """Record the result for a clip, and write the shards that are complete now."""
        self.journal.note({"clip": number, "made": asdict(made)})
        self.done[number] = made
        self._fill()

    def finish(self) -> dict[str, Any]:
        """Write the last shard, the index and, last of all, the manifest, which is returned."""
        assert self.next == len(self.clips)
        self._close_shard()
        self._write_index()
        good, index = [m for _, m in self._made() if m.source.ok], self.out / PACK_INDEX
        manifest = {
            "version": 1 if self.more is None else 2,
            "settings": self.settings,
            "pyav": av.__version__,
            "num_videos": len(good),
            "num_left_out": len(self.done) - len(good),
            "num_frames": sum(made.source.num_frames for made in good),
            "source_bytes": sum(self._source_bytes().values()),
            "psnr": round(float(np.mean([made.psnr for made in good])), 2) if good else None,
            "min_psnr": min((made.min_psnr for made in good), default=None),
            "index": {"name": index.name, "bytes": index.stat().st_size, "sha256": sha256(index)},
            "shards": self.shards,
        }
        write_text(self.out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        if self.target:
            names = [path.name for name in PACK_FILES for path in self.out.glob(name)]
            for name in sorted(names, key=MANIFEST.__eq__):  # what completes the pack comes last
                self.target.put(self.out / name)
                (self.out / name).unlink()
        shutil.rmtree(self.out / STAGING)
        (self.out / PROGRESS).unlink()
        return manifest

    def _source_bytes(self) -> dict[str, int]:
        """Return the size of each packed file, which may be the source of several ranges."""
        made = {self.clips[number].path: made.source for number, made in self._made()}
        return {path: source.bytes or 0 for path, source in made.items() if source.ok}

    def _write_index(self) -> None:
        """Write the index, sorted by the keys of its rows."""
        schema = schema_of(ranges=self.more is not None, identities=list(self.more or ()))
        order = [row for _, row in sorted(self.rows, key=lambda each: each[0])]
        write_index(self.out / PACK_INDEX, order, schema)

    def _more_of(self, number: int) -> dict[str, Any]:
        """Return what the pack of a Parquet list says of a clip besides: its range, and more."""
        if self.more is None:
            return {}
        clip = self.clips[number]
        found = {"start_frame": clip.start_frame, "end_frame": clip.end_frame}
        return found | {name: values[number] for name, values in self.more.items()}

    def _made(self) -> Iterator[tuple[int, Transcoded]]:
        """Return the results by clip, in the clips' order."""
        return iter(sorted(self.done.items()))

    def _differs(self, begun: Mapping[str, Any] | None) -> str:
        """Return what is wrong with the settings with which a pack was begun in the directory."""
        if begun is None:
            return (
                f"{self.out / PROGRESS} is damaged, and does not say what is packed there: remove "
                f"{self.out} and pack anew, or choose another out"
            )
        rows = [
            f"  {key}: {begun.get(key)} there, {value} here"
            for key, value in self.settings.items()
            if begun.get(key) != value
        ]
        return (
            f"{self.out} holds a pack begun with other settings:\n"
            + "\n".join(rows)
            + "\nGo on with those, or choose another out"
        )

    def _restore(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Restore the results of an earlier process.

        Videos that it could not read are tried again, unless a later shard is complete already.
        """
        for line in lines:
            with suppress(KeyError, TypeError, ValueError):  # damaged: the video is packed again
                if "made" in line and type(line["clip"]) is int:
                    self.done[line["clip"]] = _made_before(line["made"])
        self.hashes = {
            line["shard"]: line["sha256"]
            for line in lines
            if type(line.get("shard")) is int and isinstance(line.get("sha256"), str)
        }
        self.sent = {line["sent"] for line in lines if type(line.get("sent")) is int}
        kept = -1
        for shard, members in enumerate(self._layout()):
            if self._is_whole(shard, members):
                kept = members[-1]
                continue
            self._forget(shard)
            for number in members:
                if not self._is_staged(number):
                    del self.done[number]
        self.done = {
            number: made
            for number, made in self.done.items()
            if number <= kept or (made.source.ok and self._is_staged(number))
        }

    def _is_whole(self, shard: int, members: Sequence[int]) -> bool:
        """Tell whether a shard exists with its full size; its bytes are checked when it is read."""
        path = self._path(shard)
        size = sum(map(self._needed, members)) + len(TAR_END)
        if self.target and shard in self.sent:
            return self.target.holds(path.name, size)
        return path.is_file() and path.stat().st_size == size

    def _forget(self, shard: int) -> None:
        """Remove a shard that is not whole, so that it is written anew."""
        path = self._path(shard)
        if path.is_dir():
            raise PackingError(f"{path} is a directory in the place of a shard: remove it")
        path.unlink(missing_ok=True)
        self.hashes.pop(shard, None)
        self.sent.discard(shard)

    def _is_staged(self, number: int) -> bool:
        """Tell whether the staged video of a clip is there, with its size and CRC-32."""
        path, made = self.staged(number), self.done[number]
        if not path.is_file() or path.stat().st_size != made.length:
            return False
        return zlib.crc32(path.read_bytes()) == made.crc32

    def _layout(self) -> Iterator[list[int]]:
        """Yield the clips of each shard, up to the first clip without a result."""
        members: list[int] = []
        size = 0
        for number in range(len(self.clips)):
            if number not in self.done:
                return
            made = self.done[number]
            if not made.source.ok:
                continue
            needed = self._needed(number)
            if members and size + needed > self.shard_bytes:
                yield members
                members, size = [], 0
            members.append(number)
            size += needed
        if members:
            yield members

    def _fill(self) -> None:
        """Assign clips to shards, up to the first one without a result; write complete shards."""
        while self.next in self.done:
            if self.done[self.next].source.ok:
                needed = self._needed(self.next)
                if self.members and self.size + needed > self.shard_bytes:
                    self._close_shard()
                self.members.append(self.next)
                self.size += needed
            self.next += 1

    def _needed(self, number: int) -> int:
        """Return the bytes that a clip takes in its shard."""
        return sum(
            BLOCK + padded(length)
            for length in (self.done[number].length, len(self._facts(number)))
        )

    def _facts(self, number: int) -> bytes:
        """Return the JSON document that a shard holds beside a clip's video."""
        clip, made = self.clips[number], self.done[number]
        facts = {
            "source": source_of(clip),
            "label": clip.label,
            "num_frames": made.source.num_frames,
            "fps": made.source.fps,
            "width": made.width,
            "height": made.height,
        }
        facts |= self._more_of(number)
        return json.dumps(facts).encode()

    def _path(self, shard: int) -> Path:
        return self.out / f"shard-{shard:06}.tar"

    def _close_shard(self) -> None:
        """Write the shard that is being filled, unless it exists, and begin the next."""
        if not self.members:
            return
        number = len(self.shards)
        path = self._path(number)
        offset = 0
        for member in self.members:
            clip, made = self.clips[member], self.done[member]
            row = {
                "source": source_of(clip),
                "shard": number,
                "offset": offset + BLOCK,
                "length": made.length,
                "crc32": made.crc32,
                "num_frames": made.source.num_frames,
                "fps": made.source.fps,
                "width": made.width,
                "height": made.height,
                "label": clip.label,
            }
            self.rows.append((key_of(clip), row | self._more_of(member)))
            offset += self._needed(member)
        if not path.exists() and number not in self.sent:
            with replacing(path) as temporary, temporary.open("wb") as file:
                for member in self.members:
                    name = f"{member:09}"
                    write_member(file, f"{name}.mp4", self.staged(member).read_bytes())
                    write_member(file, f"{name}.json", self._facts(member))
                file.write(TAR_END)
        if number not in self.hashes:
            self.hashes[number] = sha256(path)
            self.journal.note({"shard": number, "sha256": self.hashes[number]})
        entry = {"name": path.name, "bytes": offset + len(TAR_END), "sha256": self.hashes[number]}
        self.shards.append(entry | {"num_videos": len(self.members)})
        if self.target and number not in self.sent:
            self.target.put(path)
            self.journal.note({"sent": number})
            self.sent.add(number)
            path.unlink()
        for member in self.members:
            self.staged(member).unlink(missing_ok=True)
        self.members, self.size = [], 0


def _made_before(values: Mapping[str, Any]) -> Transcoded:
    """Parse the result for a clip from a line of progress.jsonl.

    Raises:
        KeyError, TypeError, ValueError: the line is damaged.
    """
    source = Inspection(**values["source"])
    made = Transcoded(**{**values, "source": source})
    check_types(source)
    check_types(made)
    counts = (source.num_frames, made.width, made.height, made.length)
    if not 0 <= made.crc32 < 2**32 or any(not 0 <= count < 2**31 for count in counts):
        raise ValueError(f"numbers that cannot be: {counts}")
    return made
