"""The running mean of the weights in training: an exponential moving average (EMA)."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class RunningMean(Generic[Model]):
    """The exponential moving average of a model's parameters and buffers.

    Args:
        model: the model whose values are the first mean; it is copied.
        decay: factor of the old mean at each update.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.module = deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Move the mean towards the model's current weights."""
        mean, new = self.module.state_dict(), model.state_dict()
        averaged = [name for name, value in mean.items() if value.is_floating_point()]
        for name in mean.keys() - set(averaged):
            mean[name].copy_(new[name])
        torch._foreach_lerp_(
            [mean[name] for name in averaged], [new[name] for name in averaged], 1 - self.decay
        )
