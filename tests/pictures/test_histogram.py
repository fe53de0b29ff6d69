"""Histograms: every value is counted once, and limits stand at their places."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from videomae.pictures.histogram import BINS, bin_edges, count_ticks, value_histogram

STYLE = ROOT / "videomae/pictures/templates/style.css"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def paths(svg: str) -> dict[str, list[tuple[float, float]]]:
    """The points of the path of each class."""
    found = {}
    for group in ElementTree.fromstring(svg).iter("g"):
        for path in group.findall("path"):
            numbers = [float(each) for each in re.findall(r"[\d.]+", path.get("d", ""))]
            found[group.get("class", "")] = list(zip(numbers[::2], numbers[1::2], strict=True))
    return found


def heights(points: list[tuple[float, float]]) -> list[float]:
    """The counts of the bins, as shares of the largest that the axis has room for."""
    return [round(((192 - y) / 180) ** 2, 3) for _, y in points[1:-1:2]]


def test_all_values_are_an_area_and_some_a_line_below_it() -> None:
    values = np.repeat([0.0, 0.5, 1.0], [100, 25, 50])
    drawn = paths(value_histogram("x", values, values > 0.2, [0.75]))
    every, some = heights(drawn["s0 area"]), heights(drawn["s1"])
    assert [each for each in every if each] == [1, 0.25, 0.5]
    assert [each for each in some if each] == [0.25, 0.5]
    assert len(every) == BINS
    assert {x for x, _ in drawn["limit"]} == {299.5}  # three quarters of 52 to 382


def test_each_of_a_few_whole_numbers_has_a_bin() -> None:
    values = np.repeat([0.0, 1.0, 3.0], [100, 25, 50])
    drawn = paths(value_histogram("x", values, values > 9, [2.5]))
    assert heights(drawn["s0 area"]) == [1, 0.25, 0, 0.5]
    assert {x for x, _ in drawn["limit"]} == {299.5}  # three quarters, from -0.5 to 3.5


@pytest.mark.long
@given(values=st.lists(NUMBERS, max_size=20), limits=st.lists(st.floats(-10, 10), max_size=2))
def test_any_values_are_drawn_and_no_other_error_ends_the_page(
    values: list[float], limits: list[float]
) -> None:
    numbers = np.array(values)
    svg = value_histogram("a <b> $x$", numbers, np.ones(len(values), bool), limits)
    drawable = np.abs(numbers) < 1e100
    assert bool(svg) == bool(drawable.any())
    if svg:
        ElementTree.fromstring(svg)
        assert "nan" not in svg


@given(
    values=st.lists(st.floats(-1e9, 1e9), min_size=1),
    limits=st.lists(st.floats(-1e9, 1e9), max_size=2),
)
def test_bins_ascend_and_hold_the_limits(values: list[float], limits: list[float]) -> None:
    edges = bin_edges(np.array(values), limits)
    assert (np.diff(edges) > 0).all()
    assert all(edges[0] - 1e-6 <= limit <= edges[-1] + 1e-6 for limit in limits)


@given(most=st.integers(1, 10**9))
def test_ticks_are_round_counts_up_to_the_largest(most: int) -> None:
    ticks = count_ticks(most)
    assert ticks[0] == 0
    assert 1 < len(ticks) <= 4
    assert ticks[-1] <= most
    assert all(len(str(tick).rstrip("0")) <= 1 for tick in ticks)


def test_the_style_sheet_knows_the_classes() -> None:
    style = STYLE.read_text()
    svg = value_histogram("x", np.arange(9.0), np.arange(9) < 5, [3.0])
    assert not re.search("color|font|fill|stroke| id=", svg)
    for kind in {each for found in re.findall('class="(.*?)"', svg) for each in found.split()}:
        assert re.search(rf"\.{kind}\b[^}}]*{{", style), kind
