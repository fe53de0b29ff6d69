"""The picture of where an encoder attends, in a few videos of a list: figures/attention.png."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from videomae.config import DataConfig, Precision, token_grid
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import Batch, evaluation_loader
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.model.attention_map import attention_received
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.pictures.attention import ClipAttention, save_attention
from videomae.run.arithmetic import autocast

SHOWN = 4
"""Number of videos in the picture."""


def draw_attention(
    model: VideoMAE | VideoClassifier,
    clips: ClipList,
    parts: Mapping[str, DataConfig],
    path: Path,
    precision: Precision,
    truth: Callable[[Clip], str] | None = None,
) -> None:
    """Draw the attention that the tokens of a few videos, evenly spaced over a list, receive.

    Of each video it is the middle view, its centre cut out. Videos that tombstones name are not
    opened, and unreadable ones are left out; if none can be read, no picture is written. One video
    is in memory at a time.

    Args:
        model: a whole model, on the device that computes.
        parts: settings of the data set of each source of the list.
        truth: what the caption says of a video beside its path.
    """
    kept = clips.kept()
    places = kept[np.unique(np.linspace(0, len(kept) - 1, SHOWN).round().astype(int))].tolist()
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found = []
    for clip, batch in _middles(clips.take(places), parts):
        if batch.bad:
            continue
        with torch.inference_mode(), autocast(device, precision):
            received = attention_received(model, normalise(batch.clip.to(device)))
        name = f"line {clip.line}: {clip.name}" + (f": {truth(clip)}" if truth else "")
        grid = received.view(token_grid(model.config, model.clip))
        found.append(ClipAttention(batch.clip[0].clone(), grid, name))
    model.train(training)
    if found:
        save_attention(path, found)


def _middles(clips: ClipList, parts: Mapping[str, DataConfig]) -> Iterator[tuple[Clip, Batch]]:
    """Yield each video of a list, source by source, and its middle view."""
    for source in clips.sources:
        own = [clip for clip in clips if clip.source == source]
        views = EvaluationClips(own, replace(parts[source], segments=1, crops=1))
        batches = evaluation_loader(views, rank=0, world=1, batch=1, workers=1, pin=False)
        yield from zip(own, batches, strict=True)
