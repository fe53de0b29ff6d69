"""What a run decides by measuring, before its first step."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from videomae.arithmetic import uses_bf16
from videomae.config import AttentionBackend, ConfigError, RunConfig
from videomae.model.attention import Way, measure, ways
from videomae.model.layers import Attention
from videomae.train.parallel import Processes


def choose_attention(
    parts: Mapping[str, tuple[nn.ModuleList, int]],
    views: int,
    run: RunConfig,
    processes: Processes,
) -> Iterator[str]:
    """Let each part of a model compute attention as run.attention says; yields what to say of it.

    Args:
        parts: of the model, by name: blocks, and the tokens of a view that they see.
        views: that a process's device takes at once.

    Raises:
        ConfigError: this device does not have that implementation.
    """
    asked, device = run.attention, processes.device
    if asked is AttentionBackend.auto and device.type == "cpu":
        asked = AttentionBackend.torch  # as on any other CPU: the numbers are to be the same
    dtype = torch.bfloat16 if uses_bf16(device, run.precision) else torch.float32
    for name, (blocks, tokens) in parts.items():
        attentions = [module for module in blocks.modules() if isinstance(module, Attention)]
        heads, dim = attentions[0].heads, attentions[0].qkv.in_features
        tried, shape = ways(asked, dim // heads), (views, heads, tokens, dim // heads)
        if asked is AttentionBackend.torch:
            chosen = Way()
        else:
            times: dict[Way, float] = {}
            if processes.is_main:
                times = measure(tried, shape, device, dtype)
            times = processes.from_main(times)
            if not times:
                raise ConfigError(
                    f"run.attention={asked.name}: {device} has no such attention for the {name}'s "
                    f"heads of {dim // heads}; leave run.attention at auto"
                )
            chosen = next(iter(times))
            rest = [f"{way} {1e3 * seconds:.3g} ms" for way, seconds in times.items()]
            yield f"attention of the {name}, {tokens} tokens: {'; '.join(rest)}"
        for attention in attentions:
            attention.way = chosen
