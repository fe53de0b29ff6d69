"""The tables of a report, which compare runs, and their Markdown."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from videomae.evaluation.metrics import CLASSES_FOR_TOP5, interval_of_mean
from videomae.report.gather import RunRecord
from videomae.report.results import Result
from videomae.run.directory import RESULTS
from videomae.run.sidefiles import LARGEST

COLUMNS = (
    "run",
    "top-1 % (95 %)",
    "mean of classes %",
    "top-5 %",
    "data",
    "weights",
    "views",
    "videos",
    "unreadable",
)
"""Columns of the table of evaluations, the most important first, which a narrow screen shows."""
NUMBERS = frozenset(
    (COLUMNS[1], COLUMNS[2], COLUMNS[3], "videos", "unreadable", "loss", "k-NN top-1 %")
)
"""Columns that hold numbers; the others hold text."""
NONE = "–"  # noqa: RUF001
"""Text of a cell without a value."""
PRETRAINING_COLUMNS = ("pre-training", "loss", "k-NN top-1 %", "data", "model", "progress")


RESULT = "result"
"""Heading in place of that of the top-1 where not all results are one."""
TOP1, TOP5 = (COLUMNS.index(name) for name in ("top-1 % (95 %)", "top-5 %"))
MAY_BE_EMPTY = frozenset(("mean of classes %", "top-5 %"))
"""Columns that a table leaves out where none of its rows has a value."""


class TableRow(NamedTuple):
    """A row of a table of a report."""

    cells: tuple[str, ...]
    """Texts of the cells, in the order of the columns."""
    remarks: tuple[str, ...] = ()
    """Notes on the top-1 accuracy."""
    run: RunRecord | None = None
    """Run of the row; None: the row is a mean of several."""
    result: Result | None = None
    is_top1: bool = False
    """Whether the row's result is a top-1 accuracy."""


def rows(runs: Sequence[RunRecord]) -> list[TableRow]:
    """Return a row for each evaluation, and for several seeds or splits a row of their mean."""
    names = [run.name for run in runs]
    most: dict[str, int] = defaultdict(int)
    groups: dict[tuple[str, ...], list[tuple[RunRecord, Result | None]]] = defaultdict(list)
    for run in runs:
        if not run.results:
            groups[run.name, str(run.directory)].append((run, None))
        for each in run.results:
            most[run.data] = max(most[run.data], each.num_videos)
            data = run.data.partition(", split ")[0]
            weights = each.weights.get("chosen", str(run.trained))
            key = run.name, data, weights, each.views, each.probe or "", each.main[0]
            groups[key].append((run, each))
    table = []
    for members in groups.values():
        for run, result in members:
            name = run.name if names.count(run.name) == 1 else f"{run.name} ({run.directory})"
            if result is None:
                state = "not evaluated" if run.finished else "not evaluated yet"
                if (run.directory / RESULTS).is_file():
                    state = f"{RESULTS} is damaged"
                cells = (name, state, NONE, NONE, run.data, NONE, NONE, NONE, NONE)
                table.append(TableRow(cells, run=run))
            else:
                remarks = tuple(_remarks(result, most[run.data]))
                if run.ended_early:
                    remarks += (run.progress,)
                is_top1 = result.top1 is not None
                own = tuple(_cells(name, run, result))
                table.append(TableRow(own, remarks, run, result, is_top1))
        table += _mean(members)
    return table


def _cells(name: str, run: RunRecord, result: Result) -> Iterator[str]:
    yield f"{name}, {result.probe} probe" if result.probe else name
    interval = ""
    if result.interval:
        low, high = result.interval
        interval = f" ({low:.2f} to {high:.2f})"
    if result.headline is not None:
        name, value = result.main
        yield f"{name} {value:.4g}"
    else:
        yield f"{result.top1:.2f}{interval}"
    many = len(result.per_class) >= CLASSES_FOR_TOP5
    for accuracy in (result.mean_class_accuracy, result.top5 if many else None):
        yield NONE if accuracy is None else f"{accuracy:.2f}"
    yield run.data
    yield weights_of(run, result)
    yield result.views
    yield f"{result.num_videos:,}"
    yield f"{result.num_unreadable:,}"


def _remarks(result: Result, most: int) -> Iterator[str]:
    """Yield notes that matter when the top-1 is compared with that of other runs.

    Args:
        most: largest number of videos of an evaluation on the same data.
    """
    if result.splits:
        tops = ", ".join(f"{top1:.2f}" for top1 in result.splits.values())
        yield f"mean of {len(result.splits)} splits: {tops}"
    for key, count in result.shared.items():
        yield f"{count:,} of {result.num_videos:,} videos are in {key} too"
    if result.num_unreadable:
        yield f"{result.num_unreadable:,} of {result.num_videos:,} videos unreadable"
    if result.num_videos < most:
        yield f"on {result.num_videos:,} videos, others on {most:,}"


