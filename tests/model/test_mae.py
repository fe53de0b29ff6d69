"""What VideoMAE may see, what it is asked for, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.model import CLIP, CONFIG, TOKENS, block, paint, random_clip, random_mask, randomise
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.model.pixels import MEAN, STD


@pytest.fixture(scope="module")
def model() -> VideoMAE:
    model = VideoMAE(CONFIG, CLIP)
    randomise(model)
    return model.eval()


def encoded(model: VideoMAE, clip: Tensor, encoder_mask: Tensor) -> Tensor:
    """What the encoder hands to the decoder in a forward pass."""
    seen: list[Tensor] = []
    hook = model.encoder.register_forward_hook(lambda _, __, output: seen.append(output))
    model(clip, encoder_mask)
    hook.remove()
    assert len(seen) == 1
    return seen[0]


def naive_targets(clip: Tensor) -> Tensor:
    """Targets of every token, each cut from the clip by hand: (B, N, 2 * 4 * 4 * 3)."""
    pixels = clip.double() * torch.tensor(STD).view(3, 1, 1, 1) + torch.tensor(MEAN).view(
        3, 1, 1, 1
    )
    rows = []
    for token in range(TOKENS):
        cube = block(pixels, token).numpy()  # (B, 3, u, p, q)
        mean = cube.mean((2, 3, 4), keepdims=True)
        spread = np.sqrt(cube.var((2, 3, 4), keepdims=True, ddof=1)) + 1e-6
        rows.append(((cube - mean) / spread).transpose(0, 2, 3, 4, 1).reshape(len(clip), -1))
    return torch.from_numpy(np.stack(rows, axis=1))


def test_masked_pixels_cannot_reach_the_encoder(model: VideoMAE) -> None:
    clip, mask = random_clip(), random_mask(13)
    before = encoded(model, clip, mask)
    assert torch.equal(encoded(model, paint(clip, mask, 9.0), mask), before)
    assert not torch.equal(encoded(model, paint(clip, ~mask, 9.0), mask), before)


@pytest.mark.parametrize("token", range(TOKENS))
def test_each_token_is_hidden_by_its_own_place_in_the_mask(model: VideoMAE, token: int) -> None:
    """Pins the order of the tokens, and that True hides."""
    clip = random_clip(1)
    only = torch.zeros(1, TOKENS, dtype=torch.bool)
    only[0, token] = True
    painted = paint(clip, only, 9.0)
    assert torch.equal(encoded(model, painted, only), encoded(model, clip, only))
    assert not torch.equal(encoded(model, painted, ~only), encoded(model, clip, ~only))


def test_an_encoder_output_for_each_visible_token_a_prediction_for_each_decoded(
    model: VideoMAE,
) -> None:
    encoder_mask, decoder_mask = random_mask(13), random_mask(7, seed=1)
    assert encoded(model, random_clip(), encoder_mask).shape == (2, TOKENS - 13, CONFIG.dim)
    out = model(random_clip(), encoder_mask, decoder_mask)
    assert out.prediction.shape == out.target.shape == (2, TOKENS - 7, 2 * 4 * 4 * 3)


def test_pixels_of_masked_tokens_change_targets_only(model: VideoMAE) -> None:
    clip, mask = random_clip(), random_mask(13)
    before, after = model(clip, mask), model(paint(clip, mask, 9.0), mask)
    assert torch.equal(after.prediction, before.prediction)
    assert not torch.equal(after.target, before.target)


def test_without_a_decoder_mask_all_that_is_hidden_is_rebuilt(model: VideoMAE) -> None:
    clip, mask = random_clip(), random_mask(13)
    plain, explicit = model(clip, mask), model(clip, mask, ~mask)
    assert plain.prediction.shape[1] == 13
    for ours, theirs in zip(plain, explicit, strict=True):
        assert torch.equal(ours, theirs)
    everything = (plain.prediction - plain.target).square().mean()
    torch.testing.assert_close(plain.loss, everything)


def test_targets_are_those_of_the_decoded_tokens_in_time_major_order(model: VideoMAE) -> None:
    clip, decoder_mask = random_clip(), random_mask(7, seed=1)
    target = model(clip, random_mask(13), decoder_mask).target
    every = naive_targets(clip)
    expected = torch.stack([row[~mask] for row, mask in zip(every, decoder_mask, strict=True)])
    torch.testing.assert_close(target.double(), expected, rtol=0, atol=1e-5)
    assert (target - target.roll(1, dims=1)).abs().max() > 0.1  # no two tokens have the same


def test_the_loss_is_the_mean_over_the_scored_tokens_of_the_whole_batch(model: VideoMAE) -> None:
    """The first clip scores two tokens, the second five: a mean of the clips' means is another."""
    encoder_mask = torch.arange(TOKENS).expand(2, -1) >= 6
    decoder_mask = torch.ones(2, TOKENS, dtype=torch.bool)
    decoder_mask[0, [0, 1, 2, 6, 17]] = False
    decoder_mask[1, [7, 8, 10, 12, 16]] = False
    out = model(random_clip(), encoder_mask, decoder_mask)
    errors = (out.prediction - out.target).square().mean(2).tolist()
    scored = errors[0][3:] + errors[1]
    assert out.loss.item() == pytest.approx(math.fsum(scored) / 7, rel=1e-5)
    of_means = (math.fsum(errors[0][3:]) / 2 + math.fsum(errors[1]) / 5) / 2
    assert out.loss.item() != pytest.approx(of_means, rel=1e-3)


