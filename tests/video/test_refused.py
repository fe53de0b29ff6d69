"""Scripts and playlists that FFmpeg follows to other files and hosts are refused under any name."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_video
from videomae.video.container import FORMATS
from videomae.video.folder import FrameFolder
from videomae.video.inspection import inspect_frames, inspect_video
from videomae.video.interface import DecodeError
from videomae.video.opening import decoder, usable_decoders
from videomae.video.pyav import PyAVVideo
from videomae.video.transcode import Encoding, transcode


class Listener:
    """Counts who calls at a port of this machine."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.calls = 0
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self.socket.accept()
            except OSError:
                return
            self.calls += 1
            caller.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.socket.close()


def concat(target: str) -> str:
    return f"ffconcat version 1.0\nfile '{target}'\n"


def hls(target: str) -> str:
    return (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:9.0,\n"
        f"{target}\n#EXT-X-ENDLIST\n"
    )


def master(target: str) -> str:
    return f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000\n{target}\n"


def dash(target: str) -> str:
    return (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet>'
        f'<Representation id="1" mimeType="video/mp4" bandwidth="1"><BaseURL>{target}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>\n"
    )


def sdp(target: str) -> str:
    host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
    return (
        f"v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\n"
        f"m=video {port or 5004} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )


def playlist(target: str) -> str:
    return f"[playlist]\nFile1={target}\nNumberOfEntries=1\n"


SCRIPTS: tuple[Callable[[str], str], ...] = (concat, hls, master, dash, sdp, playlist)
NAMES = ("clip.mp4", "clip.avi", "clip.m3u8", "clip.ffconcat", "clip.mpd", "clip.sdp", "clip")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "mark"])
def test_a_script_leads_nowhere(
    script: Callable[[str], str], start: str, listener: Listener, tmp_path: Path
) -> None:
    other = write_video(tmp_path / "other.mp4")
    for target in (f"http://{listener.address}/x.mp4", str(other), other.name):
        for name in NAMES:
            path = tmp_path / name
            path.write_text(start + script(target))
            for reader in usable_decoders():
                with pytest.raises(DecodeError, match="leads to other files"):
                    decoder(reader)[1](path)
            found = inspect_video(path)
            assert not found.ok
            assert "leads to other files" in str(found.error)
            made, content = transcode(path, None, Encoding(32, 1, 4, 30, "ultrafast"))
            assert not made.source.ok
            assert not content
    assert listener.calls == 0


@pytest.mark.parametrize("name", ["x%03d.png", "x%*.png", "x%[12].jpg", "script.avs", "script.vpy"])
def test_names_that_stand_for_other_files_are_refused(name: str, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / f"x{number:03}.png")
    path = tmp_path / name
    path.write_bytes((tmp_path / "x000.png").read_bytes())
    for reader in usable_decoders():
        with pytest.raises(DecodeError, match="leads to other files"):
            decoder(reader)[1](path)


@pytest.mark.parametrize("name", ["clip[1].gif", "100% real.gif", "50%off.gif", "what?.gif"])
def test_names_that_stand_for_one_file_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    pictures = [Image.fromarray(picture) for picture in noise]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:])
    assert PyAVVideo(path).num_frames == 3


def test_no_format_that_opens_other_files_is_among_those_that_are_read() -> None:
    follow = {
        "concat",
        "hls",
        "dash",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "image2",
        "imf",
        "mlv",
        "vobsub",
    }
    follow |= {"lavfi", "webm_dash_manifest", "bluray", "dvdvideo", "avisynth", "vapoursynth"}
    assert not follow & set(FORMATS.split(","))


def test_a_name_like_an_address_is_a_file(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path as a list gives it, below the folder where a command is run."""
    monkeypatch.chdir(tmp_path)
    names = ("12:30 clip.mp4", f"http:/{listener.address}/x.mp4", "concat:a|b.mp4", "file:x.mp4")
    for number, name in enumerate(names):
        write_video(tmp_path / name, seed=number)
        for reader in usable_decoders():
            assert decoder(reader)[1](Path(name)).read([3]).shape == (1, 48, 64, 3)
        assert inspect_video(Path(name)).ok
    assert listener.calls == 0


def test_a_frame_that_pillow_would_give_to_a_program_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ghostscript would run what is in the file, whatever its name."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'run'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n"
    (tmp_path / "img_00001.jpg").write_text(text)
    with pytest.raises(DecodeError, match="cannot identify image file"):
        FrameFolder(tmp_path, "img_{:05}.jpg", 1, 1).read([0])
    found = inspect_frames(tmp_path, "img_{:05}.jpg", 1, 1)
    assert str(found.error).startswith("damaged (img_00001.jpg")
    assert not (tmp_path / "run").exists()
