"""Facts parsed from packets are those that decoding shows."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from videomae.video.bitstream import disposable, packet_parser, pictureless, whole_pictures
from videomae.video.container import VideoPacket

CODECS = {
    "libx264": {"x264-params": "bframes=3:b-pyramid=normal:keyint=20:scenecut=0"},
    "libx265": {"x265-params": "bframes=3:keyint=20:open-gop=1:log-level=none"},
    "mpeg4": {"bf": "2", "g": "12"},
    "mpeg2video": {"bf": "2", "g": "12"},
    "libvpx": {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "20"},
    "libvpx-vp9": {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "20"},
    "libsvtav1": {"preset": "10", "g": "20"},
}
FRAMES = 50


def encode(path: Path, codec: str) -> Path:
    """A video of moving noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=CODECS[codec])
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(FRAMES):
            image = np.roll(noise, 2 * number, axis=1)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(params=CODECS, scope="module")
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec = request.param
    try:
        av.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"PyAV has no {codec} here")
    return encode(tmp_path_factory.mktemp("bitstream") / f"{codec}.mkv", codec)


def test_pictures_and_key_frames_are_told_without_decoding(video: Path) -> None:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        parse = packet_parser(context.name, context.extradata or b"")
        assert parse is not None
        packets = [packet for packet in container.demux(stream) if packet.size]
        seen = [parse(memoryview(packet), packet.is_keyframe) for packet in packets]
        shown = {}
        for number, packet in enumerate(packets):
            packet.pts = number
            for frame in packet.decode():
                shown[frame.pts] = frame
        for frame in context.decode(None):
            shown[frame.pts] = frame
    assert sum(each.pictures or 0 for each in seen) == len(shown) == FRAMES
    assert {number for number, each in enumerate(seen) if each.pictures} == shown.keys()
    keys = {number for number, each in enumerate(seen) if each.clean}
    assert keys == {number for number, frame in shown.items() if frame.key_frame}
    assert len(keys) > 1
    early = {number for number, each in enumerate(seen) if each.early}
    if early:
        assert early == {n for n, frame in shown.items() if frame.pict_type == PictureType.B}


def test_no_other_picture_is_built_on_one_that_is_disposable(video: Path) -> None:
    def frames(packets: list[VideoPacket]) -> dict[int, bytes]:
        with av.open(str(video)) as container:
            context = container.streams.video[0].codec_context
            found = {}
            for packet in [*packets, None]:
                for frame in context.decode(packet):
                    found[frame.pts] = frame.to_ndarray().tobytes()
        return found

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        tells = disposable(stream.codec_context.name, stream.codec_context.extradata or b"")
        packets = [packet for packet in container.demux(stream) if packet.size]
    if tells is None:
        assert video.stem not in ("libx264", "mpeg4")
        return
    kept = [packet for packet in packets if not tells(memoryview(packet))]
    assert len(kept) < len(packets)
    whole, rest = frames(packets), frames(kept)
    assert len(rest) == len(kept)
    assert all(whole[time] == pixels for time, pixels in rest.items())


def test_packets_without_a_part_of_a_picture_are_told(video: Path) -> None:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        name, extradata = stream.codec_context.name, stream.codec_context.extradata or b""
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert not any(pictureless(name, extradata)(memoryview(packet)) for packet in packets)
    delimiter = {"h264": b"\0\0\0\2\x09\xf0", "hevc": b"\0\0\0\3\x46\x01\x50"}.get(name)
    if delimiter:
        assert pictureless(name, extradata)(delimiter)


@pytest.mark.parametrize(
    ("profile", "interlaced"),
    [("baseline", False), ("high", False), ("high", True), ("high444", False), ("high444", True)],
)
def test_parameter_sets_tell_whether_pictures_are_whole(
    profile: str, interlaced: bool, tmp_path: Path
) -> None:
    """FLV files do not say how their fields lie."""
    path = tmp_path / "a.flv"
    given = "interlaced=1:" if interlaced else ""
    options = {"x264-params": f"{given}cqm=jvt:8x8dct=1" if profile != "baseline" else given}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"profile": profile} | options)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv444p" if profile == "high444" else "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame(64, 48, stream.pix_fmt)))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        extradata = container.streams.video[0].codec_context.extradata or b""
    assert whole_pictures(extradata, []) is not interlaced
    assert not whole_pictures(extradata[:12], [])  # cut off
    assert not whole_pictures(b"", [])
