"""Pixel targets of the decoder, and the error of its prediction."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def pixel_targets(tubelets: Tensor, *, normalised: bool = True) -> Tensor:
    """Return the decoder's target: the tubelets' pixels, by default normalised.

    Normalised pixels have mean 0 and standard deviation 1 in each colour of each tubelet.

    Args:
        tubelets: (B, K, tubelet * patch * patch, 3) float32, pixels in [0, 1]; the caller undoes
            the ImageNet mean and std.
        normalised: whether to normalise; if False, the target is the plain pixels.

    Returns:
        (B, K, tubelet * patch * patch * 3) float32

    Source: VideoMAE's norm_pix target.
    """
    if not normalised:
        return tubelets.flatten(2)
    mean, spread = tubelet_statistics(tubelets)
    return (tubelets - mean).div_(spread).flatten(2)


def tubelet_statistics(tubelets: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each colour in each tubelet, both (B, K, 1, 3).

    The standard deviation is the root of the unbiased variance, plus 1e-6. The two normalise the
    targets, and turn a prediction back into pixels.
    """
    mean = tubelets.mean(2, keepdim=True)
    variance = (tubelets - mean).square().sum(2, keepdim=True) / (tubelets.shape[2] - 1)
    return mean, variance.sqrt() + 1e-6


def token_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of each token: (B, K, P), (B, K, P) -> (B, K) float32."""
    return F.mse_loss(prediction.float(), target, reduction="none").mean(2)
