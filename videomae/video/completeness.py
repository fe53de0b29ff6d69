"""What the bytes of a file tell of its completeness where FFmpeg does not: MPEG-TS and AVI."""

from pathlib import Path

PACKET = 188
SYNC = 0x47
UNKNOWN = (0, 0xFFFFFFFF)
"""Lengths that stand in files which were written to a pipe."""


def lost_packets(path: Path, stream_id: int) -> int:
    """Count the places where packets of a transport stream are missing in the middle of a picture.

    Each packet of 188 bytes counts, from 0 to 15, those of its stream that hold a payload. A jump
    in the count just before a new picture does not matter: two files were joined there, or one was
    cut.

    Args:
        stream_id: the stream's PID.

    Raises:
        OSError: the file cannot be read.

    Source: ISO 13818-1, 2.4.3.
    """
    content = path.read_bytes()
    stride, first = _layout(content)
    lost, before = 0, None
    for place in range(first, len(content) - PACKET + 1, stride):
        if content[place] != SYNC:
            return lost + 1
        high, low, flags = content[place + 1 : place + 4]
        if (high & 31) << 8 | low != stream_id or not flags & 0x10:
            continue
        count, starts = flags & 15, bool(high & 0x40)
        if before is not None and count not in (before, (before + 1) & 15) and not starts:
            lost += 1
        before = count
    return lost


def _layout(content: bytes) -> tuple[int, int]:
    """Bytes from packet to packet, and the place of the first: 192 and 4 in M2TS files."""
    for stride in (PACKET, 192, 204):
        first = 4 if stride == 192 else 0
        places = range(first, min(len(content), first + 5 * stride), stride)
        if all(content[place] == SYNC for place in places):
            return stride, first
    return PACKET, 0


def missing_bytes(path: Path) -> int:
    """How many bytes an AVI file lacks of what its RIFF chunks promise; 0 where they do not say.

    Raises:
        OSError: the file cannot be read.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            name, length = file.read(4), int.from_bytes(file.read(4), "little")
            if name != b"RIFF" or length in UNKNOWN:
                return 0
            place += 8 + length + length % 2
    return max(0, place - size - 1)
