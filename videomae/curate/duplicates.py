"""Near-duplicates among clips: pairs, groups of them, and which clip of a group is kept.

Two clips are copies when their files are equal; or when two of their pictures look alike
(`neighbours`) and the clips move alike (`alignment`). Nothing depends on the order of the clips.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from videomae.curate.alignment import Alignment, Side, activity, align
from videomae.curate.fingerprint import Fingerprint
from videomae.curate.neighbours import Near, gather, near
from videomae.curate.progress import tracked

Load = Callable[[int], Fingerprint]
"""Gives the fingerprint of a clip by its number."""


@dataclass(frozen=True)
class Thresholds:
    """When two clips are copies. Found on the tuning footage of scripts/bench_duplicates.py."""

    most_distance: int = 48
    """Bits, of a PDQ hash's 256, in which two pictures that look alike may differ."""
    agreement: float = 0.72
    """Cosine of their motion from which clips are copies."""
    peak: float = 6.0
    """Deviations by which a lower cosine must stand above those of other shifts, to be enough."""
    least_agreement: float = 0.35
    """The lowest cosine that counts for `peak`."""
    same_speed: float = 0.1
    """Up to this difference from 1 a speed is none: 0.9 to 1.1."""
    agreement_at_speed: float = 0.85
    """As `agreement`, for clips of which one is faster: more can be tried, so more agrees."""
    least_agreement_at_speed: float = 0.55
    """As `least_agreement`, for clips of which one is faster."""
    least_overlap: float = 0.7
    """Share of the shorter clip that must overlap."""
    still_activity: float = 0.15
    """Change from picture to picture, in luma of 255, below which a clip stands still."""
    still_distance: int = 20
    """Bits in which the pictures of clips that stand still may differ: motion tells nothing."""
    viewpoints: int = 3
    """Ways in which a pair's pictures look alike that are tried, the closest first."""


DUPLICATES = Thresholds()


@dataclass(frozen=True)
class Pair:
    """Two clips that show the same, the first's id before the second's."""

    first: str
    second: str
    distance: int
    """Least bits in which two of their pictures' hashes differ; 0 for equal files."""
    alignment: Alignment | None = None
    """How the second lies on the first in time; None for equal files and clips without motion."""
    mirrored: bool = False


class Hit(NamedTuple):
    """A clip whose whole frame looks like a view of another, to be compared by motion."""

    distance: int
    whole: int
    viewed: int
    viewpoint: int


def is_copy(found: Alignment, thresholds: Thresholds) -> bool:
    """Whether clips that look alike and agree like this are copies."""
    at = thresholds
    enough, least = at.agreement, at.least_agreement
    if abs(found.speed - 1) > at.same_speed + 1e-9:
        enough, least = at.agreement_at_speed, at.least_agreement_at_speed
    return found.agreement >= enough or (found.agreement >= least and found.peak >= at.peak)


def confirm(
    hits: Sequence[Hit], whole: Load, viewed: Load, at: Thresholds
) -> tuple[Hit, Alignment | None] | None:
    """Compare the motion of two clips that look alike.

    Args:
        hits: of one pair of clips, the closest first.
        whole: fingerprints of the clips whose whole frames look like a view.
        viewed: fingerprints of the others.

    Returns:
        The hit that holds and the alignment, None where both stand still; or None if none holds.
    """
    best: tuple[Hit, Alignment] | None = None
    for hit in hits[: at.viewpoints]:
        view, mirrored = divmod(hit.viewpoint, 2)
        sides = Side(whole(hit.whole)), Side(viewed(hit.viewed), view, bool(mirrored))
        if max(map(activity, sides)) < at.still_activity:
            if hit.distance <= at.still_distance:
                return hit, None
            continue
        found = align(*sides, at.least_overlap)
        if found is None or not is_copy(found, at):
            continue
        if best is None or found.agreement > best[1].agreement:
            best = hit, found
    return best


def hits_of(found: Near) -> Iterator[Hit]:
    """The pairs of clips that look alike, one a viewpoint."""
    columns = (found.distance, found.whole, found.viewed, found.viewpoint)
    return (Hit(*row) for row in zip(*(each.tolist() for each in columns), strict=True))


def grouped(hits: Iterable[Hit], *, ordered: bool) -> list[list[Hit]]:
    """The hits of each pair of clips, the closest first; the closest pairs first.

    Args:
        ordered: (a, b) is another pair than (b, a): the clips are of two sets.
    """
    pairs: dict[tuple[int, int], list[Hit]] = {}
    for hit in hits:
        swap = not ordered and hit.whole > hit.viewed
        pair = (hit.viewed, hit.whole) if swap else (hit.whole, hit.viewed)
        pairs.setdefault(pair, []).append(hit)
    for each in pairs.values():
        each.sort()
    return [pairs[pair] for pair in sorted(pairs, key=lambda pair: (pairs[pair][0].distance, pair))]


