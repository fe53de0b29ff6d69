"""Curves and pictures as parts of a page: SVG that takes the page's colours, and data URIs."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from videomae.report.gather import Point

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 12, 28
"""Margins of a chart, in its own units."""
MOST_POINTS = 400
"""Of a curve; of more, neighbours are averaged."""
RUNNING = 25
"""A running mean spans this share of a curve of single steps."""


def line_chart(curves: Sequence[tuple[str, Sequence[Point]]], *, smooth: bool) -> Markup:
    """Curves over steps in one frame; a gap where a value was not finite.

    Args:
        curves: name and points.
        smooth: whether each is a fine line of its points and a bold running mean.
    """
    steps = [point.step for _, points in curves for point in points]
    values = [point.value for _, points in curves for point in points if point.value is not None]
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    if low == high:  # a level line in the middle
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    x_ticks, y_ticks = ticks(0, max(steps), 5), ticks(low, high, 6)
    last = max(*steps, 1)

    def place(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    names = ", ".join(name for name, _ in curves)
    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{} over steps">').format(
            WIDTH, HEIGHT, names
        )
    ]
    for tick in y_ticks:
        x, y = place(0, tick).split(",")
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(x, y, WIDTH - RIGHT))
        parts.append(_text(LEFT - 6, float(y) + 4, shown(tick), "end"))
    for tick in x_ticks:
        x = place(tick, low).split(",")[0]
        parts.append(_text(float(x), HEIGHT - BOTTOM + 18, f"{tick:,.0f}", "middle"))
    for number, (_, points) in enumerate(curves):
        few = _thinned(points)
        parts.append(_path(few, place, f"s{number}" + " fine" * smooth))
        if smooth:
            parts.append(_path(_thinned(_running_mean(points)), place, f"s{number}"))
        elif len(few) <= 40:
            for step, value in few:
                if value is not None:
                    x, y = place(step, value).split(",")
                    dot = '<circle class="s{}" cx="{}" cy="{}" r="2.5"/>'
                    parts.append(Markup(dot).format(number, x, y))
    return Markup("").join([*parts, Markup("</svg>")])


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two, about so many, at least one."""
    span = (high - low) or 1.0
    size = 10.0 ** np.floor(np.log10(span / most))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= most)
    first = np.ceil(low / step - 1e-9)
    return [float(step * n) + 0.0 for n in np.arange(first, np.floor(high / step + 1e-9) + 1)] or [
        low
    ]


def shown(value: float) -> str:
    """A tick's number, short."""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    label = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(label).format(x, y, anchor, text)


def _path(points: Sequence[Point], place: object, kind: str) -> Markup:
    assert callable(place)
    commands, drawing = [], False
    for step, value in points:
        if value is None:
            drawing = False
            continue
        commands.append(("L" if drawing else "M") + place(step, value))
        drawing = True
    return Markup('<path class="{}" d="{}"/>').format(kind, "".join(commands))


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """At most MOST_POINTS: means of neighbours, those that are not finite left out."""
    if len(points) <= MOST_POINTS:
        return points
    few = []
    for part in np.array_split(np.arange(len(points)), MOST_POINTS):
        own = [points[index] for index in part]
        values = [point.value for point in own if point.value is not None]
        few.append(Point(own[-1].step, float(np.mean(values)) if values else None))
    return few


def _running_mean(points: Sequence[Point]) -> list[Point]:
    """Of the last finite values at each; none where the value itself was not finite."""
    finite = [value for _, value in points if value is not None]
    width = max(1, len(finite) // RUNNING)
    sums = np.cumsum([0.0, *finite])
    means, seen = [], 0
    for step, value in points:
        if value is None:
            means.append(Point(step, None))
            continue
        seen += 1
        if seen >= width:
            means.append(Point(step, float(sums[seen] - sums[seen - width]) / width))
    return means


def confusion_picture(counts: NDArray[np.int64]) -> Markup:
    """Row = true class, column = predicted class: a PNG with a pixel for each, the more opaque
    the larger its share of the row; so that it lies on any background."""
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    pixels = np.zeros((*share.shape, 4), dtype=np.uint8)
    pixels[..., :3] = (44, 123, 229)
    pixels[..., 3] = (255 * np.sqrt(share)).round()  # a root, so that rare mistakes are seen
    return data_uri(_encoded(Image.fromarray(pixels), "PNG"), "png")


def thumbnail(frame: NDArray[np.uint8], height: int) -> Markup:
    """A frame (H, W, 3) as a small JPEG."""
    image = Image.fromarray(frame)
    width = max(1, round(image.width * height / image.height))
    return data_uri(_encoded(image.resize((width, height)), "JPEG"), "jpeg")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> Markup:
    """A picture inside a page."""
    return Markup("data:image/{};base64,{}").format(kind, base64.b64encode(content).decode())
