"""Histograms of labels side by side."""

import numpy as np
import pytest

from videomae.lists.formats import Clip
from videomae.lists.labels import compare_labels, count_labels


def test_two_lists_side_by_side() -> None:
    clips = [Clip(f"{n}.mp4", n + 1, label) for n, label in enumerate([0, 0, 0, 1])]
    counts = {
        "data.train_list": count_labels(clips, 3),
        "data.val_list": np.array([1, 2, 1]),
    }
    assert counts["data.train_list"].tolist() == [3, 1, 0]
    assert compare_labels(counts, ["wave", "jump", "a run"]) == [
        "data.train_list: 4 videos of 2 classes, the head has 3; 1 to 3 of a class, median 2",
        "  without a video: a run",
        "data.val_list: 4 videos of 3 classes, the head has 3; 1 to 2 of a class, median 1",
        "the labels' shares of the two lists differ by 50.0 % in all:",
        "    0 wave       3 ████████████████████      1 ███████",
        "    1 jump       1 ███████                   2 █████████████",
        "    2 a run      0                           1 ███████",
        "                   data.train_list             data.val_list",
    ]


def test_classes_of_neither_list_are_not_among_those_that_differ() -> None:
    train, other = np.zeros(101, int), np.zeros(101, int)
    train[[3, 50, 99]], other[[3, 50, 100]] = 4, 2
    lines = compare_labels({"a": train, "b": other}, [f"class {n}" for n in range(101)])
    assert lines[4].endswith("; the 4 classes that differ most:")
    assert [int(line.split()[0]) for line in lines[5:-1]] == [3, 50, 99, 100]


@pytest.mark.parametrize("classes", [400])
def test_of_many_classes_those_that_differ_most(classes: int) -> None:
    train = np.full(classes, 10)
    other = train.copy()
    other[17], other[200:] = 50, 0
    lines = compare_labels({"a": train, "b": other}, [f"class {n}" for n in range(classes)])
    assert (
        "  without a video: class 200, class 201, class 202, class 203, class 204 and 195 more"
        in lines
    )
    assert any(line.startswith("   17 class 17 ") for line in lines)
    assert len(lines) == 3 + 1 + 10 + 1
