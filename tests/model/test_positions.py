"""Positions for any grid: fixed, interpolated by the official rule, learned."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model import CLIP, CONFIG, GRID, random_clip, randomise
from videomae.config import ClipConfig, ConfigError, OptimConfig, Positions, token_grid
from videomae.model import VideoClassifier, VideoMAE
from videomae.model.positions import fixed_positions, interpolated, position_table
from videomae.train.optimizer import adamw
from videomae.weights.load import as_trained
from videomae.weights.weights import Kind, WeightsInfo

LEARNED = replace(CONFIG, positions=Positions.learned)
FRAMES = (4, 6, 8, 16, 24, 32, 64)
SIZES = ((12, 12), (16, 16), (8, 20), (24, 12))


def clip_of(frames: int, height: int, width: int) -> ClipConfig:
    return ClipConfig(frames, 1, height, None if width == height else width)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("frames", FRAMES)
def test_models_are_built_for_any_clip(frames: int, size: tuple[int, int]) -> None:
    """The table over the token's number, worked out column by column."""
    clip = clip_of(frames, *size)
    mae, classifier = VideoMAE(CONFIG, clip).eval(), VideoClassifier(CONFIG, clip, classes=2).eval()
    tokens = frames // 2 * size[0] // 4 * size[1] // 4
    expected = [
        [(math.sin, math.cos)[i % 2](n / 10_000 ** (2 * (i // 2) / 16)) for i in range(16)]
        for n in range(tokens)
    ]
    torch.testing.assert_close(mae.encoder.pos_embed[0], torch.tensor(expected), rtol=0, atol=1e-6)
    assert torch.equal(classifier.pos_embed, mae.encoder.pos_embed)
    pixels = torch.randn(1, 3, frames, *size)
    assert mae.features(pixels).shape == (1, tokens, 16)
    assert classifier(pixels).shape == (1, 2)
    mask = torch.arange(tokens)[None] % 2 == 0
    assert mae(pixels, mask).prediction.shape == (1, (tokens + 1) // 2, 96)


def test_tokens_of_a_frame_that_is_not_square_go_row_by_row() -> None:
    """A clip whose only bright tubelet is the one of row 1, column 3 of 2 x 5."""
    model = VideoClassifier(CONFIG, clip_of(2, 8, 20), classes=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.patch_embed.proj.weight.fill_(1.0)
        model.pos_embed.zero_()
    pixels = torch.zeros(1, 3, 2, 8, 20)
    pixels[..., 4:8, 12:16] = 1
    assert model.features(pixels)[0].any(1).nonzero().tolist() == [[1 * 5 + 3]]


def test_clips_of_the_wrong_shape_are_refused_by_both_sides() -> None:
    model = VideoClassifier(CONFIG, clip_of(4, 8, 20), classes=2)
    with pytest.raises(ValueError, match=r"\(B, 3, 4, 8, 20\), got \(1, 3, 4, 20, 8\)"):
        model(torch.zeros(1, 3, 4, 20, 8))
    with pytest.raises(ConfigError, match=r"clip\.width=18 .*nearest sizes are 16 and 20"):
        token_grid(CONFIG, clip_of(4, 8, 18))


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.75, as torch's bicubic has it."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def resampling(kernel: object, reach: int, source: int, target: int) -> np.ndarray:
    """(target, source) weights of resampling with half-pixel centres and clamped edges."""
    weights = np.zeros((target, source))
    for row in range(target):
        place = (row + 0.5) * source / target - 0.5
        if kernel is triangle:
            place = max(place, 0.0)
        first = math.floor(place)
        for tap in range(first - reach + 1, first + reach + 1):
            weights[row, min(max(tap, 0), source - 1)] += kernel(place - tap)  # type: ignore[operator]
    return weights


@pytest.mark.parametrize("to", [(2, 3, 3), (4, 3, 3), (1, 5, 2), (8, 7, 7), (3, 2, 6)], ids=str)
def test_interpolation_is_bicubic_in_space_then_linear_in_time(to: tuple[int, int, int]) -> None:
    """Against separable resampling written out in float64."""
    table = torch.randn(1, 2 * 3 * 3, 5, generator=torch.Generator().manual_seed(0))
    found = interpolated(table, (2, 3, 3), to)
    values = table[0].double().numpy().reshape(2, 3, 3, 5)
    if to[1:] != (3, 3):
        rows, columns = (resampling(cubic, 2, 3, count) for count in to[1:])
        values = np.einsum("ij,kl,tjld->tikd", rows, columns, values)
    if to[0] != 2:
        values = np.einsum("ut,tijd->uijd", resampling(triangle, 1, 2, to[0]), values)
    expected = torch.from_numpy(values.reshape(1, -1, 5)).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [Positions.sincos_1d, Positions.sincos_3d])
@pytest.mark.parametrize("frames", [4, 8, 64])
def test_fixed_positions_made_for_other_tokens_are_interpolated(
    kind: Positions, frames: int
) -> None:
    config = replace(CONFIG, positions=kind, position_grid=[2, 3, 3])
    clip = clip_of(frames, 16, 20)
    model = VideoMAE(config, clip)
    for found, dim in ((model.encoder.pos_embed, 16), (model.decoder_positions, 8)):
        table = position_table(kind, (2, 3, 3), dim)
        assert torch.equal(found, interpolated(table, (2, 3, 3), (frames // 2, 4, 5)))
    assert torch.equal(fixed_positions(config, CLIP), position_table(kind, GRID, 16))


@pytest.mark.parametrize("grid", [[2, 3], [2, 3, 0], [2, 3, 3, 3]], ids=str)
def test_grids_that_are_none_are_refused(grid: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"position_grid must be three numbers of tokens"):
        replace(CONFIG, position_grid=grid)
    with pytest.raises(ConfigError, match=r"position_grid is for fixed positions"):
        replace(LEARNED, position_grid=[2, 3, 3])


def test_learned_positions_are_trained_without_decay_and_slowest_of_all() -> None:
    for model, name in (
        (VideoMAE(LEARNED, CLIP), "encoder.pos_embed"),
        (VideoClassifier(LEARNED, CLIP, classes=2), "pos_embed"),
    ):
        parameters = dict(model.named_parameters())
        assert parameters[name].shape == (1, 18, 16)
        assert 0.01 < parameters[name].std() < 0.03
        optim = OptimConfig(8, 1e-3, 0.0, [0.9, 0.95], 1, 0, layer_decay=0.5)
        groups = adamw(model, LEARNED.depth, optim).param_groups
        (own,) = [g for g in groups if any(p is parameters[name] for p in g["params"])]
        assert own["weight_decay"] == 0
        assert own["lr_scale"] == 0.5**4
        randomise(model)
        before = model.features(random_clip()).detach()
        with torch.no_grad():
            parameters[name][0, 0] += 1
        assert not torch.equal(model.features(random_clip()), before)


def info(clip: ClipConfig = CLIP, **model: object) -> WeightsInfo:
    return WeightsInfo(Kind.pretrain, "x", replace(CONFIG, **model), clip)  # type: ignore[arg-type]


def test_a_run_on_other_clips_takes_over_the_tokens_of_its_starting_weights() -> None:
    other = replace(CLIP, frames=8)
    assert as_trained(CONFIG, info(), CLIP).position_grid is None
    assert as_trained(CONFIG, info(), other).position_grid == [2, 3, 3]
    # The tokens of the first pre-training stay those of the whole chain
    second = info(other, position_grid=[2, 3, 3])
    assert as_trained(CONFIG, second, replace(CLIP, size=16)).position_grid == [2, 3, 3]
    assert as_trained(CONFIG, second, CLIP).position_grid is None  # back where they are made for
    assert as_trained(CONFIG, second, other).position_grid == [2, 3, 3]
    # What the run's own config says stays
    own = replace(CONFIG, position_grid=[4, 3, 3])
    assert as_trained(own, info(), other).position_grid == [4, 3, 3]
    assert as_trained(LEARNED, info(), other).position_grid is None


def test_a_run_takes_over_the_epsilons_that_it_uses() -> None:
    eps = {"norm_eps": 1e-12, "decoder_norm_eps": 1e-5, "fc_norm_eps": 1e-4}
    found = as_trained(CONFIG, info(**eps), CLIP)
    assert (found.norm_eps, found.decoder_norm_eps, found.fc_norm_eps) == (1e-12, 1e-5, 1e-6)
    classifier = replace(info(**eps), kind=Kind.classifier, classes=2)
    found = as_trained(CONFIG, classifier, CLIP)
    assert (found.norm_eps, found.decoder_norm_eps, found.fc_norm_eps) == (1e-12, 1e-6, 1e-4)


def epsilons(model: torch.nn.Module) -> dict[str, float]:
    return {n: m.eps for n, m in model.named_modules() if isinstance(m, torch.nn.LayerNorm)}


def test_each_epsilon_is_where_it_belongs() -> None:
    config = replace(CONFIG, norm_eps=1e-3, decoder_norm_eps=1e-4, fc_norm_eps=1e-5)
    found = epsilons(VideoMAE(config, CLIP))
    assert found.pop("decoder.norm") == 1e-4
    assert len(found) == 2 * 3 + 2 * 2 + 1
    assert set(found.values()) == {1e-3}
    found = epsilons(VideoClassifier(config, CLIP, classes=2))
    assert found.pop("fc_norm") == 1e-5
    assert set(found.values()) == {1e-3}


def test_plain_pixels_as_targets() -> None:
    model = VideoMAE(replace(CONFIG, normalise_targets=False), CLIP)
    pixels = torch.rand(1, 3, 4, 12, 12)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
    mask = torch.zeros(1, 18, dtype=torch.bool)
    mask[0, 9 + 4] = True  # second time step, the middle of 3 x 3
    target = model((pixels - mean) / std, mask).target
    expected: Tensor = pixels[0, :, 2:4, 4:8, 4:8].permute(1, 2, 3, 0).flatten()
    torch.testing.assert_close(target[0, 0], expected, rtol=0, atol=1e-6)
