"""A running mean of the weights that are trained."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class RunningMean(Generic[Model]):
    """The exponential moving average of a model's parameters and buffers.

    Args:
        model: is copied.
        decay: of the mean, at every update.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.module = deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Take in what the weights have become."""
        mean, new = self.module.state_dict(), model.state_dict()
        averaged = [name for name, value in mean.items() if value.is_floating_point()]
        for name in mean.keys() - set(averaged):
            mean[name].copy_(new[name])
        torch._foreach_lerp_(
            [mean[name] for name in averaged], [new[name] for name in averaged], 1 - self.decay
        )
