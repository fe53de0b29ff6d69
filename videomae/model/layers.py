"""The transformer block, under the parameter names of the official checkpoints."""

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import DropPath
from torch import Tensor, nn

from videomae.config import Recompute
from videomae.model.attention import Way, attend
from videomae.model.recompute import recomputed


def init_linear(module: nn.Module) -> None:
    """Start a linear map as the official encoder and decoder do: Xavier weights, biases of 0."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Attention(nn.Module):
    """Multi-head self-attention: (B, N, D) -> (B, N, D). Keys have no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.way = Way()
        self.float8 = False
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # A key bias would add the same number to all scores of a query, which softmax ignores.
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        if self.float8:  # torchao's layer, which takes no bias from outside
            qkv = self.qkv(x)
            qkv = qkv + bias.to(qkv.dtype)
        else:
            qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        mixed = attend(q, k, v, self.way)  # (B, h, N, d)
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)"))


class Mlp(nn.Module):
    """Two linear layers around an exact (erf) GELU: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block: (B, N, D) -> (B, N, D)."""

    def __init__(
        self, dim: int, heads: int, mlp_dim: int, *, eps: float, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, mlp_dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.recompute = Recompute.none

    def forward(self, x: Tensor) -> Tensor:
        noisy = isinstance(self.drop_path, DropPath)
        return recomputed(self._through, x, self.recompute, noisy=noisy)

    def _through(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
