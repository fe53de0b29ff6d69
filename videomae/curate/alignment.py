"""Where the motion of two clips agrees: the best shift and speed of one against the other.

Pictures of one static camera look alike at any time; how they change does not. So two clips that
show alike pictures are copies only if their coarse brightness changes at the same places and times.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videomae.curate.fingerprint import GRID_HZ, Fingerprint

SPEEDS = (1.0, 0.5, 2 / 3, 0.75, 0.8, 0.9, 1.1, 1.25, 4 / 3, 1.5, 2.0)
"""Seconds of the second clip that pass while one of the first does; 1 is tried first."""
PHASES = (0.0, 0.5)
"""Fractions of a picture by which the second clip's are moved: copies begin between two."""
LEAST_CHANGES = 8
"""Changes from picture to picture that must overlap, if the clips have as many."""
FEWEST_CHANGES = 4
"""Changes below which a clip is too short to be aligned at all: 0.8 s."""
NOISE = 0.05
"""Luma change, of 255, below which a picture counts the less the less it changes."""
SURE = 0.85
"""Agreement at which no other speed is tried."""

Changes = NDArray[np.float32]


class Side(NamedTuple):
    """One view of a clip, as one side of a comparison."""

    clip: Fingerprint
    view: int = 0
    mirrored: bool = False


@dataclass(frozen=True)
class Alignment:
    """How the second clip lies on the first: at time t of the first it is at offset_s + speed t."""

    agreement: float
    """Cosine of the two clips' changes over their overlap, -1 to 1."""
    peak: float
    """How far that stands above the other shifts, in their standard deviations."""
    offset_s: float
    speed: float

    def turned(self) -> "Alignment":
        """Return the alignment of the two clips exchanged."""
        return Alignment(self.agreement, self.peak, -self.offset_s / self.speed, 1 / self.speed)


def brightness(side: Side) -> Changes:
    """(S, 64) luma of a view's cells, 0 to 255."""
    cells = side.clip.grid[:, side.view]
    if side.mirrored:
        cells = cells[..., ::-1]
    return cells.reshape(len(cells), -1).astype(np.float32) / np.float32(256)


def activity(side: Side) -> float:
    """Root mean square change of a view's cells from picture to picture, in luma of 255."""
    changes = np.diff(brightness(side), axis=0)
    return float(np.sqrt(np.mean(changes**2))) if changes.size else 0.0


def changes_of(luma: Changes) -> Changes:
    """(S - 1, 64) changes from picture to picture, the violent ones damped.

    A cut changes everything at once: undamped, two clips with one cut each would agree by that.
    """
    changes = np.diff(luma, axis=0)
    size = np.sqrt(np.mean(changes**2, axis=1, keepdims=True))
    return changes / np.sqrt(size + np.float32(NOISE))


def resampled(luma: Changes, speed: float, phase: float) -> Changes:
    """The pictures at phase, phase + speed, ..., between two by their mix."""
    if speed == 1 and phase == 0:
        return luma
    places = np.arange(phase, len(luma) - 1 + 1e-6, speed)
    before = np.minimum(places.astype(np.intp), len(luma) - 2)
    share = (places - before).astype(np.float32)[:, None]
    return luma[before] * (1 - share) + luma[before + 1] * share


def diagonal_sums(values: Changes) -> Changes:
    """Sums of a (n, m) matrix's diagonals, from its lower left corner to its upper right.

    Returns:
        (n + m - 1,), of which entry n - 1 is the main diagonal's.
    """
    n, m = values.shape
    slanted = np.zeros((n, n + m), values.dtype)
    slanted[:, :m] = values[::-1]
    return slanted.ravel()[: n * (n + m - 1)].reshape(n, n + m - 1).sum(axis=0)


def best_shift(first: Changes, second: Changes, share: float) -> tuple[float, float, int]:
    """The shift at which two sequences of changes agree best.

    Args:
        first: (n, 64).
        second: (m, 64).
        share: of the shorter that must overlap.

    Returns:
        The agreement, how far it stands out among the shifts, and the number of the change of
        `first` (which may be negative) that lies on the first of `second`.
    """
    n, m = len(first), len(second)
    least = max(min(LEAST_CHANGES, n, m), int(np.ceil(min(n, m) * share)))
    shifts = np.arange(n - 1, -m, -1)  # of first: the lower left corner is its last change
    starts, ends = np.maximum(shifts, 0), np.minimum(n, m + shifts)
    sums = diagonal_sums(first @ second.T)
    total = [
        np.concatenate([[0.0], np.cumsum((each.astype(np.float64) ** 2).sum(1))])
        for each in (first, second)
    ]
    energy = (total[0][ends] - total[0][starts]) * (
        total[1][ends - shifts] - total[1][starts - shifts]
    )
    agreement = sums / np.sqrt(np.maximum(energy, 0) + 1e-6)
    allowed = ends - starts >= least
    agreement, shifts = agreement[allowed], shifts[allowed]
    best = int(np.argmax(agreement))
    others = agreement[np.abs(np.arange(len(agreement)) - best) > 1]
    if len(others) < 4:
        return float(agreement[best]), 0.0, int(shifts[best])
    peak = (agreement[best] - np.median(others)) / (others.std() + 0.02)
    return float(agreement[best]), float(peak), int(shifts[best])


def align(first: Side, second: Side, share: float) -> Alignment | None:
    """Return the best alignment of two clips, or None where one is too short for any.

    Args:
        share: of the shorter clip that must overlap.
    """
    luma = brightness(second)
    base = brightness(first)
    if min(len(base), len(luma)) <= FEWEST_CHANGES:
        return None
    changes, best = changes_of(base), None
    for speed in SPEEDS:
        for phase in PHASES:
            other = resampled(luma, speed, phase)
            if len(other) <= FEWEST_CHANGES:
                continue
            agreement, peak, shift = best_shift(changes, changes_of(other), share)
            if best is None or agreement > best.agreement:
                offset_s = (phase - shift * speed) / GRID_HZ
                best = Alignment(agreement, peak, offset_s, speed)
        if best is not None and best.agreement >= SURE:
            break
    return best
