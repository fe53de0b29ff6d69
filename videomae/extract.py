"""Write the features of whole videos: those of a frozen encoder for each window of frames.

    python -m videomae.extract weights=RUN_OR_FILE video=FILE_OR_DIR output_dir=DIR
    torchrun --nproc-per-node 8 -m videomae.extract weights=... list=LIST root=DIR output_dir=DIR

weights= is of any released kind: of a pre-training, a classifier, an encoder alone. A window is a
clip of the size that the weights were trained on, the centre crop of frames x stride frames of the
video. A window begins every hop= frames (default: the length of a window); if frames are left over,
a last window ends with the video. Each video gets one file, under its own relative path:

    pool=mean     features (W, D): the mean of each window's tokens
    pool=none     features (W, N, D): N = T/tubelet * H/patch * W/patch tokens, time-major: all of
                  the first frames row by row, then of the next. There is no class token
    dtype=float32 or float16
    format=safetensors (the tensor `features`) or npy (the array itself)

manifest.jsonl holds path, file, shape, the windows' first frames (starts), frames and stride of
each, num_frames and fps of each video, or its error. The same command continues where it was
stopped: videos in the manifest whose file exists are skipped; unreadable ones are tried again.
Other files are not replaced. Several processes under torchrun share the list.
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from videomae.config import (
    ClipConfig,
    ConfigError,
    DataConfig,
    ExtractConfig,
    Pool,
    UserError,
)
from videomae.data.checks import check_videos
from videomae.data.loader import window_loader
from videomae.data.windows import VideoWindows
from videomae.evaluation.extracted import MANIFEST, FeatureDirectory
from videomae.evaluation.features import FeatureError, FeatureExtractor
from videomae.lists.clips import read_clips
from videomae.lists.walk import Selection, clips_below, told
from videomae.run.arithmetic import uses_bf16
from videomae.run.checks import check_place, check_precision, require
from videomae.run.command import command
from videomae.run.console import progress_bar
from videomae.run.directory import alone
from videomae.run.parallel import Processes
from videomae.run.run import Run, open_run
from videomae.video.opening import check_decoder
from videomae.weights.formats import read_weights
from videomae.weights.load import encoder_of

logger = logging.getLogger("videomae.extract")


class NoFeaturesError(UserError):
    """An error: none of the videos to extract features of can be read."""


def extract(config: ExtractConfig) -> None:
    """Write the features of config.video, or of the videos of config.list."""
    _check(config)
    with open_run(config.run, config.output_dir) as run:
        directory, process = run.directory, run.processes
        check_place("output_dir", directory)
        data, selection = _videos(config)
        clips = selection.clips
        for line in told(selection.left_out):
            logger.info(line)
        weights = read_weights(
            str(config.weights),
            num_heads=config.num_heads,
            decoder_num_heads=config.decoder_num_heads,
        )
        clip = replace(weights.info.clip, stride=config.stride or weights.info.clip.stride)
        data = replace(data, clip=clip)
        hop = config.hop or clip.frames * clip.stride
        model, report = encoder_of(weights, clip)
        logger.info(f"{weights.path}: {report}")
        settings = _settings(config, clip, hop, weights.sha256(), process)
        del weights  # as large as the model
        with alone(directory, is_main=run.is_main):
            output = FeatureDirectory(directory, config.format)
            pending: list[int] = []
            if process.is_main:
                output.open(settings, clips)
                output.note_unusable(selection.unusable)
                done = output.done()
                pending = [i for i, clip in enumerate(clips) if clip.path not in done]
                if done:
                    logger.info(f"going on in {directory}: {len(clips) - len(pending)} are done")
            pending = process.from_main(pending)
            share = [clips[index] for index in pending[process.rank :: process.world]]
            encoder = FeatureExtractor(model, process.device, config.run.precision)
            batch = config.run.untrained_batch
            _extract(run, config, encoder, VideoWindows(share, data, hop, batch), output)
            process.barrier()
            if process.is_main:
                _finish(output, selection)


def _check(config: ExtractConfig) -> None:
    """Check that the settings name the weights and the videos, and a supported precision.

    Raises:
        ConfigError: they do not.
    """
    check_precision(config.run)
    check_decoder(config.decoder)
    if config.video is not None and config.list is not None:
        raise ConfigError(f"video={config.video} and list={config.list}: give one of the two")
    videos = ("video",) if config.list is None else ("list", "root")
    require(config, "weights", *videos)


def _videos(config: ExtractConfig) -> tuple[DataConfig, Selection]:
    """Return the settings for reading the videos, and the videos, each once.

    Raises:
        ClipListError: the list cannot be read, or there is no video in the folder.
        ConfigError: the videos do not exist, or lie outside root.
    """
    unknown = ClipConfig(1, 1, 1)  # as the weights say, once they are read
    data = DataConfig(clip=unknown, decoder=config.decoder)
    if config.list is None:
        selection = clips_below(Path(str(config.video)))
        return replace(data, root=str(selection.root)), selection
    data = replace(
        data,
        root=config.root,
        list_format=config.list_format,
        frame_template=config.frame_template,
        first_frame=config.first_frame,
    )
    listed = read_clips(config.list, data, labelled=False, key="list")
    check_videos(listed, data, "list")
    for clip in listed:
        path = PurePath(clip.path)
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(
                f"{config.list}:{clip.line}: {clip.path!r} lies outside root={config.root}, whose "
                "folders the features mirror: give a list of paths below root"
            )
    each_once = list({clip.path: clip for clip in listed}.values())
    return data, Selection(Path(str(config.root)), each_once)


def _settings(
    config: ExtractConfig, clip: ClipConfig, hop: int, weights: str, process: Processes
) -> dict[str, Any]:
    """Return the settings that all features of a directory must share.

    Args:
        weights: SHA-256 of the weights.
    """
    height, width = clip.frame
    return {
        "weights": weights,
        "frames": clip.frames,
        "stride": clip.stride,
        "size": [height, width],
        "hop": hop,
        "pool": config.pool.name,
        "dtype": config.dtype.name,
        "format": config.format.name,
        "bf16": uses_bf16(process.device, config.run.precision),
    }


@dataclass
class PartialFeatures:
    """Features of the windows of a video that have been computed so far."""

    features: list[Tensor] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


def _extract(
    run: Run,
    config: ExtractConfig,
    encoder: FeatureExtractor,
    videos: VideoWindows,
    output: FeatureDirectory,
) -> None:
    """Compute and write the features of these videos.

    Raises:
        FeatureError: the features are not finite.
    """
    clips, clip_of = videos.clips, videos.data.clip
    loader = window_loader(
        videos,
        workers=min(len(clips), run.num_workers),
        pin=run.processes.pins,
    )
    dtype: torch.dtype = getattr(torch, config.dtype.name)
    rank = run.processes.rank
    found: dict[int, PartialFeatures] = {}  # one video of each decoding process is under way
    with progress_bar("extracting", total=len(clips)) as bar:
        for windows in loader:
            clip, video = clips[windows.video], found.setdefault(windows.video, PartialFeatures())
            if windows.starts:
                tokens = encoder.tokens(windows.clip)
                pooled = tokens.mean(1) if config.pool is Pool.mean else tokens
                features = pooled.to(dtype).cpu()
                if not features.isfinite().all():
                    raise FeatureError(
                        f"the features of {clip.path} are not finite in {config.dtype.name}: its "
                        "weights are damaged, or dtype=float32 is needed"
                    )
                video.features.append(features)
                video.starts += windows.starts
            if windows.last:
                del found[windows.video]
                row: dict[str, Any] = {"path": clip.path}
                if windows.bad is not None:
                    row["error"] = windows.bad.error
                    logger.info(f"cannot be read: {windows.bad.error}")
                elif file := output.write(clip, features := torch.cat(video.features), rank):
                    row |= {
                        "file": file,
                        "shape": list(features.shape),
                        "starts": video.starts,
                        "frames": clip_of.frames,
                        "stride": clip_of.stride,
                        "num_frames": windows.num_frames,
                        "fps": windows.fps,
                    }
                else:
                    row["error"] = f"{clip.path}: no file can have the name of its features"
                    logger.info(row["error"])
                output.add(row, rank)
                bar.advance()


def _finish(output: FeatureDirectory, selection: Selection) -> None:
    """Merge the manifests in the order of the list, and log the numbers of videos.

    Raises:
        NoFeaturesError: none of the videos has features.
    """
    own = dict.fromkeys([*(clip.path for clip in selection.clips), *selection.unusable])
    rows = output.merge(list(own))
    bad = [row for row in rows if "error" in row and row["path"] in own]
    manifest = output.directory / MANIFEST
    if len(bad) == len(own):
        raise NoFeaturesError(f"none of the {len(own)} videos can be read; {manifest} says why")
    logger.info(f"{len(own) - len(bad)} of {len(own)} videos, {len(bad)} unreadable: {manifest}")


main = command("extract")(extract)

if __name__ == "__main__":
    main()
