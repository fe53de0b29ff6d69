"""Scores of a clip that need no model: light, sharpness, bars, motion and still pictures.

Light, sharpness and bars are computed on the sampled frames, about two a second; motion from each
of them to a frame shortly after; still pictures on every frame.
"""

from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa

from videomae.curate.picture import Grey, Picture

BLACK, WHITE = 2, 253
"""Luma up to which, and from which on, a pixel counts as clipped."""
FLAT = 8
"""Largest range of luma, over a row or column and all samples, that counts as one colour."""
PAIR_S = 1 / 16
"""Least time between the two frames of a flow, in seconds: a picture shown twice would be still."""
BLOCK = 16
"""Side of the blocks in which a still picture is compared, in pixels of the small picture."""
STILL = 3.0
"""Largest mean difference of luma within a block that counts as unchanged: compression leaves as
much from one key frame to the next."""
STILL_S = 0.5
"""Shortest time, in seconds, for which an unchanged picture counts as frozen."""


def _float_columns(*names: str) -> dict[str, Any]:
    """Return names with the Arrow type of a score."""
    return dict.fromkeys(names, pa.float64())


def _mean(values: list[float]) -> float | None:
    """Return the mean; None of nothing."""
    return float(np.mean(values)) if values else None


class Light:
    """Mean and standard deviation of the luma, and the share of black and white pixels."""

    columns: ClassVar[dict[str, Any]] = _float_columns("luma_mean", "luma_std", "clipped_fraction")
    in_table: ClassVar[bool] = True

    def __init__(self) -> None:
        self.means: list[float] = []
        self.stds: list[float] = []
        self.clipped: list[float] = []

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        if picture.detail is None:
            return
        luma = picture.detailed_luma
        counts = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel().astype(float)
        shares, values = counts / luma.size, np.arange(256)
        mean = float(shares @ values)
        self.means.append(mean)
        self.stds.append(float(np.sqrt(shares @ (values - mean) ** 2)))
        self.clipped.append(float(shares[: BLACK + 1].sum() + shares[WHITE:].sum()))

    def finish(self) -> dict[str, Any]:
        return {
            "luma_mean": _mean(self.means),
            "luma_std": _mean(self.stds),
            "clipped_fraction": _mean(self.clipped),
        }


class Sharpness:
    """Median, over the sampled frames, of the variance of the Laplacian of the luma."""

    columns: ClassVar[dict[str, Any]] = _float_columns("sharpness")
    in_table: ClassVar[bool] = True

    def __init__(self) -> None:
        self.variances: list[float] = []

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        if picture.detail is not None:
            edges = cv2.Laplacian(picture.detailed_luma, cv2.CV_16S)
            _, deviation = cv2.meanStdDev(edges)
            self.variances.append(float(deviation[0, 0]) ** 2)

    def finish(self) -> dict[str, Any]:
        return {"sharpness": float(np.median(self.variances)) if self.variances else None}


class Bars:
    """Share of the picture that bars at its borders cover: rows and columns that stay one colour
    in all sampled frames. A picture of one colour is all bars."""

    columns: ClassVar[dict[str, Any]] = _float_columns("bars_fraction")
    in_table: ClassVar[bool] = True

    def __init__(self) -> None:
        self.highest: list[Grey] = []
        self.lowest: list[Grey] = []

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        if picture.detail is None:
            return
        luma = picture.detailed_luma
        high, low = ([reduce(luma, axis=axis) for axis in (1, 0)] for reduce in (np.max, np.min))
        if self.highest:
            high = [np.maximum(*pair) for pair in zip(high, self.highest, strict=True)]
            low = [np.minimum(*pair) for pair in zip(low, self.lowest, strict=True)]
        self.highest, self.lowest = high, low

    def finish(self) -> dict[str, Any]:
        if not self.highest:
            return {"bars_fraction": None}
        visible = 1.0
        for high, low in zip(self.highest, self.lowest, strict=True):
            seen = np.flatnonzero(high.astype(int) - low > FLAT)
            visible *= (seen[-1] + 1 - seen[0]) / len(high) if len(seen) else 0.0
        return {"bars_fraction": 1.0 - float(visible)}


class Motion:
    """Mean length of the optical flow, in diagonals of the picture per second."""

    columns: ClassVar[dict[str, Any]] = _float_columns("motion_px_per_s")
    in_table: ClassVar[bool] = True

    def __init__(self) -> None:
        self.flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.begun: tuple[Grey, float] | None = None
        self.speeds: list[float] = []

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        if self.begun is not None and time_s >= self.begun[1] + PAIR_S:
            luma, began_s = self.begun
            flow = self.flow.calc(luma, picture.luma, None)
            length = float(np.hypot(flow[..., 0], flow[..., 1]).mean())
            self.speeds.append(length / float(np.hypot(*luma.shape)) / (time_s - began_s))
            self.begun = None
        if picture.detail is not None and self.begun is None:
            self.begun = picture.luma, time_s

    def finish(self) -> dict[str, Any]:
        return {"motion_px_per_s": _mean(self.speeds)}


class Stillness:
    """Share of the frames in which the picture stands still for STILL_S or longer."""

    columns: ClassVar[dict[str, Any]] = _float_columns("frozen_fraction")
    in_table: ClassVar[bool] = True

    def __init__(self) -> None:
        self.count = self.frozen = self.run = 0
        self.reference: Grey | None = None
        """First frame of the present run of unchanged frames."""
        self.began_s = self.last_s = 0.0

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        self.count += 1
        if self.reference is None or self._changed(picture.luma):
            self._end_run()
            self.reference, self.began_s, self.run = picture.luma, time_s, 0
        self.run += 1
        self.last_s = time_s

    def _changed(self, luma: Grey) -> bool:
        assert self.reference is not None
        difference = cv2.absdiff(luma, self.reference)
        height, width = luma.shape
        size = max(1, width // BLOCK), max(1, height // BLOCK)
        blocks: Any = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
        return bool(blocks.max() > STILL)

    def _end_run(self) -> None:
        if self.last_s - self.began_s >= STILL_S:
            self.frozen += self.run

    def finish(self) -> dict[str, Any]:
        self._end_run()
        self.run = 0
        return {"frozen_fraction": self.frozen / self.count if self.count > 1 else None}
