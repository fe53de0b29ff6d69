"""Contamination: clips that show test videos, how they lie on each other, and the column."""

import pytest

from tests.curate.scenes import camera, fingerprint, panned
from videomae.curate.contamination import (
    Contaminated,
    contaminates,
    contamination,
    same_ids,
)
from videomae.curate.duplicates import match
from videomae.curate.fingerprint import Fingerprint


@pytest.fixture(scope="module")
def tests() -> dict[str, Fingerprint]:
    prints = {f"test{seed}": fingerprint(panned(seed)) for seed in range(3)}
    return prints | {"camera": fingerprint(camera(5, 0))}


def test_edited_copies_of_test_videos_are_found_with_their_times(
    tests: dict[str, Fingerprint],
) -> None:
    clips = {
        "mirrored, from 1 s": fingerprint(f[:, ::-1] for f in panned(0, seconds=3, start_s=1)),
        "cut to 9:16": fingerprint(frame[:, 109:211] for frame in panned(1)),
        "half of it": fingerprint([*panned(8, seconds=2), *panned(2, seconds=2)]),
        "another time": fingerprint(camera(5, 1)),
        "another scene": fingerprint(panned(9)),
    }
    found = contamination(clips, tests)
    assert [(each.clip, each.test) for each in found] == [
        ("cut to 9:16", "test1"),
        ("half of it", "test2"),
        ("mirrored, from 1 s", "test0"),
    ]
    assert {each.reason for each in found} == {"picture"}
    assert [each.offset_s for each in found] == pytest.approx([0, -2, 1], abs=0.11)
    assert [each.mirrored for each in found] == [False, False, True]
    assert contaminates(found, clips)["half of it"] == ["test2"]
    assert contaminates(found, clips)["another time"] == []


def test_every_pair_is_told(tests: dict[str, Fingerprint]) -> None:
    clips = {f"clip{number}": tests["test0"] for number in range(3)}
    twice = {"a": tests["test0"], "b": tests["test0"]}
    found = contamination(clips, twice)
    assert len(found) == 6
    assert {each.distance for each in found} == {0}


def test_either_side_may_be_the_crop(tests: dict[str, Fingerprint]) -> None:
    crop = fingerprint(frame[9:-9, 16:-16] for frame in panned(1, seconds=3, start_s=1))
    (one,) = contamination({"clip": crop}, {"test": tests["test1"]})
    (other,) = contamination({"clip": tests["test1"]}, {"test": crop})
    assert one.alignment is not None
    assert other.alignment is not None
    assert one.offset_s == pytest.approx(1)
    assert other.alignment == one.alignment.turned()


def test_equal_files_and_names(tests: dict[str, Fingerprint]) -> None:
    exact = {"clip": "x", "test1": "x", "test2": "y"}
    (found,) = contamination({"clip": fingerprint(panned(9))}, tests, exact)
    assert found == Contaminated("clip", "test1", "file", 0)
    names = ["yoga/abcdefghijk_000012_000022.mp4", "yoga/abcdefghijk.mp4", "x/v_Yoga_g01_c01.avi"]
    found_by_id = same_ids({"b": "abcdefghijk", "a": "abcdefghij", "c": ""}, names)
    assert found_by_id == [Contaminated("b", name, "id") for name in sorted(names[:2])]
    column = contaminates([found, *found_by_id], ["a", "b", "clip"])
    assert column == {"a": [], "b": sorted(names[:2]), "clip": ["test1"]}


def test_half_of_a_test_video_is_no_duplicate_but_contaminates(
    tests: dict[str, Fingerprint],
) -> None:
    half = fingerprint([*panned(8, seconds=2), *panned(2, seconds=2)])
    assert match({"half": half, **tests}) == []
    assert [each.test for each in contamination({"half": half}, tests)] == ["test2"]


def test_nothing_contaminates_nothing() -> None:
    assert contamination({}, {}) == []
    assert contamination({"a": fingerprint(panned(0))}, {}) == []
