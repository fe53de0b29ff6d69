"""What run directories hold: results, curves, predictions, and what of it is missing or damaged."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from videomae.config import ConfigError
from videomae.report.plain_yaml import plain_yaml
from videomae.report.results import MAE, MAP, NotOursError, Result
from videomae.run.directory import (
    BAD_FILES,
    BEST_WEIGHTS,
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RESULTS,
    WEIGHTS,
)
from videomae.run.files import parse_json, regular
from videomae.run.sidefiles import (
    Check,
    is_any,
    is_metrics,
    is_number,
    names_a_video,
    parse_rows,
)

CONFIG = "config.yaml"
CURVES = (
    *("loss", "lr", "val_top1", "val_top5", f"val_{MAP}", f"val_{MAE}"),
    *("knn_top1", "grad_norm"),
)
"""Numbers of metrics.jsonl that are drawn."""
LONGEST_CHAIN = 10
"""Runs that start from one another's weights; more is a circle."""


class Point(NamedTuple):
    """A logged number."""

    step: int
    value: float | None
    """None: it was not finite."""


class Guess(NamedTuple):
    """A class that a model holds possible."""

    label: int
    name: str
    prob: float


class Prediction(NamedTuple):
    """A line of predictions.jsonl."""

    line: int
    """Of the test list, from 1."""
    video: str
    label: int
    name: str
    """Of the true class."""
    readable: bool
    top: list[Guess]
    """Most probable first; none of an unreadable video."""

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the true one."""
        return bool(self.top) and self.top[0].label == self.label


@dataclass
class Run:
    """A run directory, or that of an evaluation."""

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    """The data set's name."""
    results: list[Result] = field(default_factory=list)
    """One; several of a probe."""
    curves: dict[str, list[Point]] = field(default_factory=dict)
    progress: str = ""
    """How far the training came."""
    predictions: list[Prediction] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Those of figures/ that show what nothing else tells: PNG, by name."""
    bad: list[dict[str, Any]] = field(default_factory=list)
    """Unreadable videos."""
    missing: list[str] = field(default_factory=list)
    """What is not there, naming the file."""
    damaged: list[str] = field(default_factory=list)
    """What cannot be read, or is not ours, naming the file."""

    @property
    def name(self) -> str:
        """The run's own, else its directory's."""
        return str(self.config.get("name") or self.directory.resolve().name)

    @property
    def is_pretraining(self) -> bool:
        """Whether its training had no labels."""
        return "mask" in self.config

    @property
    def trained(self) -> bool:
        """Whether the directory is that of a training run."""
        return os.path.isfile(self.directory / METRICS)

    @property
    def finished(self) -> bool:
        """Whether its training has come to its end."""
        return os.path.isfile(self.directory / WEIGHTS)

    def setting(self, key: str) -> Any:
        """Of config.yaml, by its dotted name; None where it is not there."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def find_runs(patterns: str | Sequence[str]) -> list[Path]:
    """The directories that hold a run or an evaluation, each once, in the order of the patterns.

    Args:
        patterns: globs of such directories or of their results.json; a text may hold several,
            with commas between them.

    Raises:
        ConfigError: a pattern matches nothing, or nothing that holds a run.
    """
    if isinstance(patterns, str):
        patterns = patterns.split(",")
    found: dict[Path, Path] = {}
    for pattern in (pattern.strip() for pattern in patterns):
        matches = [Path(match) for match in sorted(glob(pattern, recursive=True))]
        runs = [path.parent if path.name == RESULTS else path for path in matches]
        runs = [path for path in runs if os.path.isdir(path) and holds_run(path)]
        if not matches:
            raise ConfigError(
                f"runs={pattern} matches nothing: give run directories or their {RESULTS}, as a "
                "quoted glob such as runs='outputs/*'"
            )
        if not runs:
            some = ", ".join(map(str, matches[:3])) + (" ..." if len(matches) > 3 else "")
            raise ConfigError(
                f"runs={pattern} matches {some}, which hold no run: neither {RESULTS} nor {METRICS}"
            )
        for path in runs:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def holds_run(directory: Path) -> bool:
    """Whether there is something to report."""
    return any(os.path.isfile(directory / name) for name in (RESULTS, METRICS))


