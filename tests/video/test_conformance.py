"""A part of the recipes, chosen for breadth: read, scanned and packed as `ffmpeg` shows them.

All of them: python scripts/soak.py conformance
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.video import conformance
from tests.video.campaign import judge_all
from tests.video.conformance import Request, Verdict, judge
from tests.video.recipes import make, recipes
from videomae.video.interface import Part, gathered
from videomae.video.opening import usable_decoders
from videomae.video.pyav import PyAVVideo

pytestmark = pytest.mark.long
needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the command ffmpeg is not installed"
)
PART = (
    "h264_mp4 h264b_avi h264b_ts h264pyr_h264 h264refresh_mkv h264mbaff_mp4 h264ten_mp4"
    " hevcopen_mkv mpeg4b_avi xvid_avi mpeg1b_mpg mpeg2field_ts mjpeg_avi vp8alt_webm vp9_mp4"
    " av1_mp4 theora_ogg ffv1_mkv gif_gif raw_pal8_avi h264b_mp4-ss0.37 h264open_mp4-ss1.0"
    " mpeg4b_mkv-ss1.53 mpeg4b_avi-t1.3 h264b_mp4-mirror hevcb_mov-tag90 h264b_mp4-twice"
    " h264b_mkv-twosecond mpeg4b_avi-packed h264b_mp4-64x48x1at25 h264b_ts-resized"
    " mpeg4b_avi-longsound h264pyr_mp4-edit7-63 h264b_ts-tuned"
    " h264b_mp4-flags-empty_moov-frag_keyframe mpeg4b_avi-67x45x30at25"
)
"""Healthy files."""
OTHERS = {
    "decord": "h264b_mp4-ss0.37 h264b_avi h264b_mp4-mirror av1_mp4 h264pyr_h264 theora_ogg",
    "torchcodec": "h264b_avi h264b_ts h264b_mp4-mirror h264pyr_h264",
}
"""Healthy files that other decoders read otherwise, as docs/limits.md says."""
DAMAGED = "h264b_mp4-half mpeg4b_avi-overwrite h264b_ts-remove h264_mp4-secret h264_mp4-nomoov"


def test_the_recipes_are_many_and_broad() -> None:
    healthy = [recipe for recipe in recipes().values() if recipe.healthy]
    assert len(healthy) >= 400
    assert len({recipe.codec for recipe in healthy}) >= 25
    assert len({recipe.ending for recipe in healthy}) >= 12
    assert recipes().keys() >= {*PART.split(), *DAMAGED.split()}


def test_a_name_stands_for_one_recipe() -> None:
    """Else one would be judged by the file of another."""
    waiting, known = list(recipes().values()), dict(recipes())
    while waiting:
        recipe = waiting.pop()
        assert known.setdefault(recipe.name, recipe) == recipe
        waiting += recipe.sources


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """What is wrong with each file of the part."""
    folder = str(tmp_path_factory.mktemp("conformance"))
    names = [*PART.split(), *DAMAGED.split()]
    requests = [Request(conformance.OWN, folder, recipe=name) for name in names]
    found = judge_all(requests, workers=os.cpu_count() or 1)
    return {request.recipe or "": verdict for request, verdict in found}


@needs_ffmpeg
@pytest.mark.parametrize("name", PART.split())
def test_a_file_is_read_scanned_and_packed_as_ffmpeg_shows_it(
    verdicts: dict[str, Verdict], name: str
) -> None:
    verdict = verdicts[name]
    if verdict.unmade:
        pytest.skip(verdict.unmade)
    assert verdict.faults == []


@needs_ffmpeg
@pytest.mark.parametrize("name", DAMAGED.split())
def test_a_damaged_file_is_called_damaged(verdicts: dict[str, Verdict], name: str) -> None:
    assert verdicts[name].faults == []


@needs_ffmpeg
@pytest.mark.soak
@pytest.mark.parametrize("reader", OTHERS)
def test_other_decoders_differ_where_the_limits_say_so(reader: str, tmp_path: Path) -> None:
    """Where one has learned to read such files, the limits are to say so."""
    if reader not in usable_decoders():
        pytest.skip(f"{reader} cannot be used here")
    requests = [Request(reader, str(tmp_path), recipe=name) for name in OTHERS[reader].split()]
    verdicts = {request.recipe: verdict for request, verdict in judge_all(requests, workers=1)}
    assert not [name for name, verdict in verdicts.items() if not verdict.faults]


class LateVideo(PyAVVideo):
    """A video whose frames come one too late."""

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        late = [min(number + 1, self.num_frames - 1) for number in numbers]
        yield Part(0, gathered(super().parts, late))


@needs_ffmpeg
def test_frames_that_come_one_too_late_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(recipes()["mpeg4_mp4"], tmp_path)
    assert judge(path, "pyav", tmp_path) == []
    monkeypatch.setattr(conformance, "decoder", lambda name: (name, LateVideo))
    faults = judge(path, "pyav", tmp_path)
    assert faults[0].startswith("read all in order: 69 of 70 frames differ")
