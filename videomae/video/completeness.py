"""Check from its bytes whether a video file is complete, for containers in which FFmpeg does not.

Each function returns what is wrong, or None. A file that was cut just after a packet, and whose
header promises no more, counts as complete.
"""

from collections.abc import Iterator
from pathlib import Path

SYNC, PACKET = 0x47, 188
"""First byte of a transport stream's packets, and their length in bytes."""
STRIDES = (PACKET, 192, 204)
"""Bytes from packet to packet in MPEG-TS, in M2TS, and in MPEG-TS with error correction."""
UNKNOWN = (0, 0xFFFFFFFF)
"""Values of a length field that mean "unknown", as in files written to a pipe."""


def incomplete(path: Path, container: str, stream_id: int) -> str | None:
    """Check whether a file ends early or has gaps; return the problem, or None.

    Args:
        container: FFmpeg's name of the container format.
        stream_id: number of the video stream in the container.

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
    """Check an AVI file by the lengths of its RIFF chunks."""
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
    """Check an MP4 file by the lengths of its boxes: moov and moof must be whole.

    The box of the pictures may be too short: lost pictures are found by decoding.
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
    """Check a transport stream by its packets' continuity counters, which count from 0 to 15.

    A jump just before a new picture is allowed: two files were joined there, or one was cut.
    Source: ISO 13818-1, 2.4.3.
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
    """Find the bytes from packet to packet, and the position of the first whole packet."""
    for stride in STRIDES:
        for first in range(stride):
            places = range(first, min(len(content), first + 5 * stride), stride)
            if places and all(content[place] == SYNC for place in places):
                return stride, first
    return PACKET, 0


def _ogg(content: bytes) -> str | None:
    """Check that an Ogg file's last page is whole and ends a packet. Source: RFC 3533, 6."""
    end, open_packet = [(0, False), *_ogg_pages(content)][-1]
    if end > len(content):
        return f"ends early (by {end - len(content)} bytes)"
    return "ends early (within a packet)" if open_packet else None


def _ogg_pages(content: bytes) -> Iterator[tuple[int, bool]]:
    """Yield the end of each Ogg page, and whether its last packet continues on the next page."""
    place = 0
    while content[place : place + 4] == b"OggS":
        segments = (
            content[place + 27 :][: content[place + 26]] if place + 26 < len(content) else b""
        )
        place += 27 + len(segments) + sum(segments)
        yield place, segments[-1:] == b"\xff"


def _gif(content: bytes) -> str | None:
    """Check that a GIF's blocks reach its trailer. Source: GIF89a, appendix A."""
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
    """Return the bytes of a GIF's colour table, as the flags at `place` say."""
    flags = content[place] if place < len(content) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
