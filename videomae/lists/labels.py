"""A comparison of the labels of two lists, which shows a mixed-up list before the training."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip

SHOWN = 10
"""Number of classes that are shown: those whose shares of the two lists differ most."""
NAMED = 5
"""Largest number of classes without a video that are named."""
BAR = 20
"""Length of the longest bar of the histogram, in characters."""

Counts = NDArray[np.int64]
"""Numbers of videos of each class, (classes,) int64."""


def count_labels(clips: Sequence[Clip], classes: int) -> Counts:
    """Return the number of clips of each class, (classes,) int64."""
    return np.bincount(ClipList.of(clips).labels(), minlength=classes)


def compare_labels(counts: Mapping[str, Counts], names: Sequence[str]) -> list[str]:
    """Return lines of text that compare the label histograms of two lists.

    Args:
        counts: numbers of videos of each class, of the training list and of the other list, by the
            settings that name the lists.
        names: names of all classes of the head.
    """
    lines = []
    for key, count in counts.items():
        some = count[count > 0]
        line = f"{key}: {count.sum():,} videos of {len(some)} classes, the head has {len(names)}; "
        lines.append(line + f"{some.min()} to {some.max()} of a class, median {np.median(some):g}")
        lacking = [name for name, number in zip(names, count, strict=True) if number == 0]
        if lacking:
            rest = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            lines.append(f"  without a video: {', '.join(lacking[:NAMED])}{rest}")
    (first, train), (second, other) = counts.items()
    train_share, other_share = train / train.sum(), other / other.sum()
    apart = np.abs(train_share - other_share)
    order = np.argsort(-apart, kind="stable")
    if len(names) > SHOWN:  # classes of neither list would show nothing
        order = order[(train + other)[order] > 0][:SHOWN]
    lines.append(
        f"the labels' shares of the two lists differ by {50 * apart.sum():.1f} % in all"
        + (f"; the {len(order)} classes that differ most:" if len(names) > SHOWN else ":")
    )
    classes = np.sort(order)
    width = max(len(names[label]) for label in classes)
    most = max(train_share[classes].max(), other_share[classes].max())
    for label in classes:
        bars = (
            f"{count[label]:>6} {'█' * round(BAR * share[label] / most):<{BAR}}"
            for count, share in ((train, train_share), (other, other_share))
        )
        lines.append(f"  {label:>3} {names[label]:<{width}} {' '.join(bars)}".rstrip())
    lines.append(f"  {'':>3} {'':<{width}}        {first:<{BAR}}        {second}")
    return lines
