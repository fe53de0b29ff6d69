"""Matrix products of the blocks in float8, scaled row by row, forward and backward: torchao's.

Micikevicius et al., "FP8 Formats for Deep Learning", https://arxiv.org/abs/2209.05433. Weights,
gradients and moments stay what they are, under the same names.
"""

from dataclasses import replace

import torch
from torch import nn

from videomae.config import ConfigError
from videomae.model.layers import Attention, Block

MULTIPLE = 16
"""Of a layer's inputs and outputs, else the hardware cannot do it."""
LEAST = (8, 9)
"""Compute capability: Ada, Hopper."""


def use_float8(model: nn.Module, device: torch.device) -> int:
    """Let the linear layers of all blocks compute in float8; how many do. On CPUs it is emulated.

    Raises:
        ConfigError: torchao is not installed, or neither device nor layers are made for float8.
    """
    cuda = device.type == "cuda"
    if cuda and torch.cuda.get_device_capability(device) < LEAST:
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
