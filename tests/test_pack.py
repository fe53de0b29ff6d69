"""Packs: the same frames in a quarter of the work, whatever happens while they are written."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import soaked, write_list, write_video
from tests.miniatures import write_clip
from tests.test_commands import call
from tests.test_scan import flip_bits
from videomae.config import (
    MAX_CLIP_BYTES,
    AugmentConfig,
    ClipConfig,
    ConfigError,
    CropKind,
    DataConfig,
    MaskConfig,
    MaskKind,
    PackConfig,
)
from videomae.data.dataset import EvaluationClips, Example, Item, TrainingClips
from videomae.data.mask import Masking
from videomae.lists.formats import Clip
from videomae.run import worker_pool as programs
from videomae.video import transcode
from videomae.video.container import VideoPacket
from videomae.video.interface import DecodeError, Frames, Part, Video
from videomae.video.opening import open_clip, pack_at
from videomae.video.packed import PackedVideo
from videomae.video.packing import Packing, PackingError
from videomae.video.packs import Pack, PackError
from videomae.video.pyav import PyAVVideo
from videomae.video.transcode import Encoding

DATA = DataConfig(clip=ClipConfig(frames=4, stride=4, size=32), repeats=2)
AUGMENT = AugmentConfig(CropKind.multi_scale, antialias=True)


def moving(
    path: Path, frames: int, height: int, width: int, *, rate: int = 25, **options: str
) -> Path:
    """An MP4 of a coloured texture that moves two pixels a frame; its first row tells the frame."""
    rng = np.random.default_rng(frames)
    texture = rng.integers(40, 216, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"} | options)
        stream.codec_context.thread_count = 1  # so that the bytes are always the same
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            image = np.roll(texture, 2 * number, axis=1).copy()
            image[: height // 4] = 20 + (7 * number) % 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def all_frames(content: bytes) -> Frames:
    """Every frame of a file, by FFmpeg alone."""
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def packed(source: Path, root: Path, out: Path, *overrides: str) -> Pack:
    """The pack that the command writes."""
    assert call("pack", f"list={source}", f"root={root}", f"out={out}", *overrides) == 0
    pack_at.cache_clear()
    return Pack(out)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of many kinds, and list.txt of all of them."""
    root = tmp_path_factory.mktemp("sources")
    moving(root / "wide.mp4", 90, 72, 128)
    moving(root / "tall one.mp4", 70, 160, 96, rate=30)
    write_clip(root / "old.avi", frames=21)
    write_clip(root / "web.webm", frames=12)
    write_video(root / "one.mp4", frames=1)
    write_video(root / "small.mp4", frames=9, height=40, width=66)
    lines = ["wide.mp4 3", "tall one.mp4 0", "old.avi 1", "web.webm 2", "one.mp4 0", "small.mp4 1"]
    write_list(root / "list.txt", [lines[0], "# a comment", *lines[1:], "wide.mp4 2"])
    return root


