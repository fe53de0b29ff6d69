"""Features of test videos that an evaluation or a probe keeps, for a picture of them in a plane.

videomae.report draws it. The file, features.safetensors, holds of at most MOST_VIDEOS readable
videos, evenly spaced over the list: `features` (n, D) float32, `label` (n,) int64, and `line` (n,)
int64, the line of the list.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from videomae.evaluation.features import Features
from videomae.lists.clips import ClipList
from videomae.model.classifier import VideoClassifier
from videomae.run.directory import TEST_FEATURES
from videomae.run.files import replacing
from videomae.run.record import made

MOST_VIDEOS = 1000
"""Largest number of videos whose features are kept."""


def kept_places(num_videos: int) -> list[int]:
    """Return the indices of the videos whose features are kept, evenly spaced over the list."""
    places = np.linspace(0, num_videos - 1, min(num_videos, MOST_VIDEOS)).round().astype(int)
    return np.unique(places).tolist()


@contextmanager
def keeping_features(
    model: VideoClassifier, batches: Sequence[Sequence[int]], num_videos: int
) -> Iterator[dict[int, Tensor]]:
    """Keep the features from which a classifier predicts, while it is called in the block.

    They are the input of its head: the mean of a view's tokens, normalised; here also the mean over
    the views of a video.

    Args:
        batches: indices of the videos of each call, in the order of the calls.
        num_videos: number of videos of the whole list.

    Returns:
        (D,) float32 on the CPU of each video, by its index; filled during the block.
    """
    kept: dict[int, Tensor] = {}
    wanted, pending = set(kept_places(num_videos)), iter(batches)

    def keep(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        places = next(pending)
        chosen = [place for place, index in enumerate(places) if index in wanted]
        if chosen:
            means = output.unflatten(0, (len(places), -1)).float().mean(1)[chosen].cpu()
            kept.update(zip((places[place] for place in chosen), means, strict=True))

    hook = model.fc_norm.register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def write_features(directory: Path, features: Mapping[int, Tensor], clips: ClipList) -> None:
    """Write features.safetensors into the directory of an evaluation or a probe.

    Args:
        features: (D,) of each readable video, by its index in the list.
        clips: the list, with labels.
    """
    labels, lines = clips.labels(), [clips[index].line for index in features]
    tensors = {
        "features": torch.stack(list(features.values())),
        "label": torch.tensor([int(labels[index]) for index in features]),
        "line": torch.tensor(lines),
    }
    with replacing(made(directory, TEST_FEATURES)) as temporary:
        save_file(tensors, temporary)


def keep_features(directory: Path, test: Features, clips: ClipList) -> None:
    """Write features.safetensors of a probe's test list, of which each video has one view."""
    wanted = set(kept_places(len(clips)))
    rows = zip(test.video.tolist(), test.mean, strict=True)
    if found := {index: mean for index, mean in rows if index in wanted}:
        write_features(directory, found, clips)
