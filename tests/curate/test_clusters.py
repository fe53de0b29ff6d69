"""Clusters of features: groups that are there are found, and nothing depends on chance."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from videomae.curate.clusters import clustered, nearest, normalised


def groups(size: int = 60, number: int = 5, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Rows around some directions, and which direction each is of."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (number, width))
    of = np.repeat(np.arange(number), size)
    rows = centres[of] + rng.normal(0, 0.1, (len(of), width))
    return normalised(rows.astype(np.float32)), of


def test_groups_that_are_there_are_found() -> None:
    rows, of = groups()
    assert adjusted_rand_score(of, clustered(rows, 5, seed=1)) == 1.0


def test_it_is_about_as_good_as_scikit_learn() -> None:
    rows = normalised(np.random.default_rng(0).normal(0, 1, (900, 12)).astype(np.float32))
    found = clustered(rows, 12, seed=0)
    means = np.stack([rows[found == place].mean(0) for place in range(12)])
    ours = float(((rows - means[found]) ** 2).sum())
    theirs = [KMeans(12, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(5)]
    assert ours < 1.05 * max(theirs)


def test_equal_seeds_give_equal_clusters_and_others_may_not() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (500, 8)).astype(np.float32)
    rows = normalised(rows)
    first, again, other = (clustered(rows, 9, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_clusters_are_numbered_by_size() -> None:
    rows, _ = groups()
    sizes = np.bincount(clustered(np.concatenate([rows, rows[:60]]), 5, seed=0))
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert sizes[0] == 120


@pytest.mark.parametrize("rows", [1, 3])
def test_fewer_rows_than_clusters_have_one_each(rows: int) -> None:
    some = normalised(np.eye(4, dtype=np.float32)[:rows])
    assert sorted(clustered(some, 10, seed=0)) == list(range(rows))


def test_equal_rows_are_one_cluster() -> None:
    rows = np.ones((50, 4), np.float32)
    assert set(clustered(normalised(rows), 3, seed=0)) == {0}


def test_distances_are_those_by_hand() -> None:
    rows, centres = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[1:]
    places, squares = nearest(rows, centres)
    assert places.tolist() == [0, 0, 1]
    np.testing.assert_allclose(squares, [2, 0, 0], atol=1e-6)
