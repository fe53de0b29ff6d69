"""The benchmarks and the soak run, and print what they are for. How fast, no test can tell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train import video_list

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
    said = run("bench_step.py", "--model", "vit_tiny", "--size", 32, "--batch", 2, "--steps", 1)
    assert "clips/s" in said


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
