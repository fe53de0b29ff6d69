"""The clip and the mask for the picture of a reconstruction.

python -m videomae.reconstruct uses it; videomae.pictures.figures draws the picture.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videomae.config import (
    ConfigError,
    DataConfig,
    MaskConfig,
    MaskKind,
    ReconstructConfig,
    check_mask,
    token_grid,
)
from videomae.data.dataset import read_crops
from videomae.data.frame_sampling import dense_indices, num_dense_starts
from videomae.data.mask import Masking
from videomae.data.streams import Stream, random_stream
from videomae.lists.formats import Clip
from videomae.video.interface import DecodeError
from videomae.video.opening import open_clip, reading_here
from videomae.weights.weights import WeightsInfo

UNKNOWN_MASK = MaskConfig(MaskKind.tube, ratio=0.9, decoder_ratio=0.0)
"""Mask settings of every released model, used if the weights do not name theirs."""


class DrawnMask(NamedTuple):
    """A mask of one clip's tokens, and its kind."""

    kind: MaskKind
    mask: Tensor
    """Encoder mask, (N,) bool, time-major, on the CPU. True = masked."""


def draw_mask(config: ReconstructConfig, info: WeightsInfo) -> DrawnMask:
    """Draw a mask by the settings, or, where they are null, as in the training of the weights.

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
    return DrawnMask(mask.kind, encoder_mask)


def read_clip(config: ReconstructConfig, info: WeightsInfo) -> tuple[Tensor, Sequence[int]]:
    """Read one clip of config.video: the middle one, or the one that starts at config.start.

    Returns:
        (T, H, W, 3) uint8 on the CPU, the centre crop, and the T frame numbers.

    Raises:
        ConfigError: the video cannot be read, or has no frame config.start.
    """
    clip = replace(info.clip, stride=config.stride or info.clip.stride)
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
