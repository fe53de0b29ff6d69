"""Views to predictions: means over the views of each video, whatever the batches."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import write_list
from videomae.config import ClipConfig, DataConfig
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import Batch, evaluation_loader
from videomae.evaluation.predictions import gather_predictions, predict_videos
from videomae.lists.clips import read_clips
from videomae.run.bad_files import BadFile

VIEWS, CLASSES = 3, 4


def logits_of(clip: Tensor) -> Tensor:
    """Something of each view that is not linear in its pixels: (V, T, H, W, 3) -> (V, classes)."""
    means = clip.float().flatten(1).mean(1) / 40
    return torch.stack([means, means.sin(), means.square() / 5, 1 - means], 1)


def probs_of(clip: Tensor) -> Tensor:
    return logits_of(clip).softmax(1)


def batch_of(videos: list[int], bad: list[int] = ()) -> Batch:  # type: ignore[assignment]
    index = torch.tensor(videos).repeat_interleave(VIEWS)
    torch.manual_seed(videos[0])
    return Batch(
        clip=torch.randint(0, 256, (len(index), 2, 2, 2, 3), dtype=torch.uint8),
        video=index,
        label=index,
        valid=torch.tensor([video not in bad for video in index.tolist()]),
        mask=None,
        decoder_mask=None,
        num_short=0,
        bad=[BadFile(video, f"{video}.mp4", video + 1, "gone") for video in bad],
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_a_prediction_is_the_mean_probability_of_the_views() -> None:
    batches = [batch_of([4, 0]), batch_of([2])]
    done: list[int] = []
    predictions, bad, _ = predict_videos(probs_of, batches, done.append)
    assert predictions.keys() == {4, 0, 2}
    assert bad == []
    assert done == [2, 1]
    for batch in batches:
        probs = softmax(logits_of(batch.clip).double().numpy())
        for video in batch.video.unique().tolist():
            expected = probs[batch.video.numpy() == video].mean(0)
            np.testing.assert_allclose(predictions[video], expected, rtol=1e-5)
            of_mean_logits = softmax(
                logits_of(batch.clip).double().numpy()[batch.video.numpy() == video].mean(0)[None]
            )[0]
            assert not np.allclose(predictions[video], of_mean_logits, rtol=1e-3)


def test_an_unreadable_video_has_no_prediction_and_is_listed() -> None:
    predictions, bad, _ = predict_videos(probs_of, [batch_of([0, 1, 2], bad=[1])], lambda _: None)
    assert predictions.keys() == {0, 2}
    assert [file.video for file in bad] == [1]
    whole, *_ = predict_videos(probs_of, [batch_of([0, 1, 2])], lambda _: None)
    for video in (0, 2):
        np.testing.assert_array_equal(predictions[video], whole[video])


def test_probabilities_by_place_in_the_list() -> None:
    first, last = np.full(CLASSES, 0.25, np.float32), np.eye(CLASSES, dtype=np.float32)[1]
    probs = gather_predictions({2: last, 0: first}, 3, CLASSES)
    assert probs.dtype == np.float32
    np.testing.assert_array_equal(probs, [first, [np.nan] * CLASSES, last])


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("world", [1, 3])
def test_real_videos_in_any_batches_and_shares(
    videos: Path, tmp_path: Path, batch: int, world: int
) -> None:
    names = ["0.mp4", "1.mp4", "missing.mp4", "3.mp4", "4.mp4"]
    data = DataConfig(
        clip=ClipConfig(frames=2, stride=2, size=16), root=str(videos), segments=2, crops=2
    )
    clips = read_clips(write_list(tmp_path / "list.txt", names), data, labelled=False)
    dataset = EvaluationClips(clips, data)
    owner = 2 // batch % world  # of the missing video

    def shares() -> Iterator[dict[int, np.ndarray]]:
        for rank in range(world):
            loader = evaluation_loader(
                dataset, rank=rank, world=world, batch=batch, workers=0, pin=False
            )
            predictions, bad, _ = predict_videos(probs_of, loader, lambda _: None)
            assert [file.path for file in bad] == (["missing.mp4"] if owner == rank else [])
            yield predictions

    found = list(shares())
    assert sum(len(part) for part in found) == 4
    merged = {index: probs for part in found for index, probs in part.items()}
    assert merged.keys() == {0, 1, 3, 4}
    for index, probs in merged.items():
        views = dataset[index].clip
        assert len(views) == 4
        expected = softmax(logits_of(views).double().numpy()).mean(0)
        np.testing.assert_allclose(probs, expected, rtol=1e-5)
