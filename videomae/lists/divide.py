"""Splitting of validation and test lists off the training list, as settings of prepare ask."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from videomae.config import ConfigError, Dataset, PrepareConfig
from videomae.lists.annotations import Annotations, Row, ucf101_group
from videomae.lists.own import SPLIT_NAMES
from videomae.lists.own_folder import in_words
from videomae.lists.published import TEST, TRAIN, VAL
from videomae.lists.sources import Labelled, held_out, shuffled, sources_of


def divided(annotations: Annotations, config: PrepareConfig) -> Annotations:
    """Return annotations with training videos moved to val and test, as the config asks.

    Raises:
        ConfigError: there is such a list already, or nothing would be left to train on.
    """
    if config.val_groups:
        splits = {split: _by_group(rows, config) for split, rows in annotations.splits.items()}
        return replace(annotations, splits=splits)
    shares = {TEST: config.test_fraction, VAL: config.val_fraction}
    if any(shares.values()):
        ((split, rows),) = annotations.splits.items()  # one's own videos have one split
        rows, notes = _by_class(rows, shares, config)
        notes = [*annotations.notes, *notes]
        annotations = replace(annotations, splits={split: rows}, notes=notes)
    return annotations


def _by_group(rows: list[Row], config: PrepareConfig) -> list[Row]:
    """Return the rows with whole UCF101 groups moved from train to val.

    Groups of the same numbers are moved in every class.
    """
    groups = {ucf101_group(row.path) for row in rows if row.part == TRAIN}
    if config.val_groups >= len(groups):
        raise ConfigError(
            f"val_groups={config.val_groups} leaves nothing of the {len(groups)} training groups"
        )
    chosen = shuffled(groups, f"{config.seed} ")[: config.val_groups]
    return [
        row._replace(part=VAL) if row.part == TRAIN and ucf101_group(row.path) in chosen else row
        for row in rows
    ]


def _by_class(
    rows: list[Row], shares: Mapping[str, float], config: PrepareConfig
) -> tuple[list[Row], list[str]]:
    """Return the rows with a share of each class moved from train to each part, and notes on it.

    At least one video of each class is moved, and at least one stays in train. Clips of one
    recording stay together, where their names tell it, or folders inside those of the classes.

    Raises:
        ConfigError: there is such a part already.
    """
    every = [Labelled(row.path, row.label) for row in rows]
    sources = sources_of(every, _class_depth(rows, config))
    train = {Labelled(row.path, row.label): None for row in rows if row.part == TRAIN}
    sizes = Counter(label for _, label in train)
    notes = []
    for part, share in shares.items():
        if share and any(row.part == part for row in rows):
            raise ConfigError(f"{part}_fraction={share}: there is a folder {part} already")
        if share:
            left = list(train)
            chosen, alone = held_out(left, sources, share, sizes=sizes, salt=f"{config.seed} ")
            rows = [row._replace(part=part) if row.path in chosen else row for row in rows]
            notes += _notes(part, len(chosen), len(alone), {sources[path] for path, _ in left})
            train = {video: None for video in left if video.path not in chosen}
    return rows, notes


def _class_depth(rows: Sequence[Row], config: PrepareConfig) -> int:
    """Return how many folders of a path are of its split and class; further ones are recordings."""
    if config.dataset != Dataset.folders:
        return max(row.path.count("/") for row in rows)  # which may be classes: names alone count
    return 2 if rows[0].path.partition("/")[0].casefold() in SPLIT_NAMES else 1


def _notes(part: str, moved: int, alone: int, sources: Set[str | None]) -> list[str]:
    """Return what is said of the videos that were moved to a part.

    Args:
        alone: number of classes whose videos are all of one recording.
        sources: the recordings that names tell; None among them for videos of an unknown one.
    """
    told, video = len(sources - {None}), in_words(moved, "video")
    if not moved:
        return [f"{part}: no video, as no class has a second one"]
    if not told:
        return [
            f"{part}: {video}, one by one, as their names tell no recordings: if some were cut "
            "from one recording, the result says how well it was remembered"
        ]
    notes = [f"{part}: {video}, in whole recordings, of which the names in train tell {told:,}"]
    if alone:
        notes.append(
            f"{part}: classes of one recording, whose videos are divided one by one, so that the "
            f"result says less of unseen footage: {alone:,}"
        )
    return notes
