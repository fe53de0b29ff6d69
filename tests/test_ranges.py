"""Ranges of videos: a row of a Parquet list is as good as a file that was cut out of the video."""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import write_list
from tests.test_commands import call
from tests.test_pack import moving
from tests.train import (
    assert_same_run,
    finetuning,
    json_lines,
    metrics,
    pretraining,
    train,
    weights,
)
from videomae.config import ClipConfig, ConfigError, DataConfig, Precision
from videomae.data.checks import read_list, warn_of_shared
from videomae.evaluation.attention import draw_attention
from videomae.evaluation.trained import load
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip, Span, span_told
from videomae.video.inspection import inspect_video
from videomae.video.interface import DecodeError
from videomae.video.opening import open_clip, pack_at, usable_decoders
from videomae.video.pack_checks import check_rows
from videomae.video.packs import Pack
from videomae.video.pyav import PyAVVideo

CLASSES = 3
SPANS = (
    *(("a.mp4", 0, 20), ("a.mp4", 13, 40), ("a.mp4", 61, None), ("a.mp4", 30, 31)),
    *(("deep/b.mp4", 5, 30), ("deep/b.mp4", 24, 48), ("deep/b.mp4", None, 12)),
    *(("deep/b.mp4", 36, None), ("c.mp4", None, None), ("a.mp4", 24, 36), ("a.mp4", 50, 70)),
)
"""Ranges from key frames and between them, overlapping, to the end, and of a single frame."""
DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32))


class Ranges(NamedTuple):
    """Videos with a list of ranges of them, and files cut out of them with a list of those."""

    root: Path
    listed: Path
    cut_root: Path
    cut_list: Path


def cut(source: Path, target: Path, start: int, end: int | None) -> None:
    """Cut a range out of a video without any loss, by FFmpeg's own program."""
    chosen = f"gte(n,{start})" + (f"*lt(n,{end})" if end is not None else "")
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *("ffmpeg", "-loglevel", "error", "-i", str(source), "-map", "0:0"),
            *("-vf", f"select='{chosen}',setpts=N/(25*TB)", "-vsync", "passthrough"),
            *("-c:v", "ffv1", "-y", str(target)),
        ],
        check=True,
    )


def write_rows(path: Path, spans: Any = SPANS, **columns: Any) -> Path:
    """A list of ranges in Parquet."""
    paths, starts, ends = zip(*spans, strict=True)
    numbers = {"start_frame": pa.array(starts, pa.int64()), "end_frame": pa.array(ends, pa.int64())}
    pq.write_table(pa.table({"path": paths} | numbers | columns), path)
    return path


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> Ranges:
    root, cuts = tmp_path_factory.mktemp("long"), tmp_path_factory.mktemp("cut")
    options = {"g": "12", "bf": "2"}
    moving(root / "a.mp4", 90, 48, 64, **options)
    moving(root / "deep/b.mp4", 50, 96, 64, **options)
    moving(root / "c.mp4", 11, 48, 64, **options)
    lines = []
    for number, (path, start, end) in enumerate(SPANS):
        name = f"{number:02}.mkv"
        cut(root / path, cuts / name, start or 0, end)
        lines.append(f"{name} {number % CLASSES}")
    labels = [number % CLASSES for number in range(len(SPANS))]
    listed = write_rows(root / "ranges.parquet", label=labels, score=[0.5] * len(SPANS))
    return Ranges(root, listed, cuts, write_list(cuts / "cuts.txt", lines))


def span_of(line: int) -> Span | None:
    """The range of a line of the list; None: the whole video."""
    _, start, end = SPANS[line - 1]
    return None if (start, end) == (None, None) else (start or 0, end)


def clips_of(listed: Path) -> Iterator[Clip]:
    return iter(read_clips(listed, replace(DATA, classes=CLASSES), labelled=True))


@pytest.mark.parametrize("decoder", usable_decoders())
def test_a_range_has_the_frames_of_a_file_that_was_cut_out(ranges: Ranges, decoder: str) -> None:
    for own, other in zip(clips_of(ranges.listed), clips_of(ranges.cut_list), strict=True):
        data = replace(DATA, decoder=decoder)
        video = open_clip(own, replace(data, root=str(ranges.root)))
        expected = open_clip(other, replace(data, root=str(ranges.cut_root)))
        assert video.num_frames == expected.num_frames
        assert video.fps == pytest.approx(expected.fps)
        wanted = [video.num_frames - 1, *range(video.num_frames)]
        np.testing.assert_array_equal(video.read(wanted), expected.read(wanted))
        for number in (-1, video.num_frames) if own.span else ():
            with pytest.raises(DecodeError, match=f"has {video.num_frames} frames, asked for"):
                video.read([number])


