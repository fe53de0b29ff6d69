"""Every video of a list decoded strictly: what is found, and that nothing stops it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import write_list, write_video
from tests.miniatures import FRAMES, write_clip, write_frames, write_lines
from tests.test_commands import call
from videomae.config import MAX_CLIP_BYTES, ConfigError, ScanConfig
from videomae.run import worker_pool as programs
from videomae.video.inspecting import VERSION, Job, inspect_all, inspect_resumably
from videomae.video.inspection import Inspection, inspect_frames, inspect_video
from videomae.video.interface import DecodeError
from videomae.video.pyav import PyAVVideo


def scanned(source: Path, root: Path, out: Path, *overrides: str) -> list[dict[str, Any]]:
    """The rows of the table that the command writes."""
    assert call("scan", f"list={source}", f"root={root}", f"out={out}", *overrides) == 0
    return pq.read_table(out / "scan.parquet").to_pylist()


def flip_bits(path: Path, seed: int = 0) -> Path:
    """Damage a few bytes of the pictures, not of the container."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    rng = np.random.default_rng(seed)
    for place in rng.integers(start + 2000, len(data) - 3000, 2):
        data[place] ^= 0x55
    path.write_bytes(data)
    return path


def test_a_scan_measures_what_it_decodes(tmp_path: Path) -> None:
    write_clip(tmp_path / "v/a b.avi", frames=10)
    write_clip(tmp_path / "v/c.webm", frames=1)
    write_video(tmp_path / "v/d.mp4", frames=50, height=96, width=64)
    lines = ["# from somewhere", "a b.avi 3", "", "c.webm 0", "d.mp4 1", "d.mp4 1"]
    source = write_list(tmp_path / "list.txt", lines)
    rows = scanned(source, tmp_path / "v", tmp_path / "out")
    assert [(row["path"], row["line"]) for row in rows] == [
        ("a b.avi", 2),
        ("c.webm", 4),
        ("d.mp4", 5),
        ("d.mp4", 6),
    ]
    assert all(row["ok"] and row["error"] is None for row in rows)
    assert [row["num_frames"] for row in rows] == [10, 1, 50, 50]
    assert [row["codec"] for row in rows] == ["mpeg4", "vp9", "h264", "h264"]
    assert [row["duration_s"] for row in rows] == pytest.approx([0.4, 0.04, 2, 2], abs=0.01)
    assert {row["fps"] for row in rows} == {25}
    assert (rows[2]["width"], rows[2]["height"]) == (64, 96)
    assert rows[0]["bytes"] == (tmp_path / "v/a b.avi").stat().st_size
    assert (tmp_path / "out/clean.txt").read_text() == source.read_text()


