"""What the reader makes of files beside the recipes of conformance: small ones, each of a kind."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_video
from videomae.video import interface
from videomae.video.folder import FrameFolder
from videomae.video.inspection import inspect_video
from videomae.video.interface import DecodeError
from videomae.video.opening import decoder, reading_here, usable_decoders
from videomae.video.picture import TURNS, display_matrix
from videomae.video.pyav import PyAVVideo
from videomae.video.transcode import Encoding, shrink, transcode


def shot(size: tuple[int, int], angle: int = 0) -> av.VideoFrame:
    """A frame of a gradient in 4:2:0."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    image = np.stack([rows * 3 % 256, columns * 5 % 256, (rows + columns) % 256 + angle], 2)
    return av.VideoFrame.from_ndarray(image.astype(np.uint8), "rgb24").reformat(format="yuv420p")


def write_with(
    codec: str, path: Path, *, frames: int = 4, pixels: str = "yuv420p", colorspace: int = 2
) -> Path:
    """A video of 64 x 48 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.codec_context.colorspace = colorspace
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(frames):
            container.mux(stream.encode(shot((64, 48), number)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("signs", TURNS, ids=str)
def test_a_packed_frame_of_any_even_size_is_turned(
    signs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 90 x 46 pixels the turned chroma has an odd number of rows."""
    monkeypatch.setattr("videomae.video.transcode.display_matrix", lambda frame: signs)
    frame = shot((90, 46))
    small = shrink(frame, (90, 46))
    quarters, mirrored, _ = TURNS[signs]
    expected = np.rot90(frame.to_ndarray()[:46], quarters)
    expected = expected[:, ::-1] if mirrored else expected
    assert (small.width, small.height) == expected.shape[::-1]
    np.testing.assert_array_equal(small.to_ndarray()[: small.height], expected)


def test_a_turned_video_of_an_awkward_size_is_packed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", height=46, width=90)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    turned = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in turned)
    path.write_bytes(content)
    assert PyAVVideo(path).read([0]).shape == (1, 90, 46, 3)
    made, _ = transcode(path, None, Encoding(64, 1, 4, 20, "veryfast"))
    assert made.source.ok, made.source.error
    assert (made.width, made.height) == (46, 90)


def test_a_video_that_was_read_can_be_read_in_a_forked_process(tmp_path: Path) -> None:
    """No thread of the parent's is waited for."""
    video = PyAVVideo(write_video(tmp_path / "a.mp4"))
    video.read([3])
    child = os.fork()
    if child == 0:
        os._exit(0 if PyAVVideo(tmp_path / "a.mp4").read([3]).any() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_frame_at_all_may_be_asked_for(tmp_path: Path) -> None:
    assert list(PyAVVideo(write_video(tmp_path / "a.mp4")).decoded([])) == []


def remux(source: Path, target: Path) -> Path:
    """The same packets in the container of another ending."""
    with av.open(str(source)) as given, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


def test_a_transport_stream_may_be_padded_and_not_torn(tmp_path: Path) -> None:
    path = remux(write_video(tmp_path / "a.mp4", frames=40), tmp_path / "a.ts")
    content = path.read_bytes()
    assert len(content) % 188 == 0
    for name, changed, ok in (
        ("zeros before and after", bytes(376) + content + bytes(5000), True),
        ("begins anywhere", content[188 * 2 :], True),
        ("cut within a packet", content[: 188 * 30 + 100], False),
        ("forty bytes less", content[: 188 * 20] + content[188 * 20 + 40 :], False),
    ):
        path.write_bytes(changed)
        assert inspect_video(path).ok is ok, name


def test_an_avi_file_lacks_its_index_or_its_frames(tmp_path: Path) -> None:
    path = write_with("mpeg4", tmp_path / "a.avi", frames=40)
    content = path.read_bytes()
    frames = PyAVVideo(path).read(range(40))
    path.write_bytes(content[: content.rindex(b"idx1")])
    assert inspect_video(path).ok
    np.testing.assert_array_equal(PyAVVideo(path).read(range(40)), frames)
    path.write_bytes(content[: content.rindex(b"00dc", 0, content.rindex(b"idx1") - 4000)])
    assert not inspect_video(path).ok


def test_an_ogg_file_is_cut_within_a_page(tmp_path: Path) -> None:
    path = tmp_path / "a.ogv"
    command = "ffmpeg -v error -f lavfi -i testsrc2=s=64x48:r=25:d=2 -c:v libtheora"
    try:
        subprocess.run([*command.split(), str(path)], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("ffmpeg with libtheora is not installed")
    assert inspect_video(path).ok
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert not inspect_video(path).ok


def test_an_odd_angle_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    slanted = (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = b"".join(n.to_bytes(4, "big", signed=True) for n in slanted)
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"display matrix \(0.707108, .*\) is no quarter turn"):
        PyAVVideo(path).read([0])
    found = inspect_video(path)
    assert not found.ok
    assert "is no quarter turn" in str(found.error)


def test_a_first_key_frame_that_cannot_be_made_out_is_damage(tmp_path: Path) -> None:
    """FFmpeg shows the frames from the second one on, and would count these from 0."""
    path = write_video(tmp_path / "a.mp4", frames=40)
    with av.open(str(path)) as container:
        first = next(container.demux(container.streams.video[0]))
        place, size = first.pos or 0, first.size
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, size - 8, dtype=np.uint8)
    content[place + 8 : place + size] = noise.tobytes()
    path.write_bytes(content)
    assert not inspect_video(path).ok


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (-180, 2), (-90, 3)])
def test_data_that_pyav_does_not_know_hides_no_turn(degrees: int, quarters: int) -> None:
    class Frame:
        rotation = degrees

        @property
        def side_data(self) -> None:
            raise ValueError("29 is not a valid Type")

    assert TURNS[display_matrix(Frame())][:2] == (quarters, False)  # type: ignore[arg-type]


