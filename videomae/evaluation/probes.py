"""Probes of frozen features: k nearest neighbours, a linear head and an attentive head."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videomae.model.layers import Mlp

QUERIES = 256
"""Number of views whose neighbours are searched at once."""
EPS = 1e-6


def knn_probs(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    classes: int,
    k: int,
    temperature: float = 0.07,
) -> Tensor:
    """Return the class probabilities of each query by the votes of its k nearest neighbours.

    A neighbour votes for its label with the weight exp(cosine similarity / temperature), divided by
    the sum of all weights. If there are fewer than k neighbours, all vote.

    Args:
        queries: (Q, D).
        features: (M, D), the neighbours, M at least 1.
        labels: (M,) int64, the labels of the neighbours.

    Returns:
        (Q, classes) float32, on the device of the inputs.

    Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (DINO), ICCV
    2021; there the weights are not divided by their sum, which changes no order.
    """
    features = F.normalize(features.float(), dim=1)
    votes = []
    for some in queries.float().split(QUERIES):
        similarity = F.normalize(some, dim=1) @ features.T  # (q, M)
        nearest, places = similarity.topk(min(k, len(features)))
        weights = (nearest / temperature).softmax(1)
        votes.append(weights.new_zeros(len(some), classes).scatter_add_(1, labels[places], weights))
    return torch.cat(votes) if votes else queries.new_zeros(0, classes)


class LinearProbe(nn.Module):
    """A linear head on standardised features: mean tokens (B, D) -> logits (B, classes).

    Args:
        features: (M, D), features of the training views, which give the mean and the standard
            deviation.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, features: Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("spread", features.std(0, correction=0) + EPS)
        self.head = nn.Linear(features.shape[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x - self.mean) / self.spread)


class AttentiveProbe(nn.Module):
    """An attentive head: tokens (B, N, D) -> logits (B, classes).

    One learned query attends to all tokens in one cross-attention block; a linear map of the result
    gives the logits. Source: Bardes et al., "Revisiting Feature Prediction for Learning Visual
    Representations from Video" (V-JEPA), 2024, and V-JEPA 2, 2025, which has three blocks of
    self-attention before it.
    """

    def __init__(self, dim: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, 4 * dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.query.expand(len(tokens), -1, -1)  # (B, 1, D)
        q = rearrange(self.q(query), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(
            self.kv(self.norm1(tokens)), "b n (two h d) -> two b h n d", two=2, h=self.heads
        )
        found = F.scaled_dot_product_attention(q, k, v)  # (B, h, 1, d)
        x = query + self.proj(rearrange(found, "b h n d -> b n (h d)"))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])
