"""Crops: where they may lie, and what the pixels become."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from videomae.config import AugmentConfig, CropKind
from videomae.data.augment import (
    Box,
    evaluation_crops,
    mirror,
    multi_scale_box,
    random_box,
    random_resized_box,
    resize_crop,
)

SCALES = [1.0, 0.875, 0.75, 0.66]
AREA, ASPECT = [0.08, 1.0], [3 / 4, 4 / 3]
PRETRAIN = AugmentConfig(crop=CropKind.multi_scale, antialias=True)
FINETUNE = AugmentConfig(crop=CropKind.random_resized, antialias=False)
ROUNDING = 1.01  # grey levels: columns are rounded to whole ones before rows are resized


def noise(frames: int, height: int, width: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8))


def inside(box: Box, height: int, width: int) -> bool:
    top, left, crop_height, crop_width = box
    fits_down = 0 <= top < top + crop_height <= height
    return fits_down and 0 <= left < left + crop_width <= width


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    size=st.sampled_from([1, 32, 112, 224]),
    config=st.sampled_from([PRETRAIN, FINETUNE]),
    seed=st.integers(0, 2**32),
)
def test_a_random_box_lies_inside_the_frame(
    height: int, width: int, size: int, config: AugmentConfig, seed: int
) -> None:
    box = random_box(height, width, (size, size), config, np.random.default_rng(seed))
    assert all(isinstance(number, int) for number in box)
    assert inside(box, height, width)


def test_the_crop_is_of_the_kind_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    sides = {random_box(200, 300, (64, 64), PRETRAIN, rng)[2:] for _ in range(200)}
    assert {side for pair in sides for side in pair} == {200, 175, 150, 132}
    assert len({random_box(200, 300, (64, 64), FINETUNE, rng)[2:] for _ in range(200)}) > 100


def test_a_multi_scale_crop_lies_at_one_of_thirteen_places() -> None:
    """Half of 100 x 140 is 50 x 50; free are 50 and 90, in quarters 12 and 22 (rounded down)."""
    corners = {(0, 0), (0, 88), (48, 0), (48, 88)}
    edges = {(0, 44), (48, 44), (24, 0), (24, 88)}
    inner = {(24, 44), (12, 22), (12, 66), (36, 22), (36, 66)}
    rng = np.random.default_rng(0)
    boxes = [multi_scale_box(100, 140, (224, 224), [0.5], rng) for _ in range(1300)]
    assert {box[2:] for box in boxes} == {(50, 50)}
    places = Counter(box[:2] for box in boxes)
    assert set(places) == corners | edges | inner
    assert max(places.values()) < 2 * min(places.values())  # about 100 each


def test_the_sides_of_a_multi_scale_crop_are_at_most_one_scale_apart() -> None:
    """Of a short side of 256: 256, 224, 192 and 168 (168.96)."""
    rng = np.random.default_rng(0)
    pairs = Counter(multi_scale_box(256, 340, (224, 224), SCALES, rng)[2:] for _ in range(1000))
    assert set(pairs) == {
        (256, 256), (256, 224),
        (224, 256), (224, 224), (224, 192),
        (192, 224), (192, 192), (192, 168),
        (168, 192), (168, 168),
    }  # fmt: skip
    assert max(pairs.values()) < 2 * min(pairs.values())  # about 100 each


@pytest.mark.parametrize(
    ("short", "size", "sides"),
    [
        (255, 224, {255, 224, 191, 168}),  # 223.1 -> 223 -> 224
        (258, 224, {258, 224, 193, 170}),  # 225.75 -> 225 -> 224
        (260, 224, {260, 227, 195, 171}),  # 227 is 3 away
        (226, 224, {224, 197, 169, 149}),  # 226 itself is 2 away
        (222, 224, {222, 194, 166, 146}),  # 224 would reach past the frame's edge
    ],
)
def test_a_side_within_two_pixels_of_the_size_is_the_size(
    short: int, size: int, sides: set[int]
) -> None:
    rng = np.random.default_rng(0)
    boxes = [multi_scale_box(short, 400, (size, size), SCALES, rng) for _ in range(200)]
    assert {side for box in boxes for side in box[2:]} == sides


def test_a_random_resized_crop_has_the_area_and_the_aspect_that_were_asked_for() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_resized_box(240, 320, AREA, ASPECT, rng) for _ in range(2000)]
    areas = np.array([height * width / (240 * 320) for _, _, height, width in boxes])
    aspects = np.array([width / height for _, _, height, width in boxes])
    assert AREA[0] - 0.005 < areas.min() < 0.1
    assert 0.9 < areas.max() <= 1
    assert ASPECT[0] - 0.01 < aspects.min() < 0.77
    assert 1.3 < aspects.max() < ASPECT[1] + 0.01
    assert np.median(aspects) == pytest.approx(1, abs=0.05)  # as often wide as tall
    tops, lefts = {box[0] for box in boxes}, {box[1] for box in boxes}
    assert {0, 100} <= tops
    assert {0, 150} <= lefts


def test_a_random_resized_crop_lies_anywhere_up_to_the_last_row_and_column() -> None:
    rng = np.random.default_rng(0)
    boxes = {random_resized_box(4, 4, [0.25, 0.25], [1.0, 1.0], rng) for _ in range(200)}
    assert boxes == {(top, left, 2, 2) for top in range(3) for left in range(3)}


@pytest.mark.parametrize(
    ("height", "width", "aspect", "box"),
    [
        (10, 1000, ASPECT, (0, 493, 10, 13)),  # 10 * 4/3 = 13.3 wide, (1000 - 13) // 2
        (1000, 10, ASPECT, (493, 0, 13, 10)),
        (100, 400, [1.0, 1.0], (0, 150, 100, 100)),
        (90, 100, [2.0, 2.0], (20, 0, 50, 100)),
    ],
)
def test_where_no_draw_fits_the_largest_centred_crop_is_taken(
    height: int, width: int, aspect: list[float], box: Box
) -> None:
    """The whole area in another shape never fits."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert random_resized_box(height, width, [1.0, 1.0], aspect, rng) == box


