"""Floating-point operations of a training step, and the peak rate of a device."""

import time

import torch

from videomae.config import ClipConfig, ModelConfig, token_grid

BACKWARD = 2
"""Cost of a backward pass, in forward passes: gradients of the inputs and of the weights."""


def pretraining_flops(config: ModelConfig, visible: int, decoded: int) -> float:
    """Return the floating-point operations of one view's forward and backward pass in VideoMAE.

    Only matrix products and attention count, a multiplication and an addition as two operations.
    Activation recomputation does not count.

    Args:
        visible: number of tokens that the encoder sees.
        decoded: number of tokens that the decoder rebuilds.
    """
    pixels = 3 * config.tubelet * config.patch**2
    forward = _blocks(visible, config.depth, config.dim, config.mlp_dim)
    forward += 2 * visible * config.dim * (pixels + config.decoder_dim)
    both = visible + decoded
    forward += _blocks(both, config.decoder_depth, config.decoder_dim, config.decoder_mlp_dim)
    forward += 2 * decoded * config.decoder_dim * pixels
    return (1 + BACKWARD) * forward


def finetuning_flops(config: ModelConfig, clip: ClipConfig) -> float:
    """Return the operations of one view's forward and backward pass in the classifier.

    They are counted as in `pretraining_flops`; the head is left out.
    """
    frames, height, width = token_grid(config, clip)
    tokens = frames * height * width
    pixels = 3 * config.tubelet * config.patch**2
    forward = _blocks(tokens, config.depth, config.dim, config.mlp_dim)
    forward += 2 * tokens * pixels * config.dim
    return (1 + BACKWARD) * forward


def _blocks(tokens: int, depth: int, dim: int, mlp_dim: int) -> float:
    """Return the operations of a forward pass through `depth` transformer blocks."""
    return depth * tokens * (8 * dim * dim + 4 * dim * mlp_dim + 4 * tokens * dim)


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Measure the device's operations per second in large square matrix products.

    Args:
        size: rows and columns of the matrices.
    """
    own = torch.Generator(device).manual_seed(0)  # the global generator stays as it is
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
