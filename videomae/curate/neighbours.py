"""Pairs of clips with alike pictures: hashes of key frames that differ in few bits.

The hashes of whole frames are compared with those of every view of the other clips, plain and
mirrored. Few are compared all with all; of many, those that agree in a table's bits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videomae.curate.fingerprint import HASH_BYTES, LEAST_QUALITY, MOST_VIEWS, Fingerprint
from videomae.curate.progress import tracked

MOST_COMPARED = 200_000_000
"""Comparisons up to which all are made."""
TABLES = 32
"""Tables of a larger search: of hashes 20 bits apart four of five agree in one."""
KEY_BYTES = 3
MOST_KEY_BITS = 8 * KEY_BYTES
CROWD = 64
"""Clips of a table's entry, one hash of each, up to which all are compared; of more, the next in
order. Copies then still form a chain, and a logo with which all clips end costs little."""
BLOCK = 1 << 20
"""Comparisons made at once."""
MOST_HELD = 4 * BLOCK
"""Pairs of hashes that are held before repeated ones are dropped."""
CLIP_BITS = 24
"""A clip's number is below 2 to this power."""
VIEWPOINTS = 2 * MOST_VIEWS
"""A view's number times two, plus one if it is mirrored, is below this."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Hashes:
    """Hashes with the clip and the viewpoint each is of."""

    words: NDArray[np.uint64]
    """(N, 4)"""
    clip: NDArray[np.int32]
    """(N,), in rising order."""
    viewpoint: NDArray[np.uint8]
    """(N,) see VIEWPOINTS."""

    def __len__(self) -> int:
        return len(self.clip)


@dataclass(frozen=True, eq=False)
class Near:
    """Pairs of clips with alike pictures, each pair and viewpoint once."""

    whole: Numbers
    """(P,) number of the clip whose whole frame looks like ..."""
    viewed: Numbers
    """(P,) ... a view of the clip of this number."""
    viewpoint: Numbers
    """(P,) see VIEWPOINTS."""
    distance: Numbers
    """(P,) least number of bits, of 256, in which two of their hashes differ."""


def gather(fingerprints: Iterable[Fingerprint]) -> tuple[Hashes, Hashes]:
    """The hashes of whole frames, and those of every view, plain and mirrored.

    Pictures too plain to be told apart are left out.

    Raises:
        ValueError: more clips than numbers.
    """
    whole, every = _Gathered(), _Gathered()
    for number, each in enumerate(fingerprints):
        if number >> CLIP_BITS:
            raise ValueError(
                f"more than {1 << CLIP_BITS:,} clips cannot be matched at once: match parts"
            )
        sharp = np.flatnonzero(each.whole_quality >= LEAST_QUALITY)
        whole.add(number, each.whole[sharp], np.zeros(len(sharp), np.uint8))
        keys, views = np.nonzero(each.quality >= LEAST_QUALITY)
        viewpoints = (2 * views[:, None] + np.arange(2)).astype(np.uint8)
        every.add(number, each.hashes[keys, views].reshape(-1, HASH_BYTES), viewpoints.ravel())
    return whole.hashes(), every.hashes()


class _Gathered:
    """Hashes of clip after clip."""

    def __init__(self) -> None:
        self._words = [np.empty((0, HASH_BYTES // 8), np.uint64)]
        self._clips = [np.empty(0, np.int32)]
        self._viewpoints = [np.empty(0, np.uint8)]

    def add(self, clip: int, found: NDArray[np.uint8], viewpoints: NDArray[np.uint8]) -> None:
        """Add the hashes (N, 32) of a clip."""
        words = np.ascontiguousarray(found).view(np.uint64)
        self._words.append(words.reshape(-1, HASH_BYTES // 8))
        self._clips.append(np.full(len(found), clip, np.int32))
        self._viewpoints.append(viewpoints)

    def hashes(self) -> Hashes:
        """All that were added."""
        words, clips = np.concatenate(self._words), np.concatenate(self._clips)
        return Hashes(words, clips, np.concatenate(self._viewpoints))


def all_with_all(whole: Hashes, every: Hashes, most: int) -> Iterator[Numbers]:
    """Compare all hashes with all; yield the pairs that are found, packed by `pack`, a block at a
    time."""
    step = max(1, BLOCK // max(1, len(every)))
    columns = np.ascontiguousarray(every.words.T)
    starts = range(0, len(whole), step)
    for start in tracked(starts, len(starts), "comparing"):
        rows = whole.words[start : start + step]
        differing = np.zeros((len(rows), len(every)), np.uint16)
        for number, column in enumerate(columns):
            differing += np.bitwise_count(rows[:, number, None] ^ column)
        mine, theirs = np.nonzero(differing <= most)
        yield pack(mine + start, theirs, whole, every, differing[mine, theirs])


def ranges(starts: Numbers, counts: Numbers) -> Numbers:
    """Concatenate start, start + 1, ... (count numbers) of each."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def by_tables(whole: Hashes, every: Hashes, most: int) -> Iterator[Numbers]:
    """Compare the hashes that agree in the bits of a table; yield the pairs that are found, packed
    by `pack`, a block at a time."""
    bits = min(MOST_KEY_BITS, max(8, len(whole).bit_length()))
    random = np.random.default_rng(0)
    for _ in tracked(range(TABLES), TABLES, "comparing"):
        chosen = random.choice(HASH_BYTES, KEY_BYTES, replace=False)
        keys = keys_of(whole.words, chosen, bits)
        place, order = np.unique((keys << CLIP_BITS) | whole.clip, return_index=True)
        counted = np.bincount(place >> CLIP_BITS, minlength=1 << bits)
        first = np.concatenate([[0], np.cumsum(counted)])
        for low in range(0, len(every), BLOCK):
            block = slice(low, low + BLOCK)
            wanted = keys_of(every.words[block], chosen, bits)
            starts, ends = first[wanted], first[wanted + 1]
            crowded = np.flatnonzero(ends - starts > CROWD)
            middle = np.searchsorted(
                place, (wanted[crowded] << CLIP_BITS) | every.clip[block][crowded]
            )
            starts[crowded] = np.maximum(starts[crowded], middle - CROWD // 2)
            ends[crowded] = np.minimum(ends[crowded], middle + CROWD // 2)
            counts = ends - starts
            for part in np.array_split(np.flatnonzero(counts), 1 + counts.sum() // BLOCK):
                mine = order[ranges(starts[part], counts[part])]
                theirs = np.repeat(part + low, counts[part])
                apart = np.bitwise_count(whole.words[mine] ^ every.words[theirs])
                differing = apart.sum(1, dtype=np.uint16)
                close = np.flatnonzero(differing <= most)
                yield pack(mine[close], theirs[close], whole, every, differing[close])


def keys_of(words: NDArray[np.uint64], chosen: NDArray[np.int64], bits: int) -> Numbers:
    """The key of each hash in a table: the lowest bits of three of its bytes."""
    parts = words.view(np.uint8).reshape(len(words), HASH_BYTES)
    keys = np.zeros(len(words), np.int64)
    for number, place in enumerate(chosen):
        keys |= parts[:, place].astype(np.int64) << (8 * number)
    return keys & ((1 << bits) - 1)


def near(whole: Hashes, every: Hashes, most: int, *, same: bool) -> Near:
    """The pairs of clips of which two pictures look alike.

    Args:
        whole: hashes of whole frames.
        every: hashes of every view.
        most: bits in which two hashes may differ.
        same: both are of the same clips; a clip is not paired with itself.
    """
    few = len(whole) * len(every) <= MOST_COMPARED
    found, held = [np.empty(0, np.int64)], 0
    for packed in (all_with_all if few else by_tables)(whole, every, most):
        if same:
            clips = packed // (256 * VIEWPOINTS)
            packed = packed[(clips >> CLIP_BITS) != (clips & (1 << CLIP_BITS) - 1)]
        found.append(packed)
        held += len(packed)
        if held > MOST_HELD:
            found = [np.unique(np.concatenate(found))]
            held = 0
    return unpack(np.unique(np.concatenate(found)))


def pack(
    mine: Numbers, theirs: Numbers, whole: Hashes, every: Hashes, distance: NDArray[np.uint16]
) -> Numbers:
    """One number for each pair of hashes: their clips, the viewpoint, their distance."""
    number = (whole.clip[mine].astype(np.int64) << CLIP_BITS) | every.clip[theirs]
    return (number * VIEWPOINTS + every.viewpoint[theirs]) * 256 + distance


def unpack(packed: Numbers) -> Near:
    """Undo `pack`, of sorted numbers, with the least distance of each pair and viewpoint."""
    place, distance = packed // 256, packed % 256
    firsts = np.flatnonzero(np.diff(place, prepend=-1))
    place, distance = place[firsts], distance[firsts]
    clips, viewpoint = place // VIEWPOINTS, place % VIEWPOINTS
    return Near(clips >> CLIP_BITS, clips & (1 << CLIP_BITS) - 1, viewpoint, distance)
