"""What the bytes of a file tell of its completeness where FFmpeg does not.

Each function returns what is wrong, or None. A file that was cut just after a packet, and whose
header promises no more, is complete.
"""

from collections.abc import Iterator
from pathlib import Path

SYNC, PACKET = 0x47, 188
"""The first byte of a transport stream's packets, and their length."""
STRIDES = (PACKET, 192, 204)
"""Bytes from packet to packet: of MPEG-TS, of M2TS, and with error correction."""
UNKNOWN = (0, 0xFFFFFFFF)
"""Lengths that stand in files which were written to a pipe."""


def incomplete(path: Path, container: str, stream_id: int) -> str | None:
    """What a file lacks, as far as its container tells.

    Args:
        container: FFmpeg's name of it.
        stream_id: the container's number of the video stream.

    Raises:
        OSError: the file cannot be read.
    """
    match container:
        case "avi":
            return _avi(path)
        case "mov,mp4,m4a,3gp,3g2,mj2":
            return _mp4(path)
        case "mpegts":
            return _transport_stream(path.read_bytes(), stream_id)
        case "ogg":
            return _ogg(path.read_bytes())
        case "gif":
            return _gif(path.read_bytes())
        case _:
            return None


def _avi(path: Path) -> str | None:
    """The RIFF chunks that an AVI file consists of say how long they are."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            name, length = file.read(4), int.from_bytes(file.read(4), "little")
            if name != b"RIFF" or length in UNKNOWN:
                return None
            place += 8 + length + length % 2
    return f"ends early (by {place - size} bytes)" if place > size + 1 else None


def _mp4(path: Path) -> str | None:
    """The boxes that an MP4 file consists of say how long they are; that of a fragment is whole.

    The box of the pictures may be shorter than it says: the lost ones are found otherwise.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 16 <= size:
            file.seek(place)
            length, name = int.from_bytes(file.read(4), "big"), file.read(4)
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            if length < 8:
                return None
            place += length
            if place > size and name in (b"moof", b"moov"):
                return f"ends early (by {place - size} bytes)"
    return None


def _transport_stream(content: bytes, stream_id: int) -> str | None:
    """Each packet counts, from 0 to 15, those of its stream that hold a payload.

    A jump in the count just before a new picture does not matter: two files were joined there, or
    one was cut. Source: ISO 13818-1, 2.4.3.
    """
    content = content.lstrip(b"\0")  # some recorders pad, before and after
    stride, first = _layout(content)
    whole = first + (len(content) - first) // stride * stride
    if not content[whole:].strip(b"\0"):
        content = content[:whole]
    if (len(content) - first) % stride not in (0, PACKET % stride):
        return "ends early (within a packet)"
    before = None
    for place in range(first, len(content) - PACKET + 1, stride):
        if content[place] != SYNC:
            if not content[place:].strip(b"\0"):
                break
            return f"damaged (no packet begins at byte {place})"
        high, low, flags = content[place + 1 : place + 4]
        if (high & 31) << 8 | low != stream_id or not flags & 0x10:
            continue
        count, starts = flags & 15, bool(high & 0x40)
        if before is not None and count not in (before, (before + 1) & 15) and not starts:
            return f"damaged (packets are missing before byte {place})"
        before = count
    return None


def _layout(content: bytes) -> tuple[int, int]:
    """Bytes from packet to packet, and the place of the first whole one's first byte."""
    for stride in STRIDES:
        for first in range(stride):
            places = range(first, min(len(content), first + 5 * stride), stride)
            if places and all(content[place] == SYNC for place in places):
                return stride, first
    return PACKET, 0


def _ogg(content: bytes) -> str | None:
    """The last page is whole, and its last packet ends in it. Source: RFC 3533, 6."""
    end, open_packet = [(0, False), *_ogg_pages(content)][-1]
    if end > len(content):
        return f"ends early (by {end - len(content)} bytes)"
    return "ends early (within a packet)" if open_packet else None


def _ogg_pages(content: bytes) -> Iterator[tuple[int, bool]]:
    """Where each page ends, and whether its last packet goes on in the next."""
    place = 0
    while content[place : place + 4] == b"OggS":
        segments = (
            content[place + 27 :][: content[place + 26]] if place + 26 < len(content) else b""
        )
        place += 27 + len(segments) + sum(segments)
        yield place, segments[-1:] == b"\xff"


def _gif(content: bytes) -> str | None:
    """Blocks follow each other up to the trailer. Source: GIF89a, appendix A."""
    place = 13 + _colours(content, 10)
    while place < len(content):
        match content[place]:
            case 0x3B:  # the trailer
                return None
            case 0x21:  # an extension and its label
                place += 2
            case 0x2C:  # a picture, its colours and the size of its codes
                place += 11 + _colours(content, place + 9)
            case _:
                return f"damaged (no block begins at byte {place})"
        while place < len(content) and content[place]:
            place += 1 + content[place]
        place += 1
    return "ends early (without a trailer)"


def _colours(content: bytes, place: int) -> int:
    """Bytes of a GIF's table of colours, of which the byte at `place` tells."""
    flags = content[place] if place < len(content) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
