"""Clips for a person to judge, and how well the rules agree with the judgement.

labels.csv has a line for each clip: clip_id, keep (empty, for keep or drop) and weight, how many
clips it stands for. Half are kept clips, evenly by the threshold that they are nearest to; the
others are dropped, evenly by the reason, of several the rarest, or undecided. Within such a group,
clips are drawn by a hash of the seed and their ids; a clip's weight is the size of its group by the
number that is drawn of it, so that precision and recall are those of all clips.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videomae.config import ConfigError
from videomae.curate.corpus import FIRST, Corpus, Flags, Rows
from videomae.curate.subsets import random_order
from videomae.lists.text_files import NotTextError, short_text
from videomae.run.shares import Share, share_inside, weighted_share

LABELS = "labels.csv"
ID, KEEP, WEIGHT = "clip_id", "keep", "weight"
HEAD = f"{ID},{KEEP},{WEIGHT}\n"
MOST_CHARACTERS = 2**24
"""Largest number of characters of a file of judged clips."""
YES, NO = ("keep", "yes", "y", "1", "true"), ("drop", "no", "n", "0", "false")
DELIMITERS = (",", ";", "\t")
"""Characters that spreadsheets put between the fields of a CSV file."""


@dataclass(frozen=True)
class Label:
    """A line of a file of judged clips."""

    line: int
    """Number of the line, from 1."""
    clip_id: str
    keep: bool | None
    """Judgement of a person; None: not judged yet."""
    weight: float = 1.0
    """Number of clips that this one stands for."""


@dataclass(frozen=True)
class Judged:
    """Clips of a table that a person has judged."""

    rows: Rows
    wanted: Flags
    weights: NDArray[np.float64]
    left_out: int
    """Number of judged clips that no rule decides about."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of the selection, or of one reason, with a person."""

    name: str
    precision: Share | None
    """Share of the kept clips that the person keeps; of a reason, of the clips it drops that the
    person drops. None: none of them was judged."""
    recall: Share | None
    """Share of what the person keeps that is kept; of a reason, of what the person drops that it
    drops. None: there is nothing of the kind."""


def read_labels(file: Path) -> list[Label]:
    """Read a file of judged clips.

    Raises:
        ConfigError: it is no CSV file with the columns clip_id and keep, or a line of it is wrong;
            the error names the line.
    """
    try:
        text = short_text(file, MOST_CHARACTERS)
        found = list(_parsed(text))
    except (OSError, NotTextError, csv.Error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"judged={file}: {reason}") from error
    first: dict[str, Label] = {}
    for label in found:
        known = first.setdefault(label.clip_id, label)
        if known.keep is not label.keep:
            raise ConfigError(
                f"judged={file}: line {label.line} judges the clip of line {known.line} otherwise: "
                "remove one of them"
            )
    return list(first.values())


def _parsed(text: str) -> Iterator[Label]:
    """Yield the lines of a file of judged clips.

    Raises:
        ValueError, csv.Error: a line is wrong.
    """
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    head = [name.strip().lower() for name in next(lines, [])]
    if not {ID, KEEP} <= set(head):
        raise ValueError(f"its first line must name the columns {ID} and {KEEP}, as {HEAD.strip()}")
    for fields in lines:
        row = dict(zip(head, (field.strip() for field in fields), strict=False))
        if not any(row.values()):
            continue
        number = lines.line_num
        word = row.get(KEEP, "").lower()
        if word and word not in (*YES, *NO):
            raise ValueError(f"line {number}: keep is keep or drop (or empty), not {word[:40]!r}")
        weight = row.get(WEIGHT) or "1"
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(f"line {number}: weight is a number above 0, not {weight[:40]!r}")
        yield Label(number, row.get(ID, ""), word in YES if word else None, value)


def judged_clips(labels: Sequence[Label], corpus: Corpus, file: Path) -> Judged:
    """Return the clips that are judged, of those that the rules decide about.

    Raises:
        ConfigError: a line names a clip that is not in the table.
    """
    given = [label for label in labels if label.keep is not None]
    places = rows_of(labels, corpus)
    for label, row in zip(labels, places.tolist(), strict=True):
        if row < 0:
            raise ConfigError(
                f"judged={file}: line {label.line}: no clip of the table has the id "
                f"{label.clip_id[:80]!r}: remove the line (it may have been forgotten, or be of "
                "another corpus)"
            )
    rows = rows_of(given, corpus)
    decided = corpus.candidates[rows]
    return Judged(
        rows[decided],
        np.array([label.keep for label in given], bool)[decided],
        np.array([label.weight for label in given], np.float64)[decided],
        int((~decided).sum()),
    )


