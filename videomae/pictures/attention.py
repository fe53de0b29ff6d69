"""PNG pictures of the attention that the tokens of clips receive, drawn over their frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videomae.pictures.figures import SHEET, blank_figure, filmstrip, save_figure, spaced
from videomae.run.text import shown

WIDTH = 5.0
"""Width of the picture in inches: clips are below each other, so that a phone can show them."""
LONGEST = 64
"""Largest number of characters of a caption that are shown: its end."""
HEAT = 0.6
"""Share of the colour of the attention in a pixel; the rest is the frame in grey."""
MEANING = (
    "attention that each token receives in the last block, mean over heads and queries:\n"
    "black none, yellow the most of the clip, or twice the mean if that is more"
)
"""Note below the pictures, which says what is drawn."""


class ClipAttention(NamedTuple):
    """A clip, and the attention that its tokens receive."""

    frames: Tensor
    """(T, H, W, 3) uint8."""
    received: Tensor
    """(t, h, w) float32: share of each token; the sum is 1."""
    caption: str


def heat(clip: ClipAttention) -> NDArray[np.uint8]:
    """Return the frames of a clip in grey under the colours of its attention: (T, H, W, 3) uint8.

    The colours reach from none to the most of the clip, or to twice the mean where that is more, so
    that attention which is about the same everywhere looks the same everywhere. All pixels of a
    token have one.
    """
    import matplotlib as mpl

    frames, height, width, _ = clip.frames.shape
    t, h, w = clip.received.shape
    most = clip.received.max().clamp(min=2 / clip.received.numel())
    share = (clip.received / most).numpy()
    whole = share.repeat(frames // t, 0).repeat(height // h, 1).repeat(width // w, 2)
    colours = mpl.colormaps["inferno"](whole)[..., :3]
    grey = clip.frames.numpy().mean(-1, keepdims=True) / 255
    return (255 * (HEAT * colours + (1 - HEAT) * grey)).round().astype(np.uint8)


def save_attention(path: Path, clips: Sequence[ClipAttention], most_frames: int = 6) -> None:
    """Write a picture of clips: of each a filmstrip, and below it the same under its attention.

    Args:
        most_frames: largest number of frames; of a longer clip, evenly spaced frames are shown.
    """
    count, height, width, _ = clips[0].frames.shape
    places = spaced(count, most_frames)
    aspect = 2 * height / (len(places) * width)
    high = 0.4 + len(clips) * (WIDTH * aspect + 0.25)
    figure = blank_figure((WIDTH, min(high, SHEET)))
    axes = np.atleast_1d(figure.subplots(len(clips), 1))
    for ax, clip in zip(axes, clips, strict=True):
        ax.set_axis_off()
        pair = [clip.frames, torch.from_numpy(heat(clip))]
        strips = filmstrip([each[places].float() / 255 for each in pair], gap=max(1, width // 32))
        ax.imshow(strips, interpolation="nearest")
        times = float(clip.received.max()) * clip.received.numel()
        caption = shown(clip.caption)
        caption = caption if len(caption) <= LONGEST else f"... {caption[4 - LONGEST :]}"
        ax.set_title(f"{caption} (most: {times:.2g} x the mean)", loc="left", fontsize=7)
    figure.supxlabel(MEANING, fontsize=7)
    save_figure(path, figure)
