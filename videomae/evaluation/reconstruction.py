"""The reconstruction of one clip of a video: the clip, its mask, and the rebuilt pixels.

python -m videomae.reconstruct uses it; videomae.pictures.figures draws the picture.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import (
    ClipConfig,
    ConfigError,
    DataConfig,
    MaskConfig,
    MaskKind,
    Precision,
    ReconstructConfig,
    check_mask,
    token_grid,
)
from videomae.data.dataset import read_crops
from videomae.data.frame_sampling import dense_indices, num_dense_starts
from videomae.data.mask import Masking
from videomae.data.streams import Stream, random_stream
from videomae.lists.formats import Clip
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.pictures.figures import reconstruction_rows
from videomae.video.interface import DecodeError
from videomae.video.opening import open_clip, reading_here
from videomae.weights.weights import WeightsInfo

UNKNOWN_MASK = MaskConfig(MaskKind.tube, ratio=0.9, decoder_ratio=0.0)
"""Mask settings of every released model, used if the weights do not name theirs."""


class MaskedClip(NamedTuple):
    """A clip of a video, and the mask of its tokens."""

    frames: Tensor
    """(T, H, W, 3) uint8 on the CPU: the centre crop."""
    indices: Sequence[int]
    """Numbers of the T frames in the video."""
    kind: MaskKind
    mask: Tensor
    """Encoder mask, (N,) bool, time-major, on the CPU. True = masked."""


def clip_and_mask(config: ReconstructConfig, info: WeightsInfo, clip: ClipConfig) -> MaskedClip:
    """Read a clip of config.video and draw its mask: as set, or as the weights were trained.

    Args:
        clip: frames, stride and size of the clip.

    Raises:
        ConfigError: no such mask fits the tokens of the model; the video cannot be read, or has no
            frame config.start.
    """
    kind, mask = _draw_mask(config, info)
    frames, indices = _read_clip(config, clip)
    return MaskedClip(frames, indices, kind, mask)


def rebuilt(
    model: VideoMAE, source: MaskedClip, precision: Precision
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the original, the masked and the rebuilt pixels of a clip.

    Returns:
        Three tensors (1, T, H, W, 3) in [0, 1], float32 on the CPU.
    """
    device = next(model.parameters()).device
    pixels = normalise(source.frames[None].to(device))
    return reconstruction_rows(model.eval(), pixels, source.mask[None], precision)


def title_of(info: WeightsInfo, source: MaskedClip) -> str:
    """Return the title of a picture of a reconstruction."""
    return f"{info.name}, {source.kind.name} mask, {source.mask.float().mean():.0%} hidden"


def _draw_mask(config: ReconstructConfig, info: WeightsInfo) -> tuple[MaskKind, Tensor]:
    """Return the kind of a mask and the mask, (N,) bool, by the settings or as in the training.

    Raises:
        ConfigError: no such mask fits the tokens of the model.
    """
    trained_with = info.mask or UNKNOWN_MASK
    mask = replace(
        trained_with,
        kind=config.mask_kind or trained_with.kind,
        ratio=trained_with.ratio if config.mask_ratio is None else config.mask_ratio,
    )
    grid = token_grid(info.model, info.clip)
    check_mask(mask, grid, section="mask_")
    encoder_mask, _ = Masking(mask, grid).draw(random_stream(config.seed, Stream.view))
    return mask.kind, encoder_mask


def _read_clip(config: ReconstructConfig, clip: ClipConfig) -> tuple[Tensor, Sequence[int]]:
    """Read one clip of config.video: the middle one, or the one that starts at config.start.

    Returns:
        (T, H, W, 3) uint8 on the CPU, the centre crop, and the T frame numbers.

    Raises:
        ConfigError: the video cannot be read, or has no frame config.start.
    """
    data = DataConfig(clip=clip, decoder=config.decoder)
    try:
        with reading_here(str(config.video), data.max_clip_bytes):
            video = open_clip(Clip(str(config.video), line=1), data)
            starts = num_dense_starts(video.num_frames, clip.frames, clip.stride)
            start = starts // 2 if config.start is None else config.start
            if not 0 <= start < video.num_frames:
                raise ConfigError(
                    f"start={start} lies outside the {video.num_frames} frames of the video"
                )
            indices = dense_indices(video.num_frames, clip.frames, clip.stride, start)
            wanted, places = np.unique(indices, return_inverse=True)
            (cut,) = read_crops(video, wanted.tolist(), clip.frame, 1)
    except DecodeError as error:
        raise ConfigError(f"video={config.video} cannot be read: {error}") from error
    return cut[torch.from_numpy(places)], indices
