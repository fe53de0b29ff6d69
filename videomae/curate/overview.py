"""The first file of the page: the funnel, the scores, and how hashtags and licences are spread."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from videomae.curate.corpus import Corpus, Flags, Rows
from videomae.curate.rules import DERIVED
from videomae.curate.table import COLUMNS, MODELS, SCORES, STAGES
from videomae.pictures.histogram import value_histogram
from videomae.pictures.line_chart import shown
from videomae.run.files import read_json

CHARTED = (
    *("duration_s", "short_side_px", "fps", "bitrate_kbps"),
    *SCORES,
    *MODELS,
    *("views", "num_hashtags", "duplicate_distance"),
)
"""Columns that have a histogram, if any clip has a value; columns of stages of one's own follow."""
MOST_VALUES = 100
"""Largest number of values of a column, such as hashtags, that are listed."""
MOST_CHARACTERS = 200
"""Largest number of characters of a value that are shown."""


@dataclass(frozen=True)
class Step:
    """A step of the funnel."""

    name: str
    left: int
    """Number of files or clips that are left after it."""
    of: int
    """Number of files or clips that the bar is a share of."""
    dropped: int | None = None
    """Number of clips that the reason drops, whatever else does; None: the step is no reason."""
    alone: int | None = None
    """Number of clips that nothing else drops."""
    threshold: str = ""


def funnel(corpus: Corpus) -> list[Step]:
    """Return the steps from the files to the kept clips."""
    files = corpus.sources.num_rows
    contents = int(corpus.sources["copy_of"].null_count)
    whole = corpus.table.filter(pc.is_null(corpus.table["error"]))
    readable = pc.count_distinct(whole["source_sha256"]).as_py()
    clips = corpus.num_clips
    steps = [
        Step("files", files, files),
        Step("files of different content", contents, files),
        Step("videos that were read to their end", readable, files),
        Step("clips, and a row for each video without one", clips, clips),
    ]
    left = np.ones(clips, bool)
    for name, rows in corpus.dropping.items():
        left[rows] = False
        alone = int((corpus.num_reasons[rows] == 1).sum())
        steps.append(Step(name, int(left.sum()), clips, len(rows), alone, _bound(corpus, name)))
    return [*steps, Step("kept: decided, and not dropped", int(corpus.kept.sum()), clips)]


def _bound(corpus: Corpus, name: str) -> str:
    """Return the threshold of a rule in words."""
    if name not in corpus.rules:
        return ""
    rule = corpus.rules[name]
    text = f"{rule.column} {'>=' if rule.at_least else '<='} {shown(rule.threshold)}"
    return text if rule.quantile is None else f"{text} (the quantile {rule.quantile:.1%})"


def charts(corpus: Corpus) -> list[dict[str, Any]]:
    """Return the histograms of all columns of numbers, with the thresholds in them."""
    own = [
        each.name
        for each in corpus.table.schema
        if each.name not in COLUMNS
        and (pa.types.is_integer(each.type) or pa.types.is_floating(each.type))
    ]
    bounded = [rule.column for rule in corpus.rules.values()]
    found = []
    for column in dict.fromkeys([*CHARTED, *own, *bounded]):
        if column not in corpus.table.column_names and column not in DERIVED:
            continue
        values = corpus.values(column)
        there = ~np.isnan(values)
        rules = [name for name, rule in corpus.rules.items() if rule.column == column]
        if not there.any():
            continue
        limits = [corpus.rules[name].threshold for name in rules]
        middles = [_median(values[each]) for each in (there, there & corpus.kept)]
        found.append(
            {
                "column": column,
                "svg": Markup(value_histogram(column, values, corpus.kept, limits)),
                "measured": int(there.sum()),
                "median": middles[0],
                "median_kept": middles[1],
                "rules": [(name, _bound(corpus, name)) for name in rules],
            }
        )
    return found


def _median(values: Any) -> str:
    if not len(values):
        return "-"
    middle = float(np.median(values))
    return f"{middle:,.0f}" if 1e4 <= abs(middle) < 1e15 else shown(middle)


