"""Stage embed: features of each clip by the encoder of given weights, and clusters of them.

The features are the mean of the tokens of one window, as extract computes them: the centre crop of
the clip's middle.
embeddings.parquet has them by clip_id, not normalised.
"""

import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from videomae.config import ConfigError, CurateConfig, EmbedConfig, Precision
from videomae.config.use import FeatureType
from videomae.curate.clip_frames import open_range
from videomae.curate.clip_models import ModelSpec, Span, plain
from videomae.curate.clusters import clustered, normalised
from videomae.curate.model_results import EMBEDDINGS
from videomae.curate.model_stage import (
    ModelStage,
    jobs_of,
    look_at_clips,
    record_of,
    write_columns,
)
from videomae.curate.table import write_table
from videomae.data.dataset import read_crops
from videomae.data.frame_sampling import dense_indices
from videomae.evaluation.features import FeatureExtractor
from videomae.video.interface import DecodeError, within_memory
from videomae.weights.formats import read_weights
from videomae.weights.load import encoder_of

logger = logging.getLogger(__name__)

STAGE = "embed"
VERSION = 1
"""Version of the stage: results of other versions are computed again."""
EMBEDDING = "embedding"
"""Column of the features in embeddings.parquet."""
DTYPES = {FeatureType.float32: np.float32, FeatureType.float16: np.float16}


class EmbedModel:
    """The encoder of weights, and the clip that they were trained on."""

    def __init__(self, config: EmbedConfig, device: torch.device) -> None:
        weights = read_weights(str(config.weights), num_heads=config.num_heads)
        self.clip = weights.info.clip
        self.sha256 = weights.sha256()
        model, self.report = encoder_of(weights, self.clip)
        self.encoder = FeatureExtractor(model, device, Precision.float32)

    def columns(self, path: Path, span: Span, given: Any, max_bytes: int) -> dict[str, Any]:
        """Return the features of a clip.

        Raises:
            DecodeError: the clip cannot be decoded, or its features are not finite.
        """
        clip = self.clip
        with within_memory(str(path)):
            video = open_range(path, span, max_bytes)
            start = max(0, (video.num_frames - clip.frames * clip.stride) // 2)
            window = dense_indices(video.num_frames, clip.frames, clip.stride, start)
            wanted, places = np.unique(window, return_inverse=True)
            (frames,) = read_crops(video, wanted.tolist(), clip.frame, crops=1)
        features = self.encoder.tokens(frames[places][None]).mean(1)[0].cpu()
        if not features.isfinite().all():
            raise DecodeError(f"{path}: its features are not finite: the weights are damaged")
        return {EMBEDDING: features.tolist()}


def embed_clips(config: CurateConfig, out: Path) -> None:
    """Compute features of the clips that no rule has dropped, and cluster them.

    Raises:
        ConfigError: no weights are given.
        WeightsError: they cannot be used.
    """
    embed = config.embed
    if embed.weights is None:
        raise ConfigError(
            "stage=embed needs weights: give embed.weights=FILE, of any kind that extract reads"
        )
    from videomae.run.devices import find_device

    device = find_device(config.device, 0)
    model = EmbedModel(embed, torch.device("cpu"))
    logger.info(f"{embed.weights}: {model.report}")
    settings = {
        "weights": {Path(embed.weights).name: model.sha256},
        "num_heads": embed.num_heads,
        "stage_version": VERSION,
    }
    stage = ModelStage(
        STAGE,
        ModelSpec(STAGE, plain(embed), device.type),
        {EMBEDDING: pa.list_(pa.float32())},
        settings,
        {name: importlib.metadata.version(name) for name in ("torch", "videomae")},
    )
    del model
    table = look_at_clips(config, out, stage, jobs_of(config, out))
    recorded = record_of(stage, table) | {
        "dtype": embed.dtype.value,
        "clusters": embed.clusters,
        "seed": embed.seed,
    }
    features = matrix(table[EMBEDDING])
    write_embeddings(out, table["clip_id"], features.astype(DTYPES[embed.dtype]))
    found = pa.nulls(len(features), pa.int64())
    if embed.clusters is not None and len(features):
        if len(features) < embed.clusters:
            logger.warning(
                f"embed.clusters={embed.clusters}: {len(features):,} clips have features, and are "
                "a cluster each"
            )
        found = pa.array(clustered(normalised(features), embed.clusters, embed.seed))
        _tell_clusters(found)
    rows = pa.table({"clip_id": table["clip_id"], "cluster": found})
    write_columns(out, STAGE, rows, ["cluster"], recorded)


def matrix(column: Any) -> Any:
    """Return a column of lists of one length as an array, (N, D) float32."""
    rows = len(column)
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(rows, -1) if rows else np.empty((0, 0), np.float32)


def write_embeddings(out: Path, clips: Any, features: Any) -> None:
    """Write embeddings.parquet: clip_id and its features, as lists of one length."""
    width = features.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), max(1, width))
    write_table(out / EMBEDDINGS, pa.table({"clip_id": clips, EMBEDDING: column}))


def _tell_clusters(found: Any) -> None:
    sizes = np.bincount(found.to_numpy())
    logger.info(
        f"{len(sizes):,} clusters of {sizes.min():,} to {sizes.max():,} clips: "
        "by=balanced balance=cluster spreads a list over them"
    )
