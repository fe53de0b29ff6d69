"""The classifier: what it computes, how it starts, what is at random while it trains."""

import pytest
import torch
from torch import nn

from tests.model import CLIP, CONFIG, TOKENS, random_clip, randomise
from videomae.model.classifier import VideoClassifier


@pytest.fixture
def model() -> VideoClassifier:
    model = VideoClassifier(CONFIG, CLIP, classes=5)
    randomise(model)
    return model.eval()


def test_logits_are_a_head_on_the_normed_mean_of_the_tokens(model: VideoClassifier) -> None:
    clip = random_clip()
    features = model.features(clip)
    assert features.shape == (2, TOKENS, CONFIG.dim)
    mean = features.mean(1)
    normed = (mean - mean.mean(1, keepdim=True)) / (
        mean.var(1, keepdim=True, correction=0) + 1e-6
    ).sqrt()
    normed = normed * model.fc_norm.weight + model.fc_norm.bias
    logits = normed @ model.head.weight.T + model.head.bias
    assert logits.shape == (2, 5)
    torch.testing.assert_close(model(clip), logits, rtol=0, atol=1e-5)
    assert not torch.allclose(logits[0], logits[1], atol=1e-2)


@pytest.mark.parametrize(
    "shape", [(2, 3, 6, 12, 12), (2, 3, 4, 16, 16), (2, 1, 4, 12, 12), (2, 3, 12, 12)]
)
def test_clips_that_do_not_fit_are_refused(model: VideoClassifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 4, 12, 12\), got \(2, "):
        model(torch.zeros(shape))


def test_nothing_in_the_state_but_parameters(model: VideoClassifier) -> None:
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_fresh_blocks_start_as_in_pre_training_and_the_head_almost_silent() -> None:
    torch.manual_seed(0)
    config = CONFIG.__class__(**vars(CONFIG) | {"dim": 64, "mlp_dim": 128})
    model = VideoClassifier(config, CLIP, classes=100)
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert len(linear) == 4 * 3 + 1
    for name, module in linear.items():
        xavier = (2 / sum(module.weight.shape)) ** 0.5
        std = 0.02 * 0.001 if name == "head" else xavier
        assert module.weight.std().item() == pytest.approx(std, rel=0.05), name
        assert module.weight.mean().item() == pytest.approx(0, abs=0.1 * std), name
        assert module.bias is None or module.bias.count_nonzero() == 0, name
    for name, parameter in model.named_parameters():
        if name.endswith(("q_bias", "v_bias")):
            assert parameter.count_nonzero() == 0, name
    assert torch.equal(model.fc_norm.weight, torch.ones(64))


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_drop_path_rises_linearly_from_0_to_its_rate(rate: float) -> None:
    model = VideoClassifier(CONFIG, CLIP, classes=5, drop_path=rate)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0, rate / 2, rate])


def test_drop_path_drops_both_branches_of_whole_clips_while_training() -> None:
    """At rate 1 the last block is the identity; in eval mode it is not."""
    model = VideoClassifier(CONFIG, CLIP, classes=5, drop_path=1.0)
    randomise(model)
    x = torch.randn(4, TOKENS, CONFIG.dim)
    last = model.blocks[-1]
    assert torch.equal(last.train()(x), x)
    assert not torch.allclose(last.eval()(x), x)
    middle = model.blocks[1]  # rate 1/2, kept branches count double
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(20):
            change = (middle.train()(x) - x).flatten(1).abs()
            dropped = (change == 0).all(1)
            if 0 < dropped.sum() < 4:
                break
        else:
            pytest.fail("no mixture of dropped and kept clips in twenty draws")
    assert (change[~dropped] > 0).float().mean() > 0.99


def test_nothing_is_at_random_in_eval_mode() -> None:
    model = VideoClassifier(CONFIG, CLIP, classes=5, drop_path=0.5, head_drop=0.5)
    randomise(model)
    clip = random_clip()
    model.eval()
    assert torch.equal(model(clip), model(clip))
    model.train()
    assert not torch.equal(model(clip), model(clip))


def test_head_drop_acts_on_the_heads_input_only() -> None:
    model = VideoClassifier(CONFIG, CLIP, classes=5, head_drop=1.0)
    randomise(model)
    clip = random_clip()
    model.train()
    torch.testing.assert_close(model(clip), model.head.bias.expand(2, -1))
    assert torch.equal(model.features(clip), model.eval().features(clip))