def test_size_is_that_after_rotation(tmp_path: Path) -> None:
    plain, turned = write_video(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    quarter = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    upright = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    pack = [b"".join(n.to_bytes(4, "big", signed=True) for n in m) for m in (upright, quarter)]
    data = plain.read_bytes()
    track = data.index(b"tkhd")
    turned.write_bytes(data[:track] + data[track:].replace(*pack, 1))
    sizes = [(found.width, found.height) for found in map(inspect_video, (plain, turned))]
    assert sizes == [(64, 48), (48, 64)]


def test_concealed_damage_is_found(tmp_path: Path) -> None:
    """decord returns all frames of such a file, some of them wrong, and says nothing."""
    concealed = 0
    for seed in range(12):
        whole = write_video(tmp_path / f"{seed}.mp4", frames=60, seed=seed)
        assert inspect_video(whole).ok
        damaged = flip_bits(whole, seed)
        found = inspect_video(damaged)
        try:
            frames = decord.VideoReader(str(damaged)).get_batch(list(range(60))).asnumpy()
        except decord.DECORDError:
            continue
        concealed += len(frames) == 60
        assert not found.ok
        assert str(found.error).startswith("damaged (")
        assert 0 <= found.num_frames < 60
    assert concealed > 3  # else nothing was shown


def test_frames_come_in_the_order_in_which_they_are_decoded(tmp_path: Path) -> None:
    """Two of these pictures have each other's time: FFmpeg shows them as they are stored."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        options = {"x264-params": "bframes=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        images = [np.full((48, 64, 3), 6 * number, np.uint8) for number in range(20)]
        frames = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in images]
        packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
        unit = packets[1].pts - packets[0].pts
        shown = [number + 8 for number in range(20)]
        shown[5], shown[8] = shown[8], shown[5]
        for packet, time in zip(packets, shown, strict=True):
            packet.pts = time * unit
            container.mux(packet)
    found = inspect_video(path)
    assert (found.ok, found.num_frames) == (True, 20)
    for number in range(20):
        level = PyAVVideo(path).read([number]).mean()
        assert level == pytest.approx(6 * number, abs=2)


@pytest.mark.parametrize("ending", [".avi", ".mp4", ".webm"])
def test_a_file_that_was_cut_off_is_damaged(ending: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / f"a{ending}", frames=40)
    assert inspect_video(path).ok
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert not inspect_video(path).ok


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
@pytest.mark.parametrize("open_gop", [0, 1])
def test_a_part_that_was_cut_out_whole_is_not_damaged(
    ending: str, open_gop: int, tmp_path: Path
) -> None:
    """Its times start late, and its first pictures may refer to others before them."""
    options = {"x264-params": f"open-gop={open_gop}:keyint=12:bframes=3:scenecut=0"}
    with av.open(str(tmp_path / "whole.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(40):
            image = np.full((48, 64, 3), 6 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    part, keyframes = tmp_path / f"part{ending}", 0
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(part), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(whole.streams.video[0]):
            keyframes += packet.is_keyframe
            if keyframes > 1 and packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    found = inspect_video(part)
    assert found.ok, found.error
    assert found.num_frames >= 24
    video = PyAVVideo(part)
    frames = video.read(range(video.num_frames))  # what scan passes is read
    assert video.num_frames == found.num_frames
    levels = frames.mean((1, 2, 3))
    assert np.abs(levels - (levels[-1] - 6 * np.arange(len(levels))[::-1])).max() < 4


def test_a_picture_that_is_never_shown_is_damage(tmp_path: Path) -> None:
    """A packet that says of its picture that it is not coded: no decoder calls that an error."""
    path = write_clip(tmp_path / "a.avi", frames=20)
    content = bytearray(path.read_bytes())
    headers = [found.start() for found in re.finditer(rb"\x00\x00\x01\xb6", content)]
    assert len(headers) == 20
    content[headers[5] + 5] &= ~0x20  # vop_coded follows a type, the time in 5 bits, and markers
    path.write_bytes(content)
    found = inspect_video(path)
    assert (found.ok, found.error) == (False, "damaged (frames are lost, after 5 frames)")
    with pytest.raises(DecodeError, match="frame 5 cannot be decoded"):
        PyAVVideo(path).read([5])


def test_an_index_that_leads_to_other_frames_is_not_followed(tmp_path: Path) -> None:
    """The whole video can be decoded from its start, but not from its second key frame."""
    path = write_clip(tmp_path / "a.avi", frames=20)
    whole = PyAVVideo(path).read(range(20))
    content = bytearray(path.read_bytes())
    entries = content.rindex(b"idx1") + 8
    del content[entries + 2 * 16 : entries + 5 * 16]
    for place in (entries - 4, 4):  # the lengths of the index and of the file
        size = int.from_bytes(content[place : place + 4], "little") - 3 * 16
        content[place : place + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert inspect_video(path).ok
    np.testing.assert_array_equal(PyAVVideo(path).read([15, 3]), whole[[15, 3]])


def test_damage_is_counted_by_reason_and_left_out_of_the_clean_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "good.mp4", height=400, width=400)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux([*stream.encode(frame), *stream.encode()])
    names = ("good", "empty", "text", "folder", "sound", "gone")
    source = write_lines(tmp_path / "list.txt", ["# head", *(f"{n}.mp4 0" for n in names)], "\r\n")
    rows = scanned(source, tmp_path, tmp_path / "out")
    assert [row["error"] for row in rows] == [
        None,
        "empty",
        "cannot be opened (Invalid data found when processing input)",
        "a directory, not a video file",
        "no video stream",
        "missing",
    ]
    assert (tmp_path / "out/clean.txt").read_text().splitlines() == [
        "# 5 of 6 videos left out: see scan.parquet",
        "# head",
        "good.mp4 0",
    ]
    said = " ".join(capsys.readouterr().err.split())
    for words in ("videos 6", "undamaged 1", "empty 1", "missing 1", "shortest 12 frames good.mp4"):
        assert words in said
    assert "1 videos have a short side of more than 320 px" in said


def test_folders_of_frames(tmp_path: Path) -> None:
    for name in ("whole", "cut", "gap"):
        write_frames(tmp_path / name)
    image = tmp_path / "cut/img_00004.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    (tmp_path / "gap/img_00002.jpg").unlink()
    lines = [f"{name} {FRAMES} 0" for name in ("whole", "cut", "gap", "none")]
    source = write_list(tmp_path / "list.txt", lines)
    form = ("list_format=frames_total_label", "frame_template='img_{:05}.jpg'")
    rows = scanned(source, tmp_path, tmp_path / "out", *form)
    assert [row["ok"] for row in rows] == [True, False, False, False]
    assert (rows[0]["num_frames"], rows[0]["width"], rows[0]["height"]) == (FRAMES, 64, 48)
    assert [str(row["error"]).partition(" (")[0] for row in rows[1:]] == [
        "damaged",
        "frames missing",
        "missing",
    ]
    assert inspect_frames(tmp_path / "gap", "img_{:05}.jpg", 1, 1).ok


# Processes that die


STAND_IN = """
import json, os, signal, sys, time
for line in sys.stdin:
    path, *_ = json.loads(line)
    if "crash" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in path:
        time.sleep(60)
    if "slow" in path:
        time.sleep(1)
    print(json.dumps({"ok": True, "num_frames": 1}), flush=True)
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_a_decoder_that_crashes_or_hangs_takes_its_video_along_and_no_other(
    workers: int, tmp_path: Path
) -> None:
    program = write_list(tmp_path / "stand_in.py", [STAND_IN])
    command = [sys.executable, str(program)]
    names = ["a", "crash 1", "b", "hang", "c", "crash 2", "crash 3", "d"]
    jobs = [Job(Path(name)) for name in names]
    found = {job.path.name: each for job, each in inspect_all(jobs, workers, 1, command)}
    assert {name for name, each in found.items() if each.ok} == {"a", "b", "c", "d"}
    assert {found[f"crash {number}"].error for number in (1, 2, 3)} == {"decoder crashed (SIGSEGV)"}
    assert found["hang"].error == "not decoded in time (1 s)"


def test_time_in_which_everything_is_stopped_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z, an hour of something else, and fg."""
    program = write_list(tmp_path / "stand_in.py", [STAND_IN])
    stopped_s = 0.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + stopped_s

    monkeypatch.setattr(programs, "time", Clock)
    jobs = [Job(Path(name)) for name in ("a", "slow", "b", "c")]
    found = {}
    for job, each in inspect_all(jobs, 2, 100, [sys.executable, str(program)]):
        found[job.path.name] = each
        stopped_s += 3600
    assert all(each.ok for each in found.values())


def test_inspectors_end_with_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Noted(programs.Program[programs.K]):
        def __init__(self, command: list[str]) -> None:
            super().__init__(command)
            started.append(self.process)

    monkeypatch.setattr(programs, "Program", Noted)
    video = write_video(tmp_path / "a.mp4")
    results = inspect_all([Job(video)] * 9, 2, 60)
    assert next(results)[1].ok
    results.close()
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


ORPHANED = """
import subprocess, sys
command = (
    "import ctypes; from videomae.run.worker_pool import end_with_parent;"
    "end_with_parent(); print(1, flush=True); ctypes.PyDLL(None).sleep(600)"
)
child = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_hanging_inspector_ends_with_a_scan_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHANED], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    stat = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    assert stat.exists()
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Going on


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        write_video(tmp_path / f"{number}.mp4", seed=number)
    source = write_list(tmp_path / "list.txt", [f"{number}.mp4" for number in range(4)])
    arguments = (f"list={source}", f"root={tmp_path}", f"out={tmp_path / 'out'}", "workers=1")
    real = inspect_all

    def interrupted(*given: Any) -> Any:
        results = real(*given)
        yield next(results)
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr("videomae.video.inspecting.inspect_all", interrupted)
    assert call("scan", *arguments) == 130
    assert "What is done is kept: the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "out/clean.txt").exists()
    progress = tmp_path / "out/progress.jsonl"
    assert len(progress.read_text().splitlines()) == 3  # the settings, and two results
    with progress.open("a") as file:
        file.write('{"path": "/x/2.mp4", "fra')  # what a kill in the middle of a write leaves
    write_video(tmp_path / "1.mp4", frames=20)  # changed since

    asked = []

    def counted(jobs: list[Job], *given: Any) -> Any:
        asked.extend(job.path.name for job in jobs)
        return real(jobs, *given)

    monkeypatch.setattr("videomae.video.inspecting.inspect_all", counted)
    assert call("scan", *arguments) == 0
    assert asked == ["1.mp4", "2.mp4", "3.mp4"]
    assert "1 of 4 videos are done already" in capsys.readouterr().err
    rows = pq.read_table(tmp_path / "out/scan.parquet").to_pylist()
    assert [row["num_frames"] for row in rows] == [12, 20, 12, 12]
    assert call("scan", *arguments) == 0
    assert len(asked) == 3


