"""Mixup, CutMix and random erasing: boxes, weights and partners; what happens to the pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from videomae.config import AugmentConfig, CropKind
from videomae.data.augment import erase_box
from videomae.data.mix import Mix, Mixing, block_of, erase, inside, mixed

CONFIG = AugmentConfig(CropKind.random_resized, antialias=False, mixup=0.8, cutmix=1.0)
FRAME = (20, 30)


def valid(views: int = 8) -> Tensor:
    return torch.ones(views, dtype=torch.bool)


def mixing(
    config: AugmentConfig = CONFIG, block: int = 2, repeats: int = 2, seed: int = 0
) -> Mixing:
    return Mixing(config, block, FRAME, repeats, seed)


def test_blocks_are_mixed_within_themselves() -> None:
    """Two blocks of two videos, two views of each: first with last."""
    drawn = mixing().draw(step=3, first=4, valid=valid())
    assert drawn.partner.tolist() == [3, 2, 1, 0, 7, 6, 5, 4]
    for values in (drawn.own, drawn.label, drawn.box):
        assert (values[:4] == values[0]).all()
        assert (values[4:] == values[4]).all()
    assert drawn.label[0] != drawn.label[4]


@pytest.mark.parametrize(
    ("block", "partner"),
    [
        (1, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]),
        (2, [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]),
        (3, [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]),  # videos 1 and 4 with themselves
        (6, [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]),
    ],
)
def test_strengths_are_of_blocks_and_partners_of_groups(block: int, partner: list[int]) -> None:
    """Six videos, two views of each."""
    drawn = mixing(block=block).draw(step=3, first=0, valid=valid(12))
    assert drawn.partner.tolist() == partner
    for values in (drawn.own, drawn.label, drawn.box):
        blocks = values.view(6 // block, 2 * block, -1)
        assert (blocks == blocks[:, :1]).all()
    strengths = drawn.label.view(6 // block, -1)[:, 0]
    assert len(set(strengths.tolist())) == 6 // block


def test_an_odd_block_mixes_as_many_videos_with_themselves_as_one_gpu_does() -> None:
    """timm's Mixup flips what a GPU takes in: of three videos and two views, the middle third."""
    views = torch.arange(3).repeat_interleave(2)
    expected = (views == views.flip(0)).float().mean()
    assert expected == pytest.approx(1 / 3)
    videos = torch.arange(24).repeat_interleave(2)
    for block, own in ((1, 1.0), (2, 0.0), (3, 1 / 3), (4, 0.0), (16, 0.0)):
        partner = mixing(block=block).draw(1, 0, valid(48)).partner
        assert (videos == videos[partner]).float().mean() == pytest.approx(own)


@pytest.mark.parametrize(("block", "size"), [(2, 2), (2, 4), (8, 2), (8, 4), (4, 6), (3, 6)])
def test_draws_depend_on_the_place_in_the_global_batch_alone(block: int, size: int) -> None:
    """However it is split into micro-batches, which hold parts of even blocks."""
    videos = 12 if 12 % block == 0 else 24
    whole = mixing(block=block).draw(step=5, first=0, valid=valid(2 * videos))
    parts = [
        mixing(block=block).draw(step=5, first=first, valid=valid(2 * size))
        for first in range(0, videos, size)
    ]
    for name in ("own", "box", "label"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(getattr(whole, name), joined)
    partners = [2 * size * i + part.partner for i, part in enumerate(parts)]
    assert torch.equal(whole.partner, torch.cat(partners))


def test_other_steps_and_seeds_draw_others() -> None:
    whole = mixing().draw(step=5, first=0, valid=valid(16))
    assert not torch.equal(whole.label, mixing().draw(step=6, first=0, valid=valid(16)).label)
    assert not torch.equal(whole.label, mixing(seed=1).draw(5, 0, valid(16)).label)


def test_an_unreadable_video_is_mixed_with_none() -> None:
    drawn = mixing().draw(1, 0, torch.tensor([True, True, False, False]))
    assert drawn.own.tolist() == [1, 1, 1, 1]
    assert drawn.label.tolist() == [1, 1, 1, 1]
    assert not drawn.box.any()


def test_shares_of_mixup_and_cutmix() -> None:
    """Half CutMix, all blocks mixed; own weights as their beta distributions have them."""
    drawn = [mixing().draw(step, 0, valid(4)) for step in range(1, 3001)]
    cut = torch.stack([one.box[0].prod(0) >= 0 for one in drawn]) & torch.stack(
        [one.own[0] == 1 for one in drawn]
    )
    assert cut.float().mean().item() == pytest.approx(0.5, abs=0.03)
    own = torch.stack([one.own[0] for one in drawn])[~cut]
    assert own.mean().item() == pytest.approx(0.5, abs=0.03)
    assert own.var().item() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.01)  # of Beta(a, a)
    for one in drawn:
        top, left, height, width = one.box[0].tolist()
        assert 0 <= top <= top + height <= FRAME[0]
        assert 0 <= left <= left + width <= FRAME[1]
        if one.own[0] == 1:
            assert one.label[0].item() == pytest.approx(1 - height * width / 600)
        else:
            assert one.label[0] == one.own[0]


