"""The transformer block, under the parameter names of the official checkpoints."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videomae.config import Recompute
from videomae.model.attention import AttentionKernel, attend
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
        self.kernel = AttentionKernel()
        self.float8 = False
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        mixed = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), self.kernel)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of all heads: (B, N, D) -> three times (B, N, h, d)."""
        # A key bias would add the same number to all scores of a query, which softmax ignores.
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        if self.float8:  # torchao's layer, which takes no bias from outside
            qkv = self.qkv(x)
            qkv = qkv + bias.to(qkv.dtype)
        else:
            qkv = F.linear(x, self.qkv.weight, bias)
        # Views of one tensor, so that the backward pass writes their gradients with one copy.
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)
        return q, k, v


class Mlp(nn.Module):
    """Two linear layers around an exact (erf) GELU: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.padding = 0
        """Number of zero hidden units appended at compute time, see `use_padding`."""
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        if not self.padding:
            return self.fc2(self.act(self.fc1(x)))
        more = self.padding
        weight, bias = F.pad(self.fc1.weight, (0, 0, 0, more)), F.pad(self.fc1.bias, (0, more))
        hidden = self.act(F.linear(x, weight, bias))  # gelu(0) = 0
        return F.linear(hidden, F.pad(self.fc2.weight, (0, more)), self.fc2.bias)


def use_padding(blocks: nn.Module, multiple: int) -> int:
    """Pad the hidden width of all MLPs with zeros to a multiple that fast kernels want.

    Zeros are appended when an MLP computes: its weights and its result stay the same.

    Args:
        multiple: the hidden width becomes a multiple of it; 1: no padding.

    Returns:
        number of zero units appended to an MLP, at most.
    """
    most = 0
    for module in blocks.modules():
        if isinstance(module, Mlp):
            module.padding = -module.fc1.out_features % multiple
            most = max(most, module.padding)
    return most


class DropPath(nn.Module):
    """Drop a branch of a block at random, for each example by itself (stochastic depth).

    Huang et al., "Deep Networks with Stochastic Depth", https://arxiv.org/abs/1603.09382. A kept
    branch is divided by the probability of keeping it, so that the mean stays the same.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def draw(self, x: Tensor) -> Tensor | None:
        """Draw the factors of a block's two branches, (2, B, 1, 1) float32; None: nothing drops."""
        if not self.training or self.drop_prob == 0:
            return None
        kept = 1 - self.drop_prob
        scale = torch.empty(2, len(x), 1, 1, device=x.device)
        for branch in scale:  # two draws, as if each branch drew its own
            branch.bernoulli_(kept)
        return scale.div_(kept) if kept > 0 else scale


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
        self.drop_path = DropPath(drop_path)
        self.recompute = Recompute.none
        self.compiled: Callable[[Tensor, Tensor | None], Tensor] | None = None
        """`compute`, compiled by torch.compile; used in training only. None: not compiled."""

    def forward(self, x: Tensor) -> Tensor:
        # Drawn here, so that compiled code neither draws nor knows the rate.
        scale = self.drop_path.draw(x)
        if self.compiled is not None and self.training and torch.is_grad_enabled():
            return self.compiled(x, scale)
        return self.compute(x, scale)

    def compute(self, x: Tensor, scale: Tensor | None) -> Tensor:
        """Apply the block with its two branches multiplied by `scale`, (2, B, 1, 1) or None."""
        return recomputed(self._through, x, scale, self.recompute)

    def _through(self, x: Tensor, scale: Tensor | None) -> Tensor:
        if scale is None:
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        branch = self.attn(self.norm1(x))
        x = x + branch * scale[0].to(branch.dtype)
        branch = self.mlp(self.norm2(x))
        return x + branch * scale[1].to(branch.dtype)