def test_a_token_that_is_visible_and_decoded_adds_nothing_to_the_loss(model: VideoMAE) -> None:
    encoder_mask = torch.arange(TOKENS).expand(1, -1) >= 6
    decoder_mask = torch.arange(TOKENS).expand(1, -1) < 5  # token 5 is visible, 6 and more are not
    clip = random_clip(1)
    out = model(clip, encoder_mask, decoder_mask)
    torch.testing.assert_close(
        out.loss, (out.prediction - out.target)[:, 1:].square().mean(), rtol=1e-5, atol=0
    )


def test_the_target_carries_no_gradient(model: VideoMAE) -> None:
    out = model(random_clip().requires_grad_(), random_mask(13))
    assert out.prediction.requires_grad
    assert not out.target.requires_grad


def test_the_index_form_equals_the_mask_form(model: VideoMAE) -> None:
    clip, encoder_mask, decoder_mask = random_clip(), random_mask(13), random_mask(9, seed=1)
    masks = MaskIndices.of(encoder_mask, decoder_mask)
    prediction, target = model.rebuild(clip, masks)
    out = model(clip, encoder_mask, decoder_mask)
    assert torch.equal(prediction, out.prediction)
    assert torch.equal(target, out.target)
    errors = (prediction - target).square().mean(2)
    torch.testing.assert_close((errors * masks.scored).sum() / masks.scored.sum(), out.loss)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_mask_indices_name_the_tokens_that_the_masks_leave(data: st.DataObject) -> None:
    tokens, rows = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 3))
    masks, unmasked = [], []
    for _ in range(2):
        left = data.draw(st.integers(1, tokens - 1))
        places = [
            sorted(data.draw(st.permutations(range(tokens)))[:left])  # of each clip
            for _ in range(rows)
        ]
        mask = torch.ones(rows, tokens, dtype=torch.bool)
        for row, indices in enumerate(places):
            mask[row, indices] = False
        masks.append(mask)
        unmasked.append(places)
    visible, decoded, scored = MaskIndices.of(*masks)
    assert (visible.tolist(), decoded.tolist()) == tuple(unmasked)
    assert visible.dtype == decoded.dtype == torch.int64
    assert scored.dtype == torch.float32
    expected = [
        [float(token not in seen) for token in rebuilt]
        for seen, rebuilt in zip(*unmasked, strict=True)
    ]
    assert scored.tolist() == expected


