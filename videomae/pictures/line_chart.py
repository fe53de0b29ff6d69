"""SVG charts of curves over steps for the report page, drawn with matplotlib.

The style sheet of the page gives colours and fonts; a chart has none of its own, and no ids, so
that it follows the page's light and dark mode and a page can hold several. Its parts have classes:
`lines` for the horizontal grid lines, and for a curve its number, `s0`, `s1`, ..., with `fine` for
a thin line and `dots` for single points, `area` for a filled one, and `limit` for a threshold.
"""

import io
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # drawing comes late in a run, and may never come
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 12, 44
"""Margins of a chart, in the units of WIDTH and HEIGHT; the left one at least."""
MARGIN, DIGIT = 8, 7
"""Width beside the values at the axis, and of each of their digits, in the same units."""
LEAST_SPREAD = 1e-5
"""Smallest range of an axis, as a share of its values: of less, each would have many digits."""
MOST_POINTS = 400
"""Largest number of points of a drawn curve; in a longer curve, neighbours are averaged."""
MOST_DOTS = 40
"""Largest number of points of a curve whose points are marked by dots."""
MOST_VALUE = 1e100
"""Largest value that is drawn: a larger one is a gap, since the axis would overflow."""
RUNNING = 25
"""Number of windows of the running mean in a curve: each is 1/25 of its points."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
SVG = "{http://www.w3.org/2000/svg}"
GRID = "lines"
"""Class of the horizontal grid lines."""
KEPT = ("viewBox", "class", "d", "x", "y")
"""Attributes of SVG elements that are kept: the geometry and the classes."""
Points = Sequence[tuple[int, float | None]]
"""Pairs of step and value, in order of steps; None stands for a value that was not finite."""
Curve = NDArray[np.float64]
"""Steps and values of a curve, (points, 2) float64; NaN stands for a value that was not finite."""


def line_chart(curves: Sequence[tuple[str, Points]], *, smooth: bool) -> str:
    """Draw curves over steps in one frame, with a gap where a value was not finite.

    Args:
        curves: name and points of each curve, at least one point.
        smooth: whether each curve is a fine line of its points and a bold running mean.

    Returns:
        An svg element; an empty text if no value is finite.
    """
    arrays = [np.array(points, dtype=np.float64) for _, points in curves]
    for array in arrays:
        array[np.abs(array[:, 1]) > MOST_VALUE, 1] = np.nan
    values = np.concatenate([array[:, 1] for array in arrays])
    values = values[np.isfinite(values)]
    if not values.size:
        return ""
    svg = _drawing(arrays, values, smooth)
    return for_page(svg, ", ".join(name for name, _ in curves) + " over steps")


def shown(value: float) -> str:
    """Return a number as a short text."""
    return _number(value, 3, 0 < abs(value) < 1e-3) if abs(value) < 1e-3 else f"{value:.4g}"


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Return the texts of evenly spaced ticks, with as few digits as tell each from the others."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    largest = max(map(abs, ticks), default=0.0)
    small = 0 < largest < 2e-3
    for digits in range(1, 16):
        labels = [_number(tick, digits, small or largest >= 1e6) for tick in ticks]
        near = [
            abs(float(text.replace(",", "")) - x) for text, x in zip(labels, ticks, strict=True)
        ]
        if max(near, default=0) < step / 100:
            break
    return labels


def _number(value: float, digits: int, scientific: bool) -> str:
    """Return a number with some significant digits, without zeros at their end."""
    if value == 0:
        return "0"
    if not scientific:
        whole = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{whole}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"


def _drawing(curves: Sequence[Curve], values: NDArray[np.float64], smooth: bool) -> str:
    """Return the SVG document that matplotlib draws of some curves.

    Args:
        values: all finite values of the curves.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "path.simplify": False}):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        ax = _axes(figure, max(curve[-1, 0] for curve in curves), values)
        for number, curve in enumerate(curves):
            few = _thinned(curve)
            _draw(ax, few, f"s{number}" + " fine" * smooth)
            if smooth:
                _draw(ax, _thinned(running_mean(curve)), f"s{number}")
            marked = few if len(few) <= MOST_DOTS and not smooth else few[_alone(few)]
            if len(marked):
                dots = np.repeat(marked, 3, axis=0)
                dots[2::3] = np.nan  # a line from each point to itself, with round ends
                _draw(ax, dots, f"s{number} dots")
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    return file.getvalue()


