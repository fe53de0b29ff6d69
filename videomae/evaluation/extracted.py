"""A directory of extracted features: a file for each video, a manifest, the settings they share."""

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
from videomae.lists.clips import Clip
from videomae.run.files import append_text, read_json, replacing, write_text
from videomae.run.sidefiles import names_a_video, read_rows, set_aside

logger = logging.getLogger(__name__)

MANIFEST, PART = "manifest.jsonl", re.compile(r"manifest\.[1-9][0-9]*\.jsonl")
"""What is known of each video; while several processes run, the others' parts of it."""
SETTINGS = "extract.json"
"""What all features of a directory have in common."""


@dataclass(frozen=True)
class FeatureDirectory:
    """A directory of features, and what its manifest says.

    A row of the manifest says what a video's features are, or why there are none; or, as a killed
    process leaves it, which file was begun. While they run, other processes than the main one write
    manifests of their own beside it.
    """

    directory: Path
    format: FeatureFormat

    def _manifests(self) -> list[Path]:
        """The manifest, and those of other processes that are there."""
        parts = [p for p in self.directory.glob("manifest.*.jsonl") if PART.fullmatch(p.name)]
        return [self.directory / MANIFEST, *sorted(parts)]

    def _rows(self) -> list[dict[str, Any]]:
        """What all manifests say; of two rows of a video the later one holds."""
        return [row for file in self._manifests() for row in read_rows(file, names_a_video)]

    def part(self, rank: int) -> Path:
        """The manifest that a process writes to."""
        return self.directory / (f"manifest.{rank}.jsonl" if rank else MANIFEST)

    def open(self, settings: dict[str, Any], clips: Sequence[Clip]) -> None:
        """Make the directory ready, less what a killed run has left unfinished.

        Raises:
            ConfigError: it holds features of other settings, or files that are none of ours.
        """
        path = self.directory / SETTINGS
        files = {self._name(clip.path) for clip in clips}
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
        self.fold([])

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """ConfigError where the features there were made with other settings."""
        before = _read_settings(self.directory / SETTINGS)
        if names := [name for name in settings if before.get(name) != settings[name]]:
            raise ConfigError(
                f"output_dir={self.directory} holds features made with other settings ("
                + ", ".join(f"{n}: {before.get(n)} there, {settings[n]} here" for n in names)
                + "): choose another output_dir"
            )

    def _strange(self, files: Set[str]) -> list[str]:
        """Those of these files that are there, and not by the manifest's word."""
        values = (row.get(key) for row in self._rows() for key in ("file", "begun"))
        ours = {value for value in values if isinstance(value, str)}
        return [x for x in sorted(files - ours) if os.path.lexists(self.directory / x)]

    def _remove_unfinished(self, files: Set[str]) -> None:
        """Remove what killed processes left of these files."""
        for left in self.directory.rglob(f".*.{self.format.name}"):
            if found := re.fullmatch(r"\.(.+)\.\d+(\.\w+)", left.name):
                whole = left.with_name(found[1] + found[2]).relative_to(self.directory)
                if whole.as_posix() in files:
                    left.unlink()

    def _name(self, video: str) -> str:
        return f"{video}.{self.format.name}"

    def note_unusable(self, unusable: Mapping[str, str]) -> None:
        """Write into the manifest what is wrong with that which no features can be made of."""
        for path, why in unusable.items():
            self.add({"path": path, "error": why}, 0)

    def done(self) -> set[str]:
        """The paths of the videos whose features are there."""
        rows = read_rows(self.directory / MANIFEST, names_a_video)
        return {
            r["path"] for r in rows if "file" in r and os.path.isfile(self.directory / r["file"])
        }

    def add(self, row: Mapping[str, Any], rank: int) -> None:
        """Write a row into the manifest of a process."""
        append_text(self.part(rank), json.dumps(row) + "\n")

    def write(self, clip: Clip, features: Tensor, rank: int) -> str | None:
        """Write a video's features; the file's name in the directory, None if it is too long.

        The manifest names it first, so that what a killed process leaves is known for ours.
        """
        name = self._name(clip.path)
        self.add({"path": clip.path, "begun": name}, rank)
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

    def fold(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        """Make one manifest of all, without doubles.

        Args:
            paths: the videos that come first, in this order.
        """
        rows = {row["path"]: row for row in self._rows()}
        ordered = {path: rows[path] for path in paths if path in rows} | rows
        text = "".join(json.dumps(row) + "\n" for row in ordered.values())
        write_text(self.directory / MANIFEST, text)
        for part in self._manifests()[1:]:
            part.unlink()
        return list(ordered.values())


def _read_settings(path: Path) -> dict[str, Any]:
    """The settings that features were made with.

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
