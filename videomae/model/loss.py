"""What the decoder is asked for, and how far off it is."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def pixel_targets(tubelets: Tensor, *, normalised: bool = True) -> Tensor:
    """Each colour of each tubelet at mean 0 and spread 1, or as it is.

    Args:
        tubelets: (B, K, tubelet * patch * patch, 3) float32, pixels in [0, 1]; the caller undoes
            the ImageNet mean and std.
        normalised: False: plain pixels.

    Returns:
        (B, K, tubelet * patch * patch * 3)

    Source: VideoMAE's norm_pix target.
    """
    if not normalised:
        return tubelets.flatten(2)
    mean, spread = tubelet_statistics(tubelets)
    return (tubelets - mean).div_(spread).flatten(2)


def tubelet_statistics(tubelets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of each colour in each tubelet, both (B, K, 1, 3).

    The spread is the root of the unbiased variance, plus 1e-6. Targets are normalised with the two,
    and a prediction becomes visible pixels with them.
    """
    mean = tubelets.mean(2, keepdim=True)
    variance = (tubelets - mean).square().sum(2, keepdim=True) / (tubelets.shape[2] - 1)
    return mean, variance.sqrt() + 1e-6


def token_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each token, in float32: (B, K, P), (B, K, P) -> (B, K)."""
    return F.mse_loss(prediction.float(), target, reduction="none").mean(2)
