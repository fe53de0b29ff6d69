"""Features in a plane: groups stay groups, and what is not of this project is named."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from videomae.evaluation.kept_features import MOST_VIDEOS
from videomae.report.about import About
from videomae.report.gather import RunRecord
from videomae.report.page import page
from videomae.report.plane import flattened, plane_of
from videomae.report.results import Result
from videomae.report.summary import rows

ABOUT = About("2026-11-26 12:00 UTC", "python -m videomae.report", None)


def groups(each: int = 20, dim: int = 32) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three groups of points that lie apart, and their classes."""
    rng = np.random.default_rng(0)
    centres = 6 * rng.standard_normal((3, dim))
    labels = np.arange(3).repeat(each)
    return (centres[labels] + rng.standard_normal((3 * each, dim))).astype(np.float32), labels


def same_class_beside(points: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The share of points whose nearest neighbour is of their own class."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(1)] == labels).mean())


def a_run(directory: Path, names: tuple[str, ...] = ("a", "<b>", "c\x1b")) -> RunRecord:
    per_class: dict[str, float | None] = dict.fromkeys(names, 50.0)
    return RunRecord(directory, results=[Result(50, 90, 50, 60, 0, "1 x 1", per_class, None)])


def kept(directory: Path, **changed: Any) -> None:
    features, labels = groups()
    tensors = {"features": features, "label": labels, "line": labels} | changed
    save_file(tensors, directory / "features.safetensors")


def test_groups_stay_groups_by_both_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    features, labels = groups()
    points, method = flattened(features)
    assert method == "t-SNE, perplexity 19.7"
    assert same_class_beside(points, labels) == 1
    assert np.array_equal(flattened(features)[0], points)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    points, method = flattened(features)
    assert method.startswith("PCA, ")
    assert 'pip install "videomae[demo]"' in method
    assert same_class_beside(points, labels) == 1
    shuffled = np.random.default_rng(1).permutation(labels)
    assert same_class_beside(points, shuffled) < 0.7


def test_pca_keeps_the_two_directions_in_which_features_differ_most() -> None:
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((9, 2)) * [5, 2]
    turn = np.linalg.qr(rng.standard_normal((16, 16)))[0][:2]
    points, method = flattened((plane @ turn + 3).astype(np.float32))
    assert method == "PCA, 100 % of the variance"  # nine are too few for t-SNE
    between = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (points, plane)]
    np.testing.assert_allclose(*between, atol=1e-4)
    same = np.ones((12, 4), dtype=np.float32)
    assert np.isfinite(flattened(same)[0]).all()


def test_each_video_is_a_dot_of_its_class(tmp_path: Path) -> None:
    kept(tmp_path)
    found = plane_of(a_run(tmp_path))
    assert found["svg"].count("<circle") == 60
    assert found["svg"].count("--h: 120") == 20
    assert "<title>&lt;b&gt;</title>" in found["svg"]
    assert "\x1b" not in found["svg"]
    assert [name for name, _ in found["legend"]] == ["a", "<b>", "c\x1b"]


def test_only_of_t_sne_the_page_says_that_far_distances_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path)
    run = a_run(tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.manifold", None)
        assert plane_of(run)["method"].startswith("PCA, ")
        assert "have no meaning" not in page([run], rows([run]), [], {}, {}, ABOUT)
    pytest.importorskip("sklearn")
    assert "have no meaning" in page([run], rows([run]), [], {}, {}, ABOUT)


def test_the_colours_are_those_of_the_classes_that_are_there(tmp_path: Path) -> None:
    """Three of 101 classes: as far from each other as three of three."""
    _, labels = groups()
    kept(tmp_path, label=labels * 5)
    found = plane_of(a_run(tmp_path, tuple(f"c{n}" for n in range(101))))
    assert found["legend"] == [("c0", 0), ("c5", 120), ("c10", 240)]
    assert [found["svg"].count(f"--h: {hue}") for hue in (0, 120, 240)] == [20, 20, 20]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"features": np.zeros((60, 4), np.float16)}, "its numbers are float16"),
        ({"features": np.zeros((59, 4), np.float32)}, "its shapes are"),
        ({"features": np.zeros((60, 0), np.float32)}, "its shapes are"),
        ({"features": np.full((60, 4), np.nan, np.float32)}, "not finite"),
        ({"label": np.full(60, 3)}, "its classes are not those of the 3"),
        ({"label": np.full(60, -1)}, "its classes are not those of the 3"),
        (
            {
                "features": np.zeros((MOST_VIDEOS + 1, 4), np.float32),
                "label": np.zeros(MOST_VIDEOS + 1, np.int64),
            },
            "more videos than are kept",
        ),
    ],
)
def test_features_of_others_are_checked(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    kept(tmp_path, **changed)
    run = a_run(tmp_path)
    assert plane_of(run) == {}
    assert len(run.damaged) == 1
    assert words in run.damaged[0]


@pytest.mark.parametrize("content", [b"", b"x" * 100, (2**60).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "features.safetensors").write_bytes(content)
    run = a_run(tmp_path)
    assert plane_of(run) == {}
    assert "features.safetensors cannot be used" in run.damaged[0]


def test_without_features_or_with_other_tensors_there_is_no_picture(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert plane_of(run) == {}
    assert not run.damaged
    save_file({"features": np.zeros((3, 2), np.float32)}, tmp_path / "features.safetensors")
    assert plane_of(run) == {}
    assert "label" in json.dumps(run.damaged)
