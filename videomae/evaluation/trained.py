"""Trained models in Python: classes, features and reconstructions of video files.

`videomae.load` returns a TrainedModel. Its methods compute of one file what python -m
videomae.predict, extract and reconstruct compute; what they return shows itself in a notebook.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from html import escape
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from videomae.config import (
    CLASS,
    ClipConfig,
    ConfigError,
    DataConfig,
    Device,
    MaskKind,
    Pool,
    PredictConfig,
    ReconstructConfig,
    RunConfig,
    Sampling,
    UserError,
)
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import collate
from videomae.data.sliding_windows import VideoWindows
from videomae.data.working import WorkerSlot
from videomae.evaluation.features import FeatureExtractor
from videomae.evaluation.head import Head, Prediction
from videomae.evaluation.head_choice import head_of, target_of
from videomae.evaluation.predicting import names_of, settings_of
from videomae.evaluation.predictions import predict_videos
from videomae.evaluation.reconstruction import clip_and_mask, rebuilt, title_of
from videomae.evaluation.scoring import predictions_of
from videomae.lists.formats import Clip
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.pictures.figures import reconstructions_png
from videomae.run.devices import find_device
from videomae.run.files import why_missing
from videomae.run.text import shown
from videomae.video.opening import check_decoder, reading_here
from videomae.weights.formats import read_weights
from videomae.weights.load import check_kind, encoder_of
from videomae.weights.usage import with_stride
from videomae.weights.weights import Kind, Weights


class UnreadableVideoError(UserError):
    """An error: the video file cannot be read."""


@dataclass(frozen=True, repr=False)
class VideoPrediction:
    """The prediction of a classifier for a video; in a notebook, a table of the best classes."""

    video: str
    head: Head
    values: Prediction
    """(outputs,) float32: probabilities of the classes, or numbers, in the order of head.names."""
    most: int
    """Number of classes that are shown."""

    @property
    def top(self) -> list[tuple[str, float]]:
        """The outputs with the largest values, their names and values, the largest first."""
        order = (-self.values).argsort(kind="stable")[: self.most]
        return [(self.head.names[place], float(self.values[place])) for place in order]

    def __repr__(self) -> str:
        rows = self.head.shown(self.values, self.most)
        unit = self.head.columns()[1]
        return f"{self.video}: {', '.join(f'{name} {value}{unit}' for name, value in rows)}"

    def _repr_html_(self) -> str:
        columns = "".join(f"<th>{escape(column)}</th>" for column in self.head.columns())
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>"
            for name, value in self.head.shown(self.values, self.most)
        )
        caption = f"<caption>{escape(self.video)}</caption>"
        return f"<table>{caption}<tr>{columns}</tr>{rows}</table>"


@dataclass(frozen=True, repr=False)
class VideoFeatures:
    """Features of the windows of a video."""

    video: str
    features: Tensor
    """(W, D) float32 on the CPU, the mean of each window's tokens; or (W, N, D), every token."""
    starts: list[int]
    """Number of the frame that each of the W windows begins with, from 0."""
    clip: ClipConfig
    """Frames, stride and size of a window."""
    num_frames: int
    """Length of the video, in frames."""
    fps: float | None
    """Frame rate of the video; None: not known."""

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.features.shape))
        return (
            f"{self.video}: features {shape}, windows of {self.clip.frames} frames, "
            f"{self.clip.stride} apart, of {self.num_frames}"
        )


@dataclass(frozen=True, repr=False)
class VideoReconstruction:
    """The reconstruction of a clip of a video; in a notebook, its picture."""

    video: str
    title: str
    original: Tensor
    """Pixels of the clip, (T, H, W, 3) float32 in [0, 1] on the CPU."""
    masked: Tensor
    """Pixels of the clip, with those that the encoder did not see in grey."""
    rebuilt: Tensor
    """Pixels of the clip, with those that the encoder did not see as the model predicts them."""
    indices: Sequence[int]
    """Numbers of the T frames in the video."""

    def __repr__(self) -> str:
        return f"{self.video}: {self.title}, frames {self.indices[0]} to {self.indices[-1]}"

    def _repr_png_(self) -> bytes:
        rows = self.original[None], self.masked[None], self.rebuilt[None]
        return reconstructions_png(rows, self.title)


