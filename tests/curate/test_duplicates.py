"""Near-duplicates: planted copies are found, a camera at another time is not, groups are sound."""

import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.curate.scenes import camera, fingerprint, panned, still, video
from videomae.curate import neighbours
from videomae.curate.alignment import Side, align, diagonal_sums
from videomae.curate.duplicates import Groups, Pair, Rank, Standing, match, standings
from videomae.curate.fingerprint import Fingerprint
from videomae.curate.neighbours import gather, near

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture(scope="module")
def scenes() -> dict[str, Fingerprint]:
    return {f"scene{seed}": fingerprint(panned(seed)) for seed in range(6)}


def joined(pairs: Iterable[Pair]) -> set[tuple[str, str]]:
    return {(pair.first, pair.second) for pair in pairs}


@pytest.mark.long
@needs_ffmpeg
def test_every_edit_is_found(
    scenes: dict[str, Fingerprint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import bench_duplicates as bench

    prints, cost = dict(scenes), bench.Cost()
    expected = set()
    sources = [video(tmp_path / f"{seed}.mp4", panned(seed)) for seed in (0, 1)]
    for number, edit in enumerate(bench.EDITS):
        target = tmp_path / f"{edit.replace(':', '-')}.mp4"
        bench.cut(sources[number % 2], (0, 4.0), edit, target)
        prints[edit] = bench.fingerprint(target, cost)
        expected.add((edit, f"scene{number % 2}"))
    found = standings(match(prints), {clip: Rank(1) for clip in prints})
    lost = [copy for copy, scene in expected if found[copy].group != found[scene].group]
    assert not lost
    assert len({found[f"scene{seed}"].group for seed in range(6)}) == 6


def test_a_camera_at_another_time_is_no_copy_though_it_looks_alike() -> None:
    prints = {f"{moment}": fingerprint(camera(7, moment)) for moment in range(4)}
    whole, every = gather(prints.values())
    alike = near(whole, every, 48, same=True)
    assert len({(a, b) for a, b in zip(alike.whole, alike.viewed, strict=True) if a < b}) == 6
    assert match(prints) == []
    prints["copy"] = fingerprint(frame[4:-4, 6:-6] for frame in camera(7, 3))
    assert joined(match(prints)) == {("3", "copy")}


def test_pictures_without_motion_are_compared_by_looks_alone() -> None:
    prints = {"a": fingerprint(still(1)), "b": fingerprint(still(2)), "c": fingerprint(still(1))}
    (pair,) = match(prints)
    assert (pair.first, pair.second, pair.distance, pair.alignment) == ("a", "c", 0, None)
    moving = {"a": prints["a"], "d": fingerprint(camera(1, 0))}
    assert match(moving) == []


def test_pictures_too_plain_to_tell_apart_are_no_evidence() -> None:
    grey = [np.full((90, 160, 3), level, np.uint8) for level in range(100, 130)]
    assert match({"a": fingerprint(grey), "b": fingerprint(grey)}) == []
    assert joined(match({"a": fingerprint(grey), "b": fingerprint(grey)}, {"a": "0", "b": "0"}))


def test_equal_files_need_no_fingerprint(scenes: dict[str, Fingerprint]) -> None:
    exact = {"scene0": "x", "scene1": "y", "lost": "x", "again": "x"}
    pairs = match(scenes, exact)
    assert joined(pairs) == {("again", "lost"), ("again", "scene0")}
    assert {pair.distance for pair in pairs} == {0}


def test_when_and_how_fast_a_copy_is(scenes: dict[str, Fingerprint]) -> None:
    late = fingerprint(frame[:, ::-1] for frame in panned(0, seconds=3, start_s=1))
    (pair,) = match({"late": late, "scene0": scenes["scene0"]})
    assert pair.mirrored
    assert pair.alignment is not None
    assert pair.alignment.offset_s == pytest.approx(1)  # late begins a second into the scene
    assert pair.alignment.speed == 1
    assert pair.alignment.turned().offset_s == pytest.approx(-1)
    fast = fingerprint(list(panned(0, seconds=4)), fps=12.5)
    found = align(Side(scenes["scene0"]), Side(fast), 0.7)
    assert found is not None
    assert found.speed == pytest.approx(0.8, abs=0.06)  # 0.75 and 0.8 are tried
    assert found.turned().speed == pytest.approx(1 / found.speed)
    assert found.agreement > 0.8


def test_clips_too_short_to_move_are_not_joined() -> None:
    frames = list(panned(0, seconds=0.6))
    assert match({"a": fingerprint(frames), "b": fingerprint(frames)}) == []


@settings(max_examples=10)
@given(st.permutations(range(9)))
def test_the_order_of_the_clips_changes_nothing(order: list[int]) -> None:
    clips = [f"clip{number}" for number in range(9)]
    prints = {clips[number]: ORDERED[number] for number in order}
    assert match(prints) == match(dict(zip(clips, ORDERED, strict=True)))


ORDERED = [fingerprint(panned(seed % 4, 3, 0.2 * (seed // 4))) for seed in range(9)]
"""Nine clips of four scenes."""


@given(
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_groups_are_the_connected_components(
    edges: list[tuple[int, int]], order: random.Random
) -> None:
    names = [f"{number:02}" for number in range(15)]
    ranks = {name: Rank(order.randint(1, 3), order.choice([None, 1.0, 2.0])) for name in names}
    pairs = [Pair(names[min(e)], names[max(e)], sum(e)) for e in edges if e[0] != e[1]]
    found = standings(pairs, ranks)
    reached = np.eye(15, dtype=bool)
    for first, second in edges:
        reached[first, second] = reached[second, first] = True
    for _ in range(4):
        reached = reached @ reached
    for number, name in enumerate(names):
        members = [names[other] for other in np.flatnonzero(reached[number])]
        assert found[name].group == members[0]
        kept = [member for member in members if found[member].of is None]
        assert len(kept) == 1
        best = max(ranks[m].pixels for m in members)
        assert ranks[kept[0]].pixels == best
        sharp = [ranks[m].sharpness or 0 for m in members if ranks[m].pixels == best]
        assert (ranks[kept[0]].sharpness or 0) == max(sharp)
        near_ones = [pair.distance for pair in pairs if name in (pair.first, pair.second)]
        assert found[name].distance == min(near_ones, default=None)
    order.shuffle(pairs)
    shuffled = list(ranks)
    order.shuffle(shuffled)
    assert standings(pairs, {name: ranks[name] for name in shuffled}) == found


def test_the_kept_one_is_the_largest_then_the_sharpest_then_the_first() -> None:
    pairs = [Pair("a", "b", 3), Pair("b", "c", 5), Pair("b", "d", 9)]
    ranks = {"a": Rank(10, 9.0), "b": Rank(20, 1.0), "c": Rank(20, 2.0), "d": Rank(20, 2.0)}
    assert standings(pairs, {**ranks, "e": Rank(1)}) == {
        "a": Standing("a", "c", 3),
        "b": Standing("a", "c", 3),
        "c": Standing("a", None, 5),
        "d": Standing("a", "c", 9),
        "e": Standing("e"),
    }


def test_a_long_chain_is_one_group() -> None:
    groups = Groups(map(str, range(50_000)))
    for number in range(49_999):
        groups.join(str(number), str(number + 1))
    assert groups.find("49999") == "0"


def hashes(words: np.ndarray, clips: np.ndarray) -> neighbours.Hashes:
    return neighbours.Hashes(words, clips.astype(np.int32), np.zeros(len(words), np.uint8))


def test_tables_find_nearly_all_that_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (3000, 32), dtype=np.uint8)
    flips = np.packbits(rng.random((3000, 256)) < 0.08, axis=1)  # 20 bits each, four a clip
    words = np.concatenate([base, base ^ flips]).view(np.uint64)
    found = hashes(words, np.arange(6000) // 4)
    every = near(found, found, 48, same=True)
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 0)
    some = near(found, found, 48, same=True)
    assert len(every.whole) == 1500
    pairs = {*zip(every.whole, every.viewed, strict=True)}
    assert {*zip(some.whole, some.viewed, strict=True)} <= pairs
    assert len(some.whole) >= 0.99 * len(pairs)


def test_a_picture_that_all_clips_share_costs_little_and_still_joins_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logo = np.random.default_rng(0).integers(0, 256, (1, 32), dtype=np.uint8)
    words = np.repeat(logo, 800, axis=0).view(np.uint64)
    found = hashes(words, np.arange(800))
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 0)
    pairs = near(found, found, 48, same=True)
    assert len(pairs.whole) <= 800 * neighbours.CROWD
    groups = Groups(map(str, range(800)))
    for first, second in zip(pairs.whole, pairs.viewed, strict=True):
        groups.join(str(first), str(second))
    assert len({groups.find(str(number)) for number in range(800)}) == 1


def test_clips_that_stay_still_do_not_crowd_each_other_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 32), dtype=np.uint8)
    found = hashes(np.repeat(picture, 2000, axis=0).view(np.uint64), np.arange(2000) // 100)
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 0)
    pairs = near(found, found, 48, same=True)
    assert len(pairs.whole) == 20 * 19


@given(st.integers(1, 7), st.integers(1, 7))
def test_sums_of_diagonals(n: int, m: int) -> None:
    values = np.random.default_rng(0).normal(size=(n, m)).astype(np.float32)
    expected = [np.trace(values, offset) for offset in range(-(n - 1), m)]
    np.testing.assert_allclose(diagonal_sums(values), expected, rtol=1e-5, atol=1e-5)
