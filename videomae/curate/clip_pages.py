"""The files of the page that show clips: by reason, at thresholds, as duplicates, to be judged.

A file is planned by the rows that it shows; thumbnails and texts are read for all planned rows at
once, so that the page costs memory by what it shows, not by what there is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from videomae.config import PageConfig
from videomae.curate.corpus import FIRST, Corpus, Rows, is_unmeasured
from videomae.curate.judging import Label
from videomae.curate.shards import Shards
from videomae.pictures.html import data_uri
from videomae.pictures.line_chart import shown

BESIDE = 20
"""Number of clips that are shown on either side of a threshold."""
MOST_OF_GROUP = 12
"""Largest number of clips that are shown of a group of duplicates."""
MOST_NAMES = 5
"""Largest number of test videos that are named of a contaminated clip."""
SHOWN = ("clip_id", "source_path", "start_s", "end_s", "keep", "reasons", "error")
"""Columns that are told of every clip."""


@dataclass(frozen=True)
class Section:
    """Some clips of a file, under a heading."""

    title: str
    rows: Sequence[int]
    note: str = ""
    lines: Mapping[int, str] = field(default_factory=dict)
    """A line to tell of a clip, by its row."""


@dataclass(frozen=True)
class ClipPage:
    """A file that shows clips."""

    file: str
    title: str
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    place: int = 1
    """Number of the file among those with the same title, from 1."""
    files: Sequence[str] = ()
    """The files with the same title."""
    to_judge: Mapping[int, Label] | None = None
    """Lines of labels.csv by row, of a file that asks to judge clips; None: the file does not."""


def clip_pages(corpus: Corpus, config: PageConfig) -> dict[str, list[ClipPage]]:
    """Return the files for looking at clips, by what they show.

    Keys are kept, undecided, duplicates, contaminated, the reasons, and `at RULE`.
    """
    found = {
        "kept": _paged(corpus, "kept", "Kept clips", np.flatnonzero(corpus.kept), config),
        "undecided": _paged(
            corpus, "undecided", "Undecided clips", np.flatnonzero(corpus.undecided), config
        ),
    }
    for number, (reason, rows) in enumerate(corpus.by_reason.items()):
        name = f"reason{number:02}"
        missing = is_unmeasured(reason)
        title = f"{reason.partition(':')[0]} not measured" if missing else f"Dropped by {reason}"
        found[reason] = _paged(corpus, name, title, rows, config, _values(corpus, reason))
    for number, name in enumerate(corpus.rules):
        found[f"at {name}"] = [_at_threshold(corpus, f"threshold{number:02}.html", name)]
    found["duplicates"] = _duplicates(corpus, config)
    found["contaminated"] = _contaminated(corpus, config)
    return found


def _values(corpus: Corpus, reason: str) -> str | None:
    """Return the column that a reason is about; None if it is no threshold."""
    return corpus.rules[reason].column if reason in corpus.rules else None


def _paged(
    corpus: Corpus,
    name: str,
    title: str,
    rows: Rows,
    config: PageConfig,
    column: str | None = None,
) -> list[ClipPage]:
    """Return the files that show some clips; of many, those whose ids are the first."""
    chosen = rows[: config.per_page * config.most_pages]
    lines: dict[int, str] = {}
    if column is not None:
        values = corpus.values(column)[chosen].tolist()
        lines = {
            row: f"{column} {shown(value)}"
            for row, value in zip(chosen.tolist(), values, strict=True)
            if value == value
        }
    parts = [
        [Section("", chosen[start : start + config.per_page].tolist(), lines=lines)]
        for start in range(0, len(chosen), config.per_page)
    ]
    few = f"{len(chosen):,} of them, drawn at random, are shown." if len(rows) > len(chosen) else ""
    return _files(name, title, parts, [f"{numbered(len(rows), 'clip')}. {few}".strip()])


def _files(
    name: str, title: str, parts: Sequence[Sequence[Section]], notes: Sequence[str]
) -> list[ClipPage]:
    files = [f"{name}-{number}.html" for number in range(1, len(parts) + 1)]
    return [
        ClipPage(file, title, sections, notes, place, files)
        for place, (file, sections) in enumerate(zip(files, parts, strict=True), start=1)
    ]


def _at_threshold(corpus: Corpus, file: str, name: str) -> ClipPage:
    """Return the file with the clips nearest to a threshold."""
    rule = corpus.rules[name]
    values = corpus.values(rule.column)
    dropped, others = corpus.nearest(rule, BESIDE)
    lines = {
        row: f"{rule.column} {shown(values[row])}" for row in (*dropped.tolist(), *others.tolist())
    }
    kind = "at least" if rule.at_least else "at most"
    sides = [("Just dropped by it", dropped), ("Just not dropped by it", others)]
    notes = [
        f"{rule.column} must be {kind} {shown(rule.threshold)}: the {BESIDE} nearest clips on "
        "either side, the nearest first. Another rule may drop a clip on either side."
    ]
    sections = [
        Section(title, rows.tolist(), "" if len(rows) else "There is none.", lines)
        for title, rows in sides
    ]
    return ClipPage(file, f"The threshold of {name}", sections, notes)


def numbered(number: int, noun: str) -> str:
    """Return a number with a noun, which has an s unless it is one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def groups_of(corpus: Corpus) -> list[Rows]:
    """Return the groups of duplicates, the largest first: rows of each, the kept ones first."""
    column = corpus.table["duplicate_group"].combine_chunks().dictionary_encode()
    codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    sizes = np.bincount(codes[codes >= 0], minlength=len(column.dictionary))
    rows = np.flatnonzero((codes >= 0) & (sizes[codes] > 1)) if len(sizes) else codes[:0]
    if not len(rows):
        return []
    copies = pc.is_valid(corpus.table["duplicate_of"]).to_numpy()[rows]
    rows = rows[np.lexsort((rows, copies, codes[rows]))]
    starts = np.flatnonzero(np.diff(codes[rows], prepend=-1))
    groups = np.split(rows, starts[1:])
    return sorted(groups, key=len, reverse=True)


