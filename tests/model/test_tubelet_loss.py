"""From pixels to tokens and to targets, each against a formula written another way."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model import CLIP, CONFIG, GRID, TOKENS, block, random_clip, randomise
from videomae.config import Positions
from videomae.model.classifier import VideoClassifier
from videomae.model.layers import Attention
from videomae.model.loss import pixel_targets, token_errors, tubelet_statistics
from videomae.model.mae import VideoMAE
from videomae.model.positions import position_table
from videomae.model.presets import preset, preset_names
from videomae.model.tubelet import TubeletEmbed, cut_tubelets, take


@pytest.mark.parametrize(("patch", "tubelet"), [(4, 2), (3, 1), (6, 4)])
def test_tubelets_are_numbered_time_first_then_by_row(patch: int, tubelet: int) -> None:
    clip = torch.arange(2 * 3 * 4 * 12 * 24.0).view(2, 3, 4, 12, 24)  # every pixel is another
    tubelets = cut_tubelets(clip, patch, tubelet)
    grid = (4 // tubelet, 12 // patch, 24 // patch)
    assert tubelets.shape == (2, math.prod(grid), tubelet * patch * patch, 3)
    for token in range(math.prod(grid)):
        colours_last = block(clip, token, patch, tubelet).permute(0, 2, 3, 4, 1)
        assert torch.equal(tubelets[:, token], colours_last.reshape(2, -1, 3)), token


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_take_gathers_whole_tokens(data: st.DataObject) -> None:
    rows, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    rest = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=2))
    chosen = data.draw(st.integers(1, 4))
    line = st.lists(st.integers(0, tokens - 1), min_size=chosen, max_size=chosen)
    places = data.draw(st.lists(line, min_size=rows, max_size=rows))
    x = torch.randn(rows, tokens, *rest)
    expected = torch.stack([x[row, torch.tensor(line)] for row, line in enumerate(places)])
    assert torch.equal(take(x, torch.tensor(places)), expected)


@pytest.mark.parametrize(("patch", "tubelet"), [(4, 2), (6, 1)])
def test_the_embedding_is_the_convolution_of_its_weights(patch: int, tubelet: int) -> None:
    torch.manual_seed(0)
    embed = TubeletEmbed(10, patch, tubelet)
    clip = random_clip()
    tubelets = cut_tubelets(clip, patch, tubelet)
    convolved = embed.proj(clip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(tubelets), convolved, rtol=0, atol=1e-5)
    some = torch.tensor([[5, 0, 2], [1, 1, 3]])
    torch.testing.assert_close(
        embed(take(tubelets, some)), take(convolved, some), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("grid", "dim"), [(GRID, 16), ((8, 14, 14), 768), ((8, 16, 16), 512)])
def test_positions_are_the_reference_table(grid: tuple[int, int, int], dim: int) -> None:
    """Column j of token n: sine (j even) or cosine of n / 10000^(2 floor(j / 2) / D)."""
    tokens = math.prod(grid)
    table = position_table(Positions.sincos_1d, grid, dim)
    assert table.shape == (1, tokens, dim)
    assert table.dtype == torch.float32
    for n in {0, 1, 7, tokens - 1}:
        for j in {0, 1, 2, 3, dim // 2, dim - 2, dim - 1}:
            angle = n / 10000 ** (2 * (j // 2) / dim)
            expected = math.cos(angle) if j % 2 else math.sin(angle)
            assert table[0, n, j].item() == pytest.approx(expected, abs=1e-7), (n, j)


@pytest.mark.parametrize("dim", [16, 64, 128])
def test_space_time_positions_give_each_coordinate_its_own_columns(dim: int) -> None:
    """1/4 of the columns for the time step, 3/8 for the row, 3/8 for the column, base 100."""
    t, h, w = grid = (2, 3, 5)
    table = position_table(Positions.sincos_3d, grid, dim)
    assert table.shape == (1, t * h * w, dim)
    assert table.dtype == torch.float32
    widths = (dim // 4, dim * 3 // 8, dim * 3 // 8)
    for n in range(t * h * w):
        expected = []
        for coordinate, width in zip((n // (h * w), n // w % h, n % w), widths, strict=True):
            for j in range(width):
                angle = coordinate / 100 ** (2 * (j // 2) / width)
                expected.append(math.cos(angle) if j % 2 else math.sin(angle))
        assert table[0, n].tolist() == pytest.approx(expected, abs=1e-7), n


@pytest.mark.parametrize("kind", Positions)
@pytest.mark.parametrize("dim", [8, 16, 22, 24, 64, 66, 98])
def test_no_two_tokens_have_the_same_position(kind: Positions, dim: int) -> None:
    table = position_table(kind, (4, 7, 7), dim)[0]
    assert table.shape == (4 * 7 * 7, dim)
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 1e-3


@pytest.mark.parametrize("kind", [Positions.sincos_1d, Positions.sincos_3d])
def test_the_model_holds_the_positions_of_its_config(kind: Positions) -> None:
    config = replace(CONFIG, positions=kind)
    model, classifier = VideoMAE(config, CLIP), VideoClassifier(config, CLIP, classes=2)
    assert torch.equal(model.encoder.pos_embed, position_table(kind, GRID, CONFIG.dim))
    assert torch.equal(classifier.pos_embed, model.encoder.pos_embed)
    assert torch.equal(model.decoder_positions, position_table(kind, GRID, CONFIG.decoder_dim))
    assert model.encoder.pos_embed.shape == (1, TOKENS, CONFIG.dim)


def test_the_released_models_use_positions_over_the_tokens_number() -> None:
    assert CONFIG.positions is Positions.sincos_1d
    released = [preset(name) for name in preset_names() if name != "vit_tiny"]
    assert len(released) == 5
    assert {config.positions for config in released} == {Positions.sincos_1d}


def test_attention_is_softmax_of_scaled_products_with_no_bias_on_keys() -> None:
    attention = Attention(12, heads=3)
    randomise(attention)
    x = torch.randn(2, 7, 12)
    q, k, v = (x @ attention.qkv.weight.T).split(12, dim=2)
    q, v = q + attention.q_bias, v + attention.v_bias
    heads = []
    for head in range(3):
        own = slice(4 * head, 4 * head + 4)
        scores = q[..., own] @ k[..., own].transpose(1, 2) / 2  # the root of 4
        heads.append(scores.softmax(2) @ v[..., own])
    expected = torch.cat(heads, dim=2) @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-5)


def test_targets_have_mean_0_and_spread_1_of_each_colour() -> None:
    tubelets = torch.rand(2, 5, 32, 3) * torch.tensor([0.1, 0.5, 1.0])
    colours = pixel_targets(tubelets).view(2, 5, 32, 3)
    torch.testing.assert_close(colours.mean(2), torch.zeros(2, 5, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(colours.std(2), torch.ones(2, 5, 3), rtol=0, atol=1e-3)


def test_a_flat_tubelet_has_target_zero() -> None:
    assert pixel_targets(torch.full((1, 2, 32, 3), 0.25)).count_nonzero() == 0


def test_the_statistics_take_a_target_back_to_pixels() -> None:
    tubelets = torch.rand(2, 5, 32, 3)
    mean, spread = tubelet_statistics(tubelets)
    assert mean.shape == spread.shape == (2, 5, 1, 3)
    back = pixel_targets(tubelets).view(2, 5, 32, 3) * spread + mean
    torch.testing.assert_close(back, tubelets, rtol=0, atol=1e-6)


def test_errors_are_float32_means_over_each_tokens_pixels() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]], dtype=torch.bfloat16)
    target = torch.tensor([[[0.0, 0.0], [3.0, 1.0]]])
    errors = token_errors(prediction, target)
    assert errors.dtype == torch.float32
    assert errors.tolist() == [[2.5, 5.0]]
