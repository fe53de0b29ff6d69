"""The demo's clips show what their labels say, in their motion alone, the same on every run."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import decord
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "scripts" / "make_demo_clips.py"
COUNTS = ("--pretrain", "11", "--train", "16", "--test", "16")

# What is seen on screen in each class: rightwards, downwards, growing or clockwise, with its sign.
ON_SCREEN = {
    "pan_left": (0, 1),
    "pan_right": (0, -1),
    "pan_up": (1, 1),
    "pan_down": (1, -1),
    "zoom_in": (2, 1),
    "zoom_out": (2, -1),
    "rotate_clockwise": (3, -1),
    "rotate_counterclockwise": (3, 1),
}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo_clips", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


demo = load_script()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "clips"
    assert demo.main(["--out", str(out), "--workers", "1", *COUNTS]) == 0
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def read_list(path: Path) -> list[list[str]]:
    comment, *lines = path.read_text().splitlines()
    assert comment.startswith("# ")
    return [line.split(" ") for line in lines]


def decode(path: Path) -> NDArray[np.uint8]:
    reader = decord.VideoReader(str(path), num_threads=1)
    frames: NDArray[np.uint8] = reader.get_batch(list(range(len(reader)))).asnumpy()
    return frames


def displacement(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.int64]:
    """(x, y) pixels by which a square patch moved, from the peak of the phase correlation."""
    side = len(first)
    window = np.outer(np.hanning(side), np.hanning(side))
    a, b = (np.fft.fft2((patch - patch.mean()) * window) for patch in (first, second))
    cross = b * a.conj()
    peak = np.fft.ifft2(cross / (np.abs(cross) + 1e-3 * np.abs(cross).max())).real.argmax()
    y, x = np.unravel_index(peak, (side, side))
    wrapped: NDArray[np.int64] = (np.array([x, y]) + side // 2) % side - side // 2
    return wrapped


def seen_motion(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(rightwards, downwards, growing, clockwise) pixels per frame, from four patches that move."""
    grey = frames.mean(-1)
    half = grey.shape[1] // 2
    corners = [(half // 2, 0), (half // 2, half), (0, half // 2), (half, half // 2)]
    motions = []
    for first, second in itertools.pairwise(grey):
        left, right, top, bottom = (
            displacement(*(frame[y : y + half, x : x + half] for frame in (first, second)))
            for y, x in corners
        )
        x, y = (left + right + top + bottom) / 4
        growing = (right - left)[0] + (bottom - top)[1]
        clockwise = (right - left)[1] - (bottom - top)[0]
        motions.append((x, y, growing / 4, clockwise / 4))
    middle: NDArray[np.float64] = np.median(motions, axis=0)
    return middle


def test_lists_name_every_file_once_and_labels_are_balanced(made: Path) -> None:
    names = (made / "classes.txt").read_text().split()
    assert names == list(ON_SCREEN)
    listed = []
    for split, count in (("pretrain", 11), ("train", 16), ("test", 16)):
        rows = read_list(made / f"{split}.txt")
        assert len(rows) == count
        listed += [row[0] for row in rows]
        if split == "pretrain":
            assert all(len(row) == 1 for row in rows)
            assert not any(name in row[0] for row in rows for name in names)
            continue
        assert np.bincount([int(label) for _, label in rows]).tolist() == [count // 8] * 8
        assert all(names[int(label)] in path for path, label in rows)
    videos = made / "videos"
    assert sorted(listed) == sorted(str(p.relative_to(videos)) for p in videos.rglob("*.mp4"))


def test_files_decode_to_what_was_rendered(made: Path) -> None:
    settings = demo.Settings()
    for clip in (demo.Clip("pretrain", 10), demo.Clip("train", 4), demo.Clip("test", 15)):
        frames = decode(made / "videos" / clip.path)
        assert frames.shape == (10, 128, 128, 3)
        rendered = demo.render(settings, clip).astype(float)
        blocks = (frames - rendered).reshape(10, 16, 8, 16, 8, 3).mean((2, 4))
        assert np.abs(blocks).mean() < 4  # grey levels: close, colours included
        assert np.abs(frames[:-1] - rendered[1:]).mean() > np.abs(frames - rendered).mean()


def test_motion_on_screen_is_what_the_class_promises(made: Path) -> None:
    right: dict[str, list[bool]] = {name: [] for name in ON_SCREEN}
    for path, label in read_list(made / "train.txt") + read_list(made / "test.txt"):
        motion = seen_motion(decode(made / "videos" / path))
        kind, sign = ON_SCREEN[demo.CLASSES[int(label)]]
        right[demo.CLASSES[int(label)]].append(
            bool(np.abs(motion).argmax() == kind and np.sign(motion[kind]) == sign)
        )
    assert all(sum(found) >= 2 for found in right.values()), right  # of 4; some film bare sky
    assert sum(map(sum, right.values())) >= 26  # of 32


def test_middle_frame_is_the_same_whatever_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, clip = demo.Settings(frames=9, size=32), demo.Clip("test", 8)
    clips = []
    for motion in list(demo.MOTIONS.values()):
        monkeypatch.setitem(demo.MOTIONS, demo.CLASSES[clip.label], motion)
        clips.append(demo.render(settings, clip))
    for one, other in itertools.combinations(clips, 2):
        np.testing.assert_array_equal(one[4], other[4])
        assert not np.array_equal(one[3], other[3])


def test_train_and_test_photographs_are_different_images() -> None:
    assert not set(demo.TRAIN_PHOTOS) & set(demo.TEST_PHOTOS)

    def thumbnail(photo: str) -> NDArray[np.float64]:
        image = Image.open(demo.photo_path(photo)).convert("L").resize((16, 16))
        values: NDArray[np.float64] = np.asarray(image, np.float64)
        values = (values - values.mean()) / values.std()
        return values

    thumbs = [thumbnail(photo) for photo in (*demo.TRAIN_PHOTOS, *demo.TEST_PHOTOS)]
    for one, other in itertools.combinations(thumbs, 2):
        likeness = max((one * other).mean(), (one[:, ::-1] * other).mean())
        assert likeness < 0.8
        assert (one * one).mean() > 0.99


def test_workers_do_not_change_a_byte_and_the_seed_does(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--workers", "2", *COUNTS, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path) == contents(made)

    clip = demo.Clip("train", 0)
    one, other = (demo.render(demo.Settings(seed=seed), clip) for seed in (0, 1))
    assert not np.array_equal(one, other)
    unlabelled = demo.render(demo.Settings(), demo.Clip("pretrain", 0))  # same photo, same class
    assert not np.array_equal(one, unlabelled)


@pytest.mark.parametrize("size", [32, 128])
def test_encoding_gives_the_same_bytes_every_time(size: int) -> None:
    frames = demo.render(demo.Settings(size=size), demo.Clip("pretrain", 1))
    first = demo.encode(frames, 20)
    for number in range(50):
        _ = [bytes([number]) * 30_000 for _ in range(4)]  # other leftovers in the memory
        assert demo.encode(frames, 20) == first


def run(out: Path, *options: str) -> int:
    counts = ("--pretrain", "2", "--train", "1", "--test", "1")
    code: int = demo.main(["--out", str(out), "--workers", "1", "--size", "32", *counts, *options])
    return code


def test_a_finished_set_is_kept_and_a_half_finished_one_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clips"
    assert run(out) == 0
    first = contents(out)
    video = out / "videos" / "pretrain" / "00001_astronaut.mp4"
    before = video.stat().st_mtime_ns
    assert run(out) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert video.stat().st_mtime_ns == before

    assert run(out, "--seed", "7") == 1
    error = capsys.readouterr().err
    assert all(word in error for word in ("--out", "--overwrite", "seed 0 instead of 7"))
    assert error.count("\n") == 1
    assert contents(out) == first
    assert run(out, "--seed", "7", "--overwrite") == 0
    assert contents(out).keys() == first.keys()
    assert contents(out) != first

    (out / "manifest.json").rename(out / "manifest.json.part")  # as a killed run leaves it
    (out / "videos" / "test" / "99999_x.mp4.part").write_bytes(b"cut off")
    video.unlink()
    assert run(out) == 0
    assert contents(out) == first


def test_files_of_others_are_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.txt").write_text("mine")
    assert run(tmp_path, "--overwrite") == 1
    assert "--out" in capsys.readouterr().err
    assert contents(tmp_path) == {"train.txt": b"mine"}


@pytest.mark.parametrize(
    ("option", "value"),
    [("frames", "17"), ("size", "33"), ("crf", "52"), ("workers", "0"), ("train", "0")],
)
def test_errors_name_option_and_value_in_one_line(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "clips", f"--{option}", value) == 1
    error = capsys.readouterr().err
    assert f"--{option} {value}: must" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "clips").exists()


def test_a_missing_photograph_names_the_package_to_install() -> None:
    with pytest.raises(ValueError, match=r"skimage/data/none\.png .*pip install.* scikit-image"):
        demo.photo_path("skimage/data/none.png")
