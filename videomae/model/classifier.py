"""The action classifier: the encoder, the mean of its tokens, one norm and one linear head."""

import torch
from torch import Tensor, nn

from videomae.config import ClipConfig, ModelConfig
from videomae.model.layers import Block, init_linear
from videomae.model.mae import check_clip
from videomae.model.positions import register_positions
from videomae.model.tubelet import TubeletEmbed, cut_tubelets

HEAD_INIT_SCALE = 0.001
"""Factor on a new head's weights, so that its first logits are near 0 (official fine-tuning)."""


class VideoClassifier(nn.Module):
    """Classify clips: (B, 3, T, H, W) float, ImageNet-normalised -> logits (B, classes).

    Parameters carry the names of the official fine-tuned checkpoints. There is no class token and
    no norm between the last block and the mean.
    """

    pos_embed: Tensor

    def __init__(
        self,
        config: ModelConfig,
        clip: ClipConfig,
        classes: int,
        *,
        drop_path: float = 0.0,
        head_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.clip = clip
        self.classes = classes
        register_positions(self, config, clip)
        self.patch_embed = TubeletEmbed(config.dim, config.patch, config.tubelet)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_dim, eps=config.norm_eps, drop_path=rate)
            for rate in _rising(drop_path, config.depth)
        )
        self.fc_norm = nn.LayerNorm(config.dim, eps=config.fc_norm_eps)
        self.head_drop = nn.Dropout(head_drop)
        self.head = nn.Linear(config.dim, classes)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_INIT_SCALE)

    def features(self, clip: Tensor) -> Tensor:
        """Return every token after the last block: (B, 3, T, H, W) -> (B, N, D)."""
        check_clip(clip, self.clip)
        tubelets = cut_tubelets(clip, self.config.patch, self.config.tubelet)
        x = self.patch_embed(tubelets) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.head_drop(self.fc_norm(self.features(clip).mean(1))))


def _rising(last: float, count: int) -> list[float]:
    """Return `count` numbers from 0 to `last`, evenly spaced."""
    return [last * i / max(1, count - 1) for i in range(count)]