def rows_of(labels: Sequence[Label], corpus: Corpus) -> Rows:
    """Return the row of each clip in the table; -1 where it has none."""
    ids = pa.array([label.clip_id for label in labels], pa.string())
    known = corpus.table[ID].combine_chunks()
    found: Rows = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy().astype(np.int64)
    return found


def agreements(judged: Judged, corpus: Corpus) -> list[Agreement]:
    """Return the agreement of the selection with a person, and of each reason that drops clips."""
    wanted, weights = judged.wanted, judged.weights
    found = [_agreement("the selection", corpus.kept[judged.rows], wanted, weights)]
    for name, rows in corpus.dropping.items():
        if name not in FIRST:
            found.append(_agreement(name, corpus.flags(rows)[judged.rows], ~wanted, weights))
    return found


def _agreement(name: str, chosen: Flags, right: Flags, weights: NDArray[np.float64]) -> Agreement:
    inside = weighted_share(right[chosen].tolist(), weights[chosen].tolist())
    return Agreement(name, inside, share_inside(chosen.tolist(), right.tolist(), weights.tolist()))


def draw(corpus: Corpus, number: int, seed: int) -> tuple[Rows, NDArray[np.float64]]:
    """Return the rows of clips to judge, ascending, and how many clips each stands for.

    Args:
        number: about how many; each group has at least one.
    """
    kept, others = _kept_groups(corpus), _other_groups(corpus)
    half = min(sum(map(len, kept)), max(number // 2, number - sum(map(len, others))))
    rows, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
    for groups, wanted in ((kept, half), (others, number - half)):
        for group, size in zip(groups, allotted([len(g) for g in groups], wanted), strict=True):
            ids = corpus.table[ID].take(pa.array(group)).to_pylist()
            rows.append(group[random_order(ids, seed)[:size]])
            weights.append(np.full(size, len(group) / size))
    chosen, of = np.concatenate(rows), np.concatenate(weights)
    order = np.argsort(chosen)
    return chosen[order], of[order]


def allotted(sizes: Sequence[int], number: int) -> list[int]:
    """Return how many to draw of each group: as even as their sizes allow, at least one of each."""
    found, left = [0] * len(sizes), number
    for place, group in enumerate(sorted(range(len(sizes)), key=lambda n: sizes[n])):
        found[group] = min(sizes[group], max(1, left // (len(sizes) - place)))
        left -= found[group]
    return found


def _kept_groups(corpus: Corpus) -> list[Rows]:
    """Return the kept clips by the threshold that the fewest clips lie before."""
    rows = np.flatnonzero(corpus.candidates & corpus.kept)
    between = np.full((len(corpus.rules) + 1, len(rows)), np.inf)
    between[-1] = len(corpus.kept)  # of clips without a score that a threshold is for
    for place, rule in enumerate(corpus.rules.values()):
        values = corpus.values(rule.column)
        ordered = np.sort(values[corpus.candidates & ~np.isnan(values)])
        own = np.searchsorted(ordered, values[rows])
        distance = np.abs(own - np.searchsorted(ordered, rule.threshold))
        between[place] = np.where(np.isnan(values[rows]), np.inf, distance)
    nearest = between.argmin(0)
    return [rows[nearest == group] for group in np.unique(nearest)]


def _other_groups(corpus: Corpus) -> list[Rows]:
    """Return the dropped clips by the rarest reason against each, and the undecided ones."""
    left = corpus.candidates & ~corpus.kept
    groups = []
    for rows in sorted(corpus.dropping.values(), key=len):
        own = rows[left[rows]]
        left[own] = False
        groups.append(own)
    return [group for group in (*groups, np.flatnonzero(left)) if len(group)]


def labels_text(labels: Iterable[Label]) -> str:
    """Return the text of labels.csv for clips that nobody has judged yet."""
    return HEAD + "".join(f"{each.clip_id},,{each.weight:.6g}\n" for each in labels)