@pytest.mark.long
def test_a_killed_scan_goes_on(tmp_path: Path) -> None:
    first = write_video(tmp_path / "0.mp4", frames=1500)
    for number in range(1, 30):
        os.link(first, tmp_path / f"{number}.mp4")
    source = write_list(tmp_path / "list.txt", [f"{number}.mp4 1" for number in range(30)])
    arguments = (f"list={source}", f"root={tmp_path}", f"out={tmp_path / 'out'}", "workers=1")
    program = [sys.executable, "-m", "videomae.scan", *arguments]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    progress = tmp_path / "out/progress.jsonl"
    deadline = time.monotonic() + 90
    while not progress.exists() or len(progress.read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [line for line in progress.read_text().splitlines() if line.endswith("}")]
    assert len(before) < 31
    assert call("scan", *arguments) == 0
    after = progress.read_text().splitlines()
    assert after[: len(before)] == before
    assert json.loads(after[0])["settings"]["max_bytes"] == MAX_CLIP_BYTES
    assert len({json.loads(line)["path"] for line in after[1:]}) == len(after[1:]) == 30
    assert (tmp_path / "out/clean.txt").read_text() == source.read_text()


def test_what_an_earlier_version_found_is_found_anew(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    source = write_list(tmp_path / "list.txt", ["0.mp4"])
    scanned(source, tmp_path, tmp_path / "out")
    progress = tmp_path / "out/progress.jsonl"
    _, line = progress.read_text().splitlines()  # after the settings
    wrong = {"ok": False, "error": "damaged (frames out of order)"}
    for version, ok in (({"version": 1}, True), ({}, True), ({"version": VERSION}, False)):
        entry = {key: value for key, value in json.loads(line).items() if key != "version"}
        damage = "[1]\n{]\n" + json.dumps({"version": VERSION, "max_bytes": MAX_CLIP_BYTES}) + "\n"
        found = json.dumps(entry | version | {"found": entry["found"] | wrong}) + "\n"
        progress.write_text(damage + found)
        (row,) = scanned(source, tmp_path, tmp_path / "out")
        assert row["ok"] is ok


# What a user gets wrong


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["gone.mp4 1"], "none of the first 1 videos of list is there: line 1 means"),
        (["a 3 4"], "set list_format to one of"),
        ([], "lists no clip"),
    ],
)
def test_a_list_that_cannot_be_scanned(
    lines: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_list(tmp_path / "list.txt", lines)
    out = tmp_path / "out"
    assert call("scan", f"list={source}", f"root={tmp_path}", f"out={out}") == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_the_list_itself_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_list(tmp_path / "clean.txt", ["a.mp4 1"])
    assert call("scan", f"list={source}", f"root={tmp_path}", f"out={tmp_path}") == 2
    assert "choose another" in capsys.readouterr().err
    assert source.read_text() == "a.mp4 1\n"


@pytest.mark.parametrize("setting", ["workers=0", "timeout_s=0", "frame_template=img.jpg"])
def test_settings_that_cannot_work(setting: str) -> None:
    key, value = setting.split("=")
    given = value if key == "frame_template" else int(value)
    with pytest.raises(ConfigError, match=key):
        ScanConfig(**{key: given})  # type: ignore[arg-type]


def test_what_is_not_known_is_null() -> None:
    assert Inspection(ok=False, error="missing") == inspect_video(Path("/no/video.mp4"))


def test_a_video_on_which_the_decoder_crashed_is_read_again_by_a_later_scan(
    tmp_path: Path,
) -> None:
    """Another version of a library may not crash."""
    jobs = [Job(write_list(tmp_path / name, ["content"])) for name in ("a.mp4", "crash.mp4")]
    progress = tmp_path / "progress.jsonl"
    crashing = write_list(tmp_path / "crashing.py", [STAND_IN])
    sound = write_list(tmp_path / "sound.py", [STAND_IN.replace('"crash" in', '"none" in')])
    for program, expected in ((crashing, "decoder crashed (SIGSEGV)"), (sound, None)):
        target = tmp_path / "program.py"
        target.write_text(program.read_text(encoding="utf-8"), encoding="utf-8")
        found = inspect_resumably(jobs, progress, 1, 60, [sys.executable, str(target)])
        assert [found[job].error for job in jobs] == [None, expected]


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_from_outside_makes_a_video_damaged_the_second_time_alone(
    tmp_path: Path, times: int
) -> None:
    """One may come from whoever makes room in memory, and not from the video."""
    killed = write_list(tmp_path / "killed", [])
    kill = f"""
    if "killed" in path and len(open({str(killed)!r}).read()) < {times}:
        print("x", end="", file=open({str(killed)!r}, "a"), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    program = STAND_IN.replace('    if "crash"', kill.strip("\n") + '\n    if "crash"')
    command = [sys.executable, str(write_list(tmp_path / "stand_in.py", [program]))]
    jobs = [Job(Path(name)) for name in ("a", "killed", "b")]
    found = {job.path.name: each.error for job, each in inspect_all(jobs, 1, 60, command)}
    expected = "decoder crashed (SIGKILL)" if times == 2 else None
    assert found == {"a": None, "b": None, "killed": expected}
