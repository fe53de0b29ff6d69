"""The predictions of a run, read from its predictions.jsonl."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from videomae.lists.formats import Span, name_of
from videomae.report.results import NotOursError
from videomae.run.directory import RESULTS


class ClassProbability(NamedTuple):
    """A class and the probability that a model gives it."""

    label: int
    name: str
    prob: float


class Prediction(NamedTuple):
    """A line of predictions.jsonl: a test video and its most probable classes."""

    line: int
    """Line number of the video in the test list, from 1."""
    video: str
    label: int
    name: str
    """Name of the true class."""
    readable: bool
    top: list[ClassProbability]
    """Most probable classes, in order; empty for an unreadable video."""
    span: Span | None = None
    """Range of the video that was tested; None: all of it."""

    @property
    def shown(self) -> str:
        """The video as the page names it, with its range."""
        return name_of(self.video, self.span)

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the true one."""
        return bool(self.top) and self.top[0].label == self.label


def predictions_of(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[Prediction]:
    """Yield the predictions of the rows of predictions.jsonl.

    Args:
        names: names of all classes.

    Raises:
        NotOursError: a class has another name.
    """
    for row in rows:
        top = [
            ClassProbability(int(g["label"]), str(g["class"]), float(g["prob"])) for g in row["top"]
        ]
        own = int(row["label"]), str(row["class"])
        for label, name in (own, *((guess.label, guess.name) for guess in top)):
            if not 0 <= label < len(names) or names[label] != name:
                raise NotOursError(f"class {label} is not {name!r} in {RESULTS}")
        line, video, readable = int(row["line"]), str(row["video"]), bool(row["readable"])
        yield Prediction(line, video, *own, readable, top, _span(row))


def _span(row: Mapping[str, Any]) -> Span | None:
    """Return the range of a video in a row of predictions.jsonl; None: all of the video."""
    if "start_frame" not in row:
        return None
    end = row["end_frame"]
    return int(row["start_frame"]), None if end is None else int(end)
