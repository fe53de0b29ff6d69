"""The attention that each token receives in the last block of an encoder, for pictures."""

import torch
from torch import Tensor, nn

from videomae.model.classifier import VideoClassifier
from videomae.model.layers import Attention, Block
from videomae.model.mae import VideoMAE

SCORES = 2**24
"""Largest number of attention scores that are computed at once: 64 MiB of float32."""


@torch.inference_mode()
def attention_received(model: VideoMAE | VideoClassifier, clip: Tensor) -> Tensor:
    """Return the share of the last block's attention that each token of a clip receives.

    That is the mean over all heads and all queries of softmax(q k^T / sqrt(d)). There is no class
    token: the features of a clip are the mean of its tokens, so that every token counts as a query.
    The model sees all tokens.

    Args:
        clip: (1, 3, T, H, W), normalised, on the model's device.

    Returns:
        (N,) float32 on the CPU, time-major; the sum is 1.
    """
    blocks = model.encoder.blocks if isinstance(model, VideoMAE) else model.blocks
    last = blocks[-1]
    assert isinstance(last, Block)
    inputs: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor]) -> None:
        inputs.append(given[0])

    hook = last.attn.register_forward_pre_hook(keep)
    try:
        model.features(clip)
    finally:
        hook.remove()
    return _received(last.attn, inputs[0]).cpu()


def _received(attention: Attention, x: Tensor) -> Tensor:
    """Return the attention that tokens receive: (1, N, D) -> (N,) float32.

    Queries are taken a few at a time, so that never more than SCORES scores are in memory.
    """
    q, k, _ = attention.project(x)  # (1, N, h, d)
    q, k = q[0].transpose(0, 1).float(), k[0].permute(1, 2, 0).float()  # (h, N, d), (h, d, N)
    heads, tokens, dim = q.shape
    total = torch.zeros(tokens, device=x.device)
    for some in q.split(max(1, SCORES // (heads * tokens)), dim=1):
        total += (some @ k * dim**-0.5).softmax(-1).sum((0, 1))
    return total / (heads * tokens)
