"""The block computes the same however it is computed."""

import pytest
import torch
from torch import Tensor, nn

from videomae.config import ClipConfig, ModelConfig
from videomae.model.layers import Block, DropPath, Mlp, use_padding
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.model.pixels import normalise

DIM, WIDTH, TOKENS = 32, 4 * 34 - 1, 24
CONFIG = ModelConfig(
    *("odd", 32, 2, 2, 64),
    patch=8,
    decoder_dim=24,
    decoder_heads=2,
    decoder_mlp_dim=105,
    decoder_depth=2,
)
CLIP = ClipConfig(4, 1, 32)


def passed(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and gradients of one pass."""
    module.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    y = module(x)
    y.sin().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


def farthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, as a share of the largest value of its tensor."""
    assert len(ours) == len(theirs)
    pairs = zip(ours, theirs, strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("multiple", [8, 64])
def test_a_padded_mlp_is_the_same_function(multiple: int) -> None:
    torch.manual_seed(0)
    mlp, x = Mlp(DIM, WIDTH), torch.randn(2, TOKENS, DIM)
    plain = passed(mlp, x)
    names = mlp.state_dict().keys()
    assert use_padding(mlp, multiple) == -WIDTH % multiple > 0
    assert farthest(passed(mlp, x), plain) <= 1e-6
    assert len(plain) == 6
    assert mlp.state_dict().keys() == names
    assert mlp.fc1.weight.shape == (WIDTH, DIM)
    assert use_padding(mlp, 1) == 0
    for ours, theirs in zip(passed(mlp, x), plain, strict=True):
        assert torch.equal(ours, theirs)


def test_a_width_that_fits_is_not_padded() -> None:
    block = Block(DIM, 4, 4 * DIM, eps=1e-6)
    assert use_padding(block, 8) == 0


def test_a_padded_model_learns_the_same() -> None:
    torch.manual_seed(0)
    model, clip = VideoMAE(CONFIG, CLIP), torch.randn(2, 3, 4, 32, 32)
    mask = torch.zeros(2, 32, dtype=torch.bool)
    mask[:, 8:] = True

    def gradients() -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        out = model(clip, mask)
        out.loss.backward()
        return [out.prediction.detach(), *(p.grad for p in model.parameters())]

    plain = gradients()
    assert use_padding(model.decoder.blocks, 8) == 7
    assert farthest(gradients(), plain) <= 1e-6


def test_frames_and_floats_are_rebuilt_alike() -> None:
    torch.manual_seed(0)
    model = VideoMAE(CONFIG, CLIP)
    frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    mask = torch.ones(2, 32, dtype=torch.bool)
    mask[0, ::4], mask[1, 1::4] = False, False
    indices = MaskIndices.of(mask)
    ours, theirs = model.rebuild_frames(frames, indices), model.rebuild(normalise(frames), indices)
    assert farthest([t.detach() for t in ours], [t.detach() for t in theirs]) <= 1e-5
    with pytest.raises(ValueError, match="built for clips of"):
        model.rebuild_frames(frames[:, :2], indices)


def test_drop_path_draws_for_each_branch_of_each_example() -> None:
    torch.manual_seed(0)
    drawn = DropPath(0.25).train().draw(torch.zeros(4000, 1, 1))
    assert drawn is not None
    assert drawn.shape == (2, 4000, 1, 1)
    assert drawn.unique().tolist() == pytest.approx([0, 4 / 3])
    assert drawn.mean().item() == pytest.approx(1, abs=0.03)
    assert not torch.equal(drawn[0], drawn[1])
    assert DropPath(0.25).eval().draw(torch.zeros(4, 1, 1)) is None
    assert DropPath(0.0).train().draw(torch.zeros(4, 1, 1)) is None
