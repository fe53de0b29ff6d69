"""Shares of samples: their intervals hold the truth about as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videomae.run.shares import share_inside, weighted_share, wilson

MEMBERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.1, 1e6)), max_size=30)


@given(members=MEMBERS)
def test_a_share_lies_in_its_interval(members: list[tuple[bool, bool, float]]) -> None:
    inside, right, weights = ([each[n] for each in members] for n in range(3))
    for found in (weighted_share(right, weights), share_inside(inside, right, weights)):
        if found is not None:
            assert -1e-9 <= found.least <= found.percent + 1e-9
            assert found.percent - 1e-9 <= found.most <= 100 + 1e-9
            assert 0 <= found.right <= found.of <= len(members)
    assert (weighted_share(right, weights) is None) is (not members)
    assert (share_inside(inside, right, weights) is None) is (not any(right))


def test_equal_weights_do_not_count() -> None:
    right = [True] * 7 + [False] * 3
    found = weighted_share(right, [250.0] * 10)
    assert found is not None
    assert (found.percent, found.right, found.of) == (pytest.approx(70), 7, 10)
    assert [found.least, found.most] == pytest.approx(wilson(7, 10))
    all_of_them = weighted_share([True] * 10, [3.3] * 10)
    assert all_of_them is not None
    assert all_of_them.most == 100
    assert all_of_them.least < 75


def test_what_a_small_sample_misses_is_allowed_for() -> None:
    """All that was found is inside, but 50 of a million outside say little of them."""
    found = share_inside(
        [True] * 50 + [False] * 50, [True] * 50 + [False] * 50, [200.0] * 50 + [2e4] * 50
    )
    assert found is not None
    assert found.percent == 100
    assert found.least < 20
    assert found.most == 100


@pytest.mark.parametrize(
    ("sizes", "truth"),
    [((9000, 1000), (0.8, 0.3)), ((500, 20000), (0.95, 0.1)), ((50, 50), (0.6, 0.4))],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(
    sizes: tuple[int, int], truth: tuple[float, float]
) -> None:
    """40 members are drawn of each of two parts, 2,000 times."""
    rng = np.random.default_rng(0)
    parts = [
        np.arange(size) < round(size * share) for size, share in zip(sizes, truth, strict=True)
    ]
    true = 100 * parts[0].sum() / (parts[0].sum() + parts[1].sum())
    inside = [True] * 40 + [False] * 40
    weights = [sizes[0] / 40] * 40 + [sizes[1] / 40] * 40
    held = 0
    for _ in range(2000):
        right = [bool(each) for part in parts for each in rng.choice(part, 40, replace=False)]
        found = share_inside(inside, right, weights)
        held += found is not None and found.least <= true <= found.most
    assert held / 2000 > 0.93
