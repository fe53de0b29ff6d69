"""Seeded mutations of bytes: damage as disks and networks do it, and as somebody who means harm."""

import random
import re
import struct
from collections.abc import Callable

INTEGERS = (0, 1, -1, 2, 127, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, -(2**31), 2**32 - 1)
LARGE_INTEGERS = (*INTEGERS, 2**40, 2**53, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
"""Numbers at which sizes, offsets and counts go wrong."""
HEAD, TAIL = 256, 512
"""Bytes at the start and the end of a file that are mutated more often: headers and indexes."""
LONGEST = 4096
"""Bytes that one mutation writes, moves or removes at most."""

Mutation = Callable[[bytearray, random.Random], None]


def place_in(content: bytearray, rng: random.Random) -> int:
    """A place in the content; in its head or its tail every second time."""
    size, where = max(1, len(content)), rng.random()
    if where < 0.25:
        return rng.randrange(min(size, HEAD))
    if where < 0.5:
        return size - 1 - rng.randrange(min(size, TAIL))
    return rng.randrange(size)


def span_in(content: bytearray, rng: random.Random) -> slice:
    """Some bytes from a place on; short spans are as likely as long ones."""
    start = place_in(content, rng)
    return slice(start, start + int(2 ** rng.uniform(0, LONGEST.bit_length() - 1)))


def flip_bit(content: bytearray, rng: random.Random) -> None:
    """Flip one bit."""
    content[place_in(content, rng)] ^= 1 << rng.randrange(8)


def flip_bits(content: bytearray, rng: random.Random) -> None:
    """Flip up to 200 bits, anywhere."""
    for _ in range(int(10 ** rng.uniform(0, 2.3))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(content: bytearray, rng: random.Random) -> None:
    """Put noise in the place of some bytes."""
    span = span_in(content, rng)
    content[span] = rng.randbytes(len(content[span]))


def zero(content: bytearray, rng: random.Random) -> None:
    """Put zeros in the place of some bytes."""
    span = span_in(content, rng)
    content[span] = bytes(len(content[span]))


def fill(content: bytearray, rng: random.Random) -> None:
    """Put 0xff in the place of some bytes."""
    span = span_in(content, rng)
    content[span] = b"\xff" * len(content[span])


def truncate(content: bytearray, rng: random.Random) -> None:
    """Cut the end off."""
    del content[place_in(content, rng) :]


def delete(content: bytearray, rng: random.Random) -> None:
    """Take some bytes out."""
    del content[span_in(content, rng)]


def insert(content: bytearray, rng: random.Random) -> None:
    """Put noise between two bytes."""
    span = span_in(content, rng)
    content[span.start : span.start] = rng.randbytes(span.stop - span.start)


def duplicate(content: bytearray, rng: random.Random) -> None:
    """Repeat some bytes, up to a hundred times."""
    span = span_in(content, rng)
    piece = bytes(content[span]) * int(10 ** rng.uniform(0, 2))
    content[span.stop : span.stop] = piece[: 16 * LONGEST]


def swap(content: bytearray, rng: random.Random) -> None:
    """Exchange some bytes with others."""
    one, other = span_in(content, rng), place_in(content, rng)
    first = bytes(content[one])
    second = bytes(content[other : other + len(first)])
    content[other : other + len(second)] = first[: len(second)]
    content[one.start : one.start + len(second)] = second


def number(content: bytearray, rng: random.Random) -> None:
    """Put a number at which sizes go wrong into a field of 1, 2, 4 or 8 bytes."""
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(LARGE_INTEGERS) & (2 ** (8 * size) - 1)
    start = place_in(content, rng)
    if rng.random() < 0.5:
        start -= start % size
    content[start : start + size] = value.to_bytes(size, rng.choice(("little", "big")))


def nudge(content: bytearray, rng: random.Random) -> None:
    """Add or take a little from a number of 4 bytes."""
    start = max(0, min(place_in(content, rng), len(content) - 4))
    order = rng.choice("<>")
    if len(content) >= 4:
        (value,) = struct.unpack_from(f"{order}I", content, start)
        changed = (value + rng.choice((-16, -4, -1, 1, 4, 16, 256))) % 2**32
        struct.pack_into(f"{order}I", content, start, changed)


def written_number(content: bytearray, rng: random.Random) -> None:
    """Put another number in the place of one that is written in digits; or flip a bit."""
    found = list(re.finditer(rb"-?\d{1,20}", content))
    if not found:
        flip_bit(content, rng)
        return
    match = rng.choice(found)
    content[match.start() : match.end()] = str(rng.choice((*LARGE_INTEGERS, 10**30))).encode()


def box(content: bytearray, rng: random.Random) -> None:
    """Change the length before a name of four letters, as containers of videos write it."""
    found = [match.start() for match in re.finditer(rb"[A-Za-z]{3}[A-Za-z0-9 ]", content)]
    if not found:
        number(content, rng)
        return
    start = rng.choice(found)
    place = start + rng.choice((-4, -4, 4, 8))
    if place >= 0:
        value = rng.choice((*INTEGERS, 8, 16, len(content))) % 2**32
        content[place : place + 4] = value.to_bytes(4, rng.choice(("big", "little")))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bit,
    flip_bits,
    overwrite,
    zero,
    fill,
    truncate,
    delete,
    insert,
    duplicate,
    swap,
    number,
    number,
    nudge,
    written_number,
    box,
)


def mutate_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The content after one to eight mutations, and what they were."""
    changed, names = bytearray(content), []
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 3, 8))):
        if not changed:
            changed.extend(rng.randbytes(rng.randrange(1, 64)))
        mutation = rng.choice(MUTATIONS)
        mutation(changed, rng)
        names.append(mutation.__name__)
    return bytes(changed), " ".join(names)