def weights_of(run: RunRecord, result: Result) -> str:
    """Return the evaluated weights in words: last or best of a fine-tuning, or their path."""
    if "chosen" in result.weights:
        step = str(result.weights.get("step", "?"))
        return f"{result.weights['chosen']}, step{'s' if ',' in step else ''} {step}"
    if run.trained:  # a run of before there was a choice, or an evaluation took its results' place
        return NONE if result.sha256 else "last"
    return str(run.setting("weights") or NONE)


def _mean(members: Sequence[tuple[RunRecord, Result | None]]) -> Iterator[TableRow]:
    """Yield the row of the mean of a group, if all its runs have different seeds or splits."""
    drawn = {
        (run.setting("seed"), run.setting("data.split"), run.setting("data.test_list"))
        for run, _ in members
    }
    results = [result for _, result in members if result is not None]
    if len(members) < 2 or len(drawn) < len(members) or len(results) < len(members):
        return
    run, first = members[0][0], results[0]
    cells = [f"{run.name}, mean of {len(results)} ± standard deviation"]
    if first.headline is not None:
        values = [result.main[1] for result in results]
        cells += [f"{first.main[0]} {mean(values):.4g} ± {stdev(values):.2g}", "", ""]
    else:
        for name in ("top1", "mean_class_accuracy", "top5"):
            values = [getattr(result, name) for result in results]
            cells.append(f"{mean(values):.2f} ± {stdev(values):.2f}")
        if len(first.per_class) < CLASSES_FOR_TOP5:
            cells[TOP5] = NONE
        if interval := _interval_of_splits(members, results):
            low, high = interval
            cells[TOP1] += f" ({low:.2f} to {high:.2f})"
    cells += [run.data.partition(", split ")[0], str(first.weights.get("chosen", "")), first.views]
    yield TableRow((*cells, "", ""), is_top1=first.top1 is not None)


def _interval_of_splits(
    members: Sequence[tuple[RunRecord, Result | None]], results: Sequence[Result]
) -> list[float] | None:
    """Return the 95 % interval of the mean of splits; None if some runs are of the same split."""
    tested = {(run.setting("data.split"), run.setting("data.test_list")) for run, _ in members}
    tops = [(result.top1, result.num_videos) for result in results if result.top1 is not None]
    if len(tested) < len(members) or not all(
        0 <= top1 <= 100 and 0 < videos <= LARGEST for top1, videos in tops
    ):
        return None
    return interval_of_mean(tops)


def pretraining_rows(runs: Sequence[RunRecord]) -> list[TableRow]:
    """Return a row for each pre-training, with PRETRAINING_COLUMNS."""
    table = []
    for run in runs:
        loss, knn = (
            [point.value for point in run.curves.get(name, []) if point.value is not None]
            for name in ("loss", "knn_top1")
        )
        cells = (
            f"{run.name} ({run.directory})",
            f"{loss[-1]:.4f}" if loss else NONE,
            f"{knn[-1]:.2f}" if knn else NONE,
            run.data,
            str(run.setting("model.name") or NONE),
            run.progress or NONE,
        )
        table.append(TableRow(cells, run=run))
    return table


def fitted(columns: Sequence[str], table: Sequence[TableRow]) -> tuple[list[str], list[TableRow]]:
    """Return the table of evaluations with columns that fit its rows.

    A column of accuracies that no row has is left out. Where a result is no top-1, the column of
    the top-1 becomes that of results, in which each has its name.
    """
    kept = [
        place
        for place, name in enumerate(columns)
        if name not in MAY_BE_EMPTY or any(row.cells[place] not in ("", NONE) for row in table)
    ]
    of_top1 = all(row.result.top1 is not None for row in table if row.result)
    shorter = []
    for row in table:
        cells = list(row.cells)
        if not of_top1 and row.is_top1:
            cells[TOP1] = f"top-1 {cells[TOP1]}"
        shorter.append(row._replace(cells=tuple(cells[place] for place in kept)))
    names = [columns[place] for place in kept]
    if not of_top1:
        names[TOP1] = RESULT
    return names, shorter


def markdown(columns: Sequence[str], table: Sequence[TableRow]) -> str:
    """Return a table as Markdown, for example for a README."""
    lines = [columns, ["---:" if name in NUMBERS else "---" for name in columns]]
    for row in table:
        cells = list(row.cells)
        if row.remarks:
            cells[TOP1] = "; ".join([cells[TOP1], *row.remarks])
        lines.append([_escaped(cell) for cell in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(plain, written)
    return text
