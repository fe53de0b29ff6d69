"""VideoMAE with dual masking: the encoder sees visible tokens, the decoder rebuilds the others.

Wang et al., "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking", CVPR 2023,
https://arxiv.org/abs/2303.16727.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from videomae.config import ClipConfig, ModelConfig
from videomae.model.layers import Block, init_linear
from videomae.model.loss import pixel_targets, token_errors
from videomae.model.pixels import normalise_pixels, unnormalise
from videomae.model.positions import fixed_positions, register_positions
from videomae.model.tubelet import TubeletEmbed, cut_frames, cut_tubelets, take


class MaskIndices(NamedTuple):
    """The masks of a batch as indices, whose fixed shapes let the host run ahead of the GPU."""

    visible: Tensor
    """Indices of the tokens that the encoder sees, ascending, (B, V) int64."""
    decoded: Tensor
    """Indices of the tokens that the decoder rebuilds, ascending, (B, K) int64."""
    scored: Tensor
    """Weight of each decoded token: 1 if hidden from the encoder, else 0, (B, K) float32."""

    @classmethod
    def of(cls, encoder_mask: Tensor, decoder_mask: Tensor | None = None) -> "MaskIndices":
        """Convert bool masks (B, N), True = masked, to indices.

        Without a `decoder_mask` the decoder rebuilds all tokens hidden from the encoder.

        Raises:
            ValueError: the rows differ in how many tokens they leave, or leave none.
        """
        visible = _unmasked(encoder_mask, "encoder_mask")
        if decoder_mask is None:
            decoded = _unmasked(~encoder_mask, "~encoder_mask")
        else:
            decoded = _unmasked(decoder_mask, "decoder_mask")
        return cls(visible, decoded, encoder_mask.gather(1, decoded).float())


class Reconstruction(NamedTuple):
    """Loss, prediction and target that a forward pass of VideoMAE returns."""

    loss: Tensor
    """Mean error over the scored tokens of the whole batch, () float32."""
    prediction: Tensor
    """Pixels that the decoder predicts, (B, K, tubelet * patch * patch * 3)."""
    target: Tensor
    """Pixels that the decoder should predict, (B, K, tubelet * patch * patch * 3) float32."""


class MAEEncoder(nn.Module):
    """The encoder: tubelets (B, V, P, 3) and their positions (B, V, D) -> tokens (B, V, D)."""

    pos_embed: Tensor

    def __init__(self, config: ModelConfig, clip: ClipConfig) -> None:
        super().__init__()
        register_positions(self, config, clip)
        self.patch_embed = TubeletEmbed(config.dim, config.patch, config.tubelet)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_dim, eps=config.norm_eps)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)

    def forward(self, tubelets: Tensor, positions: Tensor) -> Tensor:
        x = self.patch_embed(tubelets) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class MAEDecoder(nn.Module):
    """The decoder: visible and decoded tokens (B, V + K, D) -> pixels of the last K (B, K, P)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_heads, config.decoder_mlp_dim, eps=config.norm_eps)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=config.decoder_norm_eps)
        self.head = nn.Linear(dim, 3 * config.tubelet * config.patch**2)

    def forward(self, x: Tensor, num_decoded: int) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, -num_decoded:]))


