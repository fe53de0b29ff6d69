"""Cuts of a video, found frame by frame, and the pieces of a fixed duration.

By default cuts follow the rules of PySceneDetect's ContentDetector: the mean change of hue,
saturation and value from one frame to the next reaches a threshold, and cuts that follow each other
faster than the shortest scene are merged. The computation is our own, on pictures that are shrunk
for all scores at once: the library would decode each video a second time. tests/curate compares
both.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import cv2

from videomae.config import CutsConfig
from videomae.curate.picture import Colours, Picture

CONTENT, FIXED = "content", "fixed"
"""Values of the column cut_method."""


class Cut(NamedTuple):
    """A place at which a clip ends."""

    frame: int
    """The first frame that is not of the clip any more."""
    begins: bool = True
    """Whether the next clip begins with that frame; else the frames up to the next cut, those of a
    transition, are of no clip."""


class Cutter(Protocol):
    """Finder of the frames at which clips end and begin."""

    method: str
    """Name of the rule, for the column cut_method."""

    def add(self, picture: Picture, index: int, time_s: float) -> Sequence[Cut]:
        """Take the next frame; return the cuts that are settled by now, in order."""

    def finish(self) -> Sequence[Cut]:
        """Return the cuts that the end of the video settles."""

    @property
    def unsettled(self) -> int | None:
        """First frame at which there may still turn out to be a cut; None: there is none."""

    @property
    def last_change(self) -> int | None:
        """Last frame that differs much from the one before, whether or not it is a cut."""


class ContentChange:
    """Mean change of hue, saturation and value from one frame to the next."""

    def __init__(self) -> None:
        self.previous: Any = None

    def add(self, colours: Colours) -> float:
        """Return the change from the frame before, 0 to 255; 0 of the first frame."""
        present: Any = cv2.cvtColor(colours, cv2.COLOR_BGR2HSV)
        before, self.previous = self.previous, present
        if before is None:
            return 0.0
        sums = cv2.sumElems(cv2.absdiff(present, before))[:3]
        size = present.shape[0] * present.shape[1]
        return sum(each / size for each in sums) / 3


class CutFilter:
    """The rule that makes cuts of changes: those closer than `min_frames` are merged into one.

    A change that comes less than `min_frames` after the last one is no cut, but begins to merge.
    Merging ends with the first `min_frames` without a change, if it lasted that long itself: then
    there is a cut at the last change. Changes before the first cut are not merged.
    """

    def __init__(self, threshold: float, min_frames: int) -> None:
        self.threshold = threshold
        self.min_frames = min_frames
        self.last_change: int | None = None  # or the first frame
        self.merging_from: int | None = None
        self.has_cut = False

    def add(self, index: int, change: float) -> int | None:
        """Take the change of the next frame; return the frame of a cut, once that is settled."""
        changes = change >= self.threshold
        last = index if self.last_change is None else self.last_change
        calm = index - last >= self.min_frames
        self.last_change = index if changes else last
        if self.merging_from is not None:
            if calm and not changes and last - self.merging_from >= self.min_frames:
                self.merging_from = None
                return last
            return None
        if changes and calm:
            self.has_cut = True
            return index
        if changes and self.has_cut:
            self.merging_from = index
        return None

    @property
    def unsettled(self) -> int | None:
        """Last change, where merging may still end with a cut there; else None."""
        if self.merging_from is None or self.last_change is None:
            return None
        long = self.last_change - self.merging_from >= self.min_frames
        return self.last_change if long else None


class ContentCutter:
    """Cutter at changes of the content."""

    method = CONTENT

    def __init__(self, cuts: CutsConfig) -> None:
        self.change = ContentChange()
        self.filter = CutFilter(cuts.threshold, cuts.min_frames)

    def add(self, picture: Picture, index: int, time_s: float) -> Sequence[Cut]:
        found = self.filter.add(index, self.change.add(picture.colours))
        return () if found is None else (Cut(found),)

    def finish(self) -> Sequence[Cut]:
        return ()

    @property
    def unsettled(self) -> int | None:
        return self.filter.unsettled

    @property
    def last_change(self) -> int | None:
        return self.filter.last_change


class FixedCutter:
    """Cutter into pieces of one duration; the last one is what is left."""

    method = FIXED
    unsettled = None

    def __init__(self, cuts: CutsConfig) -> None:
        self.duration_s = cuts.fixed_s
        self.pieces = 1
        self.last_change: int | None = 0

    def add(self, picture: Picture, index: int, time_s: float) -> Sequence[Cut]:
        if time_s < self.pieces * self.duration_s - 1e-6:  # times are rounded
            return ()
        self.pieces = int((time_s + 1e-6) / self.duration_s) + 1
        self.last_change = index
        return (Cut(index),)

    def finish(self) -> Sequence[Cut]:
        return ()
