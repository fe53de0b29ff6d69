"""SVG charts of how often values occur: all of them as an area, some of them as a line.

Colours and fonts come from the page, as those of videomae.pictures.line_chart do. Heights are the
square roots of the counts, so that rare values are seen beside frequent ones.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from videomae.pictures.line_chart import (
    HEIGHT,
    MOST_VALUE,
    NO_METADATA,
    WIDTH,
    bare_axes,
    for_page,
    tick_labels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 40
"""Number of bins; of whole numbers in a shorter range, each has a bin of its own."""
MOST_WHOLE, LEAST_VALUE = 1e9, 1e-100
"""Largest whole number that has a bin of its own, and the smallest number that is told from 0."""
TAIL = 0.005
"""Share of the values at either end that may lie beyond the range that is drawn; they are counted
in the first and in the last bin."""
Values = NDArray[np.float64]


def value_histogram(
    name: str, values: Values, some: NDArray[np.bool_], limits: Sequence[float]
) -> str:
    """Draw how often values occur, with vertical lines at limits.

    Args:
        name: what the values are, for the axis.
        values: values of any kind; NaN stands for none.
        some: which of the values the line counts.
        limits: places of the vertical lines.

    Returns:
        An svg element; an empty text if there is no value.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    values = np.where(np.abs(values) < MOST_VALUE, values, np.nan)
    there = ~np.isnan(values)
    if not there.any():
        return ""
    edges = bin_edges(values[there], limits)
    counts = [_counts(values[each], edges) for each in (there, there & some)]
    most = max(1, int(counts[0].max()))
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "path.simplify": False}):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        ticks = count_ticks(most)
        ax = bare_axes(figure, [math.sqrt(tick) for tick in ticks], [f"{t:,}" for t in ticks])
        ax.set(xlim=(edges[0], edges[-1]), ylim=(0, math.sqrt(most)))
        _label_values(ax, name, edges)
        for number, kind in ((0, "s0 area"), (1, "s1")):
            x, y = np.repeat(edges, 2), np.repeat(np.sqrt(counts[number]), 2)
            ax.plot(x, [0.0, *y, 0.0], gid=kind, clip_on=False)
        for limit in limits:
            if edges[0] <= limit <= edges[-1]:
                ax.plot([limit, limit], [0, math.sqrt(most)], gid="limit", clip_on=False)
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    return for_page(file.getvalue(), f"how often each {name} occurs")


def bin_edges(values: Values, limits: Sequence[float]) -> Values:
    """Return the edges of the bins over nearly all values and all limits.

    Args:
        values: at least one value, all finite.
    """
    low, high = np.quantile(values, [TAIL, 1 - TAIL], method="nearest").tolist()
    low, high = min([low, *limits]), max([high, *limits])
    largest = max(abs(low), abs(high))
    if high - low < BINS and largest < MOST_WHOLE and (values == np.round(values)).all():
        return np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
    if high - low <= max(largest * 1e-9, LEAST_VALUE):  # one value, in the middle
        off = max(abs(low) / 2, 0.5 if largest < LEAST_VALUE else 0.0)
        low, high = low - off, high + off
    edges: Values = np.linspace(low, high, BINS + 1)
    return edges


def count_ticks(most: int) -> list[int]:
    """Return counts to name at an axis up to the largest one, each of one digit and zeros."""
    found = [0]
    for part in (0.04, 0.25, 0.8):
        count = int(most * part)
        digit = 10 ** (len(str(count)) - 1)
        found.append(count // digit * digit)
    return sorted({*found, most if most < 3 else 0})


def _counts(values: Values, edges: Values) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return found


def _label_values(ax: "Axes", name: str, edges: Values) -> None:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(edges[0], edges[-1])
    ticks = [float(tick) for tick in ticks if edges[0] <= tick <= edges[-1]]
    ax.set_xticks(ticks, tick_labels(ticks))
    ax.set_xlabel(name, fontsize=12, labelpad=4, parse_math=False)
