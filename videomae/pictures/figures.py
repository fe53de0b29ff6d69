"""PNG figures: reconstructions, contact sheets, loss curves and confusion matrices."""

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from videomae.config import Precision, token_grid
from videomae.model.loss import tubelet_statistics
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.model.pixels import unnormalise
from videomae.model.tubelet import cut_tubelets, take
from videomae.pictures.line_chart import running_mean
from videomae.run.arithmetic import autocast
from videomae.run.files import replacing
from videomae.run.log import logged
from videomae.run.record import made
from videomae.run.text import shown

if TYPE_CHECKING:  # drawing comes late in a run, and may never come
    from matplotlib.figure import Figure

GREY = 0.5
"""Pixel value of a masked tubelet in a picture, 0 to 1."""
SHEET, CAPTION, LEAST_FRAME = 8.0, 0.22, 0.6
"""Largest height of a picture that fits a screen, height of a view's caption, and width below which
a frame is too small to be seen, in inches; 120 pixels are an inch."""
STATISTICS = "a tubelet predicted as normalised pixels takes mean and contrast from the original"
"""Note beside each reconstruction; it holds for all models that predict normalised pixels."""


@torch.no_grad()  # torchao's float8 layers fail in inference mode
def reconstruction_rows(
    model: VideoMAE, clip: Tensor, encoder_mask: Tensor, precision: Precision
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the original, the masked and the rebuilt pixels of each clip.

    The decoder rebuilds every masked token. If the model predicts normalised pixels, each rebuilt
    tubelet gets the mean and the standard deviation of the original one.

    Args:
        clip: (B, 3, T, H, W), normalised, on the model's device.
        encoder_mask: (B, N) bool, True = masked.
        precision: precision of the training: a sharded model may hold weights that fit no other
            one, and not every attention kernel supports float32.

    Returns:
        Three tensors (B, T, H, W, 3) in [0, 1], float32 on the CPU.
    """
    patch, tubelet = model.config.patch, model.config.tubelet
    masks = MaskIndices.of(encoder_mask.cpu())
    masks = MaskIndices(*(indices.to(clip.device) for indices in masks))
    with autocast(clip.device, precision):
        prediction, _ = model.rebuild(clip, masks)
    original = unnormalise(cut_tubelets(clip, patch, tubelet))  # (B, N, P, 3)
    rebuilt_tubelets = prediction.float().unflatten(2, (-1, 3))
    if model.config.normalise_targets:
        mean, spread = tubelet_statistics(take(original, masks.decoded))
        rebuilt_tubelets = rebuilt_tubelets * spread + mean
    places = masks.decoded[:, :, None, None].expand_as(rebuilt_tubelets)
    hidden = original.scatter(1, places, GREY)
    rebuilt = original.scatter(1, places, rebuilt_tubelets)
    t, h, _ = token_grid(model.config, model.clip)
    rows = [
        rearrange(x, "b (t h w) (u p q) c -> b (t u) (h p) (w q) c", t=t, h=h, u=tubelet, p=patch)
        for x in (original, hidden, rebuilt)
    ]
    original, hidden, rebuilt = (row.clamp(0, 1).cpu() for row in rows)
    return original, hidden, rebuilt


def filmstrip(rows: Sequence[Tensor], gap: int = 2) -> NDArray[np.uint8]:
    """Return rows of frames, (T, H, W, 3) in [0, 1] each, as one picture, (H', W', 3) uint8.

    Args:
        gap: width of the white gaps between frames, in pixels.
    """
    padded = [torch.nn.functional.pad(row, (0, 0, 0, gap, 0, gap), value=1.0) for row in rows]
    lines = [rearrange(row, "t h w c -> h (t w) c") for row in padded]
    return (torch.cat(lines) * 255).round().byte().numpy()


def save_reconstructions(
    path: Path, rows: tuple[Tensor, Tensor, Tensor], title: str, most_frames: int = 8
) -> None:
    """Write a picture of each clip as three filmstrips: original, masked and rebuilt.

    Args:
        rows: result of `reconstruction_rows`.
        most_frames: largest number of frames; of a longer clip, evenly spaced frames are shown.
    """
    save_figure(path, _reconstructions(rows, title, most_frames))


def reconstructions_png(
    rows: tuple[Tensor, Tensor, Tensor], title: str, most_frames: int = 8
) -> bytes:
    """Return the bytes of the picture that `save_reconstructions` writes."""
    content = BytesIO()
    _write(_reconstructions(rows, title, most_frames), content)
    return content.getvalue()


def _reconstructions(rows: tuple[Tensor, Tensor, Tensor], title: str, most_frames: int) -> "Figure":
    num_clips, frames, height, width, _ = rows[0].shape
    shown = spaced(frames, most_frames)
    aspect = 3 * height / (len(shown) * width)
    columns = min(2, num_clips)
    lines = -(-num_clips // columns)
    high = 0.9 + lines * (10 / columns * aspect + 0.15)
    figure = blank_figure((11, min(high, SHEET)))
    axes = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for ax in axes[num_clips:]:
        ax.set_axis_off()
    for clip, ax in enumerate(axes[:num_clips]):
        gap = max(1, width // 32)
        ax.imshow(filmstrip([row[clip][shown] for row in rows], gap=gap), interpolation="nearest")
        ax.set_yticks(
            [height * (i + 0.5) + gap * i for i in range(3)], ["original", "masked", "rebuilt"]
        )
        ax.set_xticks(
            [(width + gap) * (i + 0.5) for i in range(len(shown))], [f"{i}" for i in shown]
        )
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    figure.supxlabel(f"frame of the clip ({STATISTICS})", fontsize=9)
    figure.suptitle(title)
    return figure


def save_contact_sheet(
    path: Path, frames: Tensor, segments: int, crops: int, title: str, most_frames: int = 8
) -> None:
    """Write a picture of a video's views: a filmstrip of each, the crops of a segment side by side.

    It fits a screen: it is at most SHEET inches high, where need be with fewer frames of a view.

    Args:
        frames: (segments * crops, T, H, W, 3) uint8.
        most_frames: largest number of frames; of a longer clip, evenly spaced frames are shown.
    """
    count, height, width = frames.shape[1:4]
    rows, columns, number, wide = sheet_layout(
        segments, crops, min(count, most_frames), height / width
    )
    places = spaced(count, number)
    high = 0.75 + rows * (wide * height / width + CAPTION)
    figure = blank_figure((11, min(high, SHEET)))
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for ax in axes:
        ax.set_axis_off()
    for place, (ax, view) in enumerate(zip(axes, frames, strict=False)):
        strip = filmstrip([view[places].float() / 255], gap=max(1, width // 32))
        ax.imshow(strip, interpolation="nearest")
        ax.set_title(f"{place // crops + 1}.{place % crops + 1}", loc="left", fontsize=7, pad=2)
    figure.suptitle(title, fontsize=10)
    numbers = ", ".join(map(str, places))
    figure.supxlabel(f"views: segment.crop; frames {numbers} of each clip", fontsize=9)
    save_figure(path, figure)


def sheet_layout(
    segments: int, crops: int, most_frames: int, aspect: float
) -> tuple[int, int, int, float]:
    """Return rows, columns and frames of each view of a contact sheet, and a frame's width.

    A column is a crop, or several segments are in a row. Of the layouts whose frames are at least
    LEAST_FRAME wide the one with the most frames is taken, with the largest ones; else the one with
    the largest frames.

    Args:
        aspect: height of a frame by its width.

    Returns:
        the width is in inches.
    """
    found = []
    for number in range(most_frames, 0, -1):
        for beside in range(1, segments + 1):
            rows, columns = -(-segments // beside), beside * crops
            high = (SHEET - 0.75) / rows - CAPTION
            wide = min(10.6 / (columns * number), high / aspect)
            found.append((rows, columns, number, wide))
    whole = [each for each in found if each[3] >= LEAST_FRAME]
    return max(whole, key=lambda each: each[2:]) if whole else max(found, key=lambda each: each[3])


def save_clips(path: Path, clips: Tensor, captions: Sequence[str], most_frames: int = 8) -> None:
    """Write a picture of clips: a filmstrip of each clip below its caption.

    Args:
        clips: (C, T, H, W, 3) uint8.
        most_frames: largest number of frames; of a longer clip, evenly spaced frames are shown.
    """
    count, height, width = clips.shape[1:4]
    shown = spaced(count, most_frames)
    row = 10 * height / (width * len(shown)) + 0.35
    figure = blank_figure((10.4, len(clips) * row))
    for ax, clip, caption in zip(
        np.atleast_1d(figure.subplots(len(clips), 1)), clips, captions, strict=True
    ):
        strip = filmstrip([clip[shown].float() / 255], gap=max(1, width // 32))
        ax.imshow(strip, interpolation="nearest")
        ax.set_title(caption, loc="left", fontsize=9)
        ax.set_axis_off()
    save_figure(path, figure)


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` evenly spaced numbers from 0 to count - 1, int64."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def save_curves(
    path: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ylabel: str,
    title: str,
) -> None:
    """Write a picture of curves over steps: of each, a fine line and its bold running mean.

    Args:
        curves: steps and values of each curve, by its name.
    """
    figure = blank_figure((8, 4.5))
    ax = figure.subplots()
    for number, (name, (steps, values)) in enumerate(curves.items()):
        colour = f"C{number}"
        ax.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
        if values:
            mean = running_mean(np.column_stack([steps, values]))
            ax.plot(*mean.T, color=colour, label=name)
    ax.set(xlabel="step", ylabel=ylabel, title=title)
    ax.grid(alpha=0.3)
    if any(values for _, values in curves.values()):
        ax.legend()
    save_figure(path, figure)


def save_loss_curve(directory: Path) -> None:
    """Write figures/loss.png into a run directory, from its metrics.jsonl."""
    path = made(directory, "figures/loss.png")
    save_curves(path, {"loss": logged(directory, "loss")}, "loss", "Training")


def save_confusion(
    path: Path, confusion: NDArray[np.int64], class_names: Sequence[str], title: str
) -> None:
    """Write a picture of a confusion matrix, in percent of each row's videos.

    Args:
        confusion: (classes, classes + 1) counts: rows are true classes, columns predicted ones, the
            last column unreadable videos.
    """
    classes = len(class_names)
    class_names = [shown(name) for name in class_names]
    columns = [*class_names, "unreadable"] if confusion[:, -1].any() else list(class_names)
    counts = confusion[:, : len(columns)]
    percent = 100 * counts / np.maximum(1, confusion.sum(1, keepdims=True))
    side = min(24.0, max(5.0, 0.55 * classes + 2))
    figure = blank_figure((side + 1, side))
    ax = figure.subplots()
    image = ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    if classes <= 60:
        ax.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(classes), class_names)
    if classes <= 25:
        for (row, column), value in np.ndenumerate(percent):
            if value:
                colour = "white" if value > 50 else "black"
                ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    figure.colorbar(image, ax=ax, label="% of the true class", shrink=0.8)
    save_figure(path, figure)


def blank_figure(size: tuple[float, float]) -> "Figure":
    """Return an empty figure of a width and height in inches; it needs no display."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("agg")
    mpl.rcParams["text.parse_math"] = False  # names of files and classes may hold $
    warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)  # a script that no font here has
    return Figure(figsize=size, layout="constrained")


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as PNG, atomically."""
    with replacing(path) as temporary:
        _write(figure, temporary)


def _write(figure: "Figure", place: Path | BytesIO) -> None:
    """Write a figure as PNG."""
    figure.savefig(place, format="png", dpi=120, bbox_inches="tight")
