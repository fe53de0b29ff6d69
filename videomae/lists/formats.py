"""The formats of clip lists: one line of text to a Clip. Add one here, and to ListFormat.

    auto                  no whole number at the end: video; one: video_label; 0 -1: that of V2
    video                 path
    video_label           path label
    video_start_total     path 0 -1              (VideoMAE V2's pre-training lists)
    frames_start_total    folder start total     (a folder of frames, the number of its first one)
    frames_total_label    folder total label     (a folder of frames)
    video_labels          path 3,17              (several classes; - for none)
    video_values          path 0.5,-2            (numbers)

The last two are never guessed. Paths may hold spaces. Blank lines and lines that start with "# "
(hash, space) are skipped; "#basketball/x.mp4" is a path.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videomae.config import DataConfig, ListFormat, UserError
from videomae.config.settings import dotted
from videomae.lists.targets import MEANT, TARGETS

FORMS = {
    ListFormat.video: "path",
    ListFormat.video_label: "path label",
    ListFormat.video_start_total: "path 0 -1",
    ListFormat.frames_start_total: "folder start total",
    ListFormat.frames_total_label: "folder total label",
    ListFormat.video_labels: "path 3,17",
    ListFormat.video_values: "path 0.5,-2",
}
NUMBERS = {  # how many whole numbers end a line
    ListFormat.video: 0,
    ListFormat.video_label: 1,
    ListFormat.video_start_total: 2,
    ListFormat.frames_start_total: 2,
    ListFormat.frames_total_label: 2,
}
MOST_SHOWN = 200
"""Characters of a line that a message shows."""


Span = tuple[int, int | None]
"""Range of frames: the first, from 0, and the one after the last; None: the end of the video."""


def name_of(path: str, span: Span | None) -> str:
    """Return the path of a video, and the range of its frames if it is one, for messages."""
    return path if span is None else f"{path} ({span_told(span)})"


def span_told(span: Span) -> str:
    """Return a range of frames in words, for messages."""
    start, end = span
    return f"frames {start} to {'the end' if end is None else end}"


class ClipListError(UserError):
    """A clip list that is missing, empty or malformed."""


class Clip(NamedTuple):
    """One line of a clip list: a video, a range of one, or a folder of frames."""

    path: str
    """As the list has it, relative to the root."""
    line: int
    """Number of its line in the list, or of its row in a Parquet file, from 1."""
    label: int | None = None
    start: int | None = None
    """Number of the first frame of a frame folder. None: a video file."""
    total: int | None = None
    """Number of frames of a frame folder. None: all that are there, or a video file."""
    source: str = "data"
    """The section of the config that its list stands in; see DataConfig.parts."""
    target: str = ""
    """The last field of a line of video_labels or video_values; see videomae.lists.targets."""
    start_frame: int = 0
    """First frame of a video file that belongs to the clip, from 0."""
    end_frame: int | None = None
    """Frame of a video file that ends the clip, and is no part of it. None: the file's end."""
    forgotten: bool = False
    """Whether a tombstone names the video, so that it must not be opened."""

    @property
    def span(self) -> Span | None:
        """The range of a video file that the clip is; None: all of it, or a frame folder."""
        whole = self.start_frame == 0 and self.end_frame is None
        return None if whole else (self.start_frame, self.end_frame)

    @property
    def name(self) -> str:
        """The path, and the range of the video's frames if it is one, for messages."""
        return name_of(self.path, self.span)


def parse_line(line: str, number: int, path: Path, data: DataConfig, section: str) -> Clip:
    """One line of the list at `path`, which is used in messages only."""
    fields, form = line.strip(), data.list_format
    if form in TARGETS:
        words = fields.rsplit(maxsplit=1)
        if len(words) < 2 or not re.fullmatch(TARGETS[form], words[1]):
            raise ClipListError(
                f"{path}:{number}: expected {FORMS[form]!r}, {MEANT[form]}, got {short(line)}"
            )
        return Clip(words[0], number, source=section, target=words[1])
    numbers = _trailing_integers(fields)
    if form is ListFormat.auto:
        if len(numbers) >= 2 and numbers[-2:] != [0, -1]:
            raise ClipListError(
                f"{path}:{number}: {short(line)} ends in two whole numbers, which can mean "
                f"several things; set {dotted(section, 'list_format')} to one of "
                f"{all_forms()}"
            )
        official = len(numbers) >= 2
        form = ListFormat.video_start_total if official else AUTO_FORMS[len(numbers)]
    count = NUMBERS[form]
    words = fields.rsplit(maxsplit=count)
    malformed = ClipListError(f"{path}:{number}: expected {FORMS[form]!r}, got {short(line)}")
    if len(words) != count + 1 or len(numbers) < count:
        raise malformed
    clip, values = words[0], numbers[len(numbers) - count :]
    match form:
        case ListFormat.video_label:
            return Clip(clip, number, label=values[0], source=section)
        case ListFormat.video_start_total:
            if values[1] >= 0:
                raise ClipListError(
                    f"{path}:{number}: a total of {values[1]} frames means a folder of frames, "
                    f"got {short(line)}; set {dotted(section, 'list_format')}="
                    "frames_start_total, or write 0 -1"
                )
            return Clip(clip, number, source=section)
        case ListFormat.frames_start_total | ListFormat.frames_total_label:
            started = form is ListFormat.frames_start_total
            start = values[0] if started else data.first_frame
            total = values[1] if started else values[0]
            if total < 1 or start < 0:
                raise malformed
            label = None if started else values[1]
            return Clip(clip, number, label, start, total, section)
        case _:
            return Clip(clip, number, source=section)


AUTO_FORMS = (ListFormat.video, ListFormat.video_label)


def _trailing_integers(text: str) -> list[int]:
    """The whole numbers that end a line, after a path."""
    words: Sequence[str] = text.split()
    numbers: list[int] = []
    for word in reversed(words[1:]):
        if not re.fullmatch(r"-?\d{1,18}", word):  # what fits into 64 bits
            break
        numbers.insert(0, int(word))
    return numbers


def all_forms() -> str:
    """Return the name and the form of every format, for messages."""
    return ", ".join(f"{form.name} ({text!r})" for form, text in FORMS.items())


def short(line: str) -> str:
    """A line as a message shows it."""
    return repr(line) if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]!r} ..."
