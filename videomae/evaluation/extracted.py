"""A directory of extracted features: a file for each video, a manifest, and the settings."""

import errno
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from videomae.config import ConfigError, FeatureFormat
from videomae.lists.formats import Clip
from videomae.run.files import append_text, read_json, replacing, write_text
from videomae.run.sidefiles import names_a_video, read_rows, set_aside

logger = logging.getLogger(__name__)

MANIFEST, PART = "manifest.jsonl", re.compile(r"manifest\.[1-9][0-9]*\.jsonl")
"""Name of the manifest, with a row for each video, and the pattern of the other processes'
manifests."""
SETTINGS = "extract.json"
"""File of the settings that all features of a directory share."""

NEW_SETTINGS = ("pack",)
"""Settings that features of earlier versions do not name, and that are compared where they are
named."""


VideoKey = tuple[str, int | None, int | None]
"""Path of a video and the range of its frames that a row is about; None: from its beginning, or to
its end."""


def described(clip: Clip) -> dict[str, Any]:
    """Return what a row of the manifest says of a clip: its path, and its range if it is one."""
    if clip.span is None:
        return {"path": clip.path}
    return {"path": clip.path, "start_frame": clip.start_frame, "end_frame": clip.end_frame}


def key_of(row: Mapping[str, Any]) -> VideoKey:
    """Return which video, or range, a row of the manifest is about."""
    return row["path"], row.get("start_frame"), row.get("end_frame")


def names_a_clip(row: dict[str, Any]) -> bool:
    """Return whether an object names a video by its path, or a range of one."""
    numbers = (row.get("start_frame"), row.get("end_frame"))
    return names_a_video(row) and all(n is None or type(n) is int for n in numbers)


@dataclass(frozen=True)
class FeatureDirectory:
    """A directory of features and its manifest.

    A row of the manifest describes a video's features, or says why there are none, or which file
    was being written when the process was killed. While they run, processes other than the main one
    write manifests of their own beside it.
    """

    directory: Path
    format: FeatureFormat

    def _manifests(self) -> list[Path]:
        """Return the paths of the manifest and of the existing manifests of other processes."""
        parts = [p for p in self.directory.glob("manifest.*.jsonl") if PART.fullmatch(p.name)]
        return [self.directory / MANIFEST, *sorted(parts)]

    def _rows(self) -> list[dict[str, Any]]:
        """Return the rows of all manifests; of two rows for one video, the later one is valid."""
        return [row for file in self._manifests() for row in read_rows(file, names_a_clip)]

    def part(self, rank: int) -> Path:
        """Return the path of the manifest that the process `rank` writes."""
        return self.directory / (f"manifest.{rank}.jsonl" if rank else MANIFEST)

    def open(self, settings: dict[str, Any], clips: Sequence[Clip]) -> None:
        """Prepare the directory for writing, and remove unfinished files of a killed run.

        Raises:
            ConfigError: it holds features of other settings, or files that extract did not write.
        """
        path = self.directory / SETTINGS
        files = {self._name(clip) for clip in clips}
        if os.path.isfile(path):
            self._check_settings(settings)
            self._remove_unfinished(files)
            if strange := self._strange(files):  # others', or the manifest has lost its line
                kept = [set_aside(self.directory / name).name for name in strange]
                logger.warning(
                    f"{self.directory} holds {len(strange)} files that its {MANIFEST} does not "
                    f"know where features belong: the first, {strange[0]}, is kept as {kept[0]}"
                )
        else:
            manifests = [each.name for each in self._manifests() if os.path.lexists(each)]
            if strange := manifests or self._strange(files):
                raise ConfigError(
                    f"output_dir={self.directory} holds {strange[0]}, and no {SETTINGS} as "
                    "features have: they would replace it: choose another output_dir, or move it "
                    "away"
                )
        write_text(path, json.dumps(settings, indent=2) + "\n")
        self.merge([])

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Check that the features in the directory were made with these settings.

        Raises:
            ConfigError: they were not.
        """
        before = _read_settings(self.directory / SETTINGS)
        names = [name for name in settings if name in before or name not in NEW_SETTINGS]
        if names := [name for name in names if before.get(name) != settings[name]]:
            raise ConfigError(
                f"output_dir={self.directory} holds features made with other settings ("
                + ", ".join(f"{n}: {before.get(n)} there, {settings[n]} here" for n in names)
                + "): choose another output_dir"
            )

    def _strange(self, files: Set[str]) -> list[str]:
        """Return the existing ones of these files that the manifest does not name."""
        values = (row.get(key) for row in self._rows() for key in ("file", "begun"))
        ours = {value for value in values if isinstance(value, str)}
        return [x for x in sorted(files - ours) if os.path.lexists(self.directory / x)]

    def _remove_unfinished(self, files: Set[str]) -> None:
        """Remove the temporary files that killed processes left of these files."""
        for left in self.directory.rglob(f".*.{self.format.name}"):
            if found := re.fullmatch(r"\.(.+)\.\d+(\.\w+)", left.name):
                whole = left.with_name(found[1] + found[2]).relative_to(self.directory)
                if whole.as_posix() in files:
                    left.unlink()

    def _name(self, clip: Clip) -> str:
        end = "" if clip.end_frame is None else clip.end_frame
        frames = f".frames{clip.start_frame}-{end}" if clip.span else ""
        return f"{clip.path}{frames}.{self.format.name}"

    def note_unusable(self, unusable: Mapping[str, str]) -> None:
        """Write the reasons for paths that cannot be used, by path, into the manifest."""
        for path, why in unusable.items():
            self.add({"path": path, "error": why}, 0)

    def done(self) -> set[VideoKey]:
        """Return the videos, or ranges, whose features exist."""
        rows = read_rows(self.directory / MANIFEST, names_a_clip)
        return {
            key_of(r) for r in rows if "file" in r and os.path.isfile(self.directory / r["file"])
        }

    def add(self, row: Mapping[str, Any], rank: int) -> None:
        """Append a row to the manifest of the process `rank`."""
        append_text(self.part(rank), json.dumps(row) + "\n")

    def write(self, clip: Clip, features: Tensor, rank: int) -> str | None:
        """Write a video's features, and return the file's name; None if the name is too long.

        The manifest names the file before it is written, so that the file of a killed process is
        known.

        Args:
            features: (W, D) or (W, N, D), on the CPU.
        """
        name = self._name(clip)
        self.add(described(clip) | {"begun": name}, rank)
        try:
            with replacing(self.directory / name) as temporary:
                if self.format is FeatureFormat.npy:
                    np.save(temporary, features.numpy())
                else:
                    save_file({"features": features}, temporary)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise
        return name

    def merge(self, keys: Sequence[VideoKey]) -> list[dict[str, Any]]:
        """Merge all manifests into one with one row for each video, and return its rows.

        Args:
            keys: the videos, or ranges, that come first, in this order.
        """
        rows = {key_of(row): row for row in self._rows()}
        ordered = {key: rows[key] for key in keys if key in rows} | rows
        text = "".join(json.dumps(row) + "\n" for row in ordered.values())
        write_text(self.directory / MANIFEST, text)
        for part in self._manifests()[1:]:
            part.unlink()
        return list(ordered.values())


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings that the features of a directory were made with.

    Raises:
        ConfigError: they cannot be read.
    """
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): choose another output_dir, or remove it if the "
            "features there are of these settings"
        ) from error
    return found
