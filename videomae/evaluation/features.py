"""Features of videos from a frozen encoder, and their storage on disk."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from videomae.config import DataConfig, Precision, UserError
from videomae.config.settings import rules_of
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import Batch, evaluation_loader
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.run.addresses import is_address, shown_address
from videomae.run.arithmetic import autocast
from videomae.run.bad_files import BadFile
from videomae.run.console import progress_bar
from videomae.run.files import parse_json, replacing, sha256
from videomae.run.journal import UNIT
from videomae.run.run import Run
from videomae.video.opening import pack_of
from videomae.video.packs import MANIFEST

logger = logging.getLogger(__name__)

SHARD = 64
"""Number of videos whose features are stored in one file."""


class FeatureError(UserError):
    """An error: features are not finite, or cannot be read."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A model that computes features of clips, its device and its precision."""

    model: VideoMAE | VideoClassifier
    device: torch.device
    precision: Precision

    def __post_init__(self) -> None:
        self.model.to(self.device)

    @torch.inference_mode()
    def tokens(self, frames: Tensor) -> Tensor:
        """Return the tokens of V views: frames (V, T, H, W, 3) uint8 -> (V, N, D) float32 on the
        device."""
        with autocast(self.device, self.precision):
            clip = normalise(frames.to(self.device, non_blocking=True))
            return self.model.features(clip).float()


class Features(NamedTuple):
    """Features of a list's readable videos on the CPU: R rows, one for each view, in list order."""

    video: Tensor
    """Index of each view's video in the list, (R,) int64."""
    mean: Tensor
    """Mean of each view's tokens, (R, D) float32."""
    tokens: Sequence[Tensor]
    """Tokens of each of the R views, (N, D) float16, read from disk; empty if they were not
    stored."""
    bad: list[BadFile]
    """Unreadable videos, which have no features."""


def mean_features(
    run: Run,
    encoder: FeatureExtractor,
    clips: Sequence[Clip],
    data: DataConfig,
    stop: Callable[[], bool],
) -> Features | None:
    """Return the mean features of all clips, without storing them on disk.

    All processes call it; each one computes every world-th video. The random number generators of
    the caller do not change.

    Args:
        stop: called after every batch; if it returns True on one process, all return None.

    Raises:
        FeatureError: the features are not finite.
    """
    rows: list[tuple[int, Tensor]] = []
    bad: list[BadFile] = []
    stopped, process = False, run.processes
    places = range(process.rank, len(clips), process.world)
    for batch in _batches(run, clips, places, data):
        good = batch.valid
        means = _finite(encoder.tokens(batch.clip).mean(1).cpu())[good]
        rows += zip(batch.video[good].tolist(), means, strict=True)
        bad += batch.bad
        if stopped := stop():
            break
    parts = process.gather((rows, bad, stopped))
    if any(stopped for _, _, stopped in parts):
        return None
    rows = sorted((row for part in parts for row in part[0]), key=lambda row: row[0])
    width = encoder.model.config.dim
    return Features(
        video=torch.tensor([video for video, _ in rows], dtype=torch.int64),
        mean=torch.stack([mean for _, mean in rows]) if rows else torch.zeros(0, width),
        tokens=(),
        bad=sorted(file for part in parts for file in part[1]),
    )