class TrainedModel:
    """A trained model with what it takes to use it on video files.

    Args:
        weights: the weights, of any kind.
        config: the device, the decoder, and what the weights may lack: names of classes, a head.

    Raises:
        ConfigError, WeightsError: the weights, or what the config says of them, cannot be used.
    """

    model: VideoMAE | VideoClassifier
    """The model itself, in eval mode; of an encoder alone, only `features` has a meaning."""
    clip: ClipConfig
    """Frames, stride and size of the clips that the model was trained on."""
    class_names: list[str] | None
    """Names of a classifier's outputs, or their numbers; None: the model is no classifier."""

    def __init__(self, weights: Weights, config: PredictConfig) -> None:
        check_decoder(config.decoder)
        info, self._config = weights.info, config
        self._device = find_device(config.run.device, 0)
        self.clip, self._head, self.class_names = info.clip, None, None
        if info.kind is Kind.classifier:
            target = target_of(info, config.target or CLASS, "target")
            self._head = head_of(info, names_of(config, info), target, "target")
            self.class_names = list(self._head.names)
        self.model, report = encoder_of(weights, info.clip)
        self.model.to(self._device)
        print(shown(f"{weights.path}: {report}"), file=sys.stderr)
        self._weights = replace(weights, tensors={})  # the model has them

    def __repr__(self) -> str:
        info = self._weights.info
        classes = f" of {info.classes} classes" if info.kind is Kind.classifier else ""
        return f"{info.name}: {info.model.name}, {info.kind.name}{classes}, {self.clip}"

    def predict(
        self,
        video: str | Path,
        *,
        segments: int = 5,
        crops: int = 3,
        stride: int | None = None,
        sampling: str | None = None,
        top: int = 5,
    ) -> VideoPrediction:
        """Classify a video file, as python -m videomae.predict does.

        Args:
            segments: number of temporal positions of the video's views.
            crops: number of spatial positions of the video's views.
            stride: distance between two frames of a clip; None: that of the weights.
            sampling: dense or segment; None: as the weights were trained.
            top: number of classes that the result shows.

        Raises:
            WeightsError: the model is no classifier.
            UnreadableVideoError: the file cannot be read.
        """
        check_kind(self._weights, Kind.classifier)
        assert isinstance(self.model, VideoClassifier)
        assert self._head is not None
        chosen = None if sampling is None else _member(Sampling, "sampling", sampling)
        config = replace(
            self._config, segments=segments, crops=crops, stride=stride, sampling=chosen, top=top
        )
        _, data, _ = settings_of(config, self._weights)
        clip = _clip_of(video)
        with reading_here(str(video), data.max_clip_bytes):
            example = EvaluationClips([clip], data)[0]
        if example.bad is not None:
            raise UnreadableVideoError(f"{video} cannot be read: {example.bad.error}")
        predict = partial(
            predictions_of, self.model, self._head, self._device, config.run.precision
        )
        batch = collate([example], example.clip)
        values = predict_videos(predict, [batch], lambda _: None).values[0]
        return VideoPrediction(str(video), self._head, values, top)

    def features(
        self,
        video: str | Path,
        *,
        hop: int | None = None,
        stride: int | None = None,
        pool: str = "mean",
    ) -> VideoFeatures:
        """Compute the features of a video file window by window, as python -m videomae.extract.

        Args:
            hop: distance between the starts of two windows; None: the length of a window.
            stride: distance between two frames of a window; None: that of the weights.
            pool: mean, the mean of each window's tokens; or none, every token.

        Raises:
            UnreadableVideoError: the file cannot be read.
        """
        pooled = _member(Pool, "pool", pool) is Pool.mean
        _, shape, _ = with_stride(self._weights, stride)
        data = DataConfig(clip=shape, decoder=self._config.decoder)
        hop = shape.frames * shape.stride if hop is None else hop
        batch = self._config.run.untrained_batch
        source = VideoWindows([_clip_of(video)], data, hop, batch)
        encoder = FeatureExtractor(self.model, self._device, self._config.run.precision)
        rows, starts = list[Tensor](), list[int]()
        with reading_here(str(video), data.max_clip_bytes):
            for windows, _ in source.make(0, 0, WorkerSlot()):
                if windows.bad is not None:
                    raise UnreadableVideoError(f"{video} cannot be read: {windows.bad.error}")
                tokens = encoder.tokens(windows.clip)
                rows.append((tokens.mean(1) if pooled else tokens).cpu())
                starts += windows.starts
        found = torch.cat(rows)
        return VideoFeatures(str(video), found, starts, shape, windows.num_frames, windows.fps)

    def reconstruct(
        self,
        video: str | Path,
        *,
        mask_kind: str | None = None,
        mask_ratio: float | None = None,
        start: int | None = None,
        stride: int | None = None,
        seed: int = 0,
    ) -> VideoReconstruction:
        """Reconstruct one clip of a video file, as python -m videomae.reconstruct does.

        Args:
            mask_kind: tube or random; None: the kind that the model was trained with.
            mask_ratio: share of the tokens that are hidden; None: that of the training.
            start: first frame of the clip; None: the clip in the middle.
            stride: distance between two frames of the clip; None: that of the weights.
            seed: random seed of the mask.

        Raises:
            WeightsError: the model has no decoder.
            ConfigError: the file cannot be read, or no such mask fits the model.
        """
        check_kind(self._weights, Kind.pretrain)
        assert isinstance(self.model, VideoMAE)
        config = ReconstructConfig(
            video=str(video),
            mask_kind=None if mask_kind is None else _member(MaskKind, "mask_kind", mask_kind),
            mask_ratio=mask_ratio,
            start=start,
            seed=seed,
            decoder=self._config.decoder,
        )
        _, shape, _ = with_stride(self._weights, stride)
        info = self._weights.info
        source = clip_and_mask(config, info, shape)
        rows = rebuilt(self.model, source, self._config.run.precision)
        original, masked, again = (row[0] for row in rows)
        title = title_of(info, source)
        return VideoReconstruction(str(video), title, original, masked, again, source.indices)


