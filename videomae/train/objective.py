"""Objectives of training: what a step minimises, in which the two stages differ.

An objective takes a micro-batch to the sum of its errors; how many errors that is, is known on the
CPU before the step (`num_errors`), so that the mean over the whole global batch needs no waiting.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videomae.config import ConfigError, TrainConfig
from videomae.data.mix import Mix, Mixing, erase, mixed
from videomae.model.classifier import VideoClassifier
from videomae.model.loss import token_errors
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.model.pixels import normalise
from videomae.run.extensions import extension
from videomae.run.parallel import send

if TYPE_CHECKING:
    from videomae.data.loader import Batch


class Inputs(NamedTuple):
    """Tensors of a micro-batch that are sent to the device."""

    tensors: tuple[Tensor, ...]
    num_errors: float
    """How many errors the objective will add up."""

    def to(self, device: torch.device) -> "Inputs":
        """Copy without waiting."""
        return Inputs(tuple(send(tensor, device) for tensor in self.tensors), self.num_errors)


class Objective(Protocol):
    """The objective of a training: a torch module with the model, which adds up the views' errors.

    Its forward takes the tensors of `inputs`, on the device, and returns the sum of the errors of
    a micro-batch, (), float32, with its gradient. Two such sums must be the sum of both, so that a
    step is the same however its global batch is split; and nothing in it may wait for the device.
    Parameters of its own are not trained: only the model's are.

    optim.objective may name a class of your own, made as Name(model, config) with the model, on
    the CPU or the device, and the config of the run.
    """

    model: VideoMAE | VideoClassifier

    def inputs(self, batch: "Batch", step: int, first: int) -> Inputs:
        """Return what a micro-batch sends to the device, and how many errors it adds up.

        Unreadable videos must count for nothing: their views are blank, and batch.valid is False.
        Whatever is random must be a function of the run's seed, the step and the places of the
        videos in the global batch; see videomae.data.streams.random_stream.

        Args:
            batch: on the CPU, but for its clips, which may be on the device.
            step: that it belongs to, from 1.
            first: place of its first video in the global batch.
        """


def objective_of(
    model: nn.Module, config: TrainConfig, usual: Callable[[], nn.Module]
) -> nn.Module:
    """Return the objective that optim.objective names, or the stage's own.

    Args:
        usual: makes the stage's own.

    Raises:
        ConfigError: it cannot be imported, or is no objective.
    """
    name = config.optim.objective
    if name is None:
        return usual()
    make = extension("optim.objective", name)
    is_other = isinstance(make, type) and not issubclass(make, nn.Module)
    found: nn.Module | None = None if is_other else make(model, config)
    if not isinstance(found, nn.Module) or not callable(getattr(found, "inputs", None)):
        raise ConfigError(
            f"optim.objective={name} makes no torch module with a method `inputs`: see Objective "
            "in videomae.train.objective"
        )
    return found


class Reconstruct(nn.Module):
    """Pre-training: the error of each scored token, summed."""

    def __init__(self, model: VideoMAE) -> None:
        super().__init__()
        self.model = model

    def inputs(self, batch: "Batch", step: int, first: int) -> Inputs:
        """Frames and masks; an unreadable video's tokens are not scored."""
        assert batch.mask is not None
        visible, decoded, scored = MaskIndices.of(batch.mask, batch.decoder_mask)
        scored = scored * batch.valid[:, None]
        return Inputs((batch.clip, visible, decoded, scored), scored.sum().item())

    def forward(self, frames: Tensor, visible: Tensor, decoded: Tensor, scored: Tensor) -> Tensor:
        masks = MaskIndices(visible, decoded, scored)
        prediction, target = self.model.rebuild_frames(frames, masks)
        return (token_errors(prediction, target) * scored).sum()


Errors = Callable[[Tensor, Tensor, float], Tensor]
"""The error of each view, (V,), from outputs (V, outputs) float32, targets and label smoothing."""


def class_errors(logits: Tensor, label: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of each view: (V, classes), (V,) int64 -> (V,)."""
    return F.cross_entropy(logits, label, label_smoothing=label_smoothing, reduction="none")


class Classify(nn.Module):
    """Fine-tuning: the error of each view, summed.

    Where views are mixed, the errors with both targets are mixed, if these are numbers of classes;
    if they are vectors, the targets are mixed.

    Args:
        label_smoothing: what `errors` is told.
        mixing: draws mixup and CutMix; None: neither.
        errors: the loss; default: the cross-entropy with one class.
    """

    def __init__(
        self,
        model: VideoClassifier,
        label_smoothing: float,
        mixing: Mixing | None = None,
        errors: Errors = class_errors,
    ) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.mixing = mixing
        self.errors = errors

    def inputs(self, batch: "Batch", step: int, first: int) -> Inputs:
        """Frames, targets, what is erased and what is mixed; unreadable videos weigh nothing."""
        weight = batch.valid.float()
        nothing = torch.zeros(0, 4, dtype=torch.int64)
        erased = nothing if batch.erase is None else batch.erase
        mix = self.mixing.draw(step, first, batch.valid) if self.mixing else ()
        tensors = (batch.clip, batch.label, weight, erased, *mix)
        return Inputs(tensors, weight.sum().item())

    def forward(
        self, frames: Tensor, target: Tensor, weight: Tensor, erased: Tensor, *mix: Tensor
    ) -> Tensor:
        clip = normalise(frames)
        if len(erased):
            clip = erase(clip, erased)
        if not mix:
            return (self._errors(self.model(clip), target) * weight).sum()
        drawn = Mix(*mix)
        outputs = self.model(mixed(clip, drawn))
        if target.is_floating_point():
            own_share = drawn.label[:, None]
            target = own_share * target + (1 - own_share) * target[drawn.partner]
            return (self._errors(outputs, target) * weight).sum()
        own, other = (self._errors(outputs, x) for x in (target, target[drawn.partner]))
        return ((drawn.label * own + (1 - drawn.label) * other) * weight).sum()

    def _errors(self, outputs: Tensor, target: Tensor) -> Tensor:
        found = self.errors(outputs.float(), target, self.label_smoothing)
        if found.shape != outputs.shape[:1]:
            raise ConfigError(
                f"the errors of {len(outputs)} views have shape {tuple(found.shape)} and must have "
                f"({len(outputs)},): mend `errors` of what data.target or optim.objective names"
            )
        return found