class Groups:
    """Clips joined by pairs: the connected components (union-find)."""

    def __init__(self, members: Iterable[str]) -> None:
        self._above = {member: member for member in members}

    def find(self, member: str) -> str:
        """The least member of this one's group."""
        root = member
        while self._above[root] != root:
            root = self._above[root]
        while self._above[member] != root:
            self._above[member], member = root, self._above[member]
        return root

    def join(self, first: str, second: str) -> None:
        """Make one group of those of two members."""
        low, high = sorted((self.find(first), self.find(second)))
        self._above[high] = low


def equal_files(exact: Mapping[str, str]) -> list[Pair]:
    """Pair each clip with the first one, in order of ids, whose content has the same hash."""
    firsts: dict[str, str] = {}
    pairs = []
    for clip in sorted(exact):
        first = firsts.setdefault(exact[clip], clip)
        if first != clip:
            pairs.append(Pair(first, clip, 0))
    return pairs


def match(
    fingerprints: Mapping[str, Fingerprint],
    exact: Mapping[str, str] | None = None,
    thresholds: Thresholds = DUPLICATES,
) -> list[Pair]:
    """Find the pairs of clips that are copies.

    Pairs that would join nothing new are not compared: the result joins every group, with the
    closest pair of each clip in it, and does not depend on the order of the clips.

    Args:
        fingerprints: by clip. May read them from files when asked: each is asked for once for its
            hashes, and again when it looks like another.
        exact: a hash of each clip's content, say of its file and range. Of equal ones only the
            first is compared with others. Clips without an entry are compared.
        thresholds: when clips are copies.

    Returns:
        The pairs, the closest first.
    """
    pairs = equal_files(exact or {})
    groups = Groups(fingerprints.keys() | (exact or {}).keys())
    for pair in pairs:
        groups.join(pair.first, pair.second)
    clips = sorted(fingerprints.keys() - {pair.second for pair in pairs})

    def load(number: int) -> Fingerprint:
        return fingerprints[clips[number]]

    every = tracked(map(load, range(len(clips))), len(clips), "hashes")
    found = near(*gather(every), thresholds.most_distance, same=True)
    alike = grouped(hits_of(found), ordered=False)
    for hits in tracked(alike, len(alike), "pairs that look alike"):
        first, second = sorted((hits[0].whole, hits[0].viewed))
        if groups.find(clips[first]) == groups.find(clips[second]):
            continue
        held = confirm(hits, load, load, thresholds)
        if held is None:
            continue
        hit, alignment = held
        if alignment is not None and hit.whole != first:
            alignment = alignment.turned()
        mirrored = bool(hit.viewpoint % 2)
        pairs.append(Pair(clips[first], clips[second], hits[0].distance, alignment, mirrored))
        groups.join(clips[first], clips[second])
    return pairs


class Rank(NamedTuple):
    """Size and sharpness of a clip, which decide which one of a group is kept."""

    pixels: int
    sharpness: float | None = None


@dataclass(frozen=True)
class Standing:
    """A clip among its copies: the columns duplicate_group, duplicate_of and duplicate_distance."""

    group: str
    """The least id of the clips that are copies of each other; of a clip without copies its own."""
    of: str | None = None
    """The clip that is kept in this one's place; None for a clip that is kept."""
    distance: int | None = None
    """Bits between this clip and the closest of its group; None for a clip without copies."""


def standings(pairs: Iterable[Pair], ranks: Mapping[str, Rank]) -> dict[str, Standing]:
    """Group the clips of pairs, and choose which one of each group is kept.

    Kept is the clip with the most pixels, then the sharpest, then the least id. A clip whose
    sharpness is not known counts as the least sharp.

    Args:
        pairs: what `match` found.
        ranks: of every clip of the table.

    Returns:
        The standing of every clip of `ranks`, in the order of `ranks`.
    """
    groups = Groups(ranks)
    closest: dict[str, int] = {}
    for pair in pairs:
        groups.join(pair.first, pair.second)
        for clip in (pair.first, pair.second):
            closest[clip] = min(pair.distance, closest.get(clip, pair.distance))

    def order(clip: str) -> tuple[int, float, str]:
        pixels, sharpness = ranks[clip]
        return -pixels, -sharpness if sharpness is not None else float("inf"), clip

    members: dict[str, list[str]] = {}
    for clip in closest:
        members.setdefault(groups.find(clip), []).append(clip)
    kept = {group: min(clips, key=order) for group, clips in members.items()}
    result = {}
    for clip in ranks:
        group = groups.find(clip)
        of = kept.get(group, clip)
        result[clip] = Standing(group, None if of == clip else of, closest.get(clip))
    return result
