"""The content of results.json, checked: accuracies, or what else a head was judged by."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

MAP, MAE = "mean_average_precision", "mean_absolute_error"
HEADLINES = {MAP: "mean average precision, %", MAE: "mean absolute error"}
"""Results that are no accuracies, in words; those of others' heads go by their names."""
MOST_METRICS = 50
"""Largest number of metrics beside the headline that are read."""
BESIDE_METRICS = frozenset(
    ("views", "per_class", "per_value", "weights", "shared_with", "sha256", "splits")
)
"""Mappings of results.json that are no metrics of a head, or are read for themselves."""


class NotOursError(ValueError):
    """A file that holds something else than this project writes."""


@dataclass(frozen=True)
class Result:
    """results.json, or the entry of one probe in it; accuracies in percent."""

    top1: float | None
    """None, as the other accuracies: the head was not one of classes, see `headline`."""
    top5: float | None
    mean_class_accuracy: float | None
    num_videos: int
    num_unreadable: int
    views: str
    """segments x crops"""
    per_class: dict[str, float | None]
    interval: tuple[float, float] | None
    """Confidence interval of the top-1; None: an earlier file without one, or no top-1."""
    probe: str | None = None
    """Kind of the probe whose result it is; None: it is no probe's."""
    weights: dict[str, Any] = field(default_factory=dict)
    """Which were chosen in a fine-tuning, and how; of a mean of splits, those of its splits."""
    sha256: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    """Name of the data set; None: not recorded, as by earlier versions."""
    splits: dict[str, float] = field(default_factory=dict)
    """Top-1 of each split, where the result is a mean of splits."""
    shared: dict[str, int] = field(default_factory=dict)
    """Test videos that are in another list of the run too, by its setting."""
    headline: tuple[str, float] | None = None
    """Name and value of the result, where it is no accuracy."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The other metrics of such a head, by name; those of a mapping as NAME: KEY."""
    per_value: dict[str, float] = field(default_factory=dict)
    """Mean absolute error of each number of a regression."""
    num_forgotten: int = 0
    """Lines of the list that were left out, as tombstones name their videos."""

    @property
    def main(self) -> tuple[str, float]:
        """Name and value of the number that is compared."""
        if self.headline is not None:
            return HEADLINES.get(self.headline[0], self.headline[0]), self.headline[1]
        assert self.top1 is not None
        return "top-1", self.top1

    @classmethod
    def of(cls, entry: Mapping[str, Any], probe: str | None = None) -> "Result":
        """Check an entry.

        Raises:
            NotOursError: it is not what an evaluation writes.
        """
        try:
            bounds, headline = entry.get("top1_interval"), _headline(entry)
            return cls(
                top1=None if headline else float(entry["top1"]),
                top5=None if headline else float(entry["top5"]),
                mean_class_accuracy=None if headline else float(entry["mean_class_accuracy"]),
                num_videos=int(entry["num_videos"]),
                num_unreadable=int(entry["num_unreadable"]),
                views=f"{int(entry['views']['segments'])} x {int(entry['views']['crops'])}",
                per_class={
                    str(name): None if value is None else float(value)
                    for name, value in _per_class(entry, headline).items()
                },
                interval=None if bounds is None else (float(bounds[0]), float(bounds[1])),
                probe=probe,
                weights=_weights(entry),
                sha256={str(k): str(v) for k, v in entry.get("sha256", {}).items()},
                data=None if entry.get("data") is None else str(entry["data"]),
                splits={str(k): float(v["top1"]) for k, v in entry.get("splits", {}).items()},
                shared={str(k): int(v) for k, v in entry.get("shared_with", {}).items()},
                headline=headline,
                metrics=dict(islice(_metrics(entry), 1, MOST_METRICS + 1)) if headline else {},
                per_value={str(k): float(v) for k, v in entry.get("per_value", {}).items()},
                num_forgotten=int(entry.get("num_forgotten", 0)),
            )
        except KeyError as error:
            raise NotOursError(f"it has no {error}") from error
        except (TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
            raise NotOursError(str(error)) from error


def _weights(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return which weights were chosen; of a mean of splits, which in each, equal ones once."""
    if "weights" in entry:
        return dict(entry["weights"])
    every = [dict(split.get("weights", {})) for split in entry.get("splits", {}).values()]
    joined = {}
    for key in every[0] if every else ():
        values = [each[key] for each in every if key in each]
        same = all(value == values[0] for value in values)
        if len(values) == len(every):
            joined[key] = values[0] if same else ", ".join(map(str, values))
    return joined


def _per_class(entry: Mapping[str, Any], headline: object) -> Mapping[str, Any]:
    return entry.get("per_class", {}) if headline else entry["per_class"]


def _headline(entry: Mapping[str, Any]) -> tuple[str, float] | None:
    """The first number of results that hold no accuracies; None: they do, or hold none at all."""
    name, value = next(iter(entry.items()), ("", ""))
    return (str(name), float(value)) if "top1" not in entry and _is_finite(value) else None


def _metrics(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers that a head gave, the headline first: those before the counts of videos,
    and those in mappings, which results.json holds last."""
    for name, value in takewhile(lambda item: item[0] != "num_videos", entry.items()):
        if _is_finite(value):
            yield str(name), float(value)
    for name, mapping in entry.items():
        if isinstance(mapping, Mapping) and name not in BESIDE_METRICS:
            for key, value in mapping.items():
                if _is_finite(value):
                    yield f"{name}: {key}", float(value)


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
