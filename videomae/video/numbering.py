"""Which packet of a file holds frame i, and from where it can be decoded.

Frame i is the i-th that FFmpeg shows. One pass over the packets, without decoding, tells which
these are in nearly all files. Where it cannot (packets without times, pictures in pairs, streams
that begin in the middle), the video is decoded once from its start.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videomae.video.bitstream import Look, look
from videomae.video.container import VideoPacket

PROGRESSIVE = 1
"""FFmpeg's AV_FIELD_PROGRESSIVE: each packet holds a whole picture."""
ONE_EACH = (
    *("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "theora"),
    *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"),
    *("flv", "h263", "h263p"),
    *("mjpeg", "prores", "dnxhd", "dvvideo", "png", "jpeg2000", "rawvideo"),
    *("ffv1", "huffyuv", "ffvhuff", "utvideo"),
)
"""Decoders that show one picture for each packet, but where `Look` says otherwise, and that give
the right pictures from any key frame on."""
FAR = 32
"""Places between pictures over which times are compared; H.264 and H.265 allow 16."""


class Row(NamedTuple):
    """What tells one packet of a stream from the others."""

    pos: int | None
    """Its place in the file, in bytes."""
    size: int
    pts: int | None = None


@dataclass
class Packets:
    """The packets of a video stream in the order in which they are stored, and what they tell."""

    rows: list[Row] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    places: dict[Row, int] = field(default_factory=dict)
    """The number of each packet, found again after a seek; empty where packets look alike."""
    keys: list[int] = field(default_factory=list)
    """The packets from which decoding can start."""
    hidden: set[int] = field(default_factory=set)
    """The packets whose picture is not shown: discarded by an edit list, or made to be hidden."""
    cut: set[int] = field(default_factory=set)
    """The packets that the container calls damaged."""
    regular: bool = True
    """Whether each packet is sure to hold one picture."""
    depth: int = 0
    """How many pictures that are stored before another may be shown after it."""

    def time(self, number: int) -> int | None:
        """What a container is asked to seek to for a packet."""
        return self.dts[number] if self.rows[number].pts is None else self.rows[number].pts

    def find(self, packet: VideoPacket) -> int | None:
        """The number of a packet; None: the first pass saw none like it."""
        return self.places.get(Row(packet.pos, packet.size))

    def matches(self, number: int, packet: VideoPacket) -> bool:
        """Whether this is the packet of that number."""
        return number < len(self.rows) and self.rows[number][:2] == (packet.pos, packet.size)

    def close(self) -> None:
        """Take it that all packets have been seen."""
        self.places = {Row(*row[:2]): number for number, row in enumerate(self.rows)}
        if len(self.places) < len(self.rows):
            self.places = {}


class Entry(NamedTuple):
    """A packet from which decoding can start."""

    frame: int
    """Frames of this number and above are right."""
    packet: int


@dataclass(frozen=True)
class Numbering:
    """Which packet holds each frame, and where decoding can start."""

    shown: Sequence[int]
    """The packet of frame i."""
    entries: Sequence[Entry]
    """Ascending in both; the first is the first packet."""

    def numbers(self) -> dict[int, int]:
        """The number of the frame in each packet that holds one."""
        return {packet: frame for frame, packet in enumerate(self.shown)}

    def entry(self, frame: int) -> Entry:
        """The last place to start decoding from for a frame."""
        return self.entries[max(0, bisect_right(self.entries, (frame + 1,)) - 1)]


def survey(packets: Iterable[VideoPacket], stream: VideoStream) -> Packets:
    """Look at all packets of a stream, without decoding them."""
    found = Packets()
    context = stream.codec_context
    extradata = context.extradata or b""
    looking = look(context.name, extradata)
    found.regular = context.name in ONE_EACH
    if context.name == "h264":
        found.regular = context.field_order == PROGRESSIVE
    if context.name in ("h264", "hevc"):
        found.depth = context.reorder_depth
    headers = False  # whether parameter sets change on the way
    bare = set()  # key frames without parameter sets of their own
    for packet in packets:
        if packet.size == 0:
            continue
        number, key = len(found.rows), packet.is_keyframe
        found.rows.append(Row(packet.pos, packet.size, packet.pts))
        found.dts.append(packet.dts)
        seen = looking(memoryview(packet), key) if looking else Look(1, key)
        found.regular &= seen.pictures is not None
        found.depth = max(found.depth, seen.early)
        if seen.pictures == 0 or packet.is_discard:
            found.hidden.add(number)
        if packet.is_corrupt:
            found.cut.add(number)
        if seen.clean:
            found.keys.append(number)
        headers |= any(unit not in extradata for unit in seen.headers)
        if key and not seen.headers:
            bare.add(number)
    if headers:
        found.keys = [number for number in found.keys if number not in bare]
    if looking is None and not context.codec.intra_only and len(found.keys) == len(found.rows):
        found.keys = found.keys[:1]  # whoever marks every packet knows of none
    if context.name == "mpeg4" and not found.regular:
        found.keys = found.keys[:1]  # pictures packed with another need the packets before
    found.close()
    return found


def by_packets(packets: Packets, *, reorders: bool, restarts: bool) -> Numbering | None:
    """The numbering that the packets tell; None: they do not tell.

    Args:
        reorders: whether the codec may show pictures in another order than it stores them in.
        restarts: whether decoding may start at each of packets.keys.
    """
    rows, hidden = packets.rows, packets.hidden
    if not packets.regular or not rows or packets.keys[:1] != [0]:
        return None
    shown = [number for number in range(len(rows)) if number not in hidden]
    if not reorders:
        entries = [Entry(bisect_left(shown, key), key) for key in packets.keys]
        return Numbering(shown, entries if restarts else entries[:1])
    given = [row.pts for row in rows if row.pts is not None]
    if len(given) < len(rows):
        return None
    times = np.array(given)
    if not _tell_order(times, packets.keys, packets.depth):
        return None
    order = np.array(shown)[times[shown].argsort()]
    ascending = times[order]
    if any(ascending[0] < times[number] < ascending[-1] for number in hidden):
        return None
    frames = np.searchsorted(ascending, times[packets.keys]).tolist()
    entries = [Entry(frame, key) for frame, key in zip(frames, packets.keys, strict=True)]
    return Numbering(order.tolist(), entries if restarts else entries[:1])


def _tell_order(times: NDArray[np.int64], keys: Sequence[int], depth: int) -> bool:
    """Whether the times of all packets are those at which their pictures are shown.

    They differ; no picture that is stored before a key frame is shown after it; and of the pictures
    stored before another at most `depth` are shown after it, somewhere in the video at least one.
    """
    latest = np.maximum.accumulate(times)
    if len(np.unique(times)) < len(times) or (latest[keys] > times[keys]).any():
        return False
    if times.min() < times[0] or (latest[:-FAR] > times[FAR:]).any():
        return False
    later = np.zeros(len(times), np.int64)  # pictures stored before each that are shown after it
    for distance in range(1, min(FAR, len(times))):
        later[distance:] += times[:-distance] > times[distance:]
    return int(later.max()) <= depth and (depth == 0 or bool(later.any()))


def by_decoding(shown: Sequence[int], packets: Packets, *, restarts: bool) -> Numbering:
    """The numbering of frames that came out in this order.

    Args:
        shown: the packet of each, in the order in which a decoder gave them.
        restarts: whether decoding may start at each of packets.keys.
    """
    entries = [Entry(0, 0)]
    frames = Numbering(shown, entries).numbers()
    for key in packets.keys if restarts else ():
        if frames.get(key, 0) > entries[-1].frame:
            entries.append(Entry(frames[key], key))
    return Numbering(shown, entries)
