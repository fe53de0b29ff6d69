"""Extraction of the features of whole videos, window by window."""

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
from videomae.data.checks import read_list
from videomae.data.forgetting import warn_of_unmatched
from videomae.data.loader import window_loader
from videomae.data.sliding_windows import VideoWindows
from videomae.evaluation.extracted import MANIFEST, FeatureDirectory, described, key_of
from videomae.evaluation.features import FeatureError, FeatureExtractor, of_pack
from videomae.lists.parquet import place_of
from videomae.lists.walk import Selection, clips_below
from videomae.run.arithmetic import uses_bf16
from videomae.run.checks import check_precision, require
from videomae.run.console import progress_bar
from videomae.run.parallel import Processes
from videomae.run.run import Run
from videomae.video.opening import check_decoder

logger = logging.getLogger(__name__)


class NoFeaturesError(UserError):
    """An error: none of the videos to extract features of can be read."""


@dataclass
class PartialFeatures:
    """Features of the windows of a video that have been computed so far."""

    features: list[Tensor] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


def check_extraction(config: ExtractConfig) -> None:
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


def videos_of(config: ExtractConfig) -> tuple[DataConfig, Selection]:
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
        tombstones=config.tombstones,
    )
    listed = read_list(config.list, data, labelled=False, key="list")
    warn_of_unmatched({"list": listed})
    for clip in listed:
        path = PurePath(clip.path)
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(
                f"{place_of(Path(config.list), clip.line)}: {clip.path!r} lies outside "
                f"root={config.root}, whose folders the features mirror: give a list of paths "
                "below root"
            )
    each_once = list({(clip.path, clip.span): clip for clip in listed}.values())
    return data, Selection(Path(str(config.root)), each_once)


def settings_of(
    config: ExtractConfig, data: DataConfig, hop: int, weights: str, process: Processes
) -> dict[str, Any]:
    """Return the settings that all features of a directory must share.

    Args:
        weights: SHA-256 of the weights.
    """
    clip = data.clip
    height, width = clip.frame
    return {
        "pack": of_pack(data).get("pack"),
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


def extract_features(
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
                row: dict[str, Any] = described(clip)
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


def finish(output: FeatureDirectory, selection: Selection) -> None:
    """Merge the manifests in the order of the list, and log the numbers of videos.

    Raises:
        NoFeaturesError: none of the videos has features.
    """
    described_all = [*map(described, selection.clips), *({"path": p} for p in selection.unusable)]
    own = dict.fromkeys(map(key_of, described_all))
    rows = output.merge(list(own))
    bad = [row for row in rows if "error" in row and key_of(row) in own]
    manifest = output.directory / MANIFEST
    if len(bad) == len(own):
        raise NoFeaturesError(f"none of the {len(own)} videos can be read; {manifest} says why")
    logger.info(f"{len(own) - len(bad)} of {len(own)} videos, {len(bad)} unreadable: {manifest}")
