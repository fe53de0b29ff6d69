"""The running mean of the weights, against numbers worked out by hand."""

import torch
from torch import nn

from videomae.train.average import RunningMean


def test_the_mean_remembers_its_decay_and_takes_in_the_rest() -> None:
    model = nn.BatchNorm1d(1)  # has parameters, and buffers of floats and of whole numbers
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.running_mean.fill_(10.0)
    average = RunningMean(model, decay=0.9)
    for weight, buffer, count in ((2.0, 20.0, 1), (3.0, 30.0, 2)):
        with torch.no_grad():
            model.weight.fill_(weight)
            model.running_mean.fill_(buffer)
            model.num_batches_tracked.fill_(count)
        average.update(model)
    # 0.9 (0.9 x 1 + 0.1 x 2) + 0.1 x 3 = 1.29
    torch.testing.assert_close(average.module.weight.data, torch.tensor([1.29]))
    torch.testing.assert_close(average.module.running_mean, torch.tensor([12.9]))
    assert average.module.num_batches_tracked == 2
    assert model.weight.item() == 3.0
    assert not average.module.training