@pytest.fixture(scope="module")
def pack(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    out = tmp_path_factory.mktemp("packs") / "pack"
    return packed(sources / "list.txt", sources, out, "short_side=64", "keyint=16", "workers=2")


def clip_named(name: str) -> Clip:
    return Clip(name, 1)


# What is written


def test_a_pack_holds_every_video_once_and_says_what_they_are(sources: Path, pack: Pack) -> None:
    rows = {str(row["source"]): row for row in _rows(pack)}
    assert sorted(rows) == list(rows)
    assert set(rows) == {"wide.mp4", "tall one.mp4", "old.avi", "web.webm", "one.mp4", "small.mp4"}
    assert [rows["wide.mp4"][name] for name in ("width", "height", "num_frames")] == [114, 64, 90]
    assert [rows["tall one.mp4"][name] for name in ("width", "height", "fps")] == [64, 106, 30]
    assert (rows["small.mp4"]["width"], rows["small.mp4"]["height"]) == (66, 40)  # not enlarged
    assert rows["wide.mp4"]["label"] == 3  # of its first line
    assert (pack.root / "list.txt").read_text() == (sources / "list.txt").read_text()
    assert (pack.root / "bad_files.jsonl").read_text() == ""
    assert pack.manifest["num_videos"] == 6
    assert sorted(tree(pack.root)) == [
        *("bad_files.jsonl", "index.arrow", "list.txt", "manifest.json", "shard-000000.tar")
    ]


def test_shards_are_plain_tar_files_named_as_webdataset_does(pack: Pack) -> None:
    with tarfile.open(pack.root / "shard-000000.tar") as archive:
        members = {member.name: member for member in archive.getmembers()}
        content = {name: archive.extractfile(name).read() for name in members}  # type: ignore[union-attr]
    assert list(members) == [f"{n:09}.{end}" for n in range(6) for end in ("mp4", "json")]
    for row in _rows(pack):
        key = next(
            name.partition(".")[0]
            for name in members
            if name.endswith("json") and json.loads(content[name])["source"] == row["source"]
        )
        member = members[f"{key}.mp4"]
        assert (row["offset"], row["length"]) == (member.offset_data, member.size)
        assert json.loads(content[f"{key}.json"])["num_frames"] == row["num_frames"]
        reader = decord.VideoReader(io.BytesIO(content[f"{key}.mp4"]), num_threads=1)
        frames = pack.open(clip_named(str(row["source"]))).read(range(row["num_frames"]))
        np.testing.assert_array_equal(frames, reader.get_batch(range(len(reader))).asnumpy())


def _rows(pack: Pack) -> list[dict[str, Any]]:
    columns = {name: column.to_pylist() for name, column in pack.columns.items()}
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


@pytest.mark.parametrize("tags", ["plain", "bt709", "full range", "turned"])
def test_packed_pixels_are_those_of_the_source(tags: str, tmp_path: Path) -> None:
    """Colours, range and rotation survive; frame i is frame i."""
    parameters = {
        "bt709": "colormatrix=bt709:colorprim=bt709:transfer=bt709",
        "full range": "fullrange=on",
    }
    given = {"x264-params": parameters[tags]} if tags in parameters else {}
    path = moving(tmp_path / "a.mp4", 30, 64, 96, **given)
    if tags == "turned":
        upright = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
        quarter = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
        _replace(path, upright, quarter)
    source = PyAVVideo(path).read(range(30))
    assert source.shape[1:3] == ((96, 64) if tags == "turned" else (64, 96))
    pack = packed(write_list(tmp_path / "l.txt", ["a.mp4"]), tmp_path, tmp_path / "p", "crf=4")
    frames = pack.open(clip_named("a.mp4")).read(range(30))
    assert frames.shape == source.shape
    difference = np.abs(frames.astype(int) - source).mean((1, 2, 3))
    assert difference.max() < 2.5
    for number in range(29):  # a frame's neighbours are another picture
        assert np.abs(frames[number].astype(int) - source[number + 1]).mean() > 3 * difference.max()


def _replace(path: Path, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    """Another matrix in an MP4's track header."""
    as_bytes = [b"".join((n & 0xFFFFFFFF).to_bytes(4, "big") for n in each) for each in (old, new)]
    content = path.read_bytes()
    head, track = content[: content.index(b"tkhd")], content[content.index(b"tkhd") :]
    assert as_bytes[0] in track
    path.write_bytes(head + track.replace(as_bytes[0], as_bytes[1], 1))


@pytest.mark.parametrize(("stride", "keyint"), [(1, 8), (2, 16), (3, 9), (4, 16), (8, 64)])
def test_every_stride_decodes_to_the_same_pixels(stride: int, keyint: int, tmp_path: Path) -> None:
    path = moving(tmp_path / "a.mp4", 50, 64, 64)
    encoding = Encoding(64, stride, keyint, 20, "veryfast")
    made, content = transcode.transcode(path, None, encoding)
    assert made.source.ok
    video = PackedVideo(path, content, num_frames=50, stride=stride, keyint=keyint)
    np.testing.assert_array_equal(video.read(range(50)), all_frames(content))
    aligned = range(0, 50, stride)
    np.testing.assert_array_equal(video.read(aligned), all_frames(content)[::stride])


# What is read


class Counted(PackedVideo):
    """Counts the frames that the decoder returns."""

    returned = 0

    def _frames(
        self, packets: Iterable[tuple[int, VideoPacket]], needed: frozenset[int] | None
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        for each in super()._frames(packets, needed if self.regular else None):
            self.returned += 1
            yield each


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = moving(tmp_path_factory.mktemp("content") / "a.mp4", 90, 64, 64)
    return transcode.transcode(path, None, Encoding(64, 4, 16, 20, "veryfast"))[1]


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(indices=st.lists(st.integers(0, 89), min_size=1, max_size=16))
def test_any_frames_in_any_order_are_exact(content: bytes, indices: list[int]) -> None:
    video = PackedVideo(Path("a.mp4"), content, num_frames=90, stride=4, keyint=16)
    np.testing.assert_array_equal(video.read(indices), all_frames(content)[indices])


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 14).map(lambda n: 4 * n))
def test_an_aligned_clip_needs_reference_frames_only(content: bytes, start: int) -> None:
    video = Counted(Path("a.mp4"), content, num_frames=90, stride=4, keyint=16)
    indices = range(start, start + 32, 4)
    np.testing.assert_array_equal(video.read(indices), all_frames(content)[list(indices)])
    # From the key frame on, one of four; and the extra one that x264 puts before a key frame.
    assert video.returned <= (start % 16) / 4 + 8 + 3
    whole = Counted(Path("a.mp4"), content, num_frames=90, stride=4, keyint=16)
    whole.regular = False
    whole.read(indices)
    assert whole.returned > 2 * video.returned


def test_plain_files_decode_no_frame_in_vain(tmp_path: Path) -> None:
    """B-frames that nobody asks for are left out; what is asked for is the same."""
    path = moving(tmp_path / "a.mp4", 60, 64, 64, bf="3")
    for indices in (range(3, 51, 4), [59], [0], range(60), [7, 5, 30]):
        quick, slow = PyAVVideo(path), PyAVVideo(path)
        slow.regular = False
        np.testing.assert_array_equal(quick.read(indices), slow.read(indices))


def test_training_and_evaluation_read_packs_as_they_read_files(
    sources: Path, tmp_path: Path
) -> None:
    source = write_list(tmp_path / "list.txt", ["wide.mp4 3", "small.mp4 0"])
    pack = packed(source, sources, tmp_path / "p", "crf=4", "keyint=16")
    plain = replace(DATA, root=str(sources))
    from_pack = replace(plain, root=str(pack.root))
    clips = [Clip("wide.mp4", 1, label=3), Clip("small.mp4", 2, label=0)]

    def same(one: Example, two: Example) -> None:
        assert one.bad is two.bad is None
        assert (one.label, one.short) == (two.label, two.short)
        assert (one.clip.float() - two.clip.float()).abs().mean() < 1.5
        assert one.clip.float().std() > 20

    for item in (Item(epoch, video) for epoch in range(3) for video in range(2)):
        same(*(TrainingClips(clips, data, AUGMENT, None, 0)[item] for data in (plain, from_pack)))
    for index in range(2):
        same(*(EvaluationClips(clips, data)[index] for data in (plain, from_pack)))


def windows(data: DataConfig, clip: Clip, count: int) -> list[list[int]]:
    """The frames that pre-training takes from a clip in its first epochs."""
    asked: list[list[int]] = []

    class Noted:
        def __init__(self, video: Video) -> None:
            self.num_frames, self.reference_stride = video.num_frames, video.reference_stride
            self.video = video

        def parts(self, numbers: list[int]) -> Iterator[Part]:
            asked.append(list(numbers))
            return self.video.parts(numbers)

    masking = Masking(MaskConfig(MaskKind.tube, 0.5, 0), (2, 4, 4))
    dataset = TrainingClips([clip], data, AUGMENT, masking, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "videomae.data.dataset.open_clip", lambda clip, data: Noted(open_clip(clip, data))
        )
        for epoch in range(count):
            assert dataset[Item(epoch, 0)].bad is None
    return asked


@pytest.mark.parametrize(
    ("stride", "align", "aligned"),
    [(4, True, True), (8, True, True), (6, True, False), (4, False, False)],
)
def test_starts_are_multiples_of_the_packs_stride(
    stride: int, align: bool, aligned: bool, pack: Pack
) -> None:
    clip = ClipConfig(frames=4, stride=stride, size=32)
    data = replace(DATA, root=str(pack.root), clip=clip, align_starts=align)
    found = windows(data, clip_named("wide.mp4"), 60)
    starts = {window[0] for window in found}
    assert all(window == list(range(window[0], window[0] + 4 * stride, stride)) for window in found)
    last = 90 - 4 * stride
    assert starts <= set(range(last + 1))
    assert all(start % 4 == 0 for start in starts) == aligned
    assert len(starts) > (last / 8 if aligned else last / 4)  # spread over all of them


def test_plain_files_start_anywhere(sources: Path) -> None:
    found = windows(replace(DATA, root=str(sources)), clip_named("wide.mp4"), 40)
    assert any(window[0] % 4 for window in found)


# Going on


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for number in range(10):
        write_video(root / f"{number}.mp4", frames=8 + number, height=64, width=80, seed=number)
    (root / "4.mp4").write_bytes(b"not a video")
    write_list(root / "list.txt", [f"{number}.mp4 {number % 3}" for number in range(10)])
    return root


SHARDS = ("shard_mb=0.02", "keyint=8", "max_bad_fraction=0.2", "preset=veryfast")


@pytest.fixture(scope="module")
def undisturbed(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "pack"
    pack = packed(many / "list.txt", many, out, *SHARDS, "workers=1")
    assert len(pack.shards) > 2
    assert not pack.damage(thorough=True)
    return tree(out)


def test_a_pack_is_the_same_with_any_number_of_workers(
    many: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    packed(many / "list.txt", many, tmp_path / "p", *SHARDS, "workers=3")
    assert tree(tmp_path / "p") == undisturbed


@pytest.mark.parametrize("done", [0, 1, 4, 8])
def test_a_stopped_pack_goes_on_to_the_same_bytes(
    done: int,
    many: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (f"list={many / 'list.txt'}", f"root={many}", f"out={tmp_path / 'p'}", *SHARDS)
    with monkeypatch.context() as patch:
        real = programs.run_all

        def interrupted(*given: Any) -> Any:
            answers = real(*given)
            for _ in range(done):
                yield next(answers)
            raise KeyboardInterrupt

        patch.setattr("videomae.video.transcoding.run_all", interrupted)
        assert call("pack", *arguments, "workers=2") == 130
        assert "What is done is kept: the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "p/index.arrow").exists()
    if done:
        with (tmp_path / "p/progress.jsonl").open("a") as file:
            file.write(
                '[1]\n{]\n{"clip": 0, "made": {"source": 7}}\n'
            )  # what damage makes of lines
            file.write('{"clip": 9, "ma')  # what a kill in the middle of a write leaves
        (tmp_path / "p/.shard-000000.123.tar").write_bytes(b"half")
    assert call("pack", *arguments, "workers=1") == 0
    assert tree(tmp_path / "p") == undisturbed
    assert call("pack", *arguments) == 0  # nothing more to do
    assert "is complete" in capsys.readouterr().err
    assert tree(tmp_path / "p") == undisturbed


def test_a_pack_whose_progress_does_not_say_its_settings_is_refused(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/progress.jsonl").write_text('{"settingz": 1}\n')
    assert call("pack", f"list={many / 'list.txt'}", f"root={many}", f"out={tmp_path / 'p'}") == 2
    assert "progress.jsonl is damaged" in capsys.readouterr().err


@pytest.mark.long
def test_a_killed_pack_goes_on_to_the_same_bytes(
    many: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    arguments = [f"list={many / 'list.txt'}", f"root={many}", f"out={tmp_path / 'p'}", *SHARDS]
    command = [sys.executable, "-m", "videomae.pack", *arguments, "workers=1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    progress = tmp_path / "p/progress.jsonl"
    while not progress.exists() or progress.read_text().count('"clip"') < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert call("pack", *arguments) == 0
    assert tree(tmp_path / "p") == undisturbed


@pytest.fixture
def halfway(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack that was stopped after most of its videos, some of them in shards already."""
    real = programs.run_all

    def interrupted(*given: Any) -> Any:
        answers = real(*given)
        for _ in range(8):
            yield next(answers)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("videomae.video.transcoding.run_all", interrupted)
        assert call("pack", *going_on(many, tmp_path / "p")) == 130
    assert list((tmp_path / "p/staging").iterdir())
    assert list((tmp_path / "p").glob("shard-*.tar"))
    return tmp_path / "p"


def going_on(many: Path, out: Path) -> list[str]:
    return [f"list={many / 'list.txt'}", f"root={many}", f"out={out}", *SHARDS, "workers=1"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm"),
    [("shard-000000.tar", cut), ("staging/*.mp4", cut), ("staging/*.mp4", flip)],
)
def test_what_was_damaged_while_a_pack_was_stopped_is_made_again(
    halfway: Path,
    many: Path,
    undisturbed: dict[str, bytes],
    name: str,
    harm: Callable[[Path], None],
) -> None:
    harm(next(halfway.glob(name)))
    assert call("pack", *going_on(many, halfway)) == 0
    assert tree(halfway) == undisturbed


@pytest.mark.parametrize(
    "change",
    [
        {"clip": "3"},
        {"made": {"source": {"ok": True, "num_frames": 9}, "crc32": 2**32}},
        *soaked(
            {"made": {"source": {"ok": True, "num_frames": "many"}}},
            {"made": {"source": {"ok": True, "num_frames": 2**40}}},
            {"made": {"source": {"ok": True, "num_frames": 9}, "length": -5}},
            {"made": {"source": None}},
        ),
    ],
    ids=str,
)
def test_a_line_of_progress_that_cannot_be_is_done_again(
    halfway: Path, many: Path, undisturbed: dict[str, bytes], change: dict[str, Any]
) -> None:
    with (halfway / "progress.jsonl").open("a") as file:
        file.write(json.dumps({"clip": 3, "made": {}} | change) + "\n")
    assert call("pack", *going_on(many, halfway)) == 0
    assert tree(halfway) == undisturbed


def test_a_pack_is_not_mixed_with_another(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p"
    encoding = Encoding(64, 4, 8, 20, "veryfast")
    with Packing(out, [Clip("a.mp4", 1)], encoding, 1000, {"list_sha256": "x", "shard_mb": 1}):
        arguments = (f"list={many / 'list.txt'}", f"root={many}", f"out={out}", *SHARDS)
        assert call("pack", *arguments) == 2
        assert f"another process packs into {out}" in capsys.readouterr().err
    other = Packing(out, [], encoding, 2000, {"list_sha256": "x", "shard_mb": 2})
    with pytest.raises(PackingError, match="shard_mb: 1 there, 2 here"):
        other.__enter__()


def test_a_finished_pack_is_kept_from_other_settings(
    sources: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(pack.root)
    arguments = (f"list={sources / 'list.txt'}", f"root={sources}", f"out={pack.root}")
    assert call("pack", *arguments, "crf=30") == 2
    assert "choose another out" in capsys.readouterr().err
    assert tree(pack.root) == before


# Bad input


def test_what_cannot_be_packed_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "v"
    good = write_video(root / "good.mp4", frames=40, height=96, width=128)
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("not a video")
    (root / "folder.mp4").mkdir()
    (root / "cut.mp4").write_bytes(good.read_bytes()[:3000])
    flip_bits(write_video(root / "flipped.mp4", frames=60, height=96, width=128, seed=3))
    with av.open(str(root / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 8000
        container.mux([*stream.encode(sound), *stream.encode()])
    names = ["good", "empty", "text", "folder", "cut", "flipped", "gone", "sound"]
    source = write_list(tmp_path / "list.txt", [f"{name}.mp4 0" for name in names])
    arguments = (f"list={source}", f"root={root}", f"out={tmp_path / 'p'}")
    assert call("pack", *arguments) == 2
    error = capsys.readouterr().err
    assert "7 of 8 videos cannot be packed" in error
    assert "max_bad_fraction" in error
    assert not (tmp_path / "p/index.arrow").exists()
    assert call("pack", *arguments, "max_bad_fraction=1") == 0
    entries = [
        json.loads(line) for line in (tmp_path / "p/bad_files.jsonl").read_text().splitlines()
    ]
    assert [entry["path"] for entry in entries] == [f"{name}.mp4" for name in names[1:]]
    assert [entry["line"] for entry in entries] == list(range(2, 9))
    assert all(entry["error"] for entry in entries)
    lines = (tmp_path / "p/list.txt").read_text().splitlines()
    assert lines == ["# 7 of 8 videos left out: see bad_files.jsonl", "good.mp4 0"]


def test_a_file_that_has_been_mended_is_packed(tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"v/{number}.mp4", seed=number)
    whole = {name: (tmp_path / "v" / name).read_bytes() for name in ("1.mp4", "2.mp4")}
    for name, content in whole.items():
        (tmp_path / "v" / name).write_bytes(content[:500])
    source = write_list(tmp_path / "list.txt", ["0.mp4", "1.mp4", "2.mp4"])
    arguments = (f"list={source}", f"root={tmp_path / 'v'}", f"out={tmp_path / 'p'}")
    assert call("pack", *arguments) == 2
    for name, content in whole.items():
        (tmp_path / "v" / name).write_bytes(content)
    assert call("pack", *arguments) == 0
    assert len(Pack(tmp_path / "p")) == 3


@pytest.mark.parametrize(("good", "code"), [(2, 0), (0, 2)])
def test_one_bad_video_is_put_up_with_but_not_a_pack_of_nothing(
    good: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(good):
        write_video(tmp_path / f"v/{number}.mp4", seed=number)
    write_list(tmp_path / "v.txt", ["no video"])
    source = write_list(tmp_path / "list.txt", [*(f"v/{n}.mp4" for n in range(good)), "v.txt"])
    assert call("pack", f"list={source}", f"root={tmp_path}", f"out={tmp_path / 'p'}") == code
    said = " ".join(capsys.readouterr().err.split())
    assert ("left out 1" if good else "1 of 1 videos cannot be packed") in said


def test_a_file_system_without_locks_is_packed_to(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    source = write_list(tmp_path / "list.txt", ["0.mp4"])
    monkeypatch.setattr("videomae.run.journal.fcntl.flock", no_locks)
    assert call("pack", f"list={source}", f"root={many}", f"out={tmp_path / 'out'}") == 0


def test_a_full_disk_stops_packing_and_is_no_bad_video(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    asked = [str(many / "0.mp4"), None, None, str(tmp_path / "0.mp4")]
    request = [*asked, asdict(Encoding(64, 4, 8, 20, "veryfast")), MAX_CLIP_BYTES]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        patch.setattr("sys.stdin", io.StringIO(json.dumps(request) + "\n"))
        patch.setattr(signal, "signal", lambda *_: None)
        patch.setattr(programs, "limit_memory", lambda more: None)
        programs.serve(transcode.write)
    answer = json.loads(capsys.readouterr().out)
    assert answer["out_of_disk"][0] == errno.ENOSPC
    assert os.listdir(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr("videomae.video.transcoding.run_all", lambda *_: iter([(0, answer)]))
        arguments = (f"list={many / 'list.txt'}", f"root={many}", f"out={tmp_path / 'p'}", *SHARDS)
        assert call("pack", *arguments) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "the same command goes on" in error
    assert "clip" not in (tmp_path / "p/progress.jsonl").read_text()


def test_a_picture_that_differs_is_noticed(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.mp4", 12, 64, 64)
    other = moving(tmp_path / "b.mp4", 13, 64, 64)
    encoding = Encoding(64, 4, 8, 20, "veryfast")
    content = transcode.transcode(path, None, encoding)[1]
    for source, error in ((other, "frame 0 is another picture"), (path, None)):
        comparison = transcode.Comparison(content, encoding, (64, 64))
        with av.open(str(source)) as container:
            frames = list(container.decode(video=0))
        if error:
            with pytest.raises(transcode.ExactnessError, match=error):
                comparison.add(frames[0])
            continue
        for frame in frames:
            comparison.add(frame)
        with pytest.raises(transcode.ExactnessError, match="frame 12 is missing"):
            comparison.add(frames[0])
        comparison.finish(content)


@pytest.fixture
def own(sources: Path, tmp_path: Path) -> Pack:
    """A pack that a test may damage."""
    source = write_list(tmp_path / "list.txt", ["wide.mp4", "small.mp4"])
    return packed(source, sources, tmp_path / "p", "short_side=64", "keyint=16")


@pytest.mark.parametrize("command", ["scan", "pack"])
def test_a_pack_is_no_root_where_files_are_decoded(
    own: Pack, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of its videos counted as missing."""
    where = (f"list={own.root / 'list.txt'}", f"root={own.root}", f"out={tmp_path / 'out'}")
    assert call(command, *where) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"root={own.root} is a pack, which holds no video files" in said
    assert f"python -m videomae.pack check=true out={own.root}" in said
    assert not (tmp_path / "out").exists()


def test_damage_in_a_shard_is_a_named_bad_video(
    own: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = own.root / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    content[own.columns["offset"][1].as_py() + 700] ^= 1  # of wide.mp4, the second by name
    shard.write_bytes(content)
    assert call("pack", f"out={own.root}", "check=true") == 2
    assert "shard-000000.tar holds other bytes than were written" in capsys.readouterr().err
    with pytest.raises(DecodeError, match=r"are not those of wide\.mp4; .* check=true"):
        own.open(clip_named("wide.mp4"))
    own.open(clip_named("small.mp4"))
    data = replace(DATA, root=str(own.root))
    bad = TrainingClips([clip_named("wide.mp4")], data, AUGMENT, None, 0)[Item(0, 0)].bad
    assert bad is not None
    assert "wide.mp4" in bad.error
    shard.write_bytes(content[:5000])
    with pytest.raises(DecodeError, match="are not those of"):
        Pack(own.root).open(clip_named("wide.mp4"))
    shard.unlink()
    with pytest.raises(DecodeError, match=r"shard-000000\.tar"):
        Pack(own.root).open(clip_named("wide.mp4"))


def test_a_pack_that_is_not_whole_stops_a_run_at_its_start(
    own: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"data.train_list={own.root / 'list.txt'}", f"data.root={own.root}"]
    arguments += ["model=vit_tiny", f"output_dir={tmp_path / 'o'}", "run=debug"]
    (own.root / "shard-000000.tar").rename(own.root / "x")
    pack_at.cache_clear()
    assert call("pretrain", "+exp=demo_pretrain", *arguments) == 2
    error = capsys.readouterr().err
    assert "shard-000000.tar is missing" in error
    (own.root / "x").rename(own.root / "shard-000000.tar")
    (own.root / "manifest.json").unlink()
    pack_at.cache_clear()
    assert call("pretrain", "+exp=demo_pretrain", *arguments) == 2
    assert f"{own.root} cannot be read as a pack" in capsys.readouterr().err
    pack_at.cache_clear()


def test_a_video_that_is_not_in_the_pack_is_named(pack: Pack) -> None:
    for name in ("none.mp4", "", "zzz", "wide.mp"):
        with pytest.raises(DecodeError, match="is not in the pack"):
            pack.open(clip_named(name))
        assert not pack.holds(clip_named(name))


def test_another_version_is_refused(own: Pack) -> None:
    manifest = json.loads((own.root / "manifest.json").read_text()) | {"version": 99}
    (own.root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackError, match="version 99"):
        Pack(own.root)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keyint": 30}, "keyint=30 is not a multiple of stride=4: take 28 or 32"),
        ({"stride": 18, "keyint": 36}, r"stride must lie in \[1, 17\]"),
        ({"crf": 0}, "crf must lie in"),
        ({"short_side": 0}, "short_side must be at least 2"),
        ({"preset": "best"}, "preset=best is none of x264's"),
        ({"shard_mb": 0}, "shard_mb must be more than 0"),
        ({"max_bad_fraction": 2}, "max_bad_fraction must lie in"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PackConfig(**settings)


def test_folders_of_frames_are_packed(tmp_path: Path) -> None:
    for number in range(10):
        image = np.full((48, 64, 3), 20 * number, np.uint8)
        (tmp_path / "v/f").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"v/f/img_{number:05}.png")
    lines = ["f 0 4", "f 4 6"]
    source = write_list(tmp_path / "list.txt", lines)
    form = ("list_format=frames_start_total", 'frame_template="img_{:05}.png"')
    pack = packed(source, tmp_path / "v", tmp_path / "p", *form)
    for start, total in ((0, 4), (4, 6)):
        frames = pack.open(Clip("f", 1, start=start, total=total)).read(range(total))
        expected = 20.0 * np.arange(start, start + total)
        assert frames.mean((1, 2, 3)).tolist() == pytest.approx(expected, abs=2)


@pytest.mark.long
def test_a_run_on_a_pack_goes_on_with_that_pack_only(
    own: Pack, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["+exp=demo_pretrain", f"data.train_list={own.root / 'list.txt'}", "run=debug"]
    arguments += [f"output_dir={tmp_path / 'o'}", "optim.global_batch=2", "optim.warmup_epochs=0"]
    assert call("pretrain", *arguments, f"data.root={own.root}", "max_steps=1") == 0
    config = (tmp_path / "o/config.yaml").read_text()
    assert "align_starts: true" in config
    more = ("max_steps=2", "resume=auto")
    assert call("pretrain", *arguments, f"data.root={sources}", *more) == 2
    assert "sha256(data.root)" in capsys.readouterr().err
    assert call("pretrain", *arguments, f"data.root={own.root}", *more) == 0


def test_a_label_that_no_index_holds_is_refused_before_anything_is_packed(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_list(tmp_path / "list.txt", ["0.mp4 1", "1.mp4 99999999999"])
    given = (f"list={listed}", f"root={videos}", f"out={tmp_path / 'pack'}")
    assert call("pack", *given) == 2
    assert "list.txt:2: label 99999999999 is above 2147483647" in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()
