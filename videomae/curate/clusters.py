"""K-means of features: centres that are found on a sample, and the cluster of each row."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
ROWS_PER_CENTRE = 256
"""Rows of the sample for each centre, at most."""
ROUNDS = 25
"""Rounds of k-means, at most; fewer if no row changes its cluster."""
PART = 8192
"""Rows whose distances are computed at once."""


def normalised(rows: Rows) -> Rows:
    """Return rows of length 1: the distance of two is that of their directions."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Rows = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return found


def clustered(rows: Rows, clusters: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each row, from 0; clusters are numbered by size, the largest first.

    Equal rows and seeds give equal clusters. Rows that are fewer than clusters have one each.

    Args:
        rows: (N, D), each of length 1.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(rows))[: clusters * ROWS_PER_CENTRE]
    sample = rows[np.sort(chosen)]
    centres = first_centres(sample, min(clusters, len(rows)), rng)
    places = nearest(sample, centres)[0]
    for _ in range(ROUNDS):
        centres = _means(sample, places, centres)
        before, places = places, nearest(sample, centres)[0]
        if np.array_equal(before, places):
            break
    found = nearest(rows, centres)[0]
    sizes = np.bincount(found, minlength=len(centres))
    rank = np.empty(len(centres), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(centres))
    return rank[found]


def first_centres(sample: Rows, clusters: int, rng: np.random.Generator) -> Rows:
    """Return rows that are far from each other, by k-means++."""
    centres = np.empty((clusters, sample.shape[1]), np.float32)
    centres[0] = sample[rng.integers(len(sample))]
    distances = nearest(sample, centres[:1])[1]
    for number in range(1, clusters):
        total = distances.sum()
        share = distances / total if total > 0 else np.full(len(sample), 1 / len(sample))
        centres[number] = sample[rng.choice(len(sample), p=share)]
        distances = np.minimum(distances, nearest(sample, centres[number : number + 1])[1])
    return centres


def nearest(rows: Rows, centres: Rows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest centre of each row, and the square of its distance."""
    places = np.empty(len(rows), np.int64)
    distances = np.empty(len(rows), np.float64)
    squares = (centres.astype(np.float64) ** 2).sum(1)
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        # of each row the square of its own length is left out: it changes no order
        away = squares - 2 * (part @ centres.T).astype(np.float64)
        found = away.argmin(1)
        places[start : start + PART] = found
        own = (part.astype(np.float64) ** 2).sum(1)
        distances[start : start + PART] = (away[np.arange(len(part)), found] + own).clip(0)
    return places, distances


def _means(sample: Rows, places: NDArray[np.int64], centres: Rows) -> Rows:
    """Return the mean of each cluster; that of an empty one stays where it is."""
    sums = np.zeros(centres.shape, np.float64)
    order = np.argsort(places, kind="stable")
    counts = np.bincount(places, minlength=len(centres))
    filled = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[filled]
    sums[filled] = np.add.reduceat(sample[order].astype(np.float64), starts, axis=0)
    means: Rows = centres.copy()
    means[filled] = (sums[filled] / counts[filled, None]).astype(np.float32)
    return means
