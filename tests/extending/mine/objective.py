# mine/objective.py
"""optim.objective=mine.objective:AbsoluteError in pre-training, :Focal in fine-tuning."""

import torch
import torch.nn.functional as F
from torch import Tensor

from videomae.config import FinetuneConfig, PretrainConfig
from videomae.data.mix import mixing_of
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.train.objective import Classify, Reconstruct


class AbsoluteError(Reconstruct):
    """Pre-training with the absolute error of the pixels in place of the squared one."""

    def __init__(self, model: VideoMAE, config: PretrainConfig) -> None:
        super().__init__(model)

    def forward(self, frames: Tensor, visible: Tensor, decoded: Tensor, scored: Tensor) -> Tensor:
        masks = MaskIndices(visible, decoded, scored)
        prediction, target = self.model.rebuild_frames(frames, masks)  # (V, K, pixels)
        errors = (prediction.float() - target).abs().mean(2)
        return (errors * scored).sum()


class Focal(Classify):
    """Fine-tuning with the focal loss (Lin et al., 2017), which easy videos add little to."""

    def __init__(self, model: VideoClassifier, config: FinetuneConfig) -> None:
        super().__init__(model, config.optim.label_smoothing, mixing_of(config), focal_errors)


def focal_errors(logits: Tensor, label: Tensor, label_smoothing: float) -> Tensor:
    """The error of each view: (V, classes), (V,) int64 -> (V,)."""
    errors = F.cross_entropy(logits, label, label_smoothing=label_smoothing, reduction="none")
    return (1 - torch.exp(-errors)) ** 2 * errors
