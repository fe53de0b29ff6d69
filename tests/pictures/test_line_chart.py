"""Charts of the report's page: what is drawn, and that the page's style sheet can colour it."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from videomae.pictures.line_chart import Points, line_chart, tick_labels

STYLE = ROOT / "videomae/pictures/templates/style.css"


def paths(svg: str) -> list[tuple[str, str]]:
    """Return the class and the commands of every path, in order."""
    groups = ElementTree.fromstring(svg).iter("g")
    return [(g.get("class", ""), path.get("d", "")) for g in groups for path in g.findall("path")]


def labels(svg: str, anchor: str) -> list[str]:
    """Return the numbers at the axis whose labels have that anchor."""
    texts = ElementTree.fromstring(svg).iter("text")
    return [str(text.text) for text in texts if text.get("text-anchor") == anchor]


def places(path: str) -> list[tuple[float, float]]:
    """Return the points of a path."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_curve_goes_through_its_points() -> None:
    """In a frame of 52 to 382 by 12 to 192, from step 0, from the lowest to the highest value."""
    svg = line_chart([("x", [(1, 1.0), (2, 3.0), (4, 2.0)])], smooth=False)
    drawn = dict(paths(svg))
    expected = [(134.5, 192.0), (217.0, 12.0), (382.0, 102.0)]
    assert places(drawn["s0"]) == expected
    assert places(drawn["s0 dots"])[::2] == expected


def test_a_curve_breaks_where_a_number_was_not_finite() -> None:
    points = [(1, 2.0), (2, None), (3, 1.0), (4, 1.5)]
    drawn = dict(paths(line_chart([("x", points)], smooth=False)))
    assert re.findall("[ML]", drawn["s0"]) == ["M", "M", "L"]
    drawn = dict(paths(line_chart([("x", points)], smooth=True)))
    assert [len(re.findall("M", drawn[kind])) for kind in ("s0 fine", "s0")] == [2, 2]
    assert line_chart([("x", [(1, None)])], smooth=True) == ""


def test_a_bold_line_is_the_running_mean_of_a_fine_one() -> None:
    """Of the last 4 of 100 values, which go up and down by turns: a level line."""
    svg = line_chart([("x", [(n, n % 2) for n in range(1, 101)])], smooth=True)
    drawn = dict(paths(svg))
    assert len(places(drawn["s0 fine"])) == 100
    assert len(places(drawn["s0"])) == 97
    assert {y for _, y in places(drawn["s0"])} == {102.0}


def test_neighbours_of_a_long_curve_are_averaged() -> None:
    points = [(n, float(n)) for n in range(100_000)]
    svg = line_chart([("x", points)], smooth=True)
    assert len(svg) < 20_000
    assert [len(places(path)) for kind, path in paths(svg) if kind.startswith("s0")] == [400, 400]
    svg = line_chart([("x", [(n, n % 2) for n in range(4000)])], smooth=False)
    assert {y for _, y in places(dict(paths(svg))["s0"])} == {102.0}


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 0.0), (9, 100.0)], ["0", "20", "40", "60", "80", "100"]),
        ([(1, 0.93), (9, 1.27)], ["1", "1.1", "1.2"]),
        ([(1, 0.0), (9, 5e-4)], ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]),
        ([(1, 1.1e-5), (9, 3e-5)], ["1.5e-5", "2e-5", "2.5e-5", "3e-5"]),
        (
            [(1, 2.0012), (9, 2.0018)],
            ["2.0012", "2.0013", "2.0014", "2.0015", "2.0016", "2.0017", "2.0018"],
        ),
        ([(1, 0.0), (9, 4e4)], ["0", "10,000", "20,000", "30,000", "40,000"]),
        ([(1, -2e7), (9, 1e7)], ["-2e7", "-1.5e7", "-1e7", "-5e6", "0", "5e6", "1e7"]),
        ([(1, 3.0), (9, 3.0)], ["2.7", "2.8", "2.9", "3", "3.1", "3.2", "3.3"]),
        ([(1, 1e308), (2, -1e308), (3, 0.0), (4, 1.0)], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_values_at_the_axis_are_round(points: Points, expected: Sequence[str]) -> None:
    """And none is so large that the axis cannot be drawn."""
    assert labels(line_chart([("x", points)], smooth=False), "end") == expected


@pytest.mark.parametrize("low", [1.386375, 0.0001234567, 123456.25, 9.9e15])
@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-9])
def test_values_at_the_axis_are_not_cut_off(low: float, spread: float) -> None:
    """Each begins within the picture, however little a loss changes; a digit is 7 units wide."""
    svg = line_chart([("x", [(1, low), (9, low * (1 + spread))])], smooth=True)
    texts = list(ElementTree.fromstring(svg).iter("text"))
    own = [text for text in texts if text.get("text-anchor") == "end"]
    assert len(own) > 1
    for text in own:
        assert float(text.get("x", "0")) - 7 * len(str(text.text)) >= 0, text.text