def load(
    path: str | Path,
    *,
    class_names: str | None = None,
    target: str | None = None,
    decoder: str = "auto",
    device: str = "auto",
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
) -> TrainedModel:
    """Load a model with what it takes to use it on video files: its clip and its classes.

    Args:
        path: a weights file of this project, an official .pth, or a directory: of a run, of
            DeepSpeed or of Hugging Face transformers.
        class_names: text file whose line i names class i; None: the names that the weights hold.
        target: your own head, as package.module:Name, where the weights were fine-tuned with one.
        decoder: library that decodes videos: pyav, decord or torchcodec; auto: the first there is.
        device: auto, cpu or cuda.
        num_heads: attention heads of the encoder, if the file lacks them or has wrong ones.
        decoder_num_heads: attention heads of the decoder, if the file lacks them or has wrong ones.

    Raises:
        WeightsError: the weights cannot be read.
        ConfigError: there is no such device or decoder, or the class names do not fit.
    """
    run = RunConfig(device=_member(Device, "device", device))
    config = PredictConfig(run=run, class_names=class_names, target=target, decoder=decoder)
    weights = read_weights(path, num_heads=num_heads, decoder_num_heads=decoder_num_heads)
    return TrainedModel(weights, config)


E = TypeVar("E", bound=Enum)


def _member(kind: type[E], key: str, name: str) -> E:
    """Return the member of an enum by its name.

    Raises:
        ConfigError: it has no such member.
    """
    if name not in kind.__members__:
        raise ConfigError(f"{key}={name}: it is one of {', '.join(kind.__members__)}")
    return kind[name]


def _clip_of(video: str | Path) -> Clip:
    """Return a video file as the one line of a clip list.

    Raises:
        UnreadableVideoError: there is no such file.
    """
    if reason := why_missing(video):
        raise UnreadableVideoError(f"{video} {reason}")
    return Clip(os.path.abspath(video), line=1)