def _alone(curve: Curve) -> NDArray[np.bool_]:
    """Return which points of a curve have no neighbours, so that no line leads to them."""
    finite = np.concatenate([[False], np.isfinite(curve[:, 1]), [False]])
    alone: NDArray[np.bool_] = finite[1:-1] & ~finite[:-2] & ~finite[2:]
    return alone


def _axes(figure: "Figure", last: float, values: NDArray[np.float64]) -> "Axes":
    """Return axes from step 0 to the last step and from the lowest to the highest value."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if low == high:  # a level line in the middle
        low, high = low - (largest or 1) / 10, high + (largest or 1) / 10
    elif high - low < largest * LEAST_SPREAD:
        middle = (low + high) / 2
        low, high = (middle + side * largest * LEAST_SPREAD / 2 for side in (-1, 1))
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = (high - low) / 1e6  # for rounding
    ticks = [float(tick) for tick in ticks if low - slack <= tick <= high + slack]
    if largest == 0:  # a learning rate that is still 0: there is no other value to tell
        ticks = [0.0]
    ax = bare_axes(figure, ticks, tick_labels(ticks))
    ax.set(xlim=(0, max(last, 1)), ylim=(low, high))
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    ax.set_xlabel("step", fontsize=12, labelpad=4)
    return ax


def bare_axes(figure: "Figure", ticks: Sequence[float], texts: Sequence[str]) -> "Axes":
    """Return axes of horizontal grid lines alone, with the texts of the ticks at their left."""
    left = max(LEFT, MARGIN + DIGIT * max(map(len, texts), default=0))
    size = (1 - (left + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT)
    ax = figure.add_axes((left / WIDTH, BOTTOM / HEIGHT, *size))
    ax.set_yticks(ticks, texts)
    ax.tick_params(length=0, labelsize=12)
    ax.tick_params("x", pad=9)
    ax.tick_params("y", pad=6)
    ax.grid(axis="y", gid=GRID, clip_on=False)
    ax.patch.set_visible(False)
    ax.spines[:].set_visible(False)
    figure.patch.set_visible(False)
    return ax


def _draw(ax: "Axes", curve: Curve, kind: str) -> None:
    ax.plot(*curve.T, gid=kind, clip_on=False)


def for_page(svg: str, label: str) -> str:
    """Return an SVG document as an element of a page, with classes instead of ids."""
    root = ElementTree.fromstring(svg)
    for element in list(root.iter()):
        for definitions in element.findall(f"{SVG}defs"):
            element.remove(definitions)
        style, kind = element.get("style", ""), element.get("id", "")
        kept = {key: value for key, value in element.items() if key in KEPT}
        if kind == GRID or re.match(r"s\d|limit", kind):
            kept["class"] = kind
        if anchor := re.search(r"text-anchor: (\w+)", style):
            kept["text-anchor"] = anchor[1]
        if "d" in kept:
            words = re.sub(r"[\d.]+", lambda number: f"{float(number[0]):.1f}", kept["d"]).split()
            kept["d"] = " ".join(words)
        element.attrib = kept
        element.tag, element.tail = element.tag.removeprefix(SVG), None
        element.text = element.text if element.tag == "text" else None
    root.attrib |= {"role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _thinned(curve: Curve) -> Curve:
    """Return a curve of at most MOST_POINTS points: means of the finite values of neighbours."""
    if len(curve) <= MOST_POINTS:
        return curve
    parts = np.array_split(curve, MOST_POINTS)
    finite = [part[np.isfinite(part[:, 1]), 1] for part in parts]
    means = [values.mean() if values.size else np.nan for values in finite]
    return np.column_stack([[part[-1, 0] for part in parts], means])


def running_mean(curve: Curve) -> Curve:
    """Return the running mean of a curve's finite values, from the first full window on.

    Args:
        curve: a curve of at least one point.
    """
    (places,) = np.isfinite(curve[:, 1]).nonzero()
    width = max(1, len(places) // RUNNING)
    sums = np.cumsum([0.0, *curve[places, 1]])
    running = np.column_stack([curve[:, 0], np.full(len(curve), np.nan)])
    running[places[width - 1 :], 1] = (sums[width:] - sums[:-width]) / width
    return running[np.isfinite(running[:, 1]).argmax() :]
