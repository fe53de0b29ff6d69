"""Which packet of a file holds frame i, and from where it can be decoded.

Frame i is the i-th that FFmpeg shows. One pass over the packets, without decoding, tells which
these are in nearly all files. Where it cannot (packets without times, pictures in pairs, streams
that begin in the middle), the video is decoded once from its start.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from av.codec import Codec
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videomae.video.bitstream import ORDINARY, look, whole_pictures
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
INTRA = ("png", *(name for name in ONE_EACH if Codec(name, "r").intra_only))
"""Decoders of codecs whose pictures all stand alone."""
EVERYWHERE = ("mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1", "libdav1d")
"""Decoders of codecs of which packets other than key frames are looked into, too."""
FAR = 17
"""Places between pictures over which times are compared; in H.264 and H.265 at most 16 matter."""


Spot = tuple[int | None, int]
"""Where a packet lies in its file, and its size, in bytes."""


@dataclass
class Packets:
    """The packets of a video stream in the order in which they are stored, and what they tell."""

    spots: list[Spot] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
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
    oriented: bool = False
    """Whether pictures themselves say how they are turned, each for itself."""
    palettes: bool = False
    """Whether packets bring palettes along, which hold for those after them too."""
    blind: set[int] = field(default_factory=set)
    """The key frames that hold no picture that can be made out."""

    def __len__(self) -> int:
        return len(self.spots)

    def time(self, number: int) -> int | None:
        """What a container is asked to seek to for a packet."""
        return self.dts[number] if self.pts[number] is None else self.pts[number]

    @cached_property
    def numbers(self) -> dict[Spot, int]:
        """The number of each packet, to know it by after a seek; empty where some look alike."""
        numbers = {spot: number for number, spot in enumerate(self.spots)}
        return numbers if len(numbers) == len(self.spots) else {}

    def matches(self, number: int, packet: VideoPacket) -> bool:
        """Whether this is the packet of that number."""
        return number < len(self.spots) and self.spots[number] == (packet.pos, packet.size)


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
    counted: bool = False
    """Whether a packet holds several frames, so that frames are known by their count alone."""

    @cached_property
    def numbers(self) -> dict[int, int]:
        """The number of the frame in each packet that holds one."""
        return {packet: frame for frame, packet in enumerate(self.shown)}

    def entry(self, frame: int) -> Entry:
        """The last place to start decoding from for a frame."""
        return self.entries[max(0, bisect_right(self.entries, (frame + 1,)) - 1)]


def survey(packets: Iterable[VideoPacket], stream: VideoStream) -> Packets:
    """Look at all packets of a stream, without decoding them."""
    found, context = Packets(), stream.codec_context
    looking = Looking(context.name, context.extradata or b"")
    for packet in packets:
        size = packet.size
        if size == 0:
            continue
        number = len(found.spots)
        found.spots.append((packet.pos, size))
        found.pts.append(packet.pts)
        found.dts.append(packet.dts)
        if packet.is_discard:
            found.hidden.add(number)
        if packet.is_corrupt:
            found.cut.add(number)
        found.palettes |= packet.has_sidedata("palette")
        if packet.is_keyframe:
            found.keys.append(number)
            looking.at(number, memoryview(packet), key=True)
        elif looking.everywhere:
            looking.at(number, memoryview(packet), key=False)
    found.regular = context.name in ONE_EACH and looking.regular
    if context.name == "h264":
        whole = whole_pictures(looking.extradata, looking.headers)
        found.regular &= context.field_order == PROGRESSIVE or whole
        found.regular &= not looking.opens  # where some were cut out, pictures are lost
    found.depth = context.reorder_depth if context.name in ("h264", "hevc") else looking.depth
    found.hidden |= looking.hidden
    found.oriented = looking.oriented
    found.blind = looking.blind
    found.keys = looking.clean(found)
    return found


class Looking:
    """What looks into the packets of one stream have told so far.

    Args:
        codec: FFmpeg's name of it.
        extradata: the stream's headers, as the container holds them.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self.codec = codec
        self.extradata = extradata
        self.look = look(codec, extradata)
        self.everywhere = codec in EVERYWHERE
        """Whether packets other than key frames tell something, too."""
        self.regular = True
        self.depth = 0
        self.hidden: set[int] = set()
        self.blind: set[int] = set()
        self.unclean: set[int] = set()  # key frames that decoding cannot start from
        self.bare: set[int] = set()  # key frames without parameter sets of their own
        self.oriented = False
        self.headers: set[bytes] = set()  # parameter sets on the way
        self.opens = False  # whether groups of pictures are open
        self.changes = False  # whether parameter sets change on the way

    def at(self, number: int, data: memoryview, *, key: bool) -> None:
        """Look into a packet."""
        if self.look is None:
            return
        seen = self.look(data, key)
        if seen is ORDINARY and not key:
            return
        self.regular &= seen.pictures is not None
        if key and seen.pictures is None:
            self.blind.add(number)
        self.depth = max(self.depth, seen.early)
        self.oriented |= seen.oriented
        self.headers.update(seen.headers)
        self.changes |= any(unit not in self.extradata for unit in seen.headers)
        if seen.pictures == 0:
            self.hidden.add(number)
        if not seen.clean:
            self.unclean.add(number)
        self.opens |= number > 0 and seen.clean and not seen.closed
        if not seen.headers:
            self.bare.add(number)

    def clean(self, packets: Packets) -> list[int]:
        """The key frames that decoding can start from."""
        if self.codec == "mpeg4" and not self.regular:
            return packets.keys[:1]  # pictures packed with another need the packets before
        if self.look is None and self.codec not in INTRA and len(packets.keys) == len(packets):
            return packets.keys[:1]  # whoever marks every packet knows of none
        without = self.unclean | self.bare if self.changes else self.unclean
        return [number for number in packets.keys if number not in without]


def by_packets(packets: Packets, *, reorders: bool, restarts: bool) -> Numbering | None:
    """The numbering that the packets tell; None: they do not tell.

    Args:
        reorders: whether the codec may show pictures in another order than it stores them in.
        restarts: whether decoding may start at each of packets.keys.
    """
    hidden = packets.hidden
    if not packets.regular or packets.keys[:1] != [0]:
        return None
    shown = [number for number in range(len(packets)) if number not in hidden]
    if not shown:
        return Numbering([], [Entry(0, 0)])
    if not reorders:
        entries = [Entry(bisect_left(shown, key), key) for key in packets.keys]
        return Numbering(shown, entries if restarts else entries[:1])
    given = [time for time in packets.pts if time is not None]
    if len(given) < len(packets):
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
    if len(set(shown)) < len(shown):
        return Numbering(shown, entries, counted=True)
    frames = Numbering(shown, entries).numbers
    for key in packets.keys if restarts else ():
        if frames.get(key, 0) > entries[-1].frame:
            entries.append(Entry(frames[key], key))
    return Numbering(shown, entries)
