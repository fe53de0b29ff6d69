"""Genuine footage under edits of ffmpeg: cuts, bars, darkness, blur and frozen parts are found.

The clips are not part of this repository: VIDEOMAE_GENUINE_CLIPS names their folder (.ci/genuine).
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.curate.test_measuring import clips_of
from tests.test_genuine import FOLDER, KINETICS, UCF101, needs_clips

pytestmark = [
    needs_clips,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed"),
]
CLIPS = (*UCF101, *KINETICS)
EDITED = (UCF101[1], pytest.param(KINETICS[1], marks=pytest.mark.soak))
FAST = ("-c:v", "libx264", "-preset", "veryfast", "-threads", "1")


def edit(name: str, out: Path, filters: str) -> Path:
    """A clip through filters of ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-i", str(FOLDER / name), "-vf", filters, "-an"]
    subprocess.run([*command, *FAST, str(out)], check=True)
    return out


@pytest.mark.parametrize("name", CLIPS)
def test_cuts_are_those_of_the_library(name: str) -> None:
    scenedetect = pytest.importorskip("scenedetect")
    scenes = scenedetect.detect(str(FOLDER / name), scenedetect.ContentDetector())
    starts = [scene[0].frame_num for scene in scenes] or [0]
    assert [row["start_frame"] for row in clips_of(FOLDER / name)] == starts


@pytest.mark.long
def test_clips_that_are_joined_are_cut_where_they_join(tmp_path: Path) -> None:
    parts, joins, end = [], set[int](), 0
    for name in CLIPS:
        parts.append(edit(name, tmp_path / f"{end}.mp4", "scale=320:240,setsar=1,fps=30"))
        joins.add(end)
        end += clips_of(parts[-1])[-1]["end_frame"]
    inputs = [word for part in parts for word in ("-i", str(part))]
    joined = tmp_path / "joined.mp4"
    join = f"concat=n={len(parts)}:v=1:a=0"
    command = ["ffmpeg", "-v", "error", *inputs, "-filter_complex", join, *FAST]
    subprocess.run([*command, str(joined)], check=True)
    rows = clips_of(joined)
    assert {row["start_frame"] for row in rows} >= joins
    assert rows[-1]["end_frame"] == end


@pytest.mark.soak
@pytest.mark.long
@pytest.mark.parametrize("name", EDITED)
def test_edits_change_the_scores_that_they_should(tmp_path: Path, name: str) -> None:
    def score(filters: str, column: str) -> float:
        rows = clips_of(edit(name, tmp_path / "edited.mp4", filters))
        (tmp_path / "edited.mp4").unlink()
        frames = [row["end_frame"] - row["start_frame"] for row in rows]
        weighted = [row[column] * count for row, count in zip(rows, frames, strict=True)]
        return sum(weighted) / sum(frames)

    bars = score("null", "bars_fraction")
    barred = score("pad=iw:2*ih:0:ih/2:black", "bars_fraction")
    assert barred == pytest.approx((1 + bars) / 2, abs=0.02)
    assert score("gblur=sigma=4", "sharpness") < score("null", "sharpness") / 4
    assert score("lutyuv=y=val*0.1+14", "luma_mean") < 30 < score("null", "luma_mean")
    assert score("null", "frozen_fraction") < 0.1
    frozen = score(
        "trim=0:1,setpts=PTS-STARTPTS,tpad=stop_mode=clone:stop_duration=3", "frozen_fraction"
    )
    assert frozen == pytest.approx(0.75, abs=0.05)
