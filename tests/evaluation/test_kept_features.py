"""The features that an evaluation keeps: those that its head sees, of the right videos."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.model.test_layers import CLIP, CONFIG
from videomae.evaluation import kept_features
from videomae.evaluation.kept_features import keeping_features, kept_places, write_features
from videomae.model import VideoClassifier
from videomae.model.pixels import normalise


@pytest.fixture
def model() -> VideoClassifier:
    torch.manual_seed(0)
    return VideoClassifier(CONFIG, CLIP, 3).eval()


def test_they_are_the_means_over_views_from_which_the_head_predicts(model: VideoClassifier) -> None:
    """Two views of each of five videos, in batches that do not divide them."""
    torch.manual_seed(1)
    frames = torch.randint(0, 256, (5, 2, 4, 32, 32, 3), dtype=torch.uint8)
    outputs = []
    with torch.inference_mode(), keeping_features(model, [[0, 1], [2, 3], [4]], 5) as kept:
        for batch in (frames[:2], frames[2:4], frames[4:]):
            outputs.append(model(normalise(batch.flatten(0, 1))))
    means = torch.cat(outputs).unflatten(0, (5, 2)).mean(1)
    assert list(kept) == list(range(5))
    torch.testing.assert_close(model.head(torch.stack(list(kept.values()))), means)
    assert not model.fc_norm._forward_hooks


def test_a_bounded_number_of_videos_spread_over_the_list_is_kept(
    model: VideoClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(kept_places(100_000)) == kept_features.MOST_VIDEOS
    assert kept_places(3) == [0, 1, 2]
    monkeypatch.setattr(kept_features, "MOST_VIDEOS", 3)
    assert kept_places(9) == [0, 4, 8]
    clip = normalise(torch.zeros(3, 4, 32, 32, 3, dtype=torch.uint8))
    with torch.inference_mode(), keeping_features(model, [[0, 1, 2], [6, 7, 8]], 9) as kept:
        model(clip)
        model(clip)
    assert list(kept) == [0, 8]  # this process's share


def test_the_file_says_which_class_and_line_each_is_of(tmp_path: Path) -> None:
    clips: Any = [SimpleNamespace(line=10 + n) for n in range(4)]
    clips = type("Clips", (list,), {"labels": lambda _: np.array([5, 6, 7, 8])})(clips)
    write_features(tmp_path, {1: torch.ones(2), 3: torch.zeros(2)}, clips)
    found = load_file(tmp_path / "features.safetensors")
    assert (found["label"].tolist(), found["line"].tolist()) == ([6, 8], [11, 13])
    assert found["features"].tolist() == [[1, 1], [0, 0]]
    assert "features.safetensors" in (tmp_path / "written.json").read_text()
