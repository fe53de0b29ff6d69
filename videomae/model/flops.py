"""How much arithmetic a training step is, and how much of it a device can do."""

import time

import torch

from videomae.config import ClipConfig, ModelConfig, token_grid

BACKWARD = 2
"""Times the forward pass: gradients of the inputs and of the weights."""


def pretraining_flops(config: ModelConfig, visible: int, decoded: int) -> float:
    """Floating-point operations of one view's forward and backward pass.

    Matrix products and attention alone, an addition and a multiplication counting as two, and
    nothing that is computed again.

    Args:
        visible: tokens that the encoder sees.
        decoded: tokens that the decoder rebuilds.
    """
    pixels = 3 * config.tubelet * config.patch**2
    forward = _blocks(visible, config.depth, config.dim, config.mlp_dim)
    forward += 2 * visible * config.dim * (pixels + config.decoder_dim)
    both = visible + decoded
    forward += _blocks(both, config.decoder_depth, config.decoder_dim, config.decoder_mlp_dim)
    forward += 2 * decoded * config.decoder_dim * pixels
    return (1 + BACKWARD) * forward


def finetuning_flops(config: ModelConfig, clip: ClipConfig) -> float:
    """The same of a classifier; its head is left out."""
    frames, height, width = token_grid(config, clip)
    tokens = frames * height * width
    pixels = 3 * config.tubelet * config.patch**2
    forward = _blocks(tokens, config.depth, config.dim, config.mlp_dim)
    forward += 2 * tokens * pixels * config.dim
    return (1 + BACKWARD) * forward


def _blocks(tokens: int, depth: int, dim: int, mlp_dim: int) -> float:
    """Of the forward pass through some blocks: projections, MLP, attention."""
    return depth * tokens * (8 * dim * dim + 4 * dim * mlp_dim + 4 * tokens * dim)


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second that the device does in large square matrix products, measured.

    Args:
        size: of the matrices.
    """
    own = torch.Generator(device).manual_seed(0)  # others' random numbers stay as they are
    left, right = (
        torch.randn(size, size, device=device, generator=own).to(dtype) for _ in range(2)
    )

    def seconds(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    seconds(3)
    return 5 * 2 * size**3 / min(seconds(5) for _ in range(3))
