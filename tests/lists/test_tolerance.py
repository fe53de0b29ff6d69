"""How many unreadable videos are put up with."""

import pytest

from videomae.lists.tolerance import too_many_bad


@pytest.mark.parametrize(
    ("num_bad", "num_tried", "max_bad_fraction", "too_many"),
    [
        (1, 1, 0.01, False),
        (1, 20, 0.01, False),  # a single file stops no run, however short the list
        (1, 20, 0.0, False),
        (2, 20, 0.01, True),
        (2, 20, 0.0, True),
        (2, 200, 0.01, False),
        (3, 200, 0.01, True),
        (20, 20, 1.0, False),
    ],
)
def test_more_than_one_file_and_more_than_the_share(
    num_bad: int, num_tried: int, max_bad_fraction: float, too_many: bool
) -> None:
    assert too_many_bad(num_bad, num_tried, max_bad_fraction) is too_many
