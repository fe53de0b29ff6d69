"""The continuity of an MPEG transport stream.

Source: ISO 13818-1, 2.4.3. Each packet of 188 bytes counts, from 0 to 15, those of its stream that
hold a payload.
"""

from pathlib import Path

PACKET = 188
SYNC = 0x47


def lost_packets(path: Path, stream_id: int) -> int:
    """How often packets of a stream are missing in the middle of a picture or of its header.

    A jump in the count just before a new picture is no such case: two files were joined there, or
    one was cut.

    Args:
        stream_id: the stream's PID.

    Raises:
        OSError: the file cannot be read.
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
        for first in (0, stride - PACKET if stride == 192 else 0):
            places = range(first, min(len(content), first + 5 * stride), stride)
            if all(content[place] == SYNC for place in places):
                return stride, first
    return PACKET, 0
