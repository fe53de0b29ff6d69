"""Search for the directories of runs, evaluations and probes that a report is asked for."""

import os
from collections.abc import Iterator, Sequence
from glob import escape, glob
from pathlib import Path

from videomae.config import ConfigError
from videomae.run.directory import METRICS, RESULTS

EVALUATION = "evaluation"
"""Folder below outputs/NAME in which evaluate writes, where no output_dir is given."""
MOST_NAMED = 3
"""Largest number of paths that an error names."""


def find_runs(patterns: str | Sequence[str]) -> list[Path]:
    """Return the directories with a run or an evaluation, each once, in the order of the patterns.

    Args:
        patterns: such directories or their results.json, or globs of these; a text that is not one
            itself may hold several, with commas between them. A directory stands for the run in it,
            or for its splits if their mean is not there yet, and for the evaluation below it.

    Raises:
        ConfigError: a pattern matches nothing, or nothing that holds a run.
    """
    if isinstance(patterns, str):
        patterns = [patterns] if os.path.exists(patterns) else patterns.split(",")
    found: dict[Path, Path] = {}
    for pattern in (pattern.strip() for pattern in patterns):
        itself = [pattern] if os.path.exists(pattern) else []
        matches = [Path(match) for match in itself or sorted(glob(pattern, recursive=True))]
        runs = [run for path in matches for run in _runs_of(path)]
        if not matches:
            raise ConfigError(
                f"runs={pattern} matches nothing: give run directories or their {RESULTS}, as a "
                "quoted glob such as runs='outputs/*'"
            )
        if not runs:
            below = [run for path in matches for run in _runs_below(path)]
            hint = f"; give those below: {_some(below)}" if below else ""
            raise ConfigError(
                f"runs={pattern} matches {_some(matches)}, which hold no run: neither {RESULTS} "
                f"nor {METRICS}{hint}"
            )
        for path in runs:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def holds_run(directory: Path) -> bool:
    """Return whether a directory holds metrics of a run, or results."""
    return any(os.path.isfile(directory / name) for name in (RESULTS, METRICS))


def _runs_of(path: Path) -> Iterator[Path]:
    """Yield the directories for which a match stands."""
    if path.name == RESULTS:
        path = path.parent
        if holds_run(path):
            yield path
        return
    for directory in (path, path / EVALUATION):
        if holds_run(directory):
            yield directory
        else:  # a run over every split that has not come to its mean
            for split in sorted(glob(f"{escape(str(directory))}/split[0-9]*")):
                if holds_run(Path(split)):
                    yield Path(split)


def _runs_below(path: Path) -> Iterator[Path]:
    """Yield the runs in the folders of a directory, and in theirs."""
    for pattern in ("*", "*/*"):
        for each in sorted(glob(f"{escape(str(path))}/{pattern}")):
            if holds_run(Path(each)):
                yield Path(each)


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:MOST_NAMED])) + (" ..." if len(paths) > MOST_NAMED else "")
