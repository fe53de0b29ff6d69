"""The footage that a clip was cut from, as its name tells it, and splits that keep footage whole.

Clips of one recording look alike. Where some are trained on and others tested, the result says how
well the recording was remembered. So a split takes whole sources, where names tell them.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

YOUTUBE = re.compile(r"([\w-]{11})_(\d{1,6})_(\d{1,6})")
"""An id of eleven characters, and the times of a cut."""
COUNTED = re.compile(r".*\d[ _.-]*of[ _.-]+(.+)", re.IGNORECASE)
"""Names that count the clips of a recording, such as clip_012_of_beach."""
NUMBERED = re.compile(
    r"(.+?)[ _.-]+\(?(?:take|clip|part|segment|seg|scene|shot|chunk|cut|piece|[cpst])?"
    r"[ _.-]*\d+\)?",
    re.IGNORECASE,
)
"""Names that end in the number of a clip: beach_000123, v_Archery_g01_c02, beach (2)."""
SAYS_NOTHING = re.compile(
    r"(img|vid|mvi|mov|dsc[nf]?|gopr|g[hpx]|pxl|movie|videos?|clips?|file|output|out|sample|"
    r"screen|recording|rec|train|test|val|frame|seq|sequence|scene|shot|part|[a-z])?[\W_]*",
    re.IGNORECASE,
)
"""Words that cameras and programs put before a number: no name of a recording."""


class Labelled(NamedTuple):
    """A video that is to be put on one side of a split."""

    path: str
    label: int


def source_of(path: str, class_depth: int) -> str | None:
    """Return the source that a video's path tells; None where it tells none.

    Args:
        path: below the folder of videos, with slashes.
        class_depth: how many of its folders are those of split and class. Further ones are sources.
    """
    *folders, name = path.split("/")
    if inner := folders[class_depth:]:
        return "/".join(inner)
    stem = name.rpartition(".")[0] or name
    if found := YOUTUBE.fullmatch(stem):
        return found[1]
    found = COUNTED.fullmatch(stem) or NUMBERED.fullmatch(stem)
    if found is None or SAYS_NOTHING.fullmatch(found[1]):
        return None
    return found[1]


def sources_of(videos: Sequence[Labelled], class_depth: int) -> dict[str, str | None]:
    """Return the source of each video, by its path; None where nothing tells it.

    Args:
        class_depth: as in `source_of`.
    """
    return {path: source_of(path, class_depth) for path, _ in videos}


def held_out(
    videos: Sequence[Labelled],
    sources: Mapping[str, str | None],
    share: float,
    seen: Set[str] = frozenset(),
) -> tuple[set[str], list[int]]:
    """Choose the videos of a test list: a share of each class, in whole sources.

    It depends on the names alone, so that several runs of one folder hold out the same videos. One
    video of a class at least stays.

    Args:
        sources: the source of each path.
        seen: paths that should not be chosen, nor others of their sources. They are only for
            classes that have no others.

    Returns:
        the paths, and the labels whose videos are all of one source, which had to be divided.
    """
    groups, divided = _groups(videos, sources)
    left = Counter(label for _, label in videos)
    need = {label: min(max(1, round(share * count)), count - 1) for label, count in left.items()}
    got: Counter[int] = Counter()
    chosen: set[str] = set()

    def take(group: list[Labelled], *, exact: bool) -> None:
        counts = Counter(label for _, label in group)
        wanted = any(
            got[label] < (need[label] if exact else min(1, need[label])) for label in counts
        )
        fits = all(left[label] > count for label, count in counts.items())
        over = any(got[label] + count > need[label] for label, count in counts.items())
        if wanted and fits and not (exact and over):
            chosen.update(path for path, _ in group)
            got.update(counts)
            left.subtract(counts)

    order = [groups[key] for key in _shuffled(groups)]
    known = [any(path in seen for path, _ in group) for group in order]
    for wish in (False, True):
        some = [group for group, is_known in zip(order, known, strict=True) if is_known is wish]
        for group in some:
            take(group, exact=True)
        rest = [group for group in some if group[0].path not in chosen]
        for group in sorted(rest, key=len):  # a class of large sources only
            take(group, exact=False)
        need = {label: 0 if got[label] else count for label, count in need.items()}
    return chosen, divided


def _groups(
    videos: Sequence[Labelled], sources: Mapping[str, str | None]
) -> tuple[dict[str, list[Labelled]], list[int]]:
    """Return the videos of each source, and the labels of one source only, which is divided."""
    of_class = defaultdict(set)
    for path, label in videos:
        of_class[label].add(sources[path] or path)
    sizes = Counter(label for _, label in videos)
    divided = sorted(label for label, own in of_class.items() if len(own) == 1 < sizes[label])
    groups: dict[str, list[Labelled]] = {}
    for video in videos:
        own = video.path if video.label in divided else sources[video.path] or video.path
        groups.setdefault(own, []).append(video)
    return groups, divided


def _shuffled(names: Iterable[str]) -> list[str]:
    """Return names in an order that depends on each name alone, on every machine."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
