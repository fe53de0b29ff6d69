"""Look at what a pre-trained model makes of a video: original, masked and reconstructed frames.

    python -m videomae.reconstruct weights=RUN_OR_FILE video=FILE

The model predicts pixels whose mean and contrast were taken out of each tubelet; for the picture
each rebuilt tubelet takes its own from the original video, which flatters colours and shading.

    output=reconstruction.png     the picture
    mask_kind=tube mask_ratio=0.9 what is hidden; default: as the weights were trained
    start=N stride=N              first frame (default: the middle clip), frames between two
    seed=N                        another mask
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

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
from videomae.data.mask import Masking
from videomae.data.sample import dense_indices, num_dense_starts
from videomae.data.streams import Stream, random_stream
from videomae.lists.clips import Clip
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.pictures.figures import STATISTICS, reconstruction_rows, save_reconstructions
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.console import tell
from videomae.run.parallel import processes
from videomae.video.interface import DecodeError
from videomae.video.opening import check_decoder, open_clip, reading_here
from videomae.weights.formats import read_weights
from videomae.weights.load import check_kind, model_of
from videomae.weights.weights import Kind

UNKNOWN_MASK = MaskConfig(MaskKind.tube, ratio=0.9, decoder_ratio=0.0)
"""Of every released model; used where the weights do not say."""


def reconstruct(config: ReconstructConfig) -> None:
    """Draw one clip of config.video."""
    require(config, "weights", "video")
    check_decoder(config.decoder)
    if Path(config.output).suffix != ".png" or os.path.isdir(config.output):
        raise ConfigError(f"output={config.output} must name a picture, NAME.png")
    check_place("output", Path(config.output).parent)
    weights = read_weights(
        str(config.weights),
        num_heads=config.num_heads,
        decoder_num_heads=config.decoder_num_heads,
    )
    check_kind(weights, Kind.pretrain)
    info = weights.info
    model, report = model_of(weights)
    assert isinstance(model, VideoMAE)
    tell(f"{weights.path}: {report}")
    trained_with = info.mask or UNKNOWN_MASK
    mask = replace(
        trained_with,
        kind=config.mask_kind or trained_with.kind,
        ratio=trained_with.ratio if config.mask_ratio is None else config.mask_ratio,
    )
    grid = token_grid(info.model, info.clip)
    check_mask(mask, grid, section="mask_")

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

    encoder_mask, _ = Masking(mask, grid).draw(random_stream(config.seed, Stream.view))
    with processes(config.run) as process:
        model.to(process.device).eval()
        pixels = cut[torch.from_numpy(places)][None].to(process.device)
        masks, precision = encoder_mask[None], config.run.precision
        rows = reconstruction_rows(model, normalise(pixels), masks, precision)
    title = f"{info.name}, {mask.kind.name} mask, {encoder_mask.float().mean():.0%} hidden"
    save_reconstructions(Path(config.output), rows, title)
    tell(f"{config.output}: frames {indices[0]} to {indices[-1]} of {config.video}; {STATISTICS}")


main = command("reconstruct")(reconstruct)

if __name__ == "__main__":
    main()
