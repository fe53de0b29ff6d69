"""Measurement of a video in one decode: planted light, blur, bars, motion, frozen parts, damage."""

import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.curate.footage import FPS, HEIGHT, WIDTH, Image, edited, panned, render
from tests.video.recipes.edits import MATRICES, set_matrix
from videomae.curate.engine import PROGRAM
from videomae.curate.measuring import Settings, measure_video
from videomae.curate.observers import OBSERVERS
from videomae.curate.table import MEASURED
from videomae.run.files import sha256
from videomae.run.worker_pool import Program
from videomae.video.pyav import PyAVVideo

SETTINGS = Settings(fixed=False, threshold=27.0, min_frames=15, fixed_s=10.0)
DIAGONAL = float(np.hypot(HEIGHT, WIDTH))


def clips_of(video: Path, settings: Settings = SETTINGS) -> list[dict[str, Any]]:
    """The rows of a video's clips."""
    rows, answer = measure_video(video, sha256(video), settings, 2**31)
    assert answer.clips == len(rows)
    return rows


def only_clip(path: Path, frames: Any) -> dict[str, Any]:
    """The row of a rendered video that is one clip."""
    (row,) = clips_of(render(path / "v.mp4", frames))
    return row


def test_a_row_has_the_columns_of_the_table_and_of_the_side_files(tmp_path: Path) -> None:
    row = only_clip(tmp_path, panned(0, 30))
    side = {name for kind in OBSERVERS if not kind.in_table for name in kind.columns}
    assert row.keys() == MEASURED.keys() | side
    assert all(row[name] is not None for name in row.keys() - {"error"})
    assert (row["width_px"], row["height_px"], row["fps"]) == (WIDTH, HEIGHT, FPS)
    assert (row["start_frame"], row["end_frame"], row["end_s"]) == (0, 30, 30 / FPS)


