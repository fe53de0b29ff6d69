"""Shares of a whole and their 95 % intervals: of counts, and of samples with weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL_95 = 1.959964
"""How many standard deviations around its mean hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Share:
    """A share that a sample shows, with its 95 % interval, in percent."""

    percent: float
    least: float
    most: float
    right: int
    """Number of the sample's members that have the property."""
    of: int
    """Number of the sample's members."""


def wilson(right: float, videos: float) -> list[float]:
    """Return Wilson's 95 % interval of a share, in percent: least and most.

    It has a width also where none or all are right, and holds the true share about as often as it
    says also of few videos.

    Args:
        right: number of right videos.
        videos: number of videos, above 0; of a sample with weights the effective numbers, which
            need not be whole.
    """
    share, weight = right / videos, NORMAL_95**2 / videos
    middle = share + weight / 2
    off = math.sqrt(weight * (share * (1 - share) + weight / 4))
    bounds = [100 * (middle + side * off) / (1 + weight) for side in (-1, 1)]
    return [0.0 if right == 0 else bounds[0], 100.0 if right == videos else bounds[1]]


def weighted_share(right: Sequence[bool], weights: Sequence[float]) -> Share | None:
    """Return the share of what a sample stands for that has a property; None of no sample.

    The interval is Wilson's of Kish's effective size, the square of the sum of the weights by the
    sum of their squares: where the weights are equal, it is the number of members.

    Args:
        right: whether each member has the property.
        weights: how many each member stands for, above 0.
    """
    total = math.fsum(weights)
    if not total:
        return None
    size = total**2 / math.fsum(weight**2 for weight in weights)
    have = math.fsum(weight for own, weight in zip(right, weights, strict=True) if own)
    least, most = wilson(size if all(right) else size * have / total, size)
    return Share(100 * have / total, least, most, sum(map(bool, right)), len(weights))


def share_inside(
    inside: Sequence[bool], right: Sequence[bool], weights: Sequence[float]
) -> Share | None:
    """Return which share of all that has a property lies inside a part; None where nothing has it.

    How many of the part and of the rest the sample stands for counts as known. The interval is put
    together from those of the two parts (Donner and Zou, 2012: MOVER of a ratio). If all were found
    inside, it still allows for those outside that a small sample misses.

    Args:
        inside: whether each member lies inside the part.
        right: whether each member has the property.
        weights: how many each member stands for, above 0.
    """
    rows = list(zip(inside, right, weights, strict=True))
    numbers = []
    for part in (True, False):
        own = [(have, weight) for within, have, weight in rows if within is part]
        share = weighted_share([have for have, _ in own], [weight for _, weight in own])
        total = math.fsum(weight for _, weight in own) / 100
        bounds = (share.least, share.percent, share.most) if share else (0.0, 0.0, 0.0)
        numbers.append([total * each for each in bounds])
    (low_in, found_in, high_in), (low_out, found_out, high_out) = numbers
    if not found_in + found_out:
        return None
    below, above = _of_ratio(low_out, found_out, high_out), _of_ratio(low_in, found_in, high_in)
    product = found_in * found_out
    root = math.sqrt(max(0.0, product**2 - below[0] * above[1]))
    least_ratio = 0.0  # of outside by inside
    if below[0]:
        least_ratio = below[0] / (product + root) if product + root else math.inf
    root = math.sqrt(max(0.0, product**2 - below[1] * above[0]))
    most_ratio = (product + root) / above[0] if above[0] else math.inf
    return Share(
        100 * found_in / (found_in + found_out),
        100 / (1 + most_ratio),
        100 / (1 + least_ratio),
        sum(1 for within, have, _ in rows if within and have),
        sum(1 for _, have, _ in rows if have),
    )


def _of_ratio(low: float, found: float, high: float) -> tuple[float, float]:
    """Return the two terms in which a number and its bounds enter MOVER's bounds of a ratio."""
    return low * (2 * found - low), high * (2 * found - high)
