"""Masks: how much they hide, where, and which way round they are."""

import json

import numpy as np
import pytest
import torch

from tests.conftest import GOLDEN
from videomae.config import MaskConfig, MaskKind
from videomae.data.mask import Grid, Masking, random_mask, running_cell_mask, tube_mask

VIT_B, VIT_G = (8, 14, 14), (8, 16, 16)


@pytest.mark.parametrize(
    ("grid", "ratio", "visible"),
    [  # a place is hidden or seen in all time steps
        (VIT_B, 0.9, 8 * 20),  # 176 of 196 hidden (176.4)
        (VIT_G, 0.9, 8 * 26),  # 230 of 256 hidden (230.4)
        (VIT_B, 0.75, 8 * 49),
        ((4, 4, 4), 0.9, 4 * 2),  # 14 of 16 hidden (14.4)
        ((2, 8, 8), 0.9, 2 * 7),  # 57 of 64 hidden (57.6)
        ((1, 2, 3), 0.5, 3),
    ],
)
def test_true_is_masked_and_the_rest_of_a_tube_mask_is_visible(
    grid: Grid, ratio: float, visible: int
) -> None:
    mask = tube_mask(grid, ratio, np.random.default_rng(0))
    assert mask.dtype == torch.bool
    assert mask.shape == (grid[0] * grid[1] * grid[2],)
    assert int((~mask).sum()) == visible


def test_the_published_numbers_of_tokens() -> None:
    """Seen by the encoder and rebuilt by the decoder, of 1568 (ViT-B) and 2048 (ViT-g)."""
    masking = MaskConfig(kind=MaskKind.tube, ratio=0.9, decoder_ratio=0.5)
    for grid, tokens, seen, rebuilt in ((VIT_B, 1568, 160, 784), (VIT_G, 2048, 208, 1024)):
        mask, decoder_mask = Masking(masking, grid).draw(np.random.default_rng(0))
        assert decoder_mask is not None
        assert len(mask) == len(decoder_mask) == tokens
        assert int((mask == 0).sum()) == seen
        assert int((decoder_mask == 0).sum()) == rebuilt


@pytest.mark.parametrize("seed", range(5))
def test_a_tube_is_the_same_in_every_time_step(seed: int) -> None:
    steps = tube_mask(VIT_B, 0.9, np.random.default_rng(seed)).view(8, 196)
    assert (steps == steps[0]).all()
    other = tube_mask(VIT_B, 0.9, np.random.default_rng(seed + 1)).view(8, 196)
    assert not other[0].equal(steps[0])


@pytest.mark.parametrize("seed", range(5))
def test_a_random_mask_differs_between_time_steps(seed: int) -> None:
    mask = random_mask(VIT_B, 0.9, np.random.default_rng(seed))
    assert int(mask.sum()) == 1411  # 1411.2 of 1568
    steps = mask.view(8, 196)
    for step in range(1, 8):
        assert not steps[step].equal(steps[0])
    assert len(set(steps.sum(1).tolist())) > 1  # its number per step is left to chance


@pytest.mark.parametrize("make", [tube_mask, random_mask])
def test_every_token_is_masked_equally_often(make: type[tube_mask]) -> None:
    rng = np.random.default_rng(0)
    rates = torch.stack([make((2, 4, 4), 0.75, rng) for _ in range(2000)]).double().mean(0)
    spread = (0.75 * 0.25 / 2000) ** 0.5
    assert (rates - 0.75).abs().max() < 5 * spread


def test_the_running_cell_is_the_references() -> None:
    """The four maps recorded from VideoMAE V2's own code, in the order of the phase."""
    golden = json.loads((GOLDEN / "golden.json").read_text())["running_cell"]
    maps = torch.tensor(golden["maps"], dtype=torch.bool)
    assert len(maps) == 4
    for phase, expected in enumerate(maps):
        mask = running_cell_mask(tuple(golden["grid"]), golden["ratio"], phase)
        assert mask.dtype == torch.bool
        assert mask.equal(expected.flatten())


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("grid", [(8, 14, 14), (4, 2, 6), (1, 4, 2)])
def test_a_running_cell_hides_its_share_of_every_cell_in_turn(
    ratio: float, phase: int, grid: Grid
) -> None:
    t, h, w = grid
    mask = running_cell_mask(grid, ratio, phase).view(t, h, w)
    cells = mask.unfold(1, 2, 2).unfold(2, 2, 2).reshape(t, -1, 4)  # (T, cells, 4)
    assert (cells.sum(2) == 4 * ratio).all()
    assert (cells == cells[:, :1]).all()  # alike within a time step
    for step in range(t - 3):  # in four steps each token has had its turn
        assert (mask[step : step + 4].sum(0) == 4 * ratio).all()


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_a_phase_is_the_one_before_it_one_step_later(ratio: float) -> None:
    masks = [running_cell_mask((5, 4, 4), ratio, phase).view(5, 16) for phase in range(4)]
    for phase in range(4):
        assert masks[(phase + 1) % 4][:4].equal(masks[phase][1:])
        assert not masks[(phase + 1) % 4].equal(masks[phase])


def test_every_phase_is_drawn() -> None:
    masking = Masking(MaskConfig(kind=MaskKind.tube, ratio=0.9, decoder_ratio=0.5), (4, 4, 4))
    rng = np.random.default_rng(0)
    drawn = [masking.draw(rng)[1] for _ in range(100)]
    phases = [running_cell_mask((4, 4, 4), 0.5, phase) for phase in range(4)]
    for phase in phases:
        assert 10 < sum(mask is not None and mask.equal(phase) for mask in drawn) < 40


@pytest.mark.parametrize("kind", list(MaskKind))
def test_a_view_is_masked_as_the_config_says(kind: MaskKind) -> None:
    masking = Masking(MaskConfig(kind=kind, ratio=0.5, decoder_ratio=0), (4, 4, 4))
    mask, decoder_mask = masking.draw(np.random.default_rng(3))
    assert decoder_mask is None  # the decoder rebuilds all that is masked
    assert int(mask.sum()) == 32
    steps = mask.view(4, 16)
    assert (steps == steps[0]).all() == (kind is MaskKind.tube)


def test_a_draw_is_a_function_of_the_random_numbers() -> None:
    masking = Masking(MaskConfig(kind=MaskKind.tube, ratio=0.9, decoder_ratio=0.5), VIT_B)
    first, decoder_first = masking.draw(np.random.default_rng(1))
    second, decoder_second = masking.draw(np.random.default_rng(1))
    assert first.equal(second)
    assert decoder_first is not None
    assert decoder_second is not None
    assert decoder_first.equal(decoder_second)
    assert not first.equal(masking.draw(np.random.default_rng(2))[0])