def test_a_level_of_0_has_no_other_values_at_the_axis() -> None:
    """A learning rate is not from -0.1 to 0.1."""
    assert labels(line_chart([("lr", [(1, 0.0)])], smooth=False), "end") == ["0"]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("points", [[(1, 2.0)], [(n, 1.0 if n == 50 else None) for n in range(99)]])
def test_a_point_without_neighbours_is_a_dot(points: Points, smooth: bool) -> None:
    """As the loss of a run of one step."""
    drawn = dict(paths(line_chart([("x", points)], smooth=smooth)))
    assert len(places(drawn["s0 dots"])) == 2


@given(
    low=st.floats(-1e9, 1e9), size=st.floats(1e-9, 1e9), small=st.sampled_from([1.0, 1e-6, 1e-9])
)
@settings(max_examples=60)
def test_no_two_values_at_the_axis_are_the_same(low: float, size: float, small: float) -> None:
    """And each says its place, to a hundredth of the distance to the next."""
    ticks = [small * (low + place * size) for place in range(5)]
    assume(np.diff(ticks).min() > 1e-9 * max(map(abs, ticks)))
    told = [float(text.replace(",", "")) for text in tick_labels(ticks)]
    assert len(set(tick_labels(ticks))) == 5
    assert np.abs(np.array(told) - ticks).max() < small * size / 50


@pytest.mark.parametrize(
    ("last", "expected"), [(0, ["0", "1"]), (2, ["0", "1", "2"]), (4000, ["0", "1,000", "2,000"])]
)
def test_steps_at_the_axis_are_whole(last: int, expected: Sequence[str]) -> None:
    svg = line_chart([("x", [(0, 1.0), (last, 2.0)])], smooth=False)
    assert labels(svg, "middle")[: len(expected)] == expected


def test_the_page_colours_a_chart() -> None:
    """It has no colour, font or id of its own, and the page's style sheet knows its classes."""
    curves = [("<x>", [(1, 1.0), (2, 3.0)]), ("y", [(1, 2.0), (2, None)])]
    style = STYLE.read_text()
    for svg in (line_chart(curves, smooth=smooth) for smooth in (False, True)):
        assert svg.startswith('<svg viewBox="0 0 400 236" role="img" aria-label="&lt;x&gt;, y over')
        attributes = {
            key for element in ElementTree.fromstring(svg).iter() for key in element.attrib
        }
        assert attributes == {
            "viewBox",
            "role",
            "aria-label",
            "class",
            "d",
            "x",
            "y",
            "text-anchor",
        }
        for kind in {each for found in re.findall('class="(.*?)"', svg) for each in found.split()}:
            assert re.search(rf"\.{kind}\b[^}}]*{{", style), kind
    assert line_chart(curves, smooth=False) == line_chart(curves, smooth=False)
