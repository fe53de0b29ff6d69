"""RandAugment: each operation against Pillow frame by frame, and what is drawn."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from skimage import data
from timm.data import auto_augment

from tests.conftest import composed
from videomae.config import AugmentConfig, CropKind
from videomae.data import randaugment
from videomae.data.randaugment import OPERATIONS, draw_operations, rand_augment

Picture = Image.Image
FILL = (128, 128, 128)


def clip() -> np.ndarray:
    """Four frames: a photograph that moves, one of little contrast, one flat, one of noise."""
    photo = np.asarray(Image.fromarray(data.astronaut()).resize((68, 52)))
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, dtype=np.uint8)
    dull = (photo // 4 + 90).astype(np.uint8)
    return np.stack([photo, np.roll(photo, 9, axis=1), dull, np.full_like(photo, 77), noise])


def enhanced(kind: Any) -> Callable[[Picture, float], Picture]:
    return lambda picture, level: kind(picture).enhance(max(0.1, 1 + level / 10 * 0.9))


def brighter_darks(picture: Picture, level: float) -> Picture:
    add = int(abs(level) / 10 * 110)
    return picture.point([min(255, v + add) if v < 128 else v for v in range(256)] * 3)


def affine(*rows: Callable[[float, Picture], float]) -> Callable[[Picture, float], Picture]:
    return lambda picture, level: picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        tuple(row(level, picture) for row in rows),
        Image.Resampling.BICUBIC,
        fillcolor=FILL,
    )


def number(value: float) -> Callable[[float, Picture], float]:
    return lambda level, picture: value


def mask(level: float) -> int:
    """ImageOps.posterize's; it takes no 0 bits any more."""
    return ~(2 ** (8 - (4 - int(abs(level) / 10 * 4))) - 1)


O, I = number(0), number(1)  # noqa: E741
EXACT: dict[str, Callable[[Picture, float], Picture]] = {
    "auto_contrast": lambda picture, level: ImageOps.autocontrast(picture),
    "equalize": lambda picture, level: ImageOps.equalize(picture),
    "invert": lambda picture, level: ImageOps.invert(picture),
    "posterize": lambda p, level: p.point([v & mask(level) for v in range(256)] * 3),
    "solarize": lambda p, level: ImageOps.solarize(p, 256 - int(abs(level) / 10 * 256)),
    "solarize_add": brighter_darks,
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}
MOVED: dict[str, Callable[[Picture, float], Picture]] = {
    "rotate": lambda p, level: p.rotate(level * 3, Image.Resampling.BICUBIC, fillcolor=FILL),
    "shear_x": affine(I, lambda level, p: level / 10 * 0.3, O, O, I, O),
    "shear_y": affine(I, O, O, lambda level, p: level / 10 * 0.3, I, O),
    "translate_x": affine(I, O, lambda level, p: level / 10 * 0.45 * p.size[0], O, I, O),
    "translate_y": affine(I, O, O, O, I, lambda level, p: level / 10 * 0.45 * p.size[1]),
}


def test_there_are_the_15_operations() -> None:
    assert {operation.__name__ for operation in OPERATIONS} == EXACT.keys() | MOVED.keys()
    assert len(OPERATIONS) == 15


@pytest.mark.parametrize("level", [0.0, 3.3, 7.0, 10.0, -6.2, -10.0])
@pytest.mark.parametrize("name", EXACT | MOVED)
def test_values_are_those_of_pillow(name: str, level: float) -> None:
    frames = clip()
    expected = np.stack(
        [np.asarray((EXACT | MOVED)[name](Image.fromarray(f), level)) for f in frames]
    )
    before = frames.copy()
    done = rand_augment(torch.from_numpy(frames), [(getattr(randaugment, name), level)])
    assert np.array_equal(done.numpy(), expected)
    assert np.array_equal(frames, before)  # views share the frames


@pytest.mark.parametrize("number", range(15))
def test_values_are_those_of_timm(number: int) -> None:
    """Of its own operations at the same level, in the direction that it draws."""
    name, frames = auto_augment._RAND_INCREASING_TRANSFORMS[number], clip()
    settings = {"fillcolor": FILL, "resample": Image.Resampling.BICUBIC}
    for level in (2.0, 7.3):
        arguments = auto_augment.LEVEL_TO_ARG[name]
        values = arguments(level, {}) if arguments else ()
        pictures = [Image.fromarray(frame) for frame in frames]
        theirs = [auto_augment.NAME_TO_OP[name](p, *values, **settings) for p in pictures]
        ours = [
            rand_augment(torch.from_numpy(frames), [(OPERATIONS[number], sign * level)]).numpy()
            for sign in (1, -1)
        ]
        assert any(np.array_equal(one, np.stack(theirs)) for one in ours)


def test_every_frame_gets_the_same() -> None:
    """Of a clip of equal frames all stay equal, whatever is drawn."""
    config = composed("finetune", "data.classes=2").augment
    still = torch.from_numpy(clip()[:1]).expand(6, -1, -1, -1).contiguous()
    for seed in range(60):
        found = rand_augment(still, draw_operations(config, np.random.default_rng(seed)))
        assert found.dtype == torch.uint8
        assert (found == found[:1]).all()


def test_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """rand-m7-n4-mstd0.5-inc1: four of fifteen, each with chance 0.5, level about 7."""
    seen: list[tuple[int, float]] = []

    def spy(number: int) -> Callable[[np.ndarray, float], np.ndarray]:
        def operation(frames: np.ndarray, level: float) -> np.ndarray:
            seen.append((number, level))
            return frames

        return operation

    monkeypatch.setattr(randaugment, "OPERATIONS", tuple(spy(i) for i in range(15)))
    config = AugmentConfig(CropKind.random_resized, antialias=False, rand_ops=4)
    rng, frames = np.random.default_rng(0), torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    for _ in range(3000):
        rand_augment(frames, draw_operations(config, rng))
    levels = np.array([abs(level) for _, level in seen])
    assert len(seen) == pytest.approx(3000 * 4 * 0.5, rel=0.03)
    assert levels.mean() == pytest.approx(7.0, abs=0.03)
    assert levels.std() == pytest.approx(0.5, abs=0.03)
    assert np.mean([level < 0 for _, level in seen]) == pytest.approx(0.5, abs=0.03)
    counts = Counter(number for number, _ in seen)
    assert all(counts[i] == pytest.approx(400, rel=0.2) for i in range(15))