UNEQUAL = torch.arange(TOKENS) >= torch.tensor([[3], [4]])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, TOKENS - 1, dtype=torch.bool), r"\(2, 18\) bool, got \(2, 17\)"),
        (torch.ones(3, TOKENS, dtype=torch.bool), r"\(2, 18\) bool, got \(3, 18\)"),
        (torch.ones(TOKENS, dtype=torch.bool), r"\(2, 18\) bool, got \(18,\)"),
        (torch.ones(2, 2, 3, 3, dtype=torch.bool), r"\(2, 18\) bool, got \(2, 2, 3, 3\)"),
        (random_mask(13).float(), "bool, got .* torch.float32"),
        (random_mask(13).to(torch.uint8), "bool, got .* torch.uint8"),
        (random_mask(13).long(), "bool, got .* torch.int64"),
        (UNEQUAL, r"same number of tokens.*got \[3, 4\]"),
        (torch.ones(2, TOKENS, dtype=torch.bool), r"at least one.*got \[0, 0\]"),
    ],
)
@pytest.mark.parametrize("which", ["encoder_mask", "decoder_mask"])
def test_masks_that_do_not_fit_are_refused(
    model: VideoMAE, which: str, mask: Tensor, message: str
) -> None:
    masks = {"encoder_mask": random_mask(13), "decoder_mask": random_mask(9)} | {which: mask}
    with pytest.raises(ValueError, match=f"{which}.*{message}"):
        model(random_clip(), **masks)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 6, 12, 12),
        (2, 3, 4, 16, 16),
        (2, 3, 4, 12, 16),
        (2, 1, 4, 12, 12),
        (2, 4, 3, 12, 12),
        (2, 3, 12, 12),
        (2, 1, 3, 4, 12, 12),
    ],
)
def test_clips_that_do_not_fit_are_refused(model: VideoMAE, shape: tuple[int, ...]) -> None:
    clip = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"\(B, 3, 4, 12, 12\), got \(2, "):
        model(clip, random_mask(13))
    with pytest.raises(ValueError, match=r"\(B, 3, 4, 12, 12\), got \(2, "):
        model.features(clip)


def test_features_are_the_encoder_with_nothing_hidden(model: VideoMAE) -> None:
    clip = random_clip()
    features = model.features(clip)
    assert features.shape == (2, TOKENS, CONFIG.dim)
    nothing = torch.zeros(2, TOKENS, dtype=torch.bool)
    masks = MaskIndices.of(nothing, ~random_mask(5))
    outputs: list[Tensor] = []
    hook = model.encoder.register_forward_hook(lambda _, __, output: outputs.append(output))
    model.rebuild(clip, masks)
    hook.remove()
    torch.testing.assert_close(features, outputs[0], rtol=0, atol=1e-5)
    assert not torch.allclose(features[:, 0], features[:, 1])


def test_loss_and_target_stay_float32_under_bf16_autocast(model: VideoMAE) -> None:
    clip, mask = random_clip(), random_mask(13)
    exact = model(clip, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(clip, mask)
    assert rough.prediction.dtype == torch.bfloat16  # else autocast was off
    assert rough.loss.dtype == rough.target.dtype == torch.float32
    assert torch.equal(rough.target, exact.target)
    torch.testing.assert_close(rough.loss, exact.loss, rtol=0.02, atol=0)
    errors = (rough.prediction.float() - rough.target).square().mean()
    torch.testing.assert_close(rough.loss, errors, rtol=1e-5, atol=0)


def test_nothing_in_the_state_but_parameters() -> None:
    """The positions are computed, not stored: official files have none."""
    model = VideoMAE(CONFIG, CLIP)
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_fresh_parameters_start_as_in_the_official_pre_training() -> None:
    torch.manual_seed(0)
    config = CONFIG.__class__(**vars(CONFIG) | {"dim": 64, "mlp_dim": 128, "decoder_dim": 32})
    model = VideoMAE(config, CLIP)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(linear) == 4 * (3 + 2) + 2
    for module in linear:
        bound = math.sqrt(6 / sum(module.weight.shape))  # Xavier: fan in + fan out
        if module is model.encoder_to_decoder:
            bound = 1 / math.sqrt(64)  # torch's own start: 1 / root of fan in
        assert 0.95 * bound < module.weight.abs().max() <= bound
        assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert module.bias is None or module.bias.count_nonzero() == 0
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert module.bias.count_nonzero() == 0
    for name, parameter in model.named_parameters():
        if name.endswith(("q_bias", "v_bias")):
            assert parameter.count_nonzero() == 0, name
    kernel = model.encoder.patch_embed.proj.weight  # torch's own start: uniform, 1 / root of fan in
    assert 0.95 < kernel.abs().max() * math.sqrt(3 * 2 * 4 * 4) <= 1
    assert 0.9 * 0.02 < model.mask_token.abs().max() <= 0.02  # cut off at one spread of 0.02
    assert model.mask_token.std().item() == pytest.approx(0.54 * 0.02, rel=0.25)
