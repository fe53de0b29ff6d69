"""Curves over steps as SVG for a page: matplotlib draws them, the page's style sheet colours them.

Come here to change what a chart of the report looks like. A drawing holds no colour, font or id of
its own, so that it follows the page's light and dark mode and several stand on one page. Its parts
have classes instead: `lines` for the horizontal grid lines, and for a curve its number, `s0`, `s1`,
..., with `fine` for a thin line and `dots` for single points.
"""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # drawing comes late in a run, and may never come
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 12, 28
"""Margins of a chart, in its own units."""
MOST_POINTS = 400
"""Points of a drawn curve; of a longer one, neighbours are averaged."""
MOST_DOTS = 40
"""Points of a curve that are marked one by one."""
MOST_VALUE = 1e100
"""A larger value is a gap, too: axes that reach further have no room in a float."""
RUNNING = 25
"""A running mean spans this share of a curve of single steps."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
SVG = "{http://www.w3.org/2000/svg}"
GRID = "lines"
"""The class of the horizontal lines."""
KEPT = ("viewBox", "class", "d", "x", "y")
"""Attributes that are a drawing's geometry, or name its parts."""
Points = Sequence[tuple[int, float | None]]
"""Steps, in order, and their values; None where a value was not finite."""
Curve = NDArray[np.float64]
"""(points, 2): step and value, NaN where it was not finite."""


def line_chart(curves: Sequence[tuple[str, Points]], *, smooth: bool) -> str:
    """Draw curves over steps in one frame, with a gap where a value was not finite.

    Args:
        curves: name and points of each, at least one.
        smooth: whether each is a fine line of its points and a bold running mean.

    Returns:
        An svg element; nothing where no value is finite.
    """
    arrays = [np.array(points, dtype=np.float64) for _, points in curves]
    for array in arrays:
        array[np.abs(array[:, 1]) > MOST_VALUE, 1] = np.nan
    values = np.concatenate([array[:, 1] for array in arrays])
    values = values[np.isfinite(values)]
    if not values.size:
        return ""
    svg = _drawing(arrays, values, smooth)
    return _for_page(svg, ", ".join(name for name, _ in curves) + " over steps")


def shown(value: float) -> str:
    """Return a value as a short text."""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def _drawing(curves: Sequence[Curve], values: NDArray[np.float64], smooth: bool) -> str:
    """Return a file of matplotlib's.

    Args:
        values: those of all curves that are finite.
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
            elif len(few) <= MOST_DOTS:
                dots = np.repeat(few, 3, axis=0)
                dots[2::3] = np.nan  # a line from each point to itself, with round ends
                _draw(ax, dots, f"s{number} dots")
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    return file.getvalue()


def _axes(figure: "Figure", last: float, values: NDArray[np.float64]) -> "Axes":
    """Return a frame from step 0 to the last and from the lowest to the highest value."""
    from matplotlib.ticker import MaxNLocator

    size = (1 - (LEFT + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / HEIGHT)
    ax = figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, *size))
    low, high = float(values.min()), float(values.max())
    if low == high:  # a level line in the middle
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    ax.set(xlim=(0, max(last, 1)), ylim=(low, high))
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    ax.yaxis.set_major_formatter(lambda value, _: shown(value))
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


def _for_page(svg: str, label: str) -> str:
    """Return a drawing as an element of a page, its groups' ids turned into classes."""
    root = ElementTree.fromstring(svg)
    for element in list(root.iter()):
        for definitions in element.findall(f"{SVG}defs"):
            element.remove(definitions)
        style, kind = element.get("style", ""), element.get("id", "")
        kept = {key: value for key, value in element.items() if key in KEPT}
        if kind == GRID or re.match(r"s\d", kind):
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
    """Return at most MOST_POINTS points: means of neighbours, less those that are not finite."""
    if len(curve) <= MOST_POINTS:
        return curve
    parts = np.array_split(curve, MOST_POINTS)
    finite = [part[np.isfinite(part[:, 1]), 1] for part in parts]
    means = [values.mean() if values.size else np.nan for values in finite]
    return np.column_stack([[part[-1, 0] for part in parts], means])


def running_mean(curve: Curve) -> Curve:
    """Return the mean of the last finite values at each that has enough of them before it.

    Args:
        curve: at least one point.
    """
    (places,) = np.isfinite(curve[:, 1]).nonzero()
    width = max(1, len(places) // RUNNING)
    sums = np.cumsum([0.0, *curve[places, 1]])
    running = np.column_stack([curve[:, 0], np.full(len(curve), np.nan)])
    running[places[width - 1 :], 1] = (sums[width:] - sums[:-width]) / width
    return running[np.isfinite(running[:, 1]).argmax() :]
