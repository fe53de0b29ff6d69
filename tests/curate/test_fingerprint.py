"""Fingerprints: what they hold, what little they take, and that damaged bytes are refused."""

import dataclasses

import numpy as np
import pdqhash
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.curate.scenes import FPS, fingerprint, panned, texture
from videomae.curate import fingerprint as module
from videomae.curate.fingerprint import (
    GRID_HZ,
    Fingerprint,
    Fingerprinter,
    FingerprintError,
    views_of,
)

FRAMES = list(panned(0, seconds=2))
PRINT = fingerprint(FRAMES)
BYTES = PRINT.to_bytes()


def same(one: Fingerprint, other: Fingerprint) -> bool:
    values = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in values)


def test_it_holds_five_pictures_and_half_as_many_hashes_a_second() -> None:
    assert len(PRINT.grid) == 2 * GRID_HZ
    assert PRINT.duration_s == 2
    np.testing.assert_allclose(PRINT.times_s, [0, 0.4, 0.8, 1.2, 1.6], atol=1e-6)
    assert PRINT.hashes.shape == (5, len(PRINT.views), 2, 32)
    assert (PRINT.width, PRINT.height) == FRAMES[0].shape[1::-1]
    assert (PRINT.quality[:, 0] > 80).all()


def test_bytes_come_back() -> None:
    assert same(Fingerprint.from_bytes(BYTES), PRINT)
    changed = dataclasses.replace(PRINT, grid=PRINT.grid + 1)
    assert not same(Fingerprint.from_bytes(changed.to_bytes()), PRINT)


@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused(place: int, change: int) -> None:
    damaged = bytearray(BYTES)
    damaged[place] ^= change
    with pytest.raises(FingerprintError):
        Fingerprint.from_bytes(bytes(damaged))


@given(st.integers(0, len(BYTES) - 1))
def test_bytes_that_are_cut_off_are_refused(length: int) -> None:
    with pytest.raises(FingerprintError):
        Fingerprint.from_bytes(BYTES[:length])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FingerprintError):
        Fingerprint.from_bytes(data)


def test_a_head_that_promises_much_is_refused_before_anything_is_allocated() -> None:
    views = len(views_of(320, 180))
    head = module._HEAD.pack(module._MAGIC, 320, 180, 1 << 31, views, 1 << 31)
    with pytest.raises(FingerprintError, match="2147483648 key frames"):
        Fingerprint.from_bytes(head + b"\0" * 8)


@given(st.integers(0, 99))
def test_hashes_are_those_of_the_library_mirrored_ones_too(seed: int) -> None:
    square = np.ascontiguousarray(texture(seed, 64, 64))
    (hashes,), (quality,) = module.hash_squares([square])
    bits, expected = pdqhash.compute_dihedral(square)
    mirrored, _ = pdqhash.compute(np.ascontiguousarray(square[:, ::-1]))
    assert quality == expected
    assert (hashes[0] == np.packbits(bits[0] != 0)).all()
    assert (hashes[1] == np.packbits(bits[5] != 0)).all()
    assert np.bitwise_count(hashes[1] ^ np.packbits(mirrored != 0)).sum() <= 2


@given(st.integers(1, 90), st.integers(1, 90))
def test_cells_are_the_means_of_their_parts_of_the_picture(width: int, height: int) -> None:
    luma = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    views = views_of(width, height)
    found = module.cells(luma, views) / 256
    fine = np.kron(luma, np.ones((8, 8)))  # each pixel 8 x 8, so that cells are whole numbers
    for part in range(8):
        rows, columns = fine[part * height :][:height], fine[:, part * width :][:, :width]
        np.testing.assert_allclose(found[0, part].mean(), rows.mean(), atol=0.01)
        np.testing.assert_allclose(found[0, :, part].mean(), columns.mean(), atol=0.01)
    inner = luma[height // 20 : height - height // 20, width // 20 : width - width // 20]
    if height % 20 == width % 20 == 0:
        np.testing.assert_allclose(found[1].mean(), inner.mean(), atol=0.01)


def test_grey_frames_and_frames_that_are_not_looked_at_change_nothing() -> None:
    maker = Fingerprinter()
    for index, frame in enumerate(FRAMES):
        time_s = 100 + index / FPS
        assert maker.wants(time_s) == (index % (FPS // GRID_HZ) == 0)
        if maker.wants(time_s):
            maker.add(module.luma_of(frame), index, time_s)
    assert same(maker.finish(), PRINT)


def test_a_picture_that_stays_is_repeated() -> None:
    maker = Fingerprinter()
    for index, time_s in enumerate((0, 1.0, 1.2)):
        maker.add(FRAMES[index], index, time_s)
    grid = maker.finish().grid
    assert len(grid) == 7
    assert (grid[1:5] == grid[0]).all()
    assert (grid[5] != grid[0]).any()


def test_ten_minutes_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TICKS", 8)
    maker = Fingerprinter()
    for index, time_s in enumerate((0, 0.2, 1e9, 2e9)):
        maker.add(FRAMES[0], index, time_s)
    assert len(maker.finish().grid) == 8
    assert not maker.wants(3e9)


def test_times_that_go_back_are_passed_over() -> None:
    maker = Fingerprinter()
    for index, time_s in enumerate((5, 1, 4.9, 5.2)):
        maker.add(FRAMES[0], index, time_s)
    assert len(maker.finish().grid) == 2


@pytest.mark.parametrize(
    ("frame", "time_s", "said"),
    [
        (FRAMES[0].astype(np.float32), 0.0, "float32"),
        (FRAMES[0][..., :2], 0.0, r"\(180, 320, 2\)"),
        (FRAMES[0], float("nan"), "frame 7 is shown at nan s"),
    ],
)
def test_what_is_no_frame_is_refused(frame: np.ndarray, time_s: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fingerprinter().add(frame, 7, time_s)


def test_no_frames_have_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="no frame was added"):
        Fingerprinter().finish()


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_views_lie_in_the_frame_and_differ_from_it(width: int, height: int) -> None:
    views = views_of(width, height)
    assert 2 <= len(views) <= module.MOST_VIEWS
    for view in views:
        assert 0 <= view.left < view.right <= 1
        assert 0 <= view.top < view.bottom <= 1
    areas = [(v.right - v.left) * (v.bottom - v.top) for v in views]
    assert areas[0] == 1
    assert max(areas[1:]) <= 0.9 + 1e-9
