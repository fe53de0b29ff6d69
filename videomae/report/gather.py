"""Reading of run directories for a report: results, curves, predictions, and what is missing."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from videomae.report.data_names import UnknownChoiceError, chosen_data, name_of_lists
from videomae.report.find import holds_run
from videomae.report.predicted import Prediction, predictions_of
from videomae.report.results import MAE, MAP, NotOursError, Result
from videomae.run.directory import (
    BAD_FILES,
    BEST_WEIGHTS,
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RESULTS,
    WARNINGS,
    WEIGHTS,
)
from videomae.run.files import parse_json, regular
from videomae.run.plain_yaml import plain_yaml
from videomae.run.sidefiles import (
    Check,
    is_any,
    is_metrics,
    is_number,
    is_warning,
    names_a_video,
    parse_rows,
)

CONFIG = "config.yaml"
CURVES = (
    *("loss", "lr", "val_top1", "val_top5", f"val_{MAP}", f"val_{MAE}"),
    *("knn_top1", "grad_norm"),
)
"""Names of the numbers of metrics.jsonl that are read for charts."""
MOST_WARNING = 1000
"""Largest number of characters of a warning that are read."""
MOST_WARNING_BYTES = 2**22
"""Largest size of a warnings.jsonl that is read."""
LONGEST_CHAIN = 10
"""Largest number of runs in a chain in which each starts from the weights of the next."""


class Point(NamedTuple):
    """A point of a curve: a logged number and its step."""

    step: int
    value: float | None
    """The number; None: it was not finite."""


class Warned(NamedTuple):
    """A warning of a training, and how often it was given."""

    step: int
    """Step of the first time."""
    last: int
    """Step of the last time."""
    times: int
    guard: str
    text: str
    setting: str
    """Setting to change."""


@dataclass
class RunRecord:
    """The content of a run directory, or of the directory of an evaluation or a probe."""

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    """Name of the data set, and its split."""
    results: list[Result] = field(default_factory=list)
    """Results: one of an evaluation, one for each kind of probe."""
    curves: dict[str, list[Point]] = field(default_factory=dict)
    progress: str = ""
    """Progress of the training in words: its state, step and epoch."""
    ended_early: bool = False
    """Whether max_steps ended the training before its last epoch; of an evaluation or a probe,
    whether the training of its weights ended so or is not finished."""
    predictions: list[Prediction] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """PNG pictures of figures/ that the report cannot draw from other files, by name."""
    bad: list[dict[str, Any]] = field(default_factory=list)
    """Rows of bad_files.jsonl: the unreadable videos."""
    warnings: list[Warned] = field(default_factory=list)
    """Warnings of the training, without repetitions."""
    missing: list[str] = field(default_factory=list)
    """Notes on missing files; each names the file."""
    damaged: list[str] = field(default_factory=list)
    """Notes on files that are damaged or not written by this project; each names the file."""

    @property
    def name(self) -> str:
        """Name of the run, or of its directory where the config gives none."""
        return str(self.config.get("name") or self.directory.resolve().name)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0: it is not known, or there are none."""
        if self.results and self.results[0].per_class:
            return len(self.results[0].per_class)
        classes = self.setting("data.classes")
        return classes if type(classes) is int else 0

    @property
    def is_pretraining(self) -> bool:
        """Whether the run is a pre-training, which has no labels."""
        return "mask" in self.config

    @property
    def trained(self) -> bool:
        """Whether the directory is that of a training run."""
        return os.path.isfile(self.directory / METRICS)

    @property
    def finished(self) -> bool:
        """Whether the training has ended, so that its weights were written."""
        return os.path.isfile(self.directory / WEIGHTS)

    def setting(self, key: str) -> Any:
        """Return the value of a setting of config.yaml by its dotted name; None if it has none."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def read_run(directory: Path) -> RunRecord:
    """Return the content of a run directory; missing and damaged files are noted, not errors."""
    run = RunRecord(directory)
    run.config = _mapping(run, CONFIG, plain_yaml)
    run.environment = _mapping(run, ENVIRONMENT, parse_json)
    run.bad = _rows(run, BAD_FILES, names_a_video)
    _read_warnings(run)
    _read_results(run)
    run.data = _data_name(run)
    _read_metrics(run)
    result = run.results[0] if run.results else None
    if result and result.splits:
        _read_splits(run, list(result.splits))
    if result and not (run.trained or "chosen" in result.weights):
        _read_source(run, result)
    if result and not (result.probe or result.headline or result.splits):
        _read_predictions(run, result)
        if not run.predictions:
            _read_picture(run, "confusion")
    if run.is_pretraining:
        _read_picture(run, "reconstruction")
    if os.path.lexists(directory / "figures" / "attention.png"):  # runs of before have none
        _read_picture(run, "attention")
    return run


def chain(run: RunRecord) -> list[Path]:
    """Return the directories of the runs whose weights led to this run, the nearest first."""
    found: list[Path] = []
    while (path := _source(run)) and len(found) < LONGEST_CHAIN:
        if not holds_run(path):
            break
        found.append(path)
        run = RunRecord(path)
        run.config = _mapping(run, CONFIG, plain_yaml)
    return found


def _mapping(run: RunRecord, name: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Return the mapping in a file; if there is none, an empty one, with a note in the record."""
    path = run.directory / name
    try:
        found = parse(regular(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        run.missing.append(f"{path} is not there")
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        run.damaged.append(f"{path} cannot be read: {reason}")
        return {}
    if not isinstance(found, dict) or not found:
        run.damaged.append(f"{path} is not what a run writes there")
        return {}
    return found


def _rows(run: RunRecord, name: str, check: Check = is_any) -> list[dict[str, Any]]:
    """Return the undamaged objects of a .jsonl file; damaged lines are noted in the record."""
    path = run.directory / name
    if not os.path.isfile(path):
        return []
    try:
        rows = parse_rows(path, check)
    except OSError as error:
        run.damaged.append(f"{path} cannot be read: {error}")
        return []
    if rows.num_bad:
        run.damaged.append(
            f"{path}: line {rows.first_bad} is damaged; {rows.num_bad} lines are left out"
        )
    if rows.cut:
        run.damaged.append(f"{path}: line {len(rows.good) + rows.num_bad + 1} is cut off")
    return rows.good


def _data_name(run: RunRecord) -> str:
    """Return the name of the data set and its split.

    It is the name that the results hold, else NAME of data=NAME unless its classes were replaced,
    else the name of the folder of videos, of the prepared directory or of the list.
    """
    name = run.results[0].data if run.results else None
    if name is None:
        try:
            name = chosen_data(run.directory)
        except UnknownChoiceError as error:
            run.damaged.append(str(error))
        if videos := run.setting("data.videos"):
            name = Path(str(videos)).name
        name = name or name_of_lists(run.setting)
    split = run.setting("data.split")
    return name if split is None else f"{name}, split {split}"


def _read_results(run: RunRecord) -> None:
    path = run.directory / RESULTS
    if not os.path.isfile(path):
        if not run.is_pretraining:
            run.missing.append(f"{path} is not there: not evaluated yet")
        return
    entry = _mapping(run, RESULTS, parse_json)
    try:
        if entry and "top1" not in entry and all(isinstance(e, dict) for e in entry.values()):
            run.results = [Result.of(each, probe=name) for name, each in entry.items()]
        elif entry:
            run.results = [Result.of(entry)]
    except NotOursError as error:
        run.damaged.append(f"{path} is not what an evaluation writes: {error}")


def _read_metrics(run: RunRecord) -> None:
    rows = _rows(run, METRICS, is_metrics)
    for name in CURVES:
        points = [
            Point(row["step"], _finite(row[name]))
            for row in rows
            if name in row and (row[name] is None or is_number(row[name]))
        ]
        if points:
            run.curves[name] = points
    if not rows:
        if run.trained:
            run.missing.append(f"{run.directory / METRICS} holds no step yet")
        return
    epochs = [row["epoch"] for row in rows if is_number(row.get("epoch"))]
    of = run.setting("optim.epochs")
    of = of if isinstance(of, int) else None
    reached = f", epoch {epochs[-1]:.4g} of {of}" if epochs and of else ""
    state = "finished" if run.finished else "not finished"
    run.ended_early = bool(run.finished and epochs and of and epochs[-1] < of)
    if run.ended_early:
        state = f"ended by max_steps={run.setting('max_steps')}"
    run.progress = f"{state}: step {rows[-1]['step']:,}{reached}"


def _read_splits(run: RunRecord, numbers: Sequence[str]) -> None:
    """Note of the runs of some splits which ended early, as the progress of all."""
    ended = {}
    for number in numbers:
        split = _trained_run(run.directory / f"split{number}")
        if split.ended_early:
            ended[number] = split
    if len(ended) == 1:
        ((number, split),) = ended.items()
        run.progress = f"split {number} {split.progress}"
    elif ended:
        steps = dict.fromkeys(str(split.setting("max_steps")) for split in ended.values())
        every = len(ended) == len(numbers)
        which = "each split" if every else f"splits {', '.join(ended)}"
        run.progress = f"{which} ended by max_steps={' or '.join(steps)}"
    run.ended_early = bool(ended)


def _read_source(run: RunRecord, result: Result) -> None:
    """Note of an evaluation or a probe that the training of its weights did not come to its end."""
    path = _source(run)
    if path is None:
        return
    source = _trained_run(path)
    if result.splits:
        _read_splits(source, list(result.splits))
    if source.ended_early or (source.progress and not source.finished):
        run.ended_early, run.progress = True, f"the training of its weights: {source.progress}"


def _trained_run(directory: Path) -> RunRecord:
    """Return the config and the progress of a run; what is missing there is not told."""
    run = RunRecord(directory)
    run.config = _mapping(run, CONFIG, plain_yaml)
    _read_metrics(run)
    return run


def _source(run: RunRecord) -> Path | None:
    """Return the directory whose weights a run started from, or used; None: it has no weights."""
    weights = run.setting("weights")
    path = Path(str(weights))
    if not weights:
        return None
    return path.parent if path.name in (WEIGHTS, BEST_WEIGHTS) else path


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _read_predictions(run: RunRecord, result: Result) -> None:
    path = run.directory / PREDICTIONS
    if not os.path.isfile(path):
        run.missing.append(f"{path} is not there: evaluate the weights again to see single videos")
        return
    try:
        run.predictions = list(predictions_of(_rows(run, PREDICTIONS), list(result.per_class)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        run.damaged.append(f"{path} is not what an evaluation writes: {error!r}")
        return
    if len(run.predictions) != result.num_videos:
        run.damaged.append(
            f"{path} holds {len(run.predictions)} videos, {RESULTS} {result.num_videos}: not used"
        )
        run.predictions = []


def _read_warnings(run: RunRecord) -> None:
    """Read warnings.jsonl, which guards write during the training."""
    path = run.directory / WARNINGS
    if os.path.isfile(path) and path.stat().st_size > MOST_WARNING_BYTES:
        run.damaged.append(f"{path} is larger than a run writes it: not read")
        return
    found: dict[tuple[str, str], Warned] = {}
    for row in _rows(run, WARNINGS, is_warning):
        key = row["guard"], row["text"]
        if key in found:
            found[key] = found[key]._replace(times=found[key].times + 1, last=row["step"])
        else:
            texts = (row[name][:MOST_WARNING] for name in ("guard", "text", "setting"))
            found[key] = Warned(row["step"], row["step"], 1, *texts)
    run.warnings = list(found.values())


def _read_picture(run: RunRecord, name: str) -> None:
    path = run.directory / "figures" / f"{name}.png"
    try:
        content = regular(path).read_bytes()
    except OSError:
        run.missing.append(f"{path} is not there")
        return
    if content.startswith(b"\x89PNG"):
        run.pictures[name] = content
    else:
        run.damaged.append(f"{path} is no PNG picture")
