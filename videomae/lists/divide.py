"""Splitting of validation and test lists off the training list, as settings of prepare ask."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from videomae.config import ConfigError, PrepareConfig
from videomae.lists.annotations import Annotations, Row, ucf101_group
from videomae.lists.published import TEST, TRAIN, VAL


def divided(annotations: Annotations, config: PrepareConfig) -> Annotations:
    """Return annotations with training videos moved to val and test, as the config asks.

    Raises:
        ConfigError: there is such a list already, or nothing would be left to train on.
    """
    if not (config.val_groups or config.val_fraction or config.test_fraction):
        return annotations
    choose = _by_group if config.val_groups else _by_class
    splits = {
        split: [row._replace(part=part) for row, part in choose(rows, config)]
        for split, rows in annotations.splits.items()
    }
    return replace(annotations, splits=splits)


def _by_group(rows: list[Row], config: PrepareConfig) -> list[tuple[Row, str]]:
    """Return every row and its part, after moving whole UCF101 groups from train to val.

    Groups of the same numbers are moved in every class.
    """
    groups = {ucf101_group(row.path) for row in rows if row.part == TRAIN}
    if config.val_groups >= len(groups):
        raise ConfigError(
            f"val_groups={config.val_groups} leaves nothing of the {len(groups)} training groups"
        )
    chosen = _shuffled(groups, config.seed)[: config.val_groups]
    return [
        (row, VAL if row.part == TRAIN and ucf101_group(row.path) in chosen else row.part)
        for row in rows
    ]


def _by_class(rows: list[Row], config: PrepareConfig) -> list[tuple[Row, str]]:
    """Return every row and its part, after moving a share of each class from train to val and test.

    At least one video of each class is moved, and at least one stays in train.
    """
    by_label = defaultdict(list)
    for row in rows:
        if row.part == TRAIN:
            by_label[row.label].append(row.path)
    parts: dict[str, str] = {}
    for part, share in ((TEST, config.test_fraction), (VAL, config.val_fraction)):
        if share and any(row.part == part for row in rows):
            raise ConfigError(f"{part}_fraction={share}: there is a folder {part} already")
        for paths in by_label.values():
            left = [path for path in _shuffled(paths, config.seed) if path not in parts]
            count = min(max(1, round(share * len(set(paths)))), len(left) - 1) if share else 0
            parts.update(dict.fromkeys(left[:count], part))
    return [(row, parts.get(row.path, row.part)) for row in rows]


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Return names in a random order that depends only on the seed and the names."""
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
