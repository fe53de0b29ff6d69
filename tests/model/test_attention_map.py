"""The attention that tokens receive, against a computation of all scores at once."""

import pytest
import torch
from torch import Tensor

from tests.model.test_layers import CLIP, CONFIG
from videomae.model import VideoClassifier, VideoMAE, attention_map
from videomae.model.attention_map import attention_received
from videomae.model.pixels import normalise

TOKENS = 2 * 4 * 4


@pytest.fixture(params=["classifier", "mae"])
def model(request: pytest.FixtureRequest) -> VideoClassifier | VideoMAE:
    torch.manual_seed(0)
    found = VideoMAE(CONFIG, CLIP) if request.param == "mae" else VideoClassifier(CONFIG, CLIP, 3)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return found.eval()


@pytest.fixture
def clip() -> Tensor:
    torch.manual_seed(1)
    return normalise(torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8))


def all_scores(model: VideoClassifier | VideoMAE, clip: Tensor) -> Tensor:
    """(N,): the last block's attention, written out from the inputs of its linear layer."""
    blocks = model.encoder.blocks if isinstance(model, VideoMAE) else model.blocks
    attention = blocks[-1].attn
    seen: list[Tensor] = []
    hook = blocks[-1].norm1.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model.features(clip)
    hook.remove()
    heads, dim = CONFIG.heads, CONFIG.dim // CONFIG.heads
    q, k, _ = (seen[0][0] @ attention.qkv.weight.T).split(CONFIG.dim, 1)
    q = (q + attention.q_bias).view(TOKENS, heads, dim)
    scores = torch.einsum("qhd,khd->hqk", q, k.view(TOKENS, heads, dim)) / dim**0.5
    return scores.softmax(-1).mean((0, 1))


@pytest.mark.parametrize("most", [2**24, 100, 1])
def test_it_is_the_mean_over_heads_and_queries_however_many_are_taken_at_once(
    model: VideoClassifier | VideoMAE, clip: Tensor, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_map, "SCORES", most)
    received = attention_received(model, clip)
    assert received.shape == (TOKENS,)
    torch.testing.assert_close(received, all_scores(model, clip).detach(), rtol=1e-4, atol=1e-7)
    assert received.sum().item() == pytest.approx(1, abs=1e-5)
    assert received.max() > 2 * received.min()  # equal shares would prove nothing


def test_it_leaves_the_model_as_it_was(model: VideoClassifier | VideoMAE, clip: Tensor) -> None:
    with torch.no_grad():
        before = model.features(clip)
        attention_received(model, clip)
        assert model.features(clip).equal(before)
    assert not any(module._forward_pre_hooks for module in model.modules())
