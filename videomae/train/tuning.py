"""Choices that a run makes by measuring before its first step: attention kernel, MLP padding."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

from videomae.config import AttentionBackend, ConfigError, RunConfig
from videomae.model.attention import AttentionKernel, candidate_kernels, measure
from videomae.model.layers import Attention, Mlp, use_padding
from videomae.model.timing import device_seconds
from videomae.run.arithmetic import autocast, uses_bf16
from videomae.run.parallel import Processes
from videomae.train.choices import Choices

ALIGNED = 8
"""Multiple of the width at which 16-bit matrix products are fast: rows of 16 bytes."""


class ModelPart(NamedTuple):
    """A stack of transformer blocks: the encoder, or the decoder."""

    blocks: nn.ModuleList
    tokens: int
    """Number of tokens of a view in these blocks."""


def tune(
    parts: Mapping[str, ModelPart],
    views: int,
    run: RunConfig,
    processes: Processes,
    choices: Choices,
) -> Iterator[str]:
    """Choose the fastest attention kernel and MLP padding for each part of a model.

    Yields a line of text to report each choice.

    Args:
        parts: parts of the model, by name.
        views: views in a micro-batch.

    Raises:
        ConfigError: this device does not support the kernel that run.attention names.
    """
    for name, part in parts.items():
        yield from choose_attention(name, part, views, run, processes, choices)
        yield from choose_padding(name, part, views, run, processes, choices)


def choose_attention(
    name: str, part: ModelPart, views: int, run: RunConfig, processes: Processes, choices: Choices
) -> Iterator[str]:
    """Choose the attention kernel of a model part, as run.attention says; yield a report."""
    asked, device = run.attention, processes.device
    if asked is AttentionBackend.auto and device.type == "cpu":
        asked = AttentionBackend.torch  # all CPUs use the same kernel, so the same numbers
    attentions = [module for module in part.blocks.modules() if isinstance(module, Attention)]
    heads, dim = attentions[0].heads, attentions[0].qkv.in_features
    chosen = AttentionKernel()
    if asked is not AttentionBackend.torch:
        dtype = torch.bfloat16 if uses_bf16(device, run.precision) else torch.float32
        kernels = candidate_kernels(asked, dim // heads)
        shape = (views, heads, part.tokens, dim // heads)
        kind = "" if asked is AttentionBackend.auto else f" by {asked.name}"
        found, said = choices.choose(
            f"attention of the {name}{kind}, {part.tokens} tokens x {views} views, "
            f"{heads} heads of {dim // heads}",
            {str(kernel): kernel for kernel in kernels},
            lambda: {str(k): time for k, time in measure(kernels, shape, device, dtype).items()},
            processes,
        )
        if found is None:
            raise ConfigError(
                f"run.attention={asked.name}: {device} has no such attention for the {name}'s "
                f"heads of {dim // heads}; leave run.attention at auto"
            )
        yield said
        chosen = found
    for attention in attentions:
        attention.kernel = chosen


def choose_padding(
    name: str, part: ModelPart, views: int, run: RunConfig, processes: Processes, choices: Choices
) -> Iterator[str]:
    """Pad MLPs whose width is no multiple of 8, on GPUs, where that is faster; yield a report."""
    mlp = next(module for module in part.blocks.modules() if isinstance(module, Mlp))
    dim, width = mlp.fc1.in_features, mlp.fc1.out_features
    if processes.device.type == "cpu" or width % ALIGNED == 0:
        return
    multiple, said = choices.choose(
        f"MLPs of the {name}, {part.tokens} tokens x {views} views, {dim} x {width}",
        {"as they are": 1, f"padded to {width + -width % ALIGNED}": ALIGNED},
        lambda: measure_padding(dim, width, views * part.tokens, run, processes.device),
        processes,
    )
    use_padding(part.blocks, multiple or 1)
    yield said


def measure_padding(
    dim: int, width: int, tokens: int, run: RunConfig, device: torch.device
) -> dict[str, float]:
    """Measure the seconds of an MLP's forward and backward, plain and padded; faster first."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        mlp = Mlp(dim, width).to(device)
        x = torch.randn(tokens, dim, device=device, requires_grad=True)

    def through() -> None:
        with autocast(device, run.precision):
            y = mlp(x)
        torch.autograd.grad(y, [x, *mlp.parameters()], torch.ones_like(y))

    times = {}
    for multiple in (1, ALIGNED):
        more = use_padding(mlp, multiple)
        name = f"padded to {width + more}" if more else "as they are"
        times[name] = device_seconds(through, device)
    return dict(sorted(times.items(), key=lambda item: item[1]))
