"""Videos that the runs behind some weights were trained on, so that a test on them is told."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from videomae.config import ClipConfig, ConfigError, DataConfig, ListFormat
from videomae.lists.clips import ClipList, read_clips
from videomae.lists.prepared import OWN_LISTS, read_prepared
from videomae.lists.published import TRAIN
from videomae.lists.text_files import text_lines
from videomae.lists.walk import printable
from videomae.run.directory import CHECKPOINTS, CONFIG
from videomae.run.files import read_json, regular
from videomae.run.log import GuardMessage
from videomae.run.plain_yaml import plain_yaml

logger = logging.getLogger(__name__)

STATE = "folder.json"
"""The file beside lists of data.videos that says which state of the folder they are of."""
SIZES = "trained_on"
"""Key of folder.json that holds the bytes of each training video, by its path."""
LONGEST_CHAIN = 10
"""Largest number of runs, each of which began with the weights of the next, that is followed."""
UNREADABLE = (OSError, ValueError, TypeError, LookupError, ConfigError, RecursionError)
"""Errors of a run directory that others wrote or damaged."""


@dataclass(frozen=True)
class TrainedOn:
    """The videos that a run was trained on."""

    run: Path
    """Directory of the run."""
    root: Path
    """Folder that the paths are below."""
    paths: frozenset[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the videos by path, where the run recorded them."""
    of_folder: bool = False
    """Whether the run made its list of data.videos."""

    def among(self, root: Path, sizes: Mapping[str, int | None]) -> frozenset[str]:
        """Return which videos of another list the run was trained on.

        A video is the same if its file is. Of a folder of videos it also is if it has the same path
        below another root, as after a move or a copy, and not another size there, or if its size is
        that of a video that is no longer at its place, as after a new name.

        Args:
            root: folder that the paths of the list are below.
            sizes: bytes of the videos by path; None: unknown.
        """
        ours, whole = root.resolve(), {os.path.join(self.root, path) for path in self.paths}
        found = {path for path in sizes if os.path.normpath(ours / path) in whole}
        if self.of_folder:
            now = {path: _size(self.root / path) for path in self.paths}
            moved = {size for path, size in self.sizes.items() if now.get(path) != size}
            for path, size in sizes.items():
                same = path in now and (now[path] or self.sizes.get(path)) in (None, size)
                if same or (size is not None and size in moved):
                    found.add(path)
        return frozenset(found)


def run_of(weights: Path) -> Path:
    """Return the directory of the run that weights lie in, if they lie in one.

    Args:
        weights: directory of a run, or a file or a checkpoint in one.
    """
    if weights.parent.name == CHECKPOINTS:
        return weights.parent.parent
    return weights.parent if weights.is_file() else weights


def trained_on(run: Path) -> TrainedOn | None:
    """Return the videos that a run was trained on; None if its directory does not tell.

    Raises:
        OSError, ValueError, TypeError, LookupError, ConfigError, RecursionError: what it says
            cannot be read.
    """
    if (run / OWN_LISTS / STATE).is_file():
        return trained_on_folder(run / OWN_LISTS)
    data = _settings(run).get("data")
    if not isinstance(data, dict) or not data.get("train_list") or not data.get("root"):
        return None
    form = ListFormat[str(data.get("list_format", ListFormat.auto.name))]
    read_as = DataConfig(
        clip=ClipConfig(frames=1, stride=1, size=1),
        list_format=form,
        frame_template=data.get("frame_template"),
    )
    clips = read_clips(str(data["train_list"]), read_as, labelled=False)
    names = frozenset(map(os.path.normpath, clips.columns.texts().to_pylist()))
    return TrainedOn(run, Path(str(data["root"])).resolve(), names)


def trained_on_folder(prepared: Path) -> TrainedOn:
    """Return the videos that a run was trained on, by the lists that it made of data.videos.

    Raises:
        OSError, ValueError, TypeError, LookupError, ConfigError, RecursionError: the lists cannot
            be read.
    """
    facts = read_prepared(prepared)
    files = [prepared / each.file for each in facts.lists if each.part == TRAIN]
    lines = [line for file in files for line in text_lines(file)]
    paths = frozenset(os.path.normpath(line.rpartition(" ")[0]) for line in lines)
    recorded = read_json(prepared / STATE).get(SIZES) or {}
    sizes = {str(path): int(size) for path, size in recorded.items()}
    return TrainedOn(prepared.parent, Path(facts.root).resolve(), paths, sizes, of_folder=True)


class SeenVideos(NamedTuple):
    """Videos of a list that a run was trained on."""

    run: Path
    number: int
    example: str

    def message(self, key: str, of: int) -> GuardMessage:
        """Return a warning about them.

        Args:
            key: the setting that names the list.
            of: number of videos of the list.
        """
        text = (
            f"{self.number:,} of the {of:,} videos of {key} were trained on by {self.run}, such as "
            f"{printable(self.example)}: the result may be better than on new videos; test on "
            "others, or pre-train without them"
        )
        return GuardMessage("seen_in_training", text, key)


def warn_of_seen(weights: str, clips: ClipList, root: str | None) -> dict[str, int]:
    """Warn of videos of data.test_list that the runs behind some weights were trained on.

    Args:
        weights, root: as in `seen_in_training`.

    Returns:
        the number of such videos of each run, as results.json has them.
    """
    found = seen_in_training(weights, clips, str(root))
    for each in found:
        logger.warning(f"WARNING: {each.message('data.test_list', len(clips)).text}")
    return numbers_of(found)


def numbers_of(seen: Iterable[SeenVideos]) -> dict[str, int]:
    """Return how many videos of a list each run was trained on, by the words of results.json."""
    return {f"the training list of {each.run}": each.number for each in seen}


def seen_in_training(weights: str, clips: ClipList, root: str) -> list[SeenVideos]:
    """Return which videos of a list the runs behind some weights were trained on, by run.

    A run whose directory does not tell, or is damaged, is passed over: it is not what is asked for.

    Args:
        weights: directory of a run, or a file or a checkpoint in one.
        root: folder that the paths of the list are below.
    """
    found = []
    paths = [os.path.normpath(path) for path in clips.columns.texts().to_pylist()]
    for run in _runs_behind(Path(weights)):
        try:
            known = trained_on(run)
        except UNREADABLE:
            continue
        if known is None:
            continue
        sizes = {path: _size(Path(root) / path) if known.of_folder else None for path in paths}
        seen = known.among(Path(root), sizes)
        if seen:
            number = sum(path in seen for path in paths)
            found.append(SeenVideos(run, number, min(seen)))
    return found


def _runs_behind(weights: Path) -> Iterator[Path]:
    """Yield the directory of the run that wrote some weights, then that of the run whose weights it
    began with, and so on."""
    for _ in range(LONGEST_CHAIN):
        run = run_of(weights)
        yield run
        try:
            earlier = _settings(run).get("weights")
        except UNREADABLE:
            return
        if not isinstance(earlier, str) or not os.path.exists(earlier):
            return
        weights = Path(earlier)


def _settings(run: Path) -> dict[str, Any]:
    """Return the settings of a run's config.yaml; empty if it has none."""
    path = run / CONFIG
    if not path.is_file():
        return {}
    try:
        found = plain_yaml(regular(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML") from error
    return found if isinstance(found, dict) else {}


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None