def test_a_frame_one_pixel_wide_still_gives_a_crop() -> None:
    for height, width in ((1, 1), (1, 50), (50, 1)):
        box = random_resized_box(height, width, [1.0, 1.0], ASPECT, np.random.default_rng(0))
        assert inside(box, height, width)


def resized_crop(frames: Tensor, box: Box, height: int, width: int, *, antialias: bool) -> Tensor:
    """In memory that held something else."""
    view = torch.full((len(frames), height, width, 3), 77, dtype=torch.uint8)
    resize_crop(frames, box, view, antialias=antialias)
    return view


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 128), (20, 70), (1, 1)])
def test_a_resized_crop_is_that_of_torchs_own_interpolation(
    antialias: bool, height: int, width: int
) -> None:
    frames = noise(3, 48, 64)
    before = frames.clone()
    crop = resized_crop(frames, (5, 7, 40, 50), height, width, antialias=antialias)
    planes = frames[:, 5:45, 7:57].permute(0, 3, 1, 2)
    expected = F.interpolate(planes, (height, width), mode="bilinear", antialias=antialias)
    assert crop.equal(expected.permute(0, 2, 3, 1))
    assert frames.equal(before)


def test_a_crop_of_the_right_size_keeps_its_pixels() -> None:
    frames = noise(2, 48, 64)
    crop = resized_crop(frames, (5, 7, 32, 40), 32, 40, antialias=True)
    expected = [[[frames[t, 5 + y, 7 + x] for x in range(40)] for y in range(32)] for t in range(2)]
    assert crop.equal(torch.stack([torch.stack([torch.stack(r) for r in f]) for f in expected]))


def by_pillow(frames: Tensor, box: Box, size: int) -> Tensor:
    top, left, height, width = box
    crops = [
        Image.fromarray(frame.numpy())
        .crop((left, top, left + width, top + height))
        .resize((size, size), Image.Resampling.BILINEAR)
        for frame in frames
    ]
    return torch.from_numpy(np.stack([np.asarray(crop) for crop in crops]))


def by_float(frames: Tensor, height: int, width: int) -> Tensor:
    """Bilinear in float, not antialiased, still in float: (T, H, W, 3)."""
    planes = frames.permute(0, 3, 1, 2).double()
    planes = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
    return planes.permute(0, 2, 3, 1)


def largest_difference(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max())


BOXES = [(0, 0, 96, 128), (3, 17, 90, 60), (40, 0, 33, 31), (10, 10, 16, 20), (5, 9, 70, 32)]


