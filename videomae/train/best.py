"""The best evaluation of a fine-tuning on data.val_list, and its weights."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from videomae.model.classifier import VideoClassifier
from videomae.run.directory import BEST, BEST_WEIGHTS, METRICS, WEIGHTS
from videomae.run.files import write_text
from videomae.run.log import logged
from videomae.run.record import made
from videomae.run.sidefiles import VALIDATION, is_best, is_metrics, mended_object, read_rows
from videomae.weights.formats import read_weights
from videomae.weights.load import load_all
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import WeightsInfo, save_weights


class Best(NamedTuple):
    """An evaluation, which may be the best."""

    step: int
    name: str
    """Name of its headline number in the metrics, such as val_top1."""
    value: float
    lower_is_better: bool

    @classmethod
    def of(cls, values: Mapping[str, float], step: int, *, lower_is_better: bool) -> "Best":
        """Make it of the numbers that a head computed for a list; the first one is the headline."""
        name, value = next(iter(values.items()))
        return cls(step, VALIDATION + name, value, lower_is_better)

    def offer(self, directory: Path, model: VideoClassifier, info: WeightsInfo) -> bool:
        """Keep the weights of this evaluation if it is the best so far; whether it is.

        One that a run remembers from after `step` is of a future that it has left.
        """
        best = best_of(directory, lower_is_better=self.lower_is_better)
        if best and best["step"] < self.step:
            before = best[self.name]
            if before <= self.value if self.lower_is_better else before >= self.value:
                return False
        file = made(directory, BEST_WEIGHTS)
        save_weights(file, model.state_dict(), replace(info, step=self.step))
        found = {"step": self.step, self.name: self.value}
        write_text(made(directory, BEST), json.dumps(found) + "\n")
        return True


def best_of(directory: Path, *, lower_is_better: bool) -> dict[str, Any]:
    """Step and headline of the best evaluation of a run, if there was one.

    Where best.json is damaged, the metrics say it again.
    """
    path = directory / BEST
    there = path.exists()
    best = mended_object(path, is_best)
    if best is not None or not there:
        return best or {}
    rows = read_rows(directory / METRICS, is_metrics)
    names = [name for row in rows for name in row if name.startswith(VALIDATION)]
    steps, values = logged(directory, names[0]) if names else ([], [])
    if not values:
        return {}
    value = min(values) if lower_is_better else max(values)
    best = {"step": steps[values.index(value)], names[0]: value}
    write_text(path, json.dumps(best) + "\n")
    return best


def load_best(model: VideoClassifier, file: Path) -> None:
    """Fill a model with the best weights of a run that has ended.

    Raises:
        WeightsError: they are missing, damaged or others.
    """
    try:
        load_all(model, read_weights(file))
    except WeightsError as error:
        raise WeightsError(
            f"the best weights of this run, {file}, cannot be used ({error}). Its training is "
            f"done: put that file back and go on by resume=auto, or test the last weights, "
            f"{file.with_name(WEIGHTS)}, by resume=auto test_weights=last"
        ) from error
