"""Videos to frames: exactly the frames asked for, or an error that names the file."""

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from tests.conftest import write_video
from tests.miniatures import write_clip
from videomae.config import (
    AugmentConfig,
    ClipConfig,
    ConfigError,
    CropKind,
    DataConfig,
    ListFormat,
)
from videomae.data.dataset import EvaluationClips, Item, TrainingClips
from videomae.lists.formats import Clip
from videomae.video.decord import DecordVideo
from videomae.video.folder import FrameFolder
from videomae.video.interface import DecodeError, Frames, Video
from videomae.video.opening import DECODERS, check_decoder, decoder, open_clip
from videomae.video.pyav import PyAVVideo

DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32))
FOLDERS = replace(DATA, list_format=ListFormat.frames_start_total, frame_template="img_{:05}.png")
GREYS = 20.0 + 12 * np.arange(12)  # of the left halves of conftest's videos


Reader = Callable[[Path], Video]


@pytest.fixture(params=DECODERS, scope="module")
def reader(request: pytest.FixtureRequest) -> Reader:
    """The class of each decoder whose library is there."""
    try:
        return decoder(request.param)[1]
    except ConfigError as error:
        if request.param == "torchcodec":  # an extra, which needs FFmpeg's libraries
            pytest.skip(str(error))
        raise


def encode(path: Path, images: Frames, options: dict[str, str], movflags: str = "") -> Path:
    """An H.264 MP4 of those images, (T, H, W, 3) RGB."""
    flags = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def noise(frames: int, height: int = 48, width: int = 64) -> Frames:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def greys_of(frames: Frames) -> list[float]:
    """Mean of the left half of each frame, away from the border to the other half."""
    return frames[:, :, :24].mean((1, 2, 3)).tolist()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("decode") / "video.mp4")


@pytest.fixture(scope="module")
def whole(video: Path) -> Frames:
    return DecordVideo(video).read(range(12))


def test_frames_are_those_that_were_written(reader: Reader, video: Path, whole: Frames) -> None:
    assert reader(video).num_frames == 12
    assert whole.shape == (12, 48, 64, 3)
    assert whole.dtype == np.uint8
    assert greys_of(whole) == pytest.approx(GREYS, abs=3)


@settings(max_examples=30, deadline=None)
@given(indices=st.lists(st.integers(0, 11), min_size=1, max_size=20))
def test_frames_come_in_the_order_asked_as_often_as_asked(
    reader: Reader, video: Path, whole: Frames, indices: list[int]
) -> None:
    frames = reader(video).read(indices)
    np.testing.assert_array_equal(frames, whole[indices])
    assert greys_of(frames) == pytest.approx(GREYS[indices], abs=3)


def test_an_open_video_can_be_read_again_and_backwards(
    reader: Reader, video: Path, whole: Frames
) -> None:
    opened = reader(video)
    for indices in ([11], [0, 1], [6, 5, 4], [11]):
        np.testing.assert_array_equal(opened.read(indices), whole[indices])


@pytest.mark.parametrize("gop", ["closed", "open"])
def test_frames_between_key_frames_are_exact(
    reader: Reader, tmp_path: Path, gop: str, request: pytest.FixtureRequest
) -> None:
    """With B-frames, frames are stored in another order than they are shown in.

    With open groups of pictures, some of them even behind the key frame that they are shown before:
    the default of x265.
    """
    if gop == "open" and reader is not PyAVVideo:
        why = "decord 0.6 and torchcodec 0.17 themselves: after a seek they return later frames"
        request.applymarker(pytest.mark.xfail(strict=True, reason=why))
    images = noise(20, 32, 32) // 8
    images += (10 * np.arange(20, dtype=np.uint8))[:, None, None, None]
    order = f"keyint=7:bframes=3:b-adapt=0:scenecut=0:open-gop={int(gop == 'open')}"
    path = encode(tmp_path / "b.mp4", images, {"crf": "1", "x264-params": order})
    with av.open(str(path)) as container:
        shown = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert shown != sorted(shown)  # else this file tests nothing
    expected = images.mean((1, 2, 3))
    for indices in ([19], [0], [5], [8], [13], [6, 7], [5, 8, 11, 14], range(20)):
        frames = reader(path).read(indices)
        assert frames.mean((1, 2, 3)) == pytest.approx(expected[list(indices)], abs=3)


def test_colours_are_red_green_blue(reader: Reader, tmp_path: Path) -> None:
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], dtype=np.uint8)
    images = np.broadcast_to(colours[:, None, None], (3, 32, 32, 3)).copy()
    path = encode(tmp_path / "rgb.mp4", images, {"crf": "10"})
    np.testing.assert_allclose(reader(path).read([0, 1, 2]).mean((1, 2)), colours, atol=8)


