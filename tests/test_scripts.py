"""The benchmarks and the soak run, and print what they are for. How fast, no test can tell."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train import video_list
from videomae.model import layers
from videomae.model.attention import Way
from videomae.video.opening import usable_decoders

pytestmark = pytest.mark.long
REPOSITORY = Path(__file__).parents[1]


def run(script: str, *arguments: object) -> str:
    """What a script prints."""
    path = REPOSITORY / "scripts" / script
    command = [sys.executable, str(path), *map(str, arguments)]
    wide = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=wide
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_step_is_timed() -> None:
    few = ("--variants", "plain", "eager", "fastest", "math", "--steps", 1)
    small = ("--model", "vit_tiny", "--size", 32, "--batch", 2)
    for stage in ("pretrain", "finetune"):
        said = run("bench_step.py", *small, *few, "--stage", stage)
        assert len(re.findall(r"^\| \w+ \| [\d.]+ \| [\d.]+ \| [\d.]+ ", said, re.MULTILINE)) == 4
        assert re.search(
            r"^- encoder, \d+ tokens, 4 heads of 32: .*flash [\d.]+ ms", said, re.MULTILINE
        )


def test_the_plain_step_computes_the_same() -> None:
    """Else the benchmark would compare two models."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        import bench_step
    finally:
        sys.path.pop(0)
    with bench_step.written_out_attention():
        found = layers.attend(q, k, v, Way())
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected)


def test_a_long_list_is_timed_and_weighed() -> None:
    said = run("bench_list.py", "--clips", 2000, "--workers", 2)
    assert said.count(" MB of its own") == 2
    assert re.search(r"read +\d+\.\d s", said)


def test_the_data_path_is_timed_on_ones_own_list(videos: Path, tmp_path: Path) -> None:
    clips = video_list(tmp_path / "list.txt", [f"{number}.mp4" for number in range(4)])
    few = ("--videos", 4, "--rounds", 1, "--model", "vit_base", "--clips-per-s", 100)
    said = run("bench_loader.py", "--list", clips, "--root", videos, *few)
    for name in ("plain (V2's way)", "pyav", "decord"):
        assert len(re.findall(rf"^ *{re.escape(name)} ", said, re.MULTILINE)) == 2  # rate, advice
    assert "cores per GPU for vit_base at 100 clips/s" in said


def test_damaged_videos_go_through_everything_that_reads_videos() -> None:
    assert "damaged: good" in run("soak.py", "damaged", "--damaged", 12)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the command ffmpeg is not installed")
def test_files_are_held_against_ffmpeg(videos: Path, tmp_path: Path) -> None:
    files, kept = tmp_path / "files", tmp_path / "kept"
    files.mkdir()
    shutil.copy(videos / "0.mp4", files)
    (files / "none.mp4").write_bytes(b"no video")
    said = run("soak.py", "conformance", "--decoder", "all", "--files", files, "--keep", kept)
    for decoder in usable_decoders():
        assert f"\n{decoder}: 1 of 1\n" in said
    assert "not made: none.mp4" in said
    assert "| pyav | none.mp4 | not made" in (kept / "conformance.md").read_text()
