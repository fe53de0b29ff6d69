"""The features of test videos in a plane, coloured by class, as an SVG for the page.

The method is t-SNE of scikit-learn, which the demo's extra brings; where it is not installed, or
there are few videos, it is PCA. Distances between far groups mean little in t-SNE: the picture
shows which videos lie beside which.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from videomae.evaluation.kept_features import MOST_VIDEOS
from videomae.report.gather import RunRecord
from videomae.run.directory import TEST_FEATURES
from videomae.run.files import regular
from videomae.run.text import escaped

MOST_BYTES = 2**26
"""Largest size of a file of features that is read."""
LEAST_VIDEOS = 10
"""Smallest number of videos for t-SNE."""
PERPLEXITY = 30
"""Perplexity of t-SNE: about the number of neighbours that a video keeps; a third of the videos
at most."""
COMPONENTS = 50
"""Number of principal components that t-SNE sees, at most, as its authors advise."""
TSNE_NAME = "t-SNE"
CAVEAT = "Axes and the distances between far groups have no meaning."
"""Note below a picture by t-SNE; of PCA it is not true."""
MOST_NAMES = 25
"""Largest number of classes in the legend."""
WIDTH, HEIGHT, MARGIN = 640, 440, 12
"""Size of the picture, and its margin."""


class Kept(NamedTuple):
    """The features of some test videos, and their classes."""

    features: NDArray[np.float32]
    """(n, D)."""
    labels: NDArray[np.int64]
    """Class of each video, (n,)."""


def plane_of(run: RunRecord) -> dict[str, Any]:
    """Return what the page shows of a run's features; empty: it has none, or they are damaged."""
    path = run.directory / TEST_FEATURES
    if not run.results or not os.path.isfile(path):
        return {}
    names = list(run.results[0].per_class)
    try:
        kept = _read(run, len(names))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        run.damaged.append(f"{path} cannot be used: {error}")
        return {}
    if len(kept.labels) < 3:
        return {}
    points, method = flattened(kept.features)
    present, counts = np.unique(kept.labels, return_counts=True)
    hues = {label: 360 * place / len(present) for place, label in enumerate(present.tolist())}
    order = sorted(present[np.argsort(-counts, kind="stable")][:MOST_NAMES].tolist())
    return {
        "svg": _drawing(points, kept.labels, names, hues),
        "method": method,
        "caveat": CAVEAT if method.startswith(TSNE_NAME) else "",
        "videos": len(points),
        "legend": [(names[label], round(hues[label])) for label in order],
        "classes": len(present),
    }


def flattened(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], str]:
    """Return features as points of a plane, (n, 2), and the name of the method.

    Args:
        features: (n, D), at least 3 rows.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    components = (left * sizes)[:, :COMPONENTS]
    if len(features) >= LEAST_VIDEOS and sizes[0] > 0:
        try:
            from sklearn.manifold import TSNE
        except ImportError:
            missing = '; t-SNE needs scikit-learn: pip install "videomae[demo]"'
        else:
            perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
            tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
            return tsne.fit_transform(components), f"{TSNE_NAME}, perplexity {perplexity:.3g}"
    else:
        missing = ""
    share = 100 * (sizes[:2] ** 2).sum() / max((sizes**2).sum(), 1e-30)
    points = np.zeros((len(features), 2))
    points[:, : min(2, components.shape[1])] = components[:, :2]
    return points, f"PCA, {share:.0f} % of the variance{missing}"


def _read(run: RunRecord, classes: int) -> Kept:
    """Read features.safetensors of a run, which may be another's.

    Raises:
        ValueError, KeyError, TypeError, SafetensorError, OSError: the file does not hold the
            features of videos of these classes.
    """
    path = regular(run.directory / TEST_FEATURES)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    with safe_open(path, framework="np") as file:
        features, labels = file.get_tensor("features"), file.get_tensor("label")
    if features.dtype != np.float32 or labels.dtype != np.int64:
        raise ValueError(f"its numbers are {features.dtype} and {labels.dtype}")
    if features.ndim != 2 or features.shape[1] == 0 or labels.shape != features.shape[:1]:
        raise ValueError(f"its shapes are {features.shape} and {labels.shape}")
    if len(labels) > MOST_VIDEOS or not np.isfinite(features).all():
        raise ValueError("it holds more videos than are kept, or features that are not finite")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"its classes are not those of the {classes} in results.json")
    return Kept(features, labels)


def _drawing(
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    names: Sequence[str],
    hues: dict[int, float],
) -> Markup:
    """Return an svg element with a dot for each video; the page's style sheet gives the colours."""
    low, size = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    frame = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    scale = (frame / size).min()  # the same in both directions
    places = (points - low) * scale + MARGIN + (frame - size * scale) / 2
    dots = [
        Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="4.5" style="--h: {:.0f}"><title>{}</title></circle>'
        ).format(x, HEIGHT - y, hues[label], escaped(names[label]))
        for (x, y), label in zip(places, labels.tolist(), strict=True)
    ]
    return Markup(
        '<svg class="plane" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        "Features of test videos in a plane, coloured by class",
        Markup("").join(dots),
    )