def read_run(directory: Path) -> Run:
    """All that a directory says; nothing that is wrong with it is an error."""
    run = Run(directory)
    run.config = _mapping(run, CONFIG, plain_yaml)
    run.environment = _mapping(run, ENVIRONMENT, parse_json)
    run.data = _data_name(run)
    run.bad = _rows(run, BAD_FILES, names_a_video)
    _read_results(run)
    _read_metrics(run)
    if run.results and not run.results[0].probe and run.results[0].headline is None:
        _read_predictions(run, run.results[0])
        if not run.predictions:
            _read_picture(run, "confusion")
    if run.is_pretraining:
        _read_picture(run, "reconstruction")
    return run


def chain(run: Run) -> list[Path]:
    """The run directories whose weights this one started from, the nearest first."""
    found: list[Path] = []
    while (source := run.setting("weights")) and len(found) < LONGEST_CHAIN:
        path = Path(str(source))
        path = path.parent if path.name in (WEIGHTS, BEST_WEIGHTS) else path
        if not holds_run(path):
            break
        found.append(path)
        run = Run(path)
        run.config = _mapping(run, CONFIG, plain_yaml)
    return found


def _mapping(run: Run, name: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    """The mapping that a file holds; empty, and noted, where it does not."""
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


def _rows(run: Run, name: str, check: Check = is_any) -> list[dict[str, Any]]:
    """The objects of a .jsonl file, less those of damaged lines, which are noted."""
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


def _data_name(run: Run) -> str:
    """The data set as data=NAME chose it, and its split; else the name of its
    prepared directory, or of its list."""
    path = run.directory / ".hydra" / "hydra.yaml"
    name = None
    if os.path.isfile(path):
        try:
            name = plain_yaml(regular(path).read_text())["hydra"]["runtime"]["choices"]["data"]
        except (OSError, LookupError, ValueError, TypeError, RecursionError, yaml.YAMLError):
            run.damaged.append(f"{path} does not say which data were chosen")
    if name in (None, "custom"):
        prepared, test_list = run.setting("data.prepared"), run.setting("data.test_list")
        file = prepared or test_list or run.setting("data.train_list")
        name = Path(str(file)).stem if file else name or ""
    split = run.setting("data.split")
    return str(name) if split is None else f"{name}, split {split}"


def _read_results(run: Run) -> None:
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


def _read_metrics(run: Run) -> None:
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
    if run.finished and epochs and of and epochs[-1] < of:
        state = f"ended by max_steps={run.setting('max_steps')}"
    run.progress = f"{state}: step {rows[-1]['step']:,}{reached}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _read_predictions(run: Run, result: Result) -> None:
    path = run.directory / PREDICTIONS
    if not os.path.isfile(path):
        run.missing.append(f"{path} is not there: evaluate the weights again to see single videos")
        return
    try:
        run.predictions = list(_predictions(_rows(run, PREDICTIONS), list(result.per_class)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        run.damaged.append(f"{path} is not what an evaluation writes: {error!r}")
        return
    if len(run.predictions) != result.num_videos:
        run.damaged.append(
            f"{path} holds {len(run.predictions)} videos, {RESULTS} {result.num_videos}: not used"
        )
        run.predictions = []


def _read_picture(run: Run, name: str) -> None:
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


def _predictions(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[Prediction]:
    for row in rows:
        top = [Guess(int(g["label"]), str(g["class"]), float(g["prob"])) for g in row["top"]]
        own = int(row["label"]), str(row["class"])
        for label, name in (own, *((guess.label, guess.name) for guess in top)):
            if not 0 <= label < len(names) or names[label] != name:
                raise NotOursError(f"class {label} is not {name!r} in {RESULTS}")
        yield Prediction(int(row["line"]), str(row["video"]), *own, bool(row["readable"]), top)