def _duplicates(corpus: Corpus, config: PageConfig) -> list[ClipPage]:
    groups = groups_of(corpus)
    distance = corpus.values("duplicate_distance")
    sections: list[Section] = []
    clips = 0
    for group in groups:
        rows = group[:MOST_OF_GROUP].tolist()
        clips += len(rows)
        if clips > config.per_page * config.most_pages and sections:
            break
        more = f"{len(rows)} of them are shown" if len(rows) < len(group) else ""
        lines = {
            row: "stands for the group" if n == 0 else f"distance {shown(distance[row])}"
            for n, row in enumerate(rows)
            if n == 0 or distance[row] == distance[row]
        }
        sections.append(Section(f"{len(group):,} clips", rows, more, lines))
    parts: list[list[Section]] = []
    ends = np.cumsum([len(section.rows) for section in sections])
    placed = zip(((end - 1) // config.per_page for end in ends), sections, strict=True)
    for _, some in groupby(placed, key=lambda each: each[0]):
        parts.append([section for _, section in some])
    few = f"The {len(sections):,} largest are shown." if len(sections) < len(groups) else ""
    notes = [f"{numbered(len(groups), 'group')}. {few}".strip()]
    return _files("duplicates", "Groups of duplicates", parts, notes)


def _contaminated(corpus: Corpus, config: PageConfig) -> list[ClipPage]:
    title = "Clips that show a test video"
    pages = _paged(corpus, "contaminated", title, corpus.contaminated, config)
    for page in pages:
        for section in page.sections:
            names = corpus.take(["contaminates"], np.array(section.rows, np.int64)).column(0)
            assert isinstance(section.lines, dict)
            for row, some in zip(section.rows, names.to_pylist(), strict=True):
                more = f" and {len(some) - MOST_NAMES} more" if len(some) > MOST_NAMES else ""
                section.lines[row] = f"shows {', '.join(some[:MOST_NAMES])}{more}"
    return pages


class Cards:
    """Texts and thumbnails of the clips that are shown.

    Args:
        rows: rows of all clips that any file shows.
    """

    def __init__(self, corpus: Corpus, out: Path, rows: Rows) -> None:
        table = corpus.take([*SHOWN, "rules_hash"], rows)
        known = zip(rows.tolist(), table.to_pylist(), strict=True)
        self.clips = dict(known)
        side = Shards(out).side({each["clip_id"] for each in self.clips.values()}, ["thumbnail"])
        self.thumbnails: dict[str, bytes] = dict(
            zip(side["clip_id"].to_pylist(), side["thumbnail"].to_pylist(), strict=True)
        )

    def card(self, row: int, line: str, label: Label | None) -> dict[str, Any]:
        """Return what a template shows of a clip."""
        clip = self.clips[row]
        picture = self.thumbnails.get(clip["clip_id"])
        return {
            "id": clip["clip_id"],
            "path": clip["source_path"] or "",
            "place": _place(clip["start_s"], clip["end_s"]),
            "decision": _decision(clip),
            "reasons": [each for each in clip["reasons"] or () if each not in FIRST[:1]],
            "error": clip["error"] or "",
            "line": line,
            "label": label,
            "picture": None if picture is None else data_uri(picture, "jpeg"),
        }

    def sections(self, page: ClipPage) -> list[dict[str, Any]]:
        """Return what a template shows of a file."""
        labels = page.to_judge or {}
        return [
            {
                "title": section.title,
                "note": section.note,
                "cards": [
                    self.card(row, section.lines.get(row, ""), labels.get(row))
                    for row in section.rows
                ],
            }
            for section in page.sections
        ]


def rows_of_pages(pages: Sequence[ClipPage]) -> Rows:
    """Return the rows of all clips on some files, ascending."""
    rows = {row for page in pages for section in page.sections for row in section.rows}
    return np.array(sorted(rows), np.int64)


def _decision(clip: Mapping[str, Any]) -> str:
    if clip["rules_hash"] is None:
        return "not judged yet"
    return {True: "kept", False: "dropped", None: "undecided"}[clip["keep"]]


def _place(start: float | None, end: float | None) -> str:
    if start is None or end is None:
        return ""
    return f"{_clock(start)} to {_clock(end)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"
