"""Training with the blocks' matrix products in float8, scaled row by row, by torchao.

Micikevicius et al., "FP8 Formats for Deep Learning", https://arxiv.org/abs/2209.05433. Weights,
gradients and optimiser moments keep their dtype and their names.
"""

from dataclasses import replace

import torch
from torch import nn

from videomae.config import ConfigError
from videomae.model.layers import Attention, Block

MULTIPLE = 16
"""Widths of a linear layer's input and output must be multiples of this for float8 hardware."""
MIN_CAPABILITY = (8, 9)
"""Lowest CUDA compute capability with float8: Ada is (8, 9), Hopper (9, 0)."""


def use_float8(model: nn.Module, device: torch.device) -> int:
    """Switch the linear layers of all blocks to float8; on a CPU float8 is emulated.

    Returns:
        number of layers that were switched.

    Raises:
        ConfigError: torchao is not installed, or the device or all layers do not support float8.
    """
    cuda = device.type == "cuda"
    if cuda and torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"run.float8=true: {name} has no float8; leave it out")
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ModuleNotFoundError as error:
        raise ConfigError(
            'run.float8=true needs torchao: pip install "videomae[float8]"'
        ) from error
    config = Float8LinearConfig.from_recipe_name("rowwise")
    config = replace(config, pad_inner_dim=True, emulate=not cuda)
    converted = 0

    def fits(module: nn.Module, _: str) -> bool:
        nonlocal converted
        assert isinstance(module, nn.Linear)
        fitting = module.in_features % MULTIPLE == 0 == module.out_features % MULTIPLE
        converted += fitting
        return fitting

    for block in model.modules():
        if isinstance(block, Block):
            convert_to_float8_training(block, module_filter_fn=fits, config=config)
    if not converted:
        raise ConfigError(
            f"run.float8=true: no linear layer of the blocks has inputs and outputs in multiples "
            f"of {MULTIPLE}; leave it out"
        )
    for module in model.modules():
        if isinstance(module, Attention):
            module.float8 = type(module.qkv) is not nn.Linear
    return converted
