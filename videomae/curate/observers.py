"""Observers: what is computed of each clip while its video is decoded, once, for all of them.

An observer is made for each clip and gets its frames one by one. OBSERVERS lists the classes; each
adds columns to the table, or to the side files that hold thumbnails and the like by clip_id.
"""

from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
import pyarrow as pa

from videomae.curate.fingerprint import Fingerprinter
from videomae.curate.picture import Picture, scaled
from videomae.curate.scores import Bars, Light, Motion, Sharpness, Stillness


class Observer(Protocol):
    """A computation over the frames of one clip; a class that is made without arguments."""

    columns: ClassVar[dict[str, Any]]
    """Names and Arrow types of the columns that it fills."""
    in_table: ClassVar[bool]
    """Whether the columns are those of the table; else they go to the side files."""

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        """Take the next frame of the clip.

        Args:
            picture: the frame, small and upright; frames with a `detail`, about two a second, are
                those to sample.
            index: number of the frame in its video, from 0.
            time_s: time of the frame after the video's first one, in seconds.
        """

    def finish(self) -> dict[str, Any]:
        """Return the value of each column; None where it could not be measured."""


class Thumbnail:
    """The sampled frame nearest to the middle of the clip, as a small JPEG."""

    columns: ClassVar[dict[str, Any]] = {"thumbnail": pa.binary()}
    in_table: ClassVar[bool] = False
    long_side = 160
    """Long side of a thumbnail, in pixels."""
    apart_s = 1.0
    """Seconds between two frames that may become the thumbnail."""
    quality = 80
    """Quality of the JPEG, 1 to 100."""

    def __init__(self) -> None:
        self.found: list[tuple[int, bytes]] = []
        self.first = self.last = 0
        self.sampled_s = -np.inf

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        self.first = self.first if self.found else index
        self.last = index
        if picture.detail is None or time_s < self.sampled_s + self.apart_s:
            return
        self.sampled_s = time_s
        height, width = picture.detail.shape[:2]
        size = scaled((width, height), self.long_side)
        small = cv2.resize(picture.detail, size, interpolation=cv2.INTER_AREA)
        _, code = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        self.found.append((index, code.tobytes()))

    def finish(self) -> dict[str, Any]:
        middle = (self.first + self.last) / 2
        nearest = min(self.found, key=lambda each: abs(each[0] - middle), default=None)
        return {"thumbnail": nearest and nearest[1]}


class Signature:
    """The fingerprint by which copies of the clip are found, as bytes; of its small pictures."""

    columns: ClassVar[dict[str, Any]] = {"fingerprint": pa.binary()}
    in_table: ClassVar[bool] = False

    def __init__(self) -> None:
        self.maker = Fingerprinter()

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        if self.maker.wants(time_s):
            self.maker.add(picture.luma, index, time_s)

    def finish(self) -> dict[str, Any]:
        return {"fingerprint": self.maker.finish().to_bytes()}


OBSERVERS: tuple[type[Observer], ...] = (
    *(Light, Sharpness, Bars, Motion, Stillness, Thumbnail),
    Signature,
)
"""The observers of every clip."""


def side_columns() -> dict[str, Any]:
    """Return names and Arrow types of the columns of the side files."""
    found: dict[str, Any] = {}
    for kind in OBSERVERS:
        found |= {} if kind.in_table else kind.columns
    return found