def test_a_range_is_scanned_as_a_file_that_was_cut_out(ranges: Ranges) -> None:
    for own, other in zip(clips_of(ranges.listed), clips_of(ranges.cut_list), strict=True):
        for seeks in (True, False):
            found = inspect_video(ranges.root / own.path, span=own.span, seeks=seeks)
            expected = inspect_video(ranges.cut_root / other.path)
            assert found.ok
            assert (found.num_frames, found.width) == (expected.num_frames, expected.width)
            assert found.duration_s == pytest.approx(found.num_frames / 25, abs=1e-6)


def decoded_packets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of all packets that PyAV's reader decodes from now on."""
    seen: list[int] = []
    frames = PyAVVideo._frames

    def watched(self: PyAVVideo, packets: Any, needed: Any) -> Any:
        def passed() -> Iterator[Any]:
            for number, packet in packets:
                seen.append(number)
                yield number, packet

        return frames(self, passed(), needed)

    monkeypatch.setattr(PyAVVideo, "_frames", watched)
    return seen


def test_nothing_is_decoded_before_the_key_frame_or_far_behind_the_range(
    ranges: Ranges, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = decoded_packets(monkeypatch)
    clip = Clip("a.mp4", 1, start_frame=30, end_frame=34)
    open_clip(clip, replace(DATA, root=str(ranges.root), decoder="pyav")).read(range(4))
    assert min(seen) == 24
    assert max(seen) < 48


def test_damage_outside_of_a_range_is_not_looked_at(ranges: Ranges, tmp_path: Path) -> None:
    content = bytearray((ranges.root / "a.mp4").read_bytes())
    packets = PyAVVideo(ranges.root / "a.mp4").packets.locations
    for number in (60, 61, 62):
        place, size = packets[number]
        assert place is not None
        content[place + 8 : place + size] = bytes(size - 8)
    (tmp_path / "a.mp4").write_bytes(content)
    assert not inspect_video(tmp_path / "a.mp4").ok
    assert inspect_video(tmp_path / "a.mp4", span=(30, 40)).ok
    assert inspect_video(tmp_path / "a.mp4", span=(75, None)).ok
    assert not inspect_video(tmp_path / "a.mp4", span=(55, 70)).ok


# Runs


def test_ranges_train_bit_for_bit_as_files_that_were_cut_out(
    ranges: Ranges, tmp_path: Path
) -> None:
    own = train(pretraining(ranges.root, tmp_path / "own", train_list=ranges.listed))
    lines = ranges.cut_list.read_text().splitlines()
    text = write_list(ranges.cut_root / "plain.txt", [line.split()[0] for line in lines])
    other = train(pretraining(ranges.cut_root, tmp_path / "other", train_list=text))
    assert_same_run(own, other)
    assert metrics(own)[-1]["num_bad"] == 0


def test_ranges_are_evaluated_as_files_that_were_cut_out(ranges: Ranges, tmp_path: Path) -> None:
    found = []
    for name, root, listed in (
        ("own", ranges.root, ranges.listed),
        ("other", ranges.cut_root, ranges.cut_list),
    ):
        given = (f"data.test_list={listed}", "data.segments=2", "data.crops=2")
        run = train(finetuning(root, tmp_path / name, *given, train_list=listed))
        results = json.loads((run / "results.json").read_text())
        rows = json_lines(run / "predictions.jsonl")
        of_list = {"sha256": None, "data": None}  # named for the list
        found.append((results | of_list, [row["top"] for row in rows]))
    assert found[0] == found[1]
    assert found[0][0]["num_videos"] == len(SPANS)
    assert metrics(tmp_path / "own") == metrics(tmp_path / "other")
    ours, theirs = weights(tmp_path / "own"), weights(tmp_path / "other")
    assert all(ours[name].equal(theirs[name]) for name in ours)
    rows = json_lines(tmp_path / "own/predictions.jsonl")
    spans = [(row["video"], row.get("start_frame"), row.get("end_frame")) for row in rows]
    assert spans[1] == ("a.mp4", 13, 40)
    assert spans[8] == ("c.mp4", None, None)


def test_a_run_on_ranges_goes_on_where_it_stopped(ranges: Ranges, tmp_path: Path) -> None:
    whole = train(pretraining(ranges.root, tmp_path / "whole", train_list=ranges.listed))
    parts = {"train_list": ranges.listed}
    train(pretraining(ranges.root, tmp_path / "parts", max_steps=3, **parts))
    train(pretraining(ranges.root, tmp_path / "parts", resume="auto", **parts))
    assert_same_run(whole, tmp_path / "parts")


def test_ranges_outside_of_their_video_are_bad_files_that_say_so(
    ranges: Ranges, tmp_path: Path
) -> None:
    spans = [("a.mp4", 80, 91), ("a.mp4", 0, 90), ("a.mp4", 95, None), ("a.mp4", 80, 91)]
    listed = write_rows(tmp_path / "list.parquet", spans)
    given = {"train_list": listed, "max_steps": 1}
    run = train(pretraining(ranges.root, tmp_path / "run", "data.max_bad_fraction=1", **given))
    rows = {
        (row["start_frame"], row["end_frame"]): row for row in json_lines(run / "bad_files.jsonl")
    }
    assert rows.keys() == {(80, 91), (95, None)}  # each once, whatever the other ranges are like
    assert "frames 80 to 91 lie outside of the video, which has 90" in rows[80, 91]["error"]
    assert metrics(run)[-1]["num_bad"] == 2


def test_ranges_of_folders_of_frames(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for number in range(10):
        image = np.full((48, 64, 3), 20 * number, np.uint8)
        Image.fromarray(image).save(tmp_path / f"f/img_{number + 1:05}.png")
    spans = [("f", 2, 5), ("f", None, None), ("f", 7, None), ("f", 8, 12), ("f", 10, None)]
    data = replace(DATA, root=str(tmp_path), frame_template="img_{:05}.png")
    clips = read_clips(write_rows(tmp_path / "list.parquet", spans), data, labelled=False)
    read = [open_clip(clip, data) for clip in clips[:3]]
    means = [v.read(range(v.num_frames)).mean((1, 2, 3)).tolist() for v in read]
    assert means == [[40, 60, 80], [20 * n for n in range(10)], [140, 160, 180]]
    with pytest.raises(DecodeError, match="img_00011"):
        open_clip(clips[3], data).read(range(4))
    with pytest.raises(DecodeError, match="holds no frame img_00011"):
        open_clip(clips[4], data)


def test_the_start_says_how_many_ranges_overlap(
    ranges: Ranges, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(pretraining(ranges.root, tmp_path / "run", train_list=ranges.listed, max_steps=1))
    said = capsys.readouterr()
    told = "data.train_list: ranges of videos: 10 of 11 lines; lines that share frames with another"
    assert f"{told}: 10" in " ".join((said.err + said.out).split())


def test_ranges_are_named_with_their_frames_wherever_clips_are(
    ranges: Ranges,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = (f"data.test_list={ranges.listed}", "data.segments=1", "data.crops=1")
    run = train(finetuning(ranges.root, tmp_path / "run", *given, train_list=ranges.listed))
    said = capsys.readouterr().err
    named = [line for line in said.splitlines() if " line " in line][:2]
    assert named[0].endswith("line 1: a.mp4 (frames 0 to 20): 0")
    assert named[1].endswith("line 3: a.mp4 (frames 61 to the end): 2")
    captions: list[str] = []
    monkeypatch.setattr(
        "videomae.evaluation.attention.save_attention",
        lambda path, clips: captions.extend(clip.caption for clip in clips),
    )
    trained = load(run, device="cpu")
    data = replace(DATA, root=str(ranges.root), clip=trained.clip)
    clips = read_clips(ranges.listed, data, labelled=False)
    draw_attention(trained.model, clips, {"data": data}, tmp_path / "a.png", Precision.float32)
    assert captions[0] == "line 1: a.mp4 (frames 0 to 20)"
    assert call("report", f"runs={run}", f"out={tmp_path / 'page'}") == 0
    (page,) = (tmp_path / "page").glob("*.html")
    shown = re.findall(r"line (\d+): (?:deep/)?[abc]\.mp4([^<]*)</div>", page.read_text())
    assert len(shown) > 2
    for line, name in shown:
        assert name == (f" ({span_told(own)})" if (own := span_of(int(line))) else "")


def test_shared_files_of_ranges_are_told_as_such(
    ranges: Ranges, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = replace(DATA, root=str(ranges.root))
    first, second = (
        read_list(str(write_rows(tmp_path / f"{n}.parquet", spans)), data, labelled=False, key="k")
        for n, spans in enumerate(([("a.mp4", 0, 9)], [("a.mp4", 9, 18), ("c.mp4", 0, 9)]))
    )
    with caplog.at_level("INFO", logger="videomae"):
        shared = warn_of_shared(second, "data.test_list", {"data.train_list": first})
    assert shared == {"data.train_list": 1}
    said = "1 of 2 videos of data.test_list are of files that data.train_list uses too: the result"
    assert said in caplog.text


def test_a_list_that_cannot_be_read_ends_a_command_with_one_message(
    ranges: Ranges, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_rows(tmp_path / "list.parquet", [("a.mp4", 0, 5), ("a.mp4", 9, 9)])
    out = (f"list={listed}", f"root={ranges.root}", f"out={tmp_path / 'out'}")
    assert call("scan", *out) == 2
    said = capsys.readouterr().err
    assert "list.parquet: row 2: frames 9 to 9 are no range" in said


def test_features_of_ranges_are_those_of_files_that_were_cut_out(
    ranges: Ranges, tmp_path: Path
) -> None:
    run = train(pretraining(ranges.root, tmp_path / "run", train_list=ranges.listed, max_steps=1))
    own, other = tmp_path / "own", tmp_path / "other"
    extract = (f"weights={run}", "hop=2", "run.device=cpu", "run.workers=1", "format=npy")
    lists = {own: (ranges.listed, ranges.root), other: (ranges.cut_list, ranges.cut_root)}
    for out, (listed, root) in lists.items():
        given = (f"list={listed}", f"root={root}", f"output_dir={out}")
        assert call("extract", *extract, *given) == 0
        assert call("extract", *extract, *given) == 0  # nothing is left to do, and nothing is lost
    rows, expected = (json_lines(out / "manifest.jsonl") for out in (own, other))
    assert [(r["path"], r.get("start_frame"), r.get("end_frame")) for r in rows] == [
        (path, start or 0, end) if (start, end) != (None, None) else (path, None, None)
        for path, start, end in SPANS
    ]
    assert rows[1]["file"] == "a.mp4.frames13-40.npy"
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["starts"] == theirs["starts"]
        found, wanted = np.load(own / ours["file"]), np.load(other / theirs["file"])
        np.testing.assert_array_equal(found, wanted)


# Packs

PACKING = ("short_side=32", "keyint=8", "preset=veryfast", "workers=2")


def pack(listed: Path, root: Path, out: Path, *overrides: str) -> Pack:
    assert call("pack", f"list={listed}", f"root={root}", f"out={out}", *PACKING, *overrides) == 0
    pack_at.cache_clear()
    return Pack(out)


@pytest.fixture(scope="module")
def packs(ranges: Ranges, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pack, Pack]:
    """A pack of the ranges, and one of the files that were cut out."""
    out = tmp_path_factory.mktemp("packs")
    own = pack(ranges.listed, ranges.root, out / "own")
    return own, pack(ranges.cut_list, ranges.cut_root, out / "other")


def entries(pack: Pack) -> list[bytes]:
    """The bytes of each video, in the order of the shards."""
    found = []
    for shard in pack.shards:
        with tarfile.open(pack.root / shard["name"]) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                found += [content.read()] * member.name.endswith(".mp4")
    return found


def test_a_pack_of_ranges_holds_the_bytes_of_a_pack_of_files_that_were_cut_out(
    ranges: Ranges, packs: tuple[Pack, Pack]
) -> None:
    own, other = packs
    assert len(entries(own)) == len(SPANS)
    assert entries(own) == entries(other)
    for clip, cut_clip in zip(clips_of(ranges.listed), clips_of(ranges.cut_list), strict=True):
        frames = open_clip(clip, replace(DATA, root=str(own.root)))
        expected = open_clip(cut_clip, replace(DATA, root=str(other.root)))
        wanted = range(expected.num_frames)
        np.testing.assert_array_equal(frames.read(wanted), expected.read(wanted))
    assert (own.root / "list.parquet").exists()
    assert not (own.root / "list.txt").exists()
    assert own.manifest["source_bytes"] == sum(
        (ranges.root / name).stat().st_size for name in ("a.mp4", "deep/b.mp4", "c.mp4")
    )


def test_the_list_of_ranges_trains_unchanged_on_its_pack(
    ranges: Ranges, packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    lists = (ranges.listed, ranges.cut_list)
    own, other = (
        train(finetuning(pack.root, tmp_path / name, f"data.test_list={listed}", train_list=listed))
        for pack, listed, name in zip(packs, lists, ("own", "other"), strict=True)
    )
    assert metrics(own) == metrics(other)
    results = [json.loads((run / "results.json").read_text()) for run in (own, other)]
    assert results[0]["per_class"] == results[1]["per_class"]


def test_a_range_that_was_not_packed_says_so(ranges: Ranges, packs: tuple[Pack, Pack]) -> None:
    data = replace(DATA, root=str(packs[0].root))
    for clip in (
        Clip("a.mp4", 1),
        Clip("a.mp4", 1, start_frame=0, end_frame=19),
        Clip("c.mp4", 1, start_frame=0, end_frame=11),
    ):
        with pytest.raises(DecodeError, match=r"not in the pack"):
            open_clip(clip, data)
    with pytest.raises(
        DecodeError, match=r"frames 3 to the end of a\.mp4 is not in the pack .* other"
    ):
        open_clip(Clip("a.mp4", 1, start_frame=3), data)


def test_a_list_of_other_ranges_than_the_packs_is_told_so(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    data = replace(DATA, root=str(packs[0].root))
    for spans, said in (
        ([("a.mp4", 1, 7), ("c.mp4", 2, 5)], "made of other ranges of them: line 1 means frames 1"),
        (
            [("b.mp4", 1, 7), ("c.mp4", 2, 5)],
            r"ranges of them: line 2 means frames 2 to 5 of c\.mp4",
        ),
        ([("b.mp4", 1, 7), ("zz", None, None)], "Are data.root=.* right"),
    ):
        listed = write_rows(tmp_path / "list.parquet", spans)
        with pytest.raises(ConfigError, match=said):
            read_list(str(listed), data, labelled=False, key="data.train_list")


def test_ranges_that_cannot_be_packed_are_left_out_of_the_packs_list(
    ranges: Ranges, tmp_path: Path
) -> None:
    spans = [("a.mp4", 0, 12), ("a.mp4", 80, 99), ("a.mp4", 12, 24), ("a.mp4", 0, 12)]
    ids = {"clip_id": ["x", "y", None, "z"], "source_sha256": ["0" * 64] * 4, "score": [1, 2, 3, 4]}
    listed = write_rows(tmp_path / "list.parquet", spans, **ids)
    made = pack(listed, ranges.root, tmp_path / "pack", "max_bad_fraction=1")
    (row,) = json_lines(made.root / "bad_files.jsonl")
    assert (row["line"], row["start_frame"], row["end_frame"]) == (2, 80, 99)
    assert "range outside of the video" in row["error"]
    kept = pq.read_table(made.root / "list.parquet").to_pydict()
    assert kept["score"] == [1, 3, 4]
    assert made.columns["clip_id"].to_pylist() == ["x", None]  # of the first row of each range
    assert made.columns["source_sha256"].to_pylist() == ["0" * 64] * 2
    assert len(made) == 2


def test_an_index_out_of_order_is_refused(packs: tuple[Pack, Pack]) -> None:
    columns = dict(packs[0].columns)
    sizes = [shard["bytes"] for shard in packs[0].shards]
    check_rows(columns, sizes)
    for wrong in ({"start_frame": 0}, {"start_frame": -1}, {"end_frame": 0}):
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=r"(source|start_frame|end_frame) of "):
            check_rows(columns | {name: pa.array([value] * len(packs[0]))}, sizes)


def test_a_scan_writes_a_clean_list_of_the_same_kind(
    ranges: Ranges, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = [("a.mp4", 0, 12), ("a.mp4", 80, 99), ("c.mp4", None, None)]
    listed = write_rows(tmp_path / "list.parquet", spans, score=[1, 2, 3])
    given = (f"list={listed}", f"root={ranges.root}", f"out={tmp_path / 'out'}")
    for _ in range(2):
        assert call("scan", *given) == 0
        assert pq.read_table(tmp_path / "out/clean.parquet")["score"].to_pylist() == [1, 3]
    table = pq.read_table(tmp_path / "out/scan.parquet").to_pydict()
    assert table["num_frames"] == [12, 0, 11]
    assert table["end_frame"] == [12, 99, None]
    assert "80 to 99 lie outside" in table["error"][1]
    said = capsys.readouterr()
    assert "12 frames  a.mp4 (frames 0 to 12)" in said.out + said.err