class VideoMAE(nn.Module):
    """The masked autoencoder that is pre-trained.

    Parameters have the names and the initialisation of the official checkpoints: the linear layers
    of encoder and decoder are Xavier, the one between the two is torch's default, and the mask
    token is normal with standard deviation 0.02, truncated at one standard deviation.
    """

    decoder_positions: Tensor

    def __init__(self, config: ModelConfig, clip: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = clip
        self.encoder = MAEEncoder(config, clip)
        self.encoder_to_decoder = nn.Linear(config.dim, config.decoder_dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_dim))
        self.decoder = MAEDecoder(config)
        self.register_buffer(
            "decoder_positions", fixed_positions(config, clip, decoder=True), persistent=False
        )
        self.encoder.apply(init_linear)
        self.decoder.apply(init_linear)
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)

    def forward(
        self, clip: Tensor, encoder_mask: Tensor, decoder_mask: Tensor | None = None
    ) -> Reconstruction:
        """Predict the pixels of the decoded tokens, and score the prediction.

        Args:
            clip: (B, 3, T, H, W) float, ImageNet-normalised.
            encoder_mask: (B, N) bool, time-major, True = masked: hidden from the encoder.
            decoder_mask: (B, N) bool, time-major, True = not rebuilt by the decoder. None: the
                decoder rebuilds exactly what the encoder does not see (VideoMAE V1).

        Raises:
            ValueError: the clip or the masks do not fit the model, or a mask's rows differ in how
                many tokens they leave, or no token is scored.
        """
        for name, mask in (("encoder_mask", encoder_mask), ("decoder_mask", decoder_mask)):
            expected = (len(clip), self.decoder_positions.shape[1])
            if mask is not None and (mask.shape != expected or mask.dtype != torch.bool):
                raise ValueError(
                    f"{name} must be {expected} bool, got {tuple(mask.shape)} {mask.dtype}"
                )
        masks = MaskIndices.of(encoder_mask, decoder_mask)
        prediction, target = self.rebuild(clip, masks)
        errors = token_errors(prediction, target)
        num_scored = masks.scored.sum()
        if num_scored == 0:
            raise ValueError("no token is both hidden from the encoder and decoded")
        loss = (errors * masks.scored).sum() / num_scored
        return Reconstruction(loss, prediction, target)

    def rebuild(self, clip: Tensor, masks: MaskIndices) -> tuple[Tensor, Tensor]:
        """Return prediction and target of the decoded tokens, both (B, K, P).

        Args:
            clip: (B, 3, T, H, W) float, ImageNet-normalised.
        """
        tubelets = self._cut(clip)
        prediction = self._predict(take(tubelets, masks.visible), masks)
        return prediction, self._targets(unnormalise(take(tubelets, masks.decoded)))

    def rebuild_frames(self, frames: Tensor, masks: MaskIndices) -> tuple[Tensor, Tensor]:
        """Return prediction and target of the decoded tokens, both (B, K, P), in training.

        Args:
            frames: (B, T, H, W, 3) uint8, as decoded. Only tokens that are used become floats.
        """
        check_clip(frames.permute(0, 4, 1, 2, 3), self.clip)
        tubelets = cut_frames(frames, self.config.patch, self.config.tubelet)
        prediction = self._predict(normalise_pixels(take(tubelets, masks.visible)), masks)
        return prediction, self._targets(take(tubelets, masks.decoded).float() / 255)

    def _predict(self, tubelets: Tensor, masks: MaskIndices) -> Tensor:
        """Predict decoded tokens from visible tubelets: (B, V, ..., 3) normalised -> (B, K, P)."""
        visible, decoded, _ = masks
        positions = self.encoder.pos_embed.expand(len(tubelets), -1, -1)
        encoded = self.encoder(tubelets, take(positions, visible))
        positions = self.decoder_positions.expand(len(tubelets), -1, -1)
        x = torch.cat(
            [
                self.encoder_to_decoder(encoded) + take(positions, visible),
                self.mask_token + take(positions, decoded),
            ],
            dim=1,
        )  # (B, V + K, decoder_dim): a token that is visible and decoded appears twice
        return self.decoder(x, decoded.shape[1])

    def _targets(self, pixels: Tensor) -> Tensor:
        """Return the targets of decoded pixels in [0, 1]: (B, K, ..., 3) -> (B, K, P)."""
        return pixel_targets(pixels, normalised=self.config.normalise_targets)

    def features(self, clip: Tensor) -> Tensor:
        """Encode a clip with all tokens visible: (B, 3, T, H, W) -> (B, N, D)."""
        return self.encoder(self._cut(clip), self.encoder.pos_embed)

    def _cut(self, clip: Tensor) -> Tensor:
        check_clip(clip, self.clip)
        return cut_tubelets(clip, self.config.patch, self.config.tubelet)


def check_clip(clip: Tensor, expected: ClipConfig) -> None:
    """Raise ValueError unless `clip` has the (B, 3, T, H, W) that the model was built for."""
    shape = (3, expected.frames, *expected.frame)
    if clip.ndim != 5 or clip.shape[1:] != shape:
        raise ValueError(
            f"the model was built for clips of (B, {', '.join(map(str, shape))}), "
            f"got {tuple(clip.shape)}"
        )


def _unmasked(mask: Tensor, name: str) -> Tensor:
    """Return the indices of the tokens that a (B, N) mask leaves, (B, number of them) int64."""
    counts = (~mask).sum(1)
    if counts.numel() == 0 or counts.min() != counts.max() or counts[0] == 0:
        raise ValueError(
            f"every row of {name} must leave the same number of tokens, at least one; "
            f"got {counts.tolist()}"
        )
    return (~mask).nonzero()[:, 1].view(len(mask), -1)
