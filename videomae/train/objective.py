"""What is minimised: the only thing in which the two stages of training differ.

An objective takes a micro-batch to the sum of its errors; how many errors that is, is known on the
CPU before the step (`num_errors`), so that the mean over the whole global batch needs no waiting.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videomae.data.mix import Mix, Mixing, erase, mixed
from videomae.model.classifier import VideoClassifier
from videomae.model.loss import token_errors
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.model.pixels import normalise
from videomae.run.parallel import send

if TYPE_CHECKING:
    from videomae.data.loader import Batch


class Inputs(NamedTuple):
    """What a micro-batch sends to the device."""

    tensors: tuple[Tensor, ...]
    num_errors: float
    """How many errors the objective will add up."""

    def to(self, device: torch.device) -> "Inputs":
        """Copy without waiting."""
        return Inputs(tuple(send(tensor, device) for tensor in self.tensors), self.num_errors)


class Objective(Protocol):
    """A module whose forward takes the tensors of `inputs` and returns a sum of errors, ()."""

    model: VideoMAE | VideoClassifier

    def inputs(self, batch: "Batch", step: int, first: int) -> Inputs:
        """Of a micro-batch, on the CPU.

        Args:
            step: it belongs to.
            first: place of its first video in the global batch.
        """


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


class Classify(nn.Module):
    """Fine-tuning: the cross-entropy of each view, summed.

    Args:
        mixing: draws mixup and CutMix; None: neither.
    """

    def __init__(
        self, model: VideoClassifier, label_smoothing: float, mixing: Mixing | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.mixing = mixing

    def inputs(self, batch: "Batch", step: int, first: int) -> Inputs:
        """Frames, labels, what is erased and what is mixed; an unreadable video weighs nothing."""
        weight = batch.valid.float()
        nothing = torch.zeros(0, 4, dtype=torch.int64)
        erased = nothing if batch.erase is None else batch.erase
        mix = self.mixing.draw(step, first, batch.valid) if self.mixing else ()
        tensors = (batch.clip, batch.label, weight, erased, *mix)
        return Inputs(tensors, weight.sum().item())

    def forward(
        self, frames: Tensor, label: Tensor, weight: Tensor, erased: Tensor, *mix: Tensor
    ) -> Tensor:
        clip = normalise(frames)
        if len(erased):
            clip = erase(clip, erased)
        if not mix:
            return (self._errors(self.model(clip), label) * weight).sum()
        drawn = Mix(*mix)
        logits = self.model(mixed(clip, drawn))
        own, other = (self._errors(logits, x) for x in (label, label[drawn.partner]))
        return ((drawn.label * own + (1 - drawn.label) * other) * weight).sum()

    def _errors(self, logits: Tensor, label: Tensor) -> Tensor:
        """(V,): cross-entropy, in float32."""
        return F.cross_entropy(
            logits.float(), label, label_smoothing=self.label_smoothing, reduction="none"
        )