class FeatureCache:
    """The features of one list on disk, in files of SHARD videos each, written atomically.

    Args:
        directory: directory of the features of all lists and encoders.
        made_of: everything that the features depend on; its hash is the name of their folder.
        tokens: whether all tokens are stored too, not only their mean.
    """

    def __init__(
        self, directory: Path, made_of: dict[str, Any], clips: Sequence[Clip], *, tokens: bool
    ) -> None:
        self.made_of = made_of | {"tokens": tokens}
        self._text = json.dumps(self.made_of, sort_keys=True, default=str)
        self.directory = directory / hashlib.sha256(self._text.encode()).hexdigest()[:16]
        self.clips = clips
        self.tokens = tokens

    def missing(self) -> list[int]:
        """Return the index of the first video of each file that does not exist yet."""
        shards = range(0, len(self.clips), SHARD)
        return [first for first in shards if not self._path(first).is_file()]

    def fill(self, run: Run, encoder: FeatureExtractor, data: DataConfig) -> None:
        """Compute the missing features. All processes call it; each computes every world-th file.

        Raises:
            FeatureError: the features are not finite.
        """
        process = run.processes
        missing: list[int] = process.from_main(self.missing() if process.is_main else [])
        done = len(range(0, len(self.clips), SHARD)) - len(missing)
        what = f"features of {len(self.clips)} videos in {self.directory}"
        if not missing:
            logger.info(f"{what}: there already, not computed again")
        elif done:
            logger.info(f"{what}: going on, {done} of {done + len(missing)} files are there")
        else:
            logger.info(f"{what}: computing")
        mine = missing[process.rank :: process.world]
        places = [index for first in mine for index in self._shard(first)]
        pending: list[tuple[int, Tensor, Tensor | None]] = []
        bad: list[BadFile] = []
        with progress_bar("features", total=len(places), unit=UNIT) as bar:
            for batch in _batches(run, self.clips, places, data):
                tokens = encoder.tokens(batch.clip)
                means = _finite(tokens.mean(1).cpu())
                kept = _finite(tokens.half().cpu()) if self.tokens else [None] * len(means)
                bad += batch.bad
                pending += zip(batch.video.tolist(), means, kept, strict=True)
                videos = batch.video.unique_consecutive().tolist()
                for video in videos:
                    shard = self._shard(video // SHARD * SHARD)
                    if video == shard[-1]:
                        self._write(
                            shard[0],
                            [row for row in pending if row[0] in shard],
                            [file for file in bad if file.video in shard],
                        )
                        pending = [row for row in pending if row[0] not in shard]
                bar.advance(len(videos))
        process.barrier()

    def read(self) -> Features:
        """Return the stored features of the whole list.

        Raises:
            FeatureError: a file is damaged, or holds other features.
        """
        parts: list[dict[str, Tensor]] = []
        bad: list[BadFile] = []
        for first in range(0, len(self.clips), SHARD):
            path = self._path(first)
            try:
                part, found = self._read(path, self._shard(first))
                if parts and part["mean"].shape[1:] != parts[0]["mean"].shape[1:]:
                    raise ValueError("its features are as wide as no others")
            except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
                raise FeatureError(
                    f"{path} cannot be used ({error}): delete it, it is computed again"
                ) from error
            parts.append(part)
            bad += found
        return Features(
            video=torch.cat([part["video"] for part in parts]),
            mean=torch.cat([part["mean"] for part in parts]),
            tokens=[row for part in parts for row in part.get("tokens", ())],
            bad=bad,
        )

    def _read(self, path: Path, shard: range) -> tuple[dict[str, Tensor], list[BadFile]]:
        """Return the tensors and the unreadable videos in one file.

        Raises:
            ValueError: the file does not hold the features of these videos.
        """
        with safe_open(path, framework="pt") as file:
            part = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if metadata.get("made_of") != self._text:
            raise ValueError("it was made of something else")
        names = {"video", "mean"} | ({"tokens"} if self.tokens and len(part["video"]) else set())
        if part.keys() != names:
            raise ValueError(f"it holds {', '.join(sorted(part))}")
        video, mean = part["video"], part["mean"]
        if video.dtype != torch.int64 or mean.dtype != torch.float32:
            raise ValueError(f"its numbers are {video.dtype} and {mean.dtype}")
        if video.ndim != 1 or mean.shape[:-1] != video.shape or not mean.isfinite().all():
            raise ValueError("its features are none")
        if len(video) and not (shard[0] <= video[0] and video[-1] <= shard[-1]):
            raise ValueError("its features are of other videos")
        if (video[1:] < video[:-1]).any():
            raise ValueError("its videos are in no order")
        if "tokens" in names:
            tokens = part["tokens"]
            whole = tokens.ndim == 3 and (tokens.shape[0], tokens.shape[2]) == mean.shape
            if not whole or tokens.dtype != torch.float16:
                raise ValueError("its tokens are none of its features")
        rows = parse_json(metadata["bad"])
        if not isinstance(rows, list) or not all(is_bad_row(row, shard) for row in rows):
            raise ValueError("its list of unreadable videos is none")
        return part, [_bad_file(row) for row in rows]

    def _path(self, first: int) -> Path:
        return self.directory / f"{first:09}.safetensors"

    def _shard(self, first: int) -> range:
        """Return the indices of the videos in one file, given the first of them."""
        return range(first, min(first + SHARD, len(self.clips)))

    def _write(
        self, first: int, rows: list[tuple[int, Tensor, Tensor | None]], bad: list[BadFile]
    ) -> None:
        """Write the file of one shard, without the rows of unreadable videos."""
        unreadable = {file.video for file in bad}
        good = [row for row in rows if row[0] not in unreadable]
        width = len(rows[0][1])
        tensors = {
            "video": torch.tensor([video for video, _, _ in good], dtype=torch.int64),
            "mean": torch.stack([mean for _, mean, _ in good]) if good else torch.zeros(0, width),
        }
        kept = [tokens for _, _, tokens in good if tokens is not None]
        if kept:
            tensors["tokens"] = torch.stack(kept)
        with replacing(self._path(first)) as temporary:
            save_file(tensors, temporary, metadata={"made_of": self._text, "bad": json.dumps(bad)})


def is_bad_row(row: object, shard: range) -> bool:
    """Return whether a value is a row about an unreadable video of a file of features."""
    types = (int, str, int, str, str)  # as the first fields of BadFile
    if not isinstance(row, list) or len(row) not in (len(types), len(types) + 1):
        return False
    span = row[len(types) :]
    return (
        all(type(value) is kind for value, kind in zip(row, types, strict=False))
        and (span in ([], [None]) or _is_span(span[0]))
        and row[0] in shard
    )


def _is_span(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and type(value[0]) is int
        and (value[1] is None or type(value[1]) is int)
    )


def _bad_file(row: list[Any]) -> BadFile:
    """Return an unreadable video from a row that `is_bad_row` accepts."""
    span = row[5] if len(row) > 5 else None
    return BadFile(*row[:5])._replace(span=span and (span[0], span[1]))


def settings_of_features(data: DataConfig) -> dict[str, Any]:
    """Return the settings of a data set that the features of its videos depend on."""
    names = [each.name for each in fields(data) if rules_of(each).in_features]
    found = {name: getattr(data, name) for name in names} | {"clip": asdict(data.clip)}
    if is_address(data.root):  # it is written into the files of features
        found["root"] = shown_address(str(data.root))
    return found


def of_pack(data: DataConfig) -> dict[str, str]:
    """Return the hash of the pack that data.root is, under "pack"; for other roots nothing.

    A pack has pixels of its own, and another may take its place.
    """
    pack = pack_of(data)
    return {"pack": sha256(pack.root / MANIFEST)} if pack else {}


def _batches(
    run: Run, clips: Sequence[Clip], places: Sequence[int], data: DataConfig
) -> Iterator[Batch]:
    """Yield batches of views of the clips at these indices; videos keep their indices in the
    list."""
    loader = evaluation_loader(
        EvaluationClips(ClipList.of(clips).take(places), data),
        rank=0,
        world=1,
        batch=max(1, run.settings.untrained_batch // (data.segments * data.crops)),
        workers=min(len(places), run.num_workers),
        pin=run.processes.pins,
    )
    numbers = torch.tensor(places, dtype=torch.int64)
    for batch in loader:
        bad = [file._replace(video=places[file.video]) for file in batch.bad]
        yield batch._replace(video=numbers[batch.video], bad=bad)


def _finite(features: Tensor) -> Tensor:
    """Return features after a check that all their values are finite.

    Raises:
        FeatureError: they are not.
    """
    if not features.isfinite().all():
        raise FeatureError(
            f"the features are not finite in {features.dtype}: the weights are damaged, or "
            "training went wrong"
        )
    return features