@pytest.mark.parametrize(
    ("changes", "cuts"), [({"cutmix": 0.0}, False), ({"mixup": 0.0}, True)], ids=str
)
def test_one_of_the_two_alone(changes: dict[str, float], cuts: bool) -> None:
    for step in range(1, 50):
        drawn = mixing(replace(CONFIG, **changes)).draw(step, 0, valid(4))
        assert (drawn.own[0] == 1) == cuts


def test_none_where_the_chance_says_so() -> None:
    drawn = mixing(replace(CONFIG, mix_prob=0.0)).draw(1, 0, valid(4))
    assert drawn.label.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("asked", "batch", "block"), [(2, 8, 2), (2, 7, 1), (4, 6, 3), (8, 8, 8), (2, 1, 1)]
)
def test_blocks_divide_the_global_batch(asked: int, batch: int, block: int) -> None:
    assert block_of(replace(CONFIG, mix_block=asked), batch) == block
    assert block_of(replace(CONFIG, mix_block=asked, mixup=0, cutmix=0), batch) == 1


def clips(views: int = 2) -> Tensor:
    """(V, 3, 4, 20, 30) of the view's number."""
    return torch.arange(views).view(-1, 1, 1, 1, 1).expand(-1, 3, 4, *FRAME).float().contiguous()


def test_mixup_weighs_all_pixels_of_all_frames() -> None:
    weight = torch.tensor([0.25, 0.75])
    drawn = Mix(torch.tensor([1, 0]), weight, torch.zeros(2, 4, dtype=torch.int64), weight)
    found = mixed(clips(), drawn)
    assert (found[0] == 0.75).all()
    assert (found[1] == 0.75).all()


def test_cutmix_puts_one_box_into_all_frames() -> None:
    box = torch.tensor([[2, 3, 5, 7], [0, 0, 0, 0]])
    drawn = Mix(torch.tensor([1, 0]), torch.ones(2), box, torch.ones(2))
    found = mixed(clips(), drawn)
    expected = torch.zeros(FRAME)
    expected[2:7, 3:10] = 1
    assert (found[0] == expected).all()
    assert (found[1] == 1).all()


def test_inside_a_box() -> None:
    found = inside(torch.tensor([[19, 28, 1, 2], [0, 0, 0, 0]]), clips())
    assert found.shape == (2, 1, 1, *FRAME)
    assert found[0, 0, 0].nonzero().tolist() == [[19, 28], [19, 29]]
    assert not found[1].any()


def test_erasing_puts_noise_into_one_box_of_all_frames() -> None:
    torch.manual_seed(0)
    box = torch.tensor([[2, 3, 15, 20], [0, 0, 0, 0]])
    before = clips() + 5
    found = erase(before, box)
    changed = (found != before)[0].any(0).any(0)
    assert changed[2:17, 3:23].all()
    assert changed.sum() == 15 * 20
    assert torch.equal(found[1], before[1])
    noise = found[0, :, :, 2:17, 3:23]
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(noise[:, 0], noise[:, 1])  # another in each frame


def test_boxes_of_random_erasing() -> None:
    config = replace(CONFIG, erase_prob=0.25)
    rng = np.random.default_rng(0)
    boxes = [erase_box((224, 224), config, rng) for _ in range(8000)]
    done = [box for box in boxes if box[2]]
    assert len(done) / 8000 == pytest.approx(0.25, abs=0.02)
    shares = [height * width / 224**2 for _, _, height, width in done]
    assert min(shares) >= 0.018
    assert max(shares) <= 0.35
    aspects = [height / width for _, _, height, width in done]
    assert min(aspects) >= 0.28
    assert max(aspects) <= 3.5
    assert np.mean(np.log(aspects)) == pytest.approx(0, abs=0.05)
    assert all(t + h <= 224 and w + x <= 224 for t, x, h, w in done)
