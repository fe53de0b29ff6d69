"""The HTML page of a report, in one file. The template escapes all text that it is given."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videomae.config import EvaluateConfig, FinetuneConfig, PretrainConfig, ProbeConfig
from videomae.config.settings import all_settings, settings_in_use
from videomae.evaluation.metrics import CLASSES_FOR_TOP5
from videomae.pictures import html
from videomae.report import images
from videomae.report.about import About, commits_of, origin_of, title_of
from videomae.report.charts import charts_of
from videomae.report.gather import RunRecord
from videomae.report.plane import plane_of
from videomae.report.predicted import ClassProbability, Prediction
from videomae.report.results import Result
from videomae.report.samples import Sample
from videomae.report.summary import (
    COLUMNS,
    NUMBERS,
    PRETRAINING_COLUMNS,
    TableRow,
    fitted,
    weights_of,
)
from videomae.run.text import redacted

MOST_IN_TABLE = 25
"""Largest number of classes for which the confusion matrix is a table, else it is a picture."""
PAIRS, CLASSES = 10, 8
"""Numbers of confused pairs of classes, and of best and worst classes, that are listed."""
MOST_WARNINGS = 50
"""Largest number of warnings of a run that are listed."""
MOST_BAD = 200
"""Largest number of unreadable videos that are listed."""
BAD_COLUMNS = ("list", "line", "path", "error")
MOST_GUESSES = 3
"""Largest number of classes that are listed below a test video."""
THUMBNAIL = 112
"""Height of a frame on the page, in pixels."""


def page(
    runs: Sequence[RunRecord],
    table: Sequence[TableRow],
    pretraining_table: Sequence[TableRow],
    parents: Mapping[Path, Sequence[Path]],
    samples: Mapping[Path, Sequence[Sample]],
    about: About,
) -> str:
    """Return the HTML text of the page.

    Args:
        runs: runs that get a section; those of the tables are among them.
        table: rows of the table of evaluations.
        pretraining_table: rows of the table of pre-trainings.
        parents: directories of the runs whose weights a run started from, by the run's directory.
        samples: test videos to show, by the run's directory.
        about: what the page says of itself.
    """
    anchors = {run.directory.resolve(): f"run-{n}" for n, run in enumerate(runs, start=1)}
    sections = [
        _section(run, anchors, parents.get(run.directory, ()), samples.get(run.directory, ()))
        for run in runs
    ]
    rowed = {row.run.directory.resolve() for row in (*table, *pretraining_table) if row.run}
    columns, table = fitted(COLUMNS, table)
    return (
        html.environment("videomae.report")
        .get_template("page.html")
        .render(
            about=about,
            title=title_of(runs),
            commits=commits_of(runs),
            warned=[section for section in sections if section["warnings"]],
            most_warnings=MOST_WARNINGS,
            columns=columns,
            numbers=NUMBERS,
            rows=[_row(row, anchors) for row in table],
            of_top1=any(row.is_top1 for row in table),
            intervals=any(row.result and row.result.interval for row in table),
            means=any(row.result is None or row.result.splits for row in table if row.is_top1),
            pretraining_columns=PRETRAINING_COLUMNS,
            pretraining_rows=[_row(row, anchors) for row in pretraining_table],
            sections=sections,
            num_rows=len(rowed),
        )
    )


def _row(row: TableRow, anchors: Mapping[Path, str]) -> dict[str, Any]:
    if row.run is None:
        return {"name": row.cells[0], "cells": row.cells[1:], "result": None, "remarks": ()}
    probe = f", {row.result.probe} probe" if row.result and row.result.probe else ""
    return {
        "name": row.run.name + probe,
        "directory": str(row.run.directory),
        "anchor": anchors[row.run.directory.resolve()],
        "cells": row.cells[1:],
        "result": row.result,
        "remarks": row.remarks,
    }


def _section(
    run: RunRecord, anchors: Mapping[Path, str], parents: Sequence[Path], samples: Sequence[Sample]
) -> dict[str, Any]:
    result = run.results[0] if run.results else None
    counts, names = _confusion(run, result)
    return {
        "anchor": anchors[run.directory.resolve()],
        "name": run.name,
        "directory": str(run.directory),
        "kind": _kind(run),
        "progress": run.progress,
        "splits": _splits(run, result, anchors),
        "parents": [(str(path), anchors.get(path.resolve())) for path in parents],
        "origin": origin_of(run),
        "warnings": run.warnings,
        "many_classes": run.num_classes >= CLASSES_FOR_TOP5,
        "results": run.results,
        "weights": weights_of(run, result) if result else "",
        "charts": charts_of(run),
        "plane": plane_of(run),
        "missing": run.missing,
        "damaged": run.damaged,
        "pictures": {name: html.data_uri(png, "png") for name, png in run.pictures.items()},
        "confusion": _confusion_table(counts, names),
        "pairs": _pairs(run.predictions),
        "classes": _classes(result, counts),
        "samples": [_sample(each) for each in samples],
        "sampled": _sampled(run, samples),
        "bad": [[row.get(key, "") for key in BAD_COLUMNS] for row in run.bad[:MOST_BAD]],
        "num_bad": len(run.bad),
        "facts": _facts(run, result),
    }


def _kind(run: RunRecord) -> str:
    if run.is_pretraining:
        return "pre-training"
    if run.results and run.results[0].probe:
        return "probe"
    if run.results and (splits := run.results[0].splits):  # which has no curves of its own
        kind = "fine-tuning" if "chosen" in run.results[0].weights else "evaluation"
        return f"{kind} of {len(splits)} splits"
    return "fine-tuning" if run.trained else "evaluation"


def _splits(
    run: RunRecord, result: Result | None, anchors: Mapping[Path, str]
) -> list[tuple[str, str | None]]:
    """Return the directories of the splits of a mean, each with its anchor if it is on the page."""
    numbers = [number for number in result.splits if number.isdecimal()] if result else []
    paths = [run.directory / f"split{number}" for number in numbers]
    return [(str(path), anchors.get(path.resolve())) for path in paths]


def _confusion(run: RunRecord, result: Result | None) -> tuple[NDArray[np.int64] | None, list[str]]:
    """(classes, classes + 1) videos by true and predicted class, the last column the unreadable
    ones; and the classes' names. None without predictions."""
    if result is None or not run.predictions:
        return None, []
    names = list(result.per_class)
    table = np.zeros((len(names), len(names) + 1), dtype=np.int64)
    for each in run.predictions:
        table[each.label, each.top[0].label if each.top else len(names)] += 1
    return table, names