@pytest.mark.parametrize("box", BOXES)
def test_antialiased_resizing_is_pillows(box: Box) -> None:
    """The reference resizes with Pillow in pre-training."""
    frames = noise(2, 96, 128)
    resized = resized_crop(frames, box, 32, 32, antialias=True)
    assert largest_difference(resized, by_pillow(frames, box, 32)) <= ROUNDING


@pytest.mark.parametrize("box", BOXES)
def test_plain_resizing_is_bilinear_between_the_nearest_pixels(box: Box) -> None:
    """The reference interpolates floats, without antialiasing, in fine-tuning."""
    frames = noise(2, 96, 128)
    top, left, height, width = box
    exact = by_float(frames[:, top : top + height, left : left + width], 32, 32)
    resized = resized_crop(frames, box, 32, 32, antialias=False)
    assert largest_difference(resized, exact) <= ROUNDING


def test_antialiasing_averages_where_plain_resizing_skips() -> None:
    """Stripes two pixels wide, shrunk to a quarter: plain resizing sees one colour only."""
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    frames[:, :, 1::4] = 240
    frames[:, :, 2::4] = 240
    whole = (0, 0, 64, 64)
    plain = resized_crop(frames, whole, 16, 16, antialias=False)
    smooth = resized_crop(frames, whole, 16, 16, antialias=True)
    assert plain.eq(240).all()
    assert smooth[:, 2:-2, 2:-2].float().mean() == pytest.approx(120, abs=30)


def columns_and_rows(height: int, width: int) -> Tensor:
    """Frames whose first channel is the column and whose second is the row."""
    frames = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    frames[..., 0] = torch.arange(width)
    frames[..., 1] = torch.arange(height)[:, None]
    return frames


@pytest.mark.parametrize(
    ("height", "width", "crops", "corners"),
    [  # the short side is the size already: no resizing; (top, left) of each crop
        (32, 64, 3, [(0, 0), (0, 16), (0, 32)]),
        (32, 37, 3, [(0, 0), (0, 2), (0, 5)]),
        (64, 32, 3, [(0, 0), (16, 0), (32, 0)]),
        (32, 32, 3, [(0, 0), (0, 0), (0, 0)]),
        (32, 65, 1, [(0, 16)]),
        (65, 32, 1, [(16, 0)]),
        (32, 62, 2, [(0, 0), (0, 30)]),
        (62, 32, 4, [(0, 0), (10, 0), (20, 0), (30, 0)]),
    ],
)
def test_evaluation_crops_lie_along_the_longer_side(
    height: int, width: int, crops: int, corners: list[tuple[int, int]]
) -> None:
    frames = columns_and_rows(height, width)
    got = evaluation_crops(frames, (32, 32), crops)
    assert len(got) == crops
    for crop, (top, left) in zip(got, corners, strict=True):
        assert crop.equal(frames[:, top : top + 32, left : left + 32])


@pytest.mark.parametrize(
    ("height", "width", "new_height", "new_width", "starts"),
    [
        (48, 64, 32, 42, [0, 5, 10]),  # 32 * 64 / 48 = 42.7
        (64, 48, 42, 32, [0, 5, 10]),
        (24, 50, 32, 66, [0, 17, 34]),  # enlarged; 66.7
        (64, 64, 32, 32, [0, 0, 0]),
        (33, 34, 32, 32, [0, 0, 0]),  # 32.97
        (10, 200, 32, 640, [0, 304, 608]),
    ],
)
def test_evaluation_crops_come_after_the_short_side_is_made_the_size(
    height: int, width: int, new_height: int, new_width: int, starts: list[int]
) -> None:
    frames = noise(2, height, width)
    exact = by_float(frames, new_height, new_width)
    for crop, start in zip(evaluation_crops(frames, (32, 32), 3), starts, strict=True):
        assert crop.dtype == torch.uint8
        rows, columns = (start, 0) if height > width else (0, start)
        expected = exact[:, rows : rows + 32, columns : columns + 32]
        assert largest_difference(crop, expected) <= ROUNDING


def test_mirror_swaps_left_and_right_only() -> None:
    frames = noise(2, 5, 7)
    mirrored = mirror(frames)
    assert mirrored.dtype == torch.uint8
    for column in range(7):
        assert mirrored[:, :, column].equal(frames[:, :, 6 - column])
    assert not mirrored.equal(frames)