def test_clips_cover_each_frame_once_and_count_as_the_reader_does(tmp_path: Path) -> None:
    parts = [panned(seed, frames, 2.0) for seed, frames in enumerate((33, 50, 21))]
    video = render(tmp_path / "v.mp4", chain.from_iterable(parts))
    rows = clips_of(video)
    assert [(row["start_frame"], row["end_frame"]) for row in rows] == [
        (0, 33),
        (33, 83),
        (83, 104),
    ]
    assert rows[-1]["end_frame"] == PyAVVideo(video).num_frames
    assert [row["is_longest"] for row in rows] == [False, True, False]
    assert len({row["clip_id"] for row in rows}) == 3
    for row in rows:
        assert row["start_s"] == pytest.approx(row["start_frame"] / FPS, abs=1e-4)
        thumbnail = cv2.imdecode(np.frombuffer(row["thumbnail"], np.uint8), cv2.IMREAD_COLOR)
        middle = PyAVVideo(video).read([(row["start_frame"] + row["end_frame"]) // 2])[0]
        seen = cv2.resize(thumbnail[..., ::-1], (8, 6), interpolation=cv2.INTER_AREA)
        shown = cv2.resize(middle, (8, 6), interpolation=cv2.INTER_AREA)
        assert np.abs(seen.astype(int) - shown).mean() < 25  # not of another scene


def test_pieces_of_a_fixed_duration(tmp_path: Path) -> None:
    video = render(tmp_path / "v.mp4", chain(panned(0, 30), panned(1, 40)))
    rows = clips_of(video, Settings(fixed=True, threshold=27.0, min_frames=15, fixed_s=1.0))
    ranges = [(row["start_frame"], row["end_frame"]) for row in rows]
    assert ranges == [(0, 25), (25, 50), (50, 70)]
    assert {(row["cut_method"], row["is_longest"]) for row in rows} == {("fixed", None)}


def test_light_is_that_of_the_picture(tmp_path: Path) -> None:
    bright = only_clip(tmp_path / "bright", panned(0, 30))
    dark = only_clip(tmp_path / "dark", edited(panned(0, 30), lambda image: image * 0.1))
    grey = only_clip(tmp_path / "grey", [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 30)
    assert dark["luma_mean"] == pytest.approx(bright["luma_mean"] / 10, abs=2)
    assert dark["luma_std"] < bright["luma_std"] / 5
    assert (grey["luma_mean"], grey["luma_std"]) == pytest.approx((90, 0), abs=2.5)
    assert grey["bars_fraction"] == 1

    def half_white(image: Image) -> Image:
        return np.concatenate(
            [image[:, : WIDTH // 2], np.full_like(image[:, WIDTH // 2 :], 255)], 1
        )

    clipped = only_clip(tmp_path / "clipped", edited(panned(0, 30), half_white))
    assert bright["clipped_fraction"] < 0.02
    assert clipped["clipped_fraction"] == pytest.approx(0.5, abs=0.03)


def test_blur_lowers_the_sharpness(tmp_path: Path) -> None:
    def blurred(image: Image) -> Any:
        return cv2.GaussianBlur(image, (0, 0), 3)

    large = {"height": 288, "width": 512}
    sharp = only_clip(tmp_path / "sharp", panned(0, 8, **large))
    blurry = only_clip(tmp_path / "blurred", edited(panned(0, 8, **large), blurred))
    assert blurry["sharpness"] < sharp["sharpness"] / 10


@pytest.mark.parametrize(("top", "left"), [(0, 0), (24, 0), (0, 32), (12, 16)])
@pytest.mark.parametrize("luma", [0, 255])
def test_bars_are_measured_as_they_were_planted(
    tmp_path: Path, top: int, left: int, luma: int
) -> None:
    def barred(image: Image) -> Image:
        frame = np.full_like(image, luma)
        inner = np.s_[top : HEIGHT - top, left : WIDTH - left]
        frame[inner] = image[inner]
        return frame

    row = only_clip(tmp_path, edited(panned(0, 20), barred))
    planted = 1 - (1 - 2 * top / HEIGHT) * (1 - 2 * left / WIDTH)
    assert row["bars_fraction"] == pytest.approx(planted, abs=0.04)


@pytest.mark.parametrize("speed", [0.0, 0.5, 2.0, 4.0])
def test_motion_is_the_planted_speed(tmp_path: Path, speed: float) -> None:
    row = only_clip(tmp_path, panned(0, 50, speed))
    planted = speed * FPS / DIAGONAL
    assert row["motion_px_per_s"] == pytest.approx(planted, rel=0.15, abs=0.003)


def test_frames_shown_twice_do_not_halve_the_motion(tmp_path: Path) -> None:
    frames = list(panned(0, 50, 2.0))
    twice = [frame for frame in frames for _ in (0, 1)]
    (row,) = clips_of(render(tmp_path / "v.mp4", twice, fps=2 * FPS))
    assert row["motion_px_per_s"] == pytest.approx(2 * FPS / DIAGONAL, rel=0.3)
    assert row["frozen_fraction"] == 0


@pytest.mark.parametrize("frozen", [0, 25, 50, 75])
def test_frozen_frames_are_counted(tmp_path: Path, frozen: int) -> None:
    frames = list(panned(0, 100 - frozen, 1.0))
    frames[20:20] = [frames[19]] * frozen
    row = only_clip(tmp_path, frames)
    assert row["frozen_fraction"] == pytest.approx(frozen / 100, abs=0.02)


def test_a_small_thing_that_moves_is_not_frozen(tmp_path: Path) -> None:
    still = next(iter(panned(0, 1)))

    def talking(number: int) -> Image:
        frame = still.copy()
        frame[50:60, 60:72] = 40 + 150 * (number % 10 > 4)
        return frame

    assert only_clip(tmp_path, map(talking, range(50)))["frozen_fraction"] < 0.1


def test_a_video_of_one_frame(tmp_path: Path) -> None:
    row = only_clip(tmp_path, panned(0, 1))
    assert (row["start_frame"], row["end_frame"], row["error"]) == (0, 1, None)
    assert (row["motion_px_per_s"], row["frozen_fraction"]) == (None, None)
    assert row["sharpness"] > 0
    assert row["thumbnail"]


@pytest.mark.parametrize("name", MATRICES)
def test_turned_and_mirrored_videos_are_measured_upright(tmp_path: Path, name: str) -> None:
    def marked(image: Image) -> Image:
        frame = image.copy()
        frame[:32, :32] = 0
        return frame

    video = render(tmp_path / "v.mp4", edited(panned(0, 20), marked))
    turned = tmp_path / "turned.mp4"
    set_matrix([video], turned, name)
    (row,) = clips_of(turned)
    shown = PyAVVideo(turned).read([0])[0]  # the sampled frame that the thumbnail is of
    assert (row["height_px"], row["width_px"]) == shown.shape[:2]
    thumbnail = cv2.imdecode(np.frombuffer(row["thumbnail"], np.uint8), cv2.IMREAD_COLOR)
    seen = cv2.resize(thumbnail[..., ::-1], (8, 8), interpolation=cv2.INTER_AREA).astype(int)
    expected = cv2.resize(shown, (8, 8), interpolation=cv2.INTER_AREA)
    assert np.abs(seen - expected).mean() < 4
    assert np.abs(seen[::-1] - expected).mean() > 10


def test_a_damaged_video_has_the_clips_before_the_damage(tmp_path: Path) -> None:
    whole = render(tmp_path / "v.mkv", chain(panned(0, 40, 2.0), panned(1, 30, 2.0))).read_bytes()
    video = tmp_path / "damaged.mkv"
    video.write_bytes(whole[: len(whole) * 3 // 4])
    rows = clips_of(video)
    assert rows
    for row in rows:
        assert "damaged" in row["error"]
        assert row["decode_errors"] == 1
        assert 0 < row["end_frame"] < 70
        assert row["sharpness"] is not None


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99])
def test_what_is_no_video_has_one_row_with_the_error(tmp_path: Path, content: bytes) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(content)
    (row,) = clips_of(video)
    assert row["error"]
    assert row["start_frame"] is row["sharpness"] is row["decode_errors"] is None


def test_a_file_that_has_changed_is_not_measured(tmp_path: Path) -> None:
    video = render(tmp_path / "v.mp4", panned(0, 5))
    rows, answer = measure_video(video, "0" * 64, SETTINGS, 2**31)
    assert not rows
    assert answer.error is not None
    assert answer.error.startswith("changed")
    rows, answer = measure_video(tmp_path / "none.mp4", "0" * 64, SETTINGS, 2**31)
    assert not rows
    assert answer.error is not None
    assert "cannot be read" in answer.error


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_program_leaves_its_memory_to_the_decoder(tmp_path: Path) -> None:
    """Arrow's own allocator would take a gigabyte, half of the limit, with the first file."""
    video = render(tmp_path / "v.mp4", panned(0, 30))
    program: Program[str] = Program((sys.executable, "-m", PROGRAM))
    status = Path(f"/proc/{program.process.pid}/status")

    def measured_kb() -> int:
        target = str(tmp_path / "v.arrow")
        program.start("", [str(video), sha256(video), asdict(SETTINGS), target, 2**31])
        assert program.answer() is not None
        assert Path(target).exists()
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmData"].split()[0]) - int(lines["VmRSS"].split()[0])

    reserved = measured_kb()
    program.stop()
    assert reserved < 600_000
