"""Contamination: clips of a training list that show what videos of a test list show.

The matcher is that of `duplicates`; every pair is looked at, and half of the shorter one is
enough, since a model that has trained on half of a test video has seen it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from videomae.curate.alignment import Alignment
from videomae.curate.duplicates import DUPLICATES, Thresholds, confirm, grouped, hits_of
from videomae.curate.fingerprint import Fingerprint
from videomae.curate.neighbours import gather, near
from videomae.curate.progress import tracked

CONTAMINATION = replace(DUPLICATES, least_overlap=0.5)
"""Thresholds of contamination."""
RANGE = re.compile(r"_\d{6}_\d{6}$")
"""The seconds that end the name of a Kinetics clip."""


@dataclass(frozen=True)
class Contaminated:
    """A clip that shows what a test video shows."""

    clip: str
    test: str
    reason: str
    """`file` (equal files), `id` (the same video by its name) or `picture`."""
    distance: int | None = None
    """Least bits in which two of their pictures' hashes differ; 0 for equal files."""
    alignment: Alignment | None = None
    """How the test video lies on the clip in time; None where only `file` or `id` tells."""
    mirrored: bool = False

    @property
    def offset_s(self) -> float | None:
        """When, in the test video, the clip's first frame is shown; below 0: later in the clip."""
        return None if self.alignment is None else self.alignment.offset_s


def contamination(
    clips: Mapping[str, Fingerprint],
    tests: Mapping[str, Fingerprint],
    exact: Mapping[str, str] | None = None,
    thresholds: Thresholds = CONTAMINATION,
) -> list[Contaminated]:
    """Find the clips that show what a test video shows.

    Args:
        clips: fingerprints of the clips by id.
        tests: fingerprints of the test videos by name.
        exact: a hash of the file of each clip and of each test video, by id and by name.
        thresholds: when a clip and a test video show the same.

    Returns:
        Each pair once, in order of clips, then of test videos.
    """
    found: dict[tuple[str, str], Contaminated] = {}
    for each in (
        *equal(sorted(clips), sorted(tests), exact or {}),
        *one_way(clips, tests, thresholds),
        *map(exchanged, one_way(tests, clips, thresholds)),
    ):
        known = found.get((each.clip, each.test))
        if known is None or certainty(each) > certainty(known):
            found[each.clip, each.test] = each
    return [found[pair] for pair in sorted(found)]


def equal(
    clips: Iterable[str], tests: Iterable[str], exact: Mapping[str, str]
) -> Iterator[Contaminated]:
    """The clips whose files are those of test videos."""
    names: dict[str, list[str]] = {}
    for test in tests:
        if test in exact:
            names.setdefault(exact[test], []).append(test)
    for clip in clips:
        for test in names.get(exact.get(clip, ""), ()):
            yield Contaminated(clip, test, "file", 0)


def one_way(
    clips: Mapping[str, Fingerprint], tests: Mapping[str, Fingerprint], thresholds: Thresholds
) -> Iterator[Contaminated]:
    """The clips whose whole frames look like views of test videos, where the motion agrees."""
    ids, names = sorted(clips), sorted(tests)
    whole, _ = gather(tracked((clips[each] for each in ids), len(ids), "hashes of frames"))
    _, views = gather(tracked((tests[each] for each in names), len(names), "hashes of views"))
    found = near(whole, views, thresholds.most_distance, same=False)
    alike = grouped(hits_of(found), ordered=True)
    for hits in tracked(alike, len(alike), "pairs that look alike"):
        clip, test = ids[hits[0].whole], names[hits[0].viewed]
        held = confirm(
            hits, lambda number: clips[ids[number]], lambda n: tests[names[n]], thresholds
        )
        if held is not None:
            hit, alignment = held
            mirrored = bool(hit.viewpoint % 2)
            yield Contaminated(clip, test, "picture", hits[0].distance, alignment, mirrored)


def exchanged(found: Contaminated) -> Contaminated:
    """Return a finding with clip and test video exchanged."""
    turned = None if found.alignment is None else found.alignment.turned()
    return replace(found, clip=found.test, test=found.clip, alignment=turned)


def certainty(found: Contaminated) -> tuple[bool, float]:
    """Greater for the better of two findings of one pair."""
    agreement = -1.0 if found.alignment is None else found.alignment.agreement
    return found.reason == "file", agreement


def same_ids(ids: Mapping[str, str], tests: Iterable[str]) -> list[Contaminated]:
    """Find the clips that test videos are named after, as Kinetics' are: ID_000012_000022.mp4.

    Args:
        ids: the platform's id of each clip's video, by clip.
        tests: names of test videos.

    Returns:
        Each pair once, in order of clips, then of test videos.
    """
    named: dict[str, list[str]] = {}
    for test in tests:
        stem = PurePath(test).stem
        for video in {stem, RANGE.sub("", stem)}:
            named.setdefault(video, []).append(test)
    return [
        Contaminated(clip, test, "id")
        for clip in sorted(ids)
        for test in sorted(named.get(ids[clip], ()))
    ]


def contaminates(found: Iterable[Contaminated], clips: Iterable[str]) -> dict[str, list[str]]:
    """The column `contaminates`: the test videos that each clip shows, in order, none twice."""
    column: dict[str, set[str]] = {clip: set() for clip in clips}
    for each in found:
        column[each.clip].add(each.test)
    return {clip: sorted(tests) for clip, tests in column.items()}
