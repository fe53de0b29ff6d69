"""The training run whose weights are evaluated: its directory, its name and its lists."""

from dataclasses import replace
from pathlib import Path

from videomae.config import EvaluateConfig
from videomae.lists.prepared import ALL, FILE_NAME, OWN_LISTS
from videomae.run.directory import BEST_WEIGHTS, METRICS, WEIGHTS
from videomae.run.given import Given

UNNAMED = EvaluateConfig.name
"""Name of an evaluation that neither the command line nor an exp names."""
BESIDE = "evaluation"
"""Folder of an evaluation in the directory of the run whose weights it evaluates."""


def run_of_weights(config: EvaluateConfig) -> Path | None:
    """Return the directory of the run that wrote the weights; None if they lie in no such one.

    With data.split=all, it is the directory that holds the runs of the splits.
    """
    if config.weights is None:
        return None
    path = Path(config.weights)
    if path.name in (WEIGHTS, BEST_WEIGHTS):
        path = path.parent
    if config.data.split == ALL:
        return path if any(path.glob(f"split*/{METRICS}")) else None
    return path if (path / METRICS).is_file() else None


def beside_its_run(config: EvaluateConfig, told: Given) -> EvaluateConfig:
    """Return the config with the name of the run and the folder for evaluations in its directory.

    A config that has a name or an output_dir of its own stays, as does one whose weights lie in no
    run.

    Args:
        told: what the command line gave.
    """
    directory = run_of_weights(config)
    named = told.itself("name") or config.name != UNNAMED
    placed = told.itself("output_dir") or config.output_dir != f"outputs/{UNNAMED}/{BESIDE}"
    if directory is None or named or placed:
        return config
    name = directory.resolve().name or UNNAMED
    return replace(config, name=name, output_dir=str(directory / BESIDE))


def lists_of_run(config: EvaluateConfig) -> Path | None:
    """Return the folder of lists that the run of the weights made; None if it made none."""
    directory = run_of_weights(config)
    if directory is None or not (directory / OWN_LISTS / FILE_NAME).is_file():
        return None
    return directory / OWN_LISTS