def _confusion_table(counts: NDArray[np.int64] | None, names: Sequence[str]) -> dict[str, Any]:
    """The classes that test videos have or were taken for, as a table or as a picture."""
    if counts is None:
        return {}
    known = len(names)
    own = np.flatnonzero(counts[:, :-1].any(0) | counts.any(1)).tolist()
    counts, names = counts[np.ix_(own, [*own, known])], [names[label] for label in own]
    found = {"classes": len(own), "known": known}
    if len(own) > MOST_IN_TABLE:
        return found | {"picture": images.confusion_picture(counts[:, :-1])}
    columns = [*names, "unreadable"] if counts[:, -1].any() else list(names)
    shares = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
    lines = [
        (
            name,
            [
                (int(count), round(float(share)))
                for count, share in zip(counts[row], shares[row], strict=True)
            ][: len(columns)],
        )
        for row, name in enumerate(names)
    ]
    return found | {"columns": columns, "rows": lines}


def _pairs(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The pairs of a true and another predicted class with the most videos."""
    sizes = Counter(each.name for each in predictions)
    wrong = Counter(
        (each.name, each.top[0].name) for each in predictions if each.top and not each.correct
    )
    return [
        {"true": true, "taken": taken, "count": count, "of": sizes[true]}
        for (true, taken), count in wrong.most_common(PAIRS)
    ]


def _classes(result: Result | None, counts: NDArray[np.int64] | None) -> dict[str, Any]:
    """The classes, or the best and the worst of many, by accuracy."""
    if result is None:
        return {}
    found = []
    for label, (name, percent) in enumerate(result.per_class.items()):
        if percent is not None:
            own = None if counts is None else (int(counts[label, label]), int(counts[label].sum()))
            found.append({"name": name, "percent": percent, "counts": own})
    if not found:
        return {}
    found.sort(key=lambda each: -float(each["percent"]))  # type: ignore[arg-type]
    if len(found) <= 2 * CLASSES:
        return {"all": found}
    return {"best": found[:CLASSES], "worst": found[-CLASSES:][::-1], "number": len(found)}


def _sample(sample: Sample) -> dict[str, Any]:
    guesses = sample.prediction.top[:MOST_GUESSES]
    return {
        "prediction": sample.prediction,
        "guesses": _percent(guesses),
        "frames": [images.thumbnail(frame, THUMBNAIL) for frame in sample.frames],
        "error": sample.error,
    }


def _percent(guesses: Sequence[ClassProbability]) -> list[tuple[str, str]]:
    """Return names of classes and their probabilities in percent, with as many decimals, from one
    to three, as tell different ones apart."""
    different = len({guess.prob for guess in guesses})
    for decimals in (1, 2, 3):
        found = [(guess.name, f"{100 * guess.prob:.{decimals}f}") for guess in guesses]
        if len({percent for _, percent in found}) == different:
            break
    return found


def _sampled(run: RunRecord, samples: Sequence[Sample]) -> dict[str, int]:
    """Return the numbers of right and wrong videos, and of those that are shown."""
    readable = [each for each in run.predictions if each.readable]
    right = sum(each.correct for each in readable)
    shown = sum(each.prediction.correct for each in samples)
    return {
        "right": right,
        "wrong": len(readable) - right,
        "right_shown": shown,
        "wrong_shown": len(samples) - shown,
    }


def _quoted(run: RunRecord, result: Result | None) -> list[tuple[str, Any]]:
    """Return the settings of a run that the page shows: those that its command uses."""
    settings = all_settings(PretrainConfig) + all_settings(FinetuneConfig)
    used = {known.key for known in settings_in_use(_command_of(run, result))}
    found = {}
    for known in settings:
        value = run.setting(known.key)
        unchanged = known.rules.new and value == known.field.default
        if known.rules.on_page and known.key in used and not unchanged:
            found[known.key] = value
    return list(found.items())


def _command_of(run: RunRecord, result: Result | None) -> type:
    """Return the config class of the command that made a run."""
    if run.is_pretraining:
        return PretrainConfig
    if result and result.probe:
        return ProbeConfig
    tuned = run.trained or (result is not None and "chosen" in result.weights)
    return FinetuneConfig if tuned else EvaluateConfig


def _facts(run: RunRecord, result: Result | None) -> list[tuple[str, str]]:
    facts = _quoted(run, result)
    environment = run.environment
    facts += [(key, environment.get(key)) for key in ("commit", "device", "processes", "python")]
    versions = environment.get("versions")
    facts.append(("torch", versions.get("torch") if isinstance(versions, dict) else None))
    if result and "chosen_on" in result.weights:
        facts.append(("weights chosen on", result.weights["chosen_on"]))
    hashes = environment.get("sha256")
    hashes = dict(hashes) if isinstance(hashes, dict) else {}
    facts += [(f"sha256 of {name} (start of the run)", value) for name, value in hashes.items()]
    evaluated = result.sha256 if result else {}
    facts += [(f"sha256 of {name} (evaluated)", value) for name, value in evaluated.items()]
    return [(key, redacted(str(value))) for key, value in facts if value is not None]