def test_a_gif_consists_of_blocks_up_to_its_trailer(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    noise = np.random.default_rng(0).integers(0, 256, (8, 40, 50), np.uint8)
    pictures = [Image.fromarray(picture, "P") for picture in noise]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    content = path.read_bytes()
    assert inspect_video(path).ok
    for changed in (content[:-1], content[:6000] + content[6050:], content[:9000]):
        path.write_bytes(changed)
        assert not inspect_video(path).ok


def test_a_wrecked_packet_is_no_packet_without_a_picture(tmp_path: Path) -> None:
    path = remux(write_video(tmp_path / "a.mp4", frames=30), tmp_path / "a.flv")
    content = path.read_bytes()
    assert inspect_video(path).ok
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][17]
    for changed in (bytes(len(packet)), b"\xff" * len(packet), bytes(6) + packet[6:]):
        path.write_bytes(content.replace(packet, changed))
        assert not inspect_video(path).ok


def test_what_cannot_become_a_picture_is_named_by_a_scan_too(tmp_path: Path) -> None:
    """FFmpeg 8 does not convert from YCgCo, which 5.1 does."""
    path = write_with("libx264", tmp_path / "a.mp4", colorspace=8)
    found = inspect_video(path)
    assert "cannot become a picture in RGB" in str(found.error)
    with pytest.raises(DecodeError):
        PyAVVideo(path).read([0])


def test_a_video_of_which_no_frame_is_shown_is_named(tmp_path: Path) -> None:
    path = write_with("mjpeg", tmp_path / "a.mp4", pixels="yuvj420p")
    content = bytearray(path.read_bytes())
    edit = content.index(b"elst") + 12  # duration, then the time at which it begins
    content[edit + 4 : edit + 8] = (10**6).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="holds no frame"):
        PyAVVideo(path)
    assert inspect_video(path).error == "no frame"


def test_frames_come_in_parts_of_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=20)
    whole = PyAVVideo(path).read(range(20))
    monkeypatch.setattr(interface, "PART_BYTES", 3 * whole[0].nbytes + 1)
    for name in usable_decoders():
        wanted = [1, 2, 5, 6, 7, 11, 19]
        parts = list(decoder(name)[1](path).parts(wanted))
        assert [len(part.frames) for part in parts] == [3, 3, 1], name
        assert [part.place for part in parts] == [0, 3, 6]
        found = np.concatenate([part.frames for part in parts])
        np.testing.assert_array_equal(found, decoder(name)[1](path).read(wanted))
        if name == "pyav":
            np.testing.assert_array_equal(found, whole[wanted])


def test_frames_that_are_too_large_are_refused_by_name(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", height=256, width=320)
    for name in usable_decoders():
        with pytest.raises(DecodeError, match=r"frames of 320 x 256 .* max_clip_bytes"):
            decoder(name)[1](path, 9 * 320 * 256 - 1)
        assert decoder(name)[1](path, 9 * 320 * 256).read([3]).any()
    found = inspect_video(path, max_bytes=10**5)
    assert "frames of 320 x 256" in str(found.error)
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGB", (320, 256)).save(folder / "1.png")
    with pytest.raises(DecodeError, match="max_clip_bytes"):
        FrameFolder(folder, "{}.png", 1, 1, 10**5).read([0])


def test_reading_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frame is asked for"):
        PyAVVideo(write_video(tmp_path / "a.mp4")).read([])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may take")
def test_reading_in_this_process_takes_no_more_than_it_may() -> None:
    refused = pytest.raises(DecodeError, match=r"x\.mp4: memory does not suffice")
    with refused, reading_here("x.mp4", 2**27):
        np.ones(2**28)
    np.ones(2**27)  # the limit is gone
