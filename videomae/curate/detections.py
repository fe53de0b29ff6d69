"""Boxes that a detector has found in frames, and the scores of a clip that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from videomae.config import PersonsConfig
from videomae.curate.picture import scaled
from videomae.video.interface import Frames

COLUMNS = {
    "person_frames_fraction": pa.float64(),
    "person_max_height": pa.float64(),
    "faces_max": pa.int64(),
}
"""Columns of stage persons."""
THUMBNAIL = "thumbnail"
LONG_SIDE = 160
"""Long side of a thumbnail, in pixels, as those of stage measure have it."""
QUALITY = 80
"""Quality of a thumbnail's JPEG, 1 to 100."""
MARGIN = 0.2
"""Share of a face's width and height by which the blurred box is larger, on each side."""
BLURRED = 3
"""Number of patches across a blurred face, in both directions."""


@dataclass(frozen=True)
class FrameDetections:
    """Boxes of one frame."""

    boxes: NDArray[np.float64]
    """(N, 4): left, top, right and bottom, as shares of the frame's width and height."""
    labels: Sequence[str]
    """Name of the class of each box."""

    def of(self, label: str) -> NDArray[np.float64]:
        """Return the boxes of one class, cut off at the frame's borders."""
        chosen = np.array([name == label for name in self.labels], bool)
        boxes: NDArray[np.float64] = self.boxes.reshape(-1, 4)[chosen].clip(0, 1)
        return boxes


class Detector(Protocol):
    """A model that finds objects in frames."""

    architecture: str
    """Name of the detector's architecture."""
    labels: list[str]
    """Names of the classes that it can find."""

    def detect(self, frames: Frames) -> list[FrameDetections]:
        """Return what is found in each frame, (T, H, W, 3) uint8 RGB, with a score that counts."""


def scores_of(
    found: Sequence[FrameDetections], config: PersonsConfig, *, faces: bool
) -> dict[str, Any]:
    """Return the columns of a clip.

    Args:
        found: what was found in each of its frames, at least one.
        faces: whether the detector knows faces.
    """
    persons = [each.of(config.label) for each in found]
    heights = [float((boxes[:, 3] - boxes[:, 1]).max()) for boxes in persons if len(boxes)]
    return {
        "person_frames_fraction": len(heights) / len(found),
        "person_max_height": round(max(heights, default=0.0), 6),
        "faces_max": max(len(each.of(config.face_label)) for each in found) if faces else None,
    }


def middle_of(numbers: Sequence[int], num_frames: int) -> int:
    """Return the index of the frame nearest to the middle of a clip, of frames by their numbers."""
    return min(range(len(numbers)), key=lambda place: abs(2 * numbers[place] + 1 - num_frames))


def blurred_thumbnail(frame: NDArray[np.uint8], faces: NDArray[np.float64]) -> bytes:
    """Return a frame as a small JPEG in which faces are not to be recognised.

    Args:
        frame: (H, W, 3) uint8 RGB.
        faces: boxes of the faces, as shares of the frame.
    """
    height, width = frame.shape[:2]
    size = scaled((width, height), LONG_SIDE)
    small = cv2.resize(frame[..., ::-1], size, interpolation=cv2.INTER_AREA)
    for box in faces:
        first, last = box[:2], box[2:]
        more = (last - first) * MARGIN
        low = np.floor((first - more) * size).astype(int).clip(0, np.array(size) - 1)
        high = np.ceil((last + more) * size).astype(int).clip(low + 1, size)
        part = small[low[1] : high[1], low[0] : high[0]]
        few = cv2.resize(part, (BLURRED, BLURRED), interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(few, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    _, code = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(code.tobytes())
