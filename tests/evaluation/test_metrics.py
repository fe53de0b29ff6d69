"""Accuracies, against a table that a person can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videomae.evaluation.metrics import Scores, interval_of_mean, mean_of_splits
from videomae.run.shares import wilson

NAMES = ["jump", "run", "sit", "swim", "wave", "nap", "fly"]
UNREADABLE = [np.nan] * 7
#     label, probabilities of the 7 classes           rank of the label
TABLE = [
    (0, [0.70, 0.10, 0.05, 0.05, 0.05, 0.03, 0.02]),  # 1
    (0, [0.10, 0.60, 0.20, 0.05, 0.03, 0.01, 0.01]),  # 3
    (0, [0.40, 0.30, 0.10, 0.10, 0.05, 0.03, 0.02]),  # 1
    (0, UNREADABLE),
    (1, [0.50, 0.01, 0.20, 0.15, 0.10, 0.03, 0.01]),  # 6 or 7
    (1, [0.10, 0.55, 0.20, 0.05, 0.05, 0.03, 0.02]),  # 1
    (3, [0.30, 0.25, 0.20, 0.08, 0.10, 0.04, 0.03]),  # 5
    (4, UNREADABLE),
]


def scores(rows: list[tuple[int, list[float]]]) -> Scores:
    labels, probs = zip(*rows, strict=True)
    return Scores(np.array(labels), np.array(probs, dtype=np.float32), NAMES)


def test_results_of_the_table() -> None:
    results = scores(TABLE).results({"segments": 5, "crops": 3})
    assert list(results) == [
        "top1",
        "top1_interval",
        "top5",
        "mean_class_accuracy",
        "num_videos",
        "num_unreadable",
        "views",
        "per_class",
    ]
    assert results["top1"] == 100 * 3 / 8
    assert results["top5"] == 100 * 5 / 8
    assert results["mean_class_accuracy"] == pytest.approx((50 + 50 + 0 + 0) / 4)
    assert (results["num_videos"], results["num_unreadable"]) == (8, 2)
    assert results["views"] == {"segments": 5, "crops": 3}
    assert results["per_class"] == {
        "jump": 50.0,
        "run": 50.0,
        "sit": None,
        "swim": 0.0,
        "wave": 0.0,
        "nap": None,
        "fly": None,
    }


def test_percentages_are_exact() -> None:
    right, wrong = (0, [1.0] + [0.0] * 6), (1, [1.0] + [0.0] * 6)
    results = scores([right] * 249 + [wrong] * 151).results({})
    assert results["top1"] == 62.25


def test_confusion_of_the_table() -> None:
    expected = np.zeros((7, 8), dtype=int)
    expected[0] = [2, 1, 0, 0, 0, 0, 0, 1]  # jump: two right, one taken for run, one unreadable
    expected[1, :2] = [1, 1]
    expected[3, 0] = 1
    expected[4, 7] = 1
    np.testing.assert_array_equal(scores(TABLE).confusion(), expected)


@pytest.mark.parametrize(
    ("k", "correct"), [(1, [1, 0, 1, 0, 0, 1, 0, 0]), (3, [1, 1, 1, 0, 0, 1, 0, 0])]
)
def test_correct_within_the_first_k(k: int, correct: list[int]) -> None:
    assert scores(TABLE).correct(k).tolist() == [bool(value) for value in correct]


def test_an_unreadable_video_is_wrong_even_where_every_class_is_asked_for() -> None:
    assert scores(TABLE).correct(7).tolist() == [True] * 3 + [False] + [True] * 3 + [False]


def test_a_list_of_unreadable_videos_has_an_accuracy_of_0() -> None:
    results = scores([(0, UNREADABLE), (2, UNREADABLE)]).results({})
    assert (results["top1"], results["top5"], results["mean_class_accuracy"]) == (0, 0, 0)
    assert (results["num_videos"], results["num_unreadable"]) == (2, 2)


PROBS = st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=7, max_size=7)  # with many ties
ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.one_of(st.just(UNREADABLE), PROBS)), min_size=1, max_size=9
)


@settings(deadline=None)
@given(rows=ROWS)
def test_the_confusion_matrix_and_the_accuracies_tell_the_same(
    rows: list[tuple[int, list[float]]],
) -> None:
    found = scores(rows)
    confusion, results = found.confusion(), found.results({})
    assert confusion.sum() == len(rows) == results["num_videos"]
    assert confusion[:, -1].sum() == results["num_unreadable"]
    np.testing.assert_array_equal(confusion.sum(1), np.bincount(found.labels, minlength=7))
    assert 100 * np.trace(confusion) / len(rows) == results["top1"]


@settings(deadline=None)
@given(rows=ROWS)
def test_more_guesses_are_never_worse(rows: list[tuple[int, list[float]]]) -> None:
    found = scores(rows)
    counts = [int(found.correct(k).sum()) for k in range(1, 8)]
    assert counts == sorted(counts)
    assert counts[-1] == int(found.readable.sum())


def test_the_interval_is_about_that_of_resampled_videos() -> None:
    """Where there are many videos, resampling them gives the same."""
    rng = np.random.default_rng(0)
    correct = np.arange(200) < 150
    labels = np.zeros(200, dtype=np.int64)
    probs = np.where(correct[:, None], [0.9, 0.1], [0.1, 0.9]).astype(np.float32)
    low, high = Scores(labels, probs, ["a", "b"]).interval()
    means = [100 * rng.choice(correct, 200).mean() for _ in range(4000)]
    expected = np.percentile(means, [2.5, 97.5])
    assert [low, high] == pytest.approx(expected.tolist(), abs=0.6)
    assert low < 75 < high


def test_the_interval_solves_the_equation_of_wilson() -> None:
    """A bound is a share from which the one that was found is 1.96 standard deviations away."""
    for right, videos in ((0, 11), (1, 6), (150, 200), (11, 12)):
        for bound in wilson(right, videos):
            share = bound / 100
            off = (right / videos - share) ** 2 - 1.959964**2 * share * (1 - share) / videos
            assert off == pytest.approx(0, abs=1e-12)
    assert wilson(0, 11) == pytest.approx([0, 25.88], abs=0.01)
    assert wilson(11, 11) == pytest.approx([100 - 25.88, 100], abs=0.01)


@given(
    splits=st.lists(
        st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1
    )
)
def test_an_interval_has_a_width_and_holds_its_number(splits: list[tuple[int, int]]) -> None:
    """Also where all videos are wrong, or all right."""
    percents = [(100 * right / videos, videos) for right, videos in splits]
    low, high = interval_of_mean(percents)
    mean = np.mean([top1 for top1, _ in percents])
    assert -1e-9 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 100 + 1e-9
    assert high - low > 1
    if len(splits) == 1:
        assert [low, high] == pytest.approx(wilson(*splits[0]))


def of_splits(right: list[int], videos: list[int]) -> list[tuple[float, int]]:
    """Top-1 in percent and number of videos of each split."""
    return [(100 * own / of, of) for own, of in zip(right, videos, strict=True)]


def test_the_interval_of_the_mean_of_splits_is_about_that_of_resampled_videos() -> None:
    """Against resampling the videos themselves, within each split."""
    rng = np.random.default_rng(0)
    right, videos = [30, 75, 190], [60, 100, 200]
    correct = [np.arange(of) < own for own, of in zip(right, videos, strict=True)]
    means = [
        100 * np.mean([rng.choice(own, len(own)).mean() for own in correct]) for _ in range(4000)
    ]
    expected = np.percentile(means, [2.5, 97.5])
    found = interval_of_mean(of_splits(right, videos))
    assert found == pytest.approx(expected.tolist(), abs=0.4)


@pytest.mark.parametrize(
    ("truth", "videos"),
    [([0.55, 0.7, 0.85], [150, 240, 90]), ([0.02, 0.02, 0.02], [11, 5, 6])],
)
def test_the_interval_of_the_mean_of_splits_holds_the_truth_95_times_of_100(
    truth: list[float], videos: list[int]
) -> None:
    """Of models whose true accuracies are known, also of few videos with mostly no right one."""
    rng, times = np.random.default_rng(1), 400
    held = held_by_half = 0
    for _ in range(times):
        low, high = interval_of_mean(of_splits(rng.binomial(videos, truth).tolist(), videos))
        off = abs(100 * np.mean(truth) - (low + high) / 2)
        held += off <= (high - low) / 2
        held_by_half += off <= (high - low) / 4
    assert 0.92 <= held / times <= 0.99
    assert held_by_half / times < 0.8  # an interval half as wide would be found out


def test_the_mean_of_splits_adds_up_what_was_trained_on() -> None:
    split = {**dict.fromkeys(("top1", "top5", "mean_class_accuracy"), 50.0), "per_class": {}}
    split |= {"num_videos": 10, "num_unreadable": 0, "views": {"segments": 1, "crops": 1}}
    seen = {"1": split | {"shared_with": {"a": 2}}, "2": split | {"shared_with": {"a": 1, "b": 3}}}
    assert mean_of_splits(seen)["shared_with"] == {"a": 3, "b": 3}
    assert "shared_with" not in mean_of_splits({"1": split, "2": split})


def test_the_mean_of_splits_has_an_interval() -> None:
    single = {"top5": 100.0, "mean_class_accuracy": 60.0, "num_videos": 200, "num_unreadable": 0}
    single |= {"views": {"segments": 5, "crops": 3}, "per_class": {"a": 60.0}}
    found = mean_of_splits({"1": single | {"top1": 50.0}, "2": single | {"top1": 75.0}})
    assert list(found)[:3] == ["top1", "top1_interval", "top5"]
    low, high = found["top1_interval"]
    spread = 100 * np.sqrt(0.25 / 200 + 0.75 * 0.25 / 200) / 2
    assert [low, high] == pytest.approx([62.5 - 1.96 * spread, 62.5 + 1.96 * spread], abs=0.4)
    assert "num_forgotten" not in found


def test_the_mean_of_splits_counts_what_is_forgotten_in_any() -> None:
    single = {"top1": 50.0, "top5": 100.0, "mean_class_accuracy": 60.0, "num_videos": 200}
    single |= {"num_unreadable": 1, "views": {}, "per_class": {"a": 60.0}}
    results = {"1": single | {"num_forgotten": 3}, "2": single, "3": single | {"num_forgotten": 0}}
    found = mean_of_splits(results)
    assert (found["num_forgotten"], found["num_videos"], found["num_unreadable"]) == (3, 600, 3)
    assert found["splits"]["1"]["num_forgotten"] == 3