@dataclass(frozen=True)
class Spread:
    """How the clips are spread over the values of a column, of all clips and of the kept ones."""

    column: str
    rows: list[tuple[str, int, int]]
    """The most frequent values: value, clips, kept clips."""
    values: int
    """Number of different values."""
    without: int
    """Number of clips without a value."""
    even: str
    """Number of equally frequent values that are as spread as all clips are."""
    even_kept: str
    """Number of equally frequent values that are as spread as the kept clips are."""


def spread(corpus: Corpus, column: str) -> Spread | None:
    """Return how the clips are spread over the values of a column; None if no clip has one."""
    values = corpus.table[column].combine_chunks()
    counts = [_counted(values, flags) for flags in (None, corpus.kept)]
    if not counts[0]:
        return None
    order = sorted(counts[0], key=lambda value: (-counts[0][value], value))
    rows = [
        (value[:MOST_CHARACTERS], counts[0][value], counts[1].get(value, 0))
        for value in order[:MOST_VALUES]
    ]
    without = values.null_count
    if pa.types.is_list(values.type):
        without += pc.sum(pc.equal(pc.list_value_length(values), 0)).as_py() or 0
    even = [_even(list(each.values())) for each in counts]
    return Spread(column, rows, len(order), without, even[0], even[1])


def _counted(values: Any, flags: Flags | None) -> dict[str, int]:
    """Return how often each value of a column occurs, among some rows."""
    values = values if flags is None else values.filter(pa.array(flags))
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    found = pc.value_counts(values.drop_null()).to_pylist()
    return {str(each["values"]): each["counts"] for each in found}


def _even(counts: list[int]) -> str:
    """Return the exponential of the entropy of counts: of n equal ones, n."""
    shares = np.array(counts) / max(1, sum(counts))
    return f"{np.exp(-(shares * np.log(shares)).sum()):.1f}" if counts else "0"


def counted(corpus: Corpus, column: str, unknown: str) -> list[tuple[str, int, int]]:
    """Return the values of a column with their clips and kept clips; null by the name `unknown`."""
    values = pc.fill_null(corpus.table[column].combine_chunks(), unknown)
    counts = [_counted(values, flags) for flags in (None, corpus.kept)]
    order = sorted(counts[0], key=lambda value: (-counts[0][value], value))
    return [(each[:MOST_CHARACTERS], counts[0][each], counts[1].get(each, 0)) for each in order]


def people(corpus: Corpus) -> list[str]:
    """Return what is known of people in the clips, as sentences."""
    found = []
    for column, said in (
        ("faces_max", "a face was found in"),
        ("person_frames_fraction", "a person was found in"),
    ):
        values = corpus.values(column)
        there = ~np.isnan(values)
        if there.any():
            seen = int((values[there] > 0).sum())
            found.append(
                f"Of {int(there.sum()):,} clips that were looked through, {said} {seen:,}."
            )
    return found or ["No stage has looked for people: any thumbnail may show some."]


def faces_blurred(corpus: Corpus, out: Path, rows: Rows) -> int:
    """Return in how many thumbnails faces are blurred: stage persons did it where it looked."""
    record = out / STAGES / "persons.json"
    settings = read_json(record) if record.exists() else {}
    if not isinstance(settings, dict) or settings.get("blur_faces") is not True:
        return 0
    return int((~np.isnan(corpus.values("faces_max")[rows])).sum())


def totals(corpus: Corpus) -> list[tuple[str, int]]:
    """Return the numbers at the top of the page."""
    unjudged = int(pc.is_null(corpus.table["rules_hash"]).to_numpy().sum())
    undecided, kept = int(corpus.undecided.sum()), int(corpus.kept.sum())
    found = [
        ("files", corpus.sources.num_rows),
        ("clips", corpus.num_clips),
        ("kept", kept),
        ("dropped", corpus.num_clips - kept - undecided - unjudged),
        ("undecided", undecided),
    ]
    return [*found, ("not judged yet", unjudged)] if unjudged else found


def errors(corpus: Corpus) -> list[tuple[str, int, int]]:
    """Return the errors of clips, the most frequent first, as `counted` does."""
    return [row for row in counted(corpus, "error", "") if row[0]]