def moving(frames: int = 30, height: int = 48, width: int = 64) -> Frames:
    """A photograph that moves, so that no two frames are alike."""
    photo = np.asarray(Image.fromarray(data.astronaut()).resize((width + 2 * frames, height)))
    return np.stack([photo[:, 2 * t : 2 * t + width] for t in range(frames)])


def save(path: Path, images: Frames, codec: str, **settings: Any) -> Path:
    """A video of those images.

    Args:
        settings: options of the encoder, or times: of the frames, in 1/100 s.
    """
    times = settings.pop("times", None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=settings)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn_clockwise(path: Path, degrees: int) -> None:
    """Give an MP4 a display matrix, as a phone does that was held otherwise."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # after version, times, number, duration, layer, volume
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = [cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "H.264": (".mp4", "libx264", {"g": "12", "bf": "3"}),
    "H.264 in MKV": (".mkv", "libx264", {"g": "12", "bf": "3"}),
    "HEVC": (".mp4", "libx265", {"x265-params": "keyint=12:open-gop=0:bframes=3:log-level=none"}),
    "VP9": (".webm", "libvpx-vp9", {"g": "12"}),
    "MPEG-4": (".avi", "mpeg4", {"g": "12"}),
    "MPEG-4 with B-frames": (".avi", "mpeg4", {"g": "12", "bf": "2"}),
    "variable frame rate": (
        ".mp4",
        "libx264",
        {"g": "12", "times": [4 * t + 7 * (t // 5) for t in range(30)]},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(48, 64), (66, 82), (98, 130)], ids=str)
def test_every_decoder_returns_the_same_frames(
    reader: Reader, tmp_path: Path, kind: str, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    """Those that were written; and those of PyAV read from the first to the last."""
    if kind == "MPEG-4 with B-frames" and reader is not PyAVVideo:
        why = "decord 0.6 and torchcodec 0.17 themselves: an AVI does not tell the frames' order"
        request.applymarker(pytest.mark.xfail(strict=True, reason=why))
    ending, codec, settings = KINDS[kind]
    images = moving(30, *size)
    path = save(tmp_path / f"video{ending}", images, codec, **settings)
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    expected = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
    assert np.abs(expected.astype(int) - images).mean() < 16  # they are what was written
    assert reader(path).num_frames == 30
    for indices in ([0], [29], [13], [3, 4, 5], [28, 2, 11, 12], range(30)):
        found = reader(path).read(indices)
        assert np.abs(found.astype(int) - expected[list(indices)]).max() <= 2
        nearest = [np.abs(images.astype(int) - f).mean((1, 2, 3)).argmin() for f in found]
        assert nearest == list(indices)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_phone_video_is_turned_back(reader: Reader, tmp_path: Path, degrees: int) -> None:
    images = moving(8, 64, 96)  # decord cannot read some widths, 48 among them
    path = save(tmp_path / "video.mp4", images, "libx264")
    turn_clockwise(path, degrees)
    found = reader(path).read(range(8))
    expected = np.rot90(images, -degrees // 90, axes=(1, 2))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 12


def test_a_video_of_one_frame_is_a_video(reader: Reader, tmp_path: Path) -> None:
    video = reader(write_video(tmp_path / "one.mp4", frames=1))
    assert video.num_frames == 1
    frames = video.read([0, 0, 0])
    assert greys_of(frames) == pytest.approx([20, 20, 20], abs=3)


def write_audio(path: Path) -> Path:
    """An MP4 that holds sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 1024), dtype=np.float32)
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.rate, frame.pts = 44100, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_bad(kind: str, path: Path) -> Path:
    """A file that is not a readable video, or none at all."""
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("Not a video.\n" * 100)
        case "picture":
            Image.fromarray(noise(1)[0]).save(path, format="jpeg")
        case "random bytes":
            path.write_bytes(np.random.default_rng(0).bytes(20_000))
        case "cut, index at the end":
            whole = encode(path, noise(12), {"crf": "18"}).read_bytes()
            assert whole.find(b"mdat") < len(whole) // 2 < whole.find(b"moov")
            path.write_bytes(whole[: len(whole) // 2])
        case "cut, index in front":
            whole = encode(path, noise(12), {"crf": "18"}, "faststart").read_bytes()
            assert whole.find(b"moov") < whole.find(b"mdat") < len(whole) // 2
            path.write_bytes(whole[: len(whole) // 2])
        case "cut in the index":
            whole = encode(path, noise(12), {"crf": "18"}, "faststart").read_bytes()
            path.write_bytes(whole[: (whole.find(b"moov") + whole.find(b"mdat")) // 2])
        case "frames wiped":
            whole = encode(path, noise(12), {"crf": "18"}, "faststart").read_bytes()
            head = whole.find(b"mdat") + 4
            path.write_bytes(whole[:head] + bytes(len(whole) - head))
        case "unknown codec":
            whole = encode(path, noise(12), {"crf": "18"}).read_bytes()
            path.write_bytes(whole.replace(b"avc1", b"zzz1"))
        case "audio only":
            write_audio(path)
        case "directory":
            path.mkdir()
        case "dangling link":
            os.symlink(path.with_name("nowhere.mp4"), path)
        case _:
            assert kind == "missing"
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "text",
        "picture",
        "random bytes",
        "cut, index at the end",
        "cut, index in front",
        "cut in the index",
        "frames wiped",
        "unknown codec",
        "audio only",
        "directory",
        "dangling link",
    ],
)
def test_a_bad_file_is_a_decode_error_of_one_line_that_names_it(
    reader: Reader, tmp_path: Path, kind: str
) -> None:
    path = write_bad(kind, tmp_path / "some video.mp4")
    with pytest.raises(DecodeError) as error:
        reader(path).read(range(12))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_frame_count_is_not_believed(reader: Reader, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", frames=12)
    content = bytearray(path.read_bytes())
    for header, place in (b"avih", 16), (b"strh", 32):  # where each says how many there are
        start = content.index(header) + 8 + place
        assert struct.unpack_from("<I", content, start) == (12,)
        struct.pack_into("<I", content, start, 99)
    path.write_bytes(content)
    video = reader(path)
    assert video.num_frames == 12
    assert len(video.read([0, 11])) == 2


def test_a_file_that_may_not_be_read_is_a_decode_error(reader: Reader, tmp_path: Path) -> None:
    path = write_video(tmp_path / "private.mp4")
    path.chmod(0)
    mine = os.geteuid()
    try:
        if mine == 0:  # the superuser may read anything
            os.seteuid(65534)
        with pytest.raises(DecodeError, match=f"{path}.*[Pp]ermission denied"):
            reader(path)
    finally:
        os.seteuid(mine)


def test_8k_video_is_read(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "8k.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
        for grey in (40, 90, 140):
            frame = av.VideoFrame(7680, 4320, "gray")
            frame.planes[0].update(bytes([grey]) * frame.planes[0].buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = reader(path).read([1, 2])
    assert frames.shape == (2, 4320, 7680, 3)
    assert frames[:, ::500, ::500].mean((1, 2, 3)) == pytest.approx([90, 140], abs=8)


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "file.mp4/y.mp4", "zero\0byte.mp4"])
def test_a_path_that_no_file_can_have_is_a_decode_error(
    reader: Reader, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file.mp4").touch()
    with pytest.raises(DecodeError):
        reader(tmp_path / name)


def test_a_frame_after_the_last_is_a_decode_error(reader: Reader, video: Path) -> None:
    with pytest.raises(DecodeError, match=str(video)):
        reader(video).read([0, 12])


def write_frames(folder: Path, first: int, suffix: str, frames: int = 5) -> Frames:
    """A folder of numbered images; returns their pixels."""
    folder.mkdir()
    images = noise(frames)
    images[:, :, :32] = (20 + 12 * np.arange(frames, dtype=np.uint8))[:, None, None, None]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"img_{first + number:05}.{suffix}")
    return images


@pytest.mark.parametrize("first", [0, 1, 7])
def test_a_folder_of_frames_reads_like_a_video(tmp_path: Path, first: int) -> None:
    images = write_frames(tmp_path / "a b", first, "png")
    folder = FrameFolder(tmp_path / "a b", "img_{:05}.png", first, 5)
    assert folder.num_frames == 5
    for indices in ([0, 1, 2, 3, 4], [4, 0, 2, 2], [3]):
        frames = folder.read(indices)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, images[indices])


def test_jpeg_frames_read_too(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 1, "jpg")
    frames = FrameFolder(tmp_path / "a", "img_{:05}.jpg", 1, 5).read([4, 0])
    assert greys_of(frames) == pytest.approx([68, 20], abs=3)


def test_grey_frames_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 77, dtype=np.uint8)).save(tmp_path / "img_00001.png")
    frames = FrameFolder(tmp_path, "img_{:05}.png", 1, 1).read([0])
    np.testing.assert_array_equal(frames, np.full((1, 8, 8, 3), 77, dtype=np.uint8))


def test_only_the_frames_asked_for_are_read(tmp_path: Path) -> None:
    images = write_frames(tmp_path / "a", 1, "png")
    (tmp_path / "a" / "img_00003.png").unlink()
    folder = FrameFolder(tmp_path / "a", "img_{:05}.png", 1, 5)
    np.testing.assert_array_equal(folder.read([0, 1, 3]), images[[0, 1, 3]])
    with pytest.raises(DecodeError) as error:
        folder.read([0, 2])
    assert str(tmp_path / "a") in str(error.value)
    assert "img_00003.png" in str(error.value)


def damage(kind: str, path: Path) -> None:
    """Harm one image file."""
    content = bytearray(path.read_bytes())
    match kind:
        case "empty":
            content = bytearray()
        case "text":
            content = bytearray(b"not an image")
        case "cut":
            del content[len(content) // 2 :]
        case "other size":
            Image.fromarray(noise(1, 24, 24)[0]).save(path)
            return
        case "broken chunk":  # PNG: pixels come in chunks of 64 KiB, each with its name
            second = content.index(b"IDAT", content.index(b"IDAT") + 4)
            content[second : second + 4] = bytes(4)
        case "absurd size":  # JPEG: height and width, 16 bits each, stand 5 bytes after SOF0
            start = content.index(b"\xff\xc0") + 5
            content[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("empty", "jpg"),
        ("text", "jpg"),
        ("cut", "jpg"),
        ("cut", "png"),
        ("other size", "jpg"),
        ("broken chunk", "png"),
        ("absurd size", "jpg"),
    ],
)
def test_a_damaged_frame_is_a_decode_error_that_names_the_folder(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    for number in (1, 2):
        Image.fromarray(noise(1, 160, 160)[0]).save(tmp_path / f"img_{number:05}.{suffix}")
    damage(kind, tmp_path / f"img_00002.{suffix}")
    folder = FrameFolder(tmp_path, f"img_{{:05}}.{suffix}", 1, 2)
    assert folder.read([0]).shape == (1, 160, 160, 3)
    with pytest.raises(DecodeError, match=str(tmp_path)):
        folder.read([0, 1])


def test_a_folder_that_is_missing_or_a_file_is_a_decode_error(tmp_path: Path, video: Path) -> None:
    for path in (tmp_path / "none", video):
        with pytest.raises(DecodeError, match=str(path)):
            FrameFolder(path, "img_{:05}.png", 1, 5)


def test_a_clip_is_opened_below_the_root_as_its_line_says(tmp_path: Path) -> None:
    write_video(tmp_path / "sub dir" / "#a.mp4", frames=3)
    write_frames(tmp_path / "frames", 0, "png")
    folders = replace(FOLDERS, root=str(tmp_path))
    assert open_clip(Clip("sub dir/#a.mp4", 1), folders).num_frames == 3
    assert open_clip(Clip(str(tmp_path / "sub dir/#a.mp4"), 1), DATA).num_frames == 3
    folder = open_clip(Clip("frames", 1, start=0, total=4), folders)
    assert folder.num_frames == 4
    assert folder.read([0])[0, 0, 0].tolist() == [20, 20, 20]
    with pytest.raises(DecodeError, match=str(tmp_path / "b.mp4")):
        open_clip(Clip("b.mp4", 1), folders)


def test_an_unknown_decoder_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        check_decoder("ffmpeg")
    for part in ("'ffmpeg'", "data.decoder", "decord"):
        assert part in str(error.value)
    assert check_decoder("decord") == "decord"
    assert check_decoder("auto") == "pyav"


def test_auto_finds_the_right_frames_of_avi_files(tmp_path: Path) -> None:
    images = moving(30)
    path = save(tmp_path / "video.avi", images, "mpeg4", g="12", bf="2")
    for name, right in (("auto", True), ("decord", False)):
        places = replace(DATA, root=str(tmp_path), decoder=name)
        found = open_clip(Clip(path.name, 1), places).read([10])
        nearest = np.abs(images.astype(int) - found).mean((1, 2, 3)).argmin()
        assert (nearest == 10) == right


def test_a_used_dataset_pickles_because_it_holds_no_decoder(video: Path) -> None:
    """A decoder cannot be pickled, and hangs in another process."""
    clips = [Clip(str(video), 1, label=0)]
    augment = AugmentConfig(crop=CropKind.multi_scale, antialias=True)
    training = TrainingClips(clips, DATA, augment, None, seed=0)
    evaluation = EvaluationClips(clips, DATA)
    before, views = training[Item(0, 0)], evaluation[0]
    after = pickle.loads(pickle.dumps(training))[Item(0, 0)]
    assert before.clip.equal(after.clip)
    assert views.clip.equal(pickle.loads(pickle.dumps(evaluation))[0].clip)
    with pytest.raises((TypeError, ValueError, AttributeError)):
        pickle.dumps(DecordVideo(video))
