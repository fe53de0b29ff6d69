"""Frame numbering of a video file: the packet that holds frame i, and where to seek for it.

Frame i is the i-th frame that FFmpeg shows. In nearly all files one pass over the packets, without
decoding, finds the packet of each frame. Where it does not (packets without times, pictures in
pairs, streams that begin in the middle), the video is decoded once from its start.
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

from videomae.video.bitstream import ORDINARY, packet_parser, whole_pictures
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
"""Decoders that show one picture for each packet, except where PacketInfo says otherwise, and that
decode correctly from any key frame on."""
INTRA = ("png", *(name for name in ONE_EACH if Codec(name, "r").intra_only))
"""Decoders of intra-only codecs, each of whose pictures decodes alone."""
EVERYWHERE = ("mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1", "libdav1d")
"""Decoders for which all packets are parsed, not only key frames."""
FAR = 17
"""Distance in packets over which times are compared; in H.264 and H.265 at most 16 matter."""


Location = tuple[int | None, int]
"""Position and size of a packet in its file, in bytes."""


@dataclass
class Packets:
    """The packets of a video stream, numbered from 0 in storage order, and facts about them."""

    locations: list[Location] = field(default_factory=list)
    """Position and size of each packet in the file, in bytes."""
    pts: list[int | None] = field(default_factory=list)
    """Presentation time of each packet, in units of the stream's time base."""
    dts: list[int | None] = field(default_factory=list)
    """Decoding time of each packet, in units of the stream's time base."""
    keys: list[int] = field(default_factory=list)
    """Numbers of the packets from which decoding can start."""
    hidden: set[int] = field(default_factory=set)
    """Packets whose picture is not shown: discarded by an edit list, or coded as hidden."""
    cut: set[int] = field(default_factory=set)
    """Packets that the container marks as corrupt."""
    regular: bool = True
    """Whether each packet certainly holds one picture."""
    depth: int = 0
    """Reorder depth: number of pictures stored before another that may be shown after it."""
    oriented: bool = False
    """Whether single pictures carry their own orientation."""
    palettes: bool = False
    """Whether packets carry palettes, which hold for later packets too."""
    blind: set[int] = field(default_factory=set)
    """Key frames in which no picture was found."""

    def __len__(self) -> int:
        return len(self.locations)

    def time(self, number: int) -> int | None:
        """Return the time to seek to for a packet: its pts, or else its dts."""
        return self.dts[number] if self.pts[number] is None else self.pts[number]

    @cached_property
    def numbers(self) -> dict[Location, int]:
        """Number of each packet by its location; empty if two packets have the same location."""
        numbers = {location: number for number, location in enumerate(self.locations)}
        return numbers if len(numbers) == len(self.locations) else {}

    def matches(self, number: int, packet: VideoPacket) -> bool:
        """Tell whether a packet has the location of packet `number`."""
        known = self.locations
        return number < len(known) and known[number] == (packet.pos, packet.size)


class SeekPoint(NamedTuple):
    """A packet from which decoding can start."""

    frame: int
    """Number of the first frame that is decoded correctly from there."""
    packet: int
    """Number of the packet."""


@dataclass(frozen=True)
class Numbering:
    """The packet of each frame, and the packets from which decoding can start."""

    shown: Sequence[int]
    """Number of the packet that holds each frame."""
    seek_points: Sequence[SeekPoint]
    """Seek points with ascending frame and packet; the first one is the first packet."""
    counted: bool = False
    """Whether a packet holds several frames, so that frames must be counted from the start."""

    @cached_property
    def numbers(self) -> dict[int, int]:
        """Number of the frame in each packet that holds one."""
        return {packet: frame for frame, packet in enumerate(self.shown)}

    def seek_point(self, frame: int) -> SeekPoint:
        """Return the last seek point from which a frame is decoded correctly."""
        return self.seek_points[max(0, bisect_right(self.seek_points, (frame + 1,)) - 1)]


def scan_packets(packets: Iterable[VideoPacket], stream: VideoStream) -> Packets:
    """Collect facts about all packets of a stream, without decoding them."""
    found, context = Packets(), stream.codec_context
    scanner = PacketScanner(context.name, context.extradata or b"")
    for packet in packets:
        size = packet.size
        if size == 0:
            continue
        number = len(found)
        found.locations.append((packet.pos, size))
        found.pts.append(packet.pts)
        found.dts.append(packet.dts)
        if packet.is_discard:
            found.hidden.add(number)
        if packet.is_corrupt:
            found.cut.add(number)
        found.palettes |= packet.has_sidedata("palette")
        if packet.is_keyframe:
            found.keys.append(number)
            scanner.add(number, memoryview(packet), key=True)
        elif scanner.everywhere:
            scanner.add(number, memoryview(packet), key=False)
    found.regular = context.name in ONE_EACH and scanner.regular
    if context.name == "h264":
        whole = whole_pictures(scanner.extradata, scanner.headers)
        found.regular &= context.field_order == PROGRESSIVE or whole
        found.regular &= not scanner.opens  # if the file was cut, open groups lose pictures
    found.depth = context.reorder_depth if context.name in ("h264", "hevc") else scanner.depth
    found.hidden |= scanner.hidden
    found.oriented = scanner.oriented
    found.blind = scanner.blind
    found.keys = scanner.clean(found)
    return found


class PacketScanner:
    """Facts from the first bits of a stream's packets, collected packet by packet.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the stream's headers, as the container holds them.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self.codec = codec
        self.extradata = extradata
        self.parse = packet_parser(codec, extradata)
        self.everywhere = codec in EVERYWHERE
        """Whether packets other than key frames must be parsed, too."""
        self.regular = True
        self.depth = 0
        self.hidden: set[int] = set()
        self.blind: set[int] = set()
        self.unclean: set[int] = set()  # key frames that decoding cannot start from
        self.bare: set[int] = set()  # key frames without parameter sets of their own
        self.oriented = False
        self.headers: set[bytes] = set()  # parameter sets within packets
        self.opens = False  # whether groups of pictures are open
        self.changes = False  # whether parameter sets change within the stream

    def add(self, number: int, data: memoryview, *, key: bool) -> None:
        """Parse the first bits of packet `number`; `key`: the container calls it a key frame."""
        if self.parse is None:
            return
        seen = self.parse(data, key)
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
        """List the key frames from which decoding can start."""
        if self.codec == "mpeg4" and not self.regular:
            return packets.keys[:1]  # pictures packed with another need the packets before
        if self.parse is None and self.codec not in INTRA and len(packets.keys) == len(packets):
            return packets.keys[:1]  # marks on every packet say nothing
        without = self.unclean | self.bare if self.changes else self.unclean
        return [number for number in packets.keys if number not in without]


def by_packets(packets: Packets, *, reorders: bool, restarts: bool) -> Numbering | None:
    """Number the frames by the packets' times and order; None: these do not suffice.

    Args:
        reorders: whether the codec may store pictures in another order than it shows them.
        restarts: whether decoding may start at each of packets.keys.
    """
    hidden = packets.hidden
    if not packets.regular or packets.keys[:1] != [0]:
        return None
    shown = [number for number in range(len(packets)) if number not in hidden]
    if not shown:
        return Numbering([], [SeekPoint(0, 0)])
    if not reorders:
        points = [SeekPoint(bisect_left(shown, key), key) for key in packets.keys]
        return Numbering(shown, points if restarts else points[:1])
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
    points = [SeekPoint(frame, key) for frame, key in zip(frames, packets.keys, strict=True)]
    return Numbering(order.tolist(), points if restarts else points[:1])


def _tell_order(times: NDArray[np.int64], keys: Sequence[int], depth: int) -> bool:
    """Tell whether the packets' times give the order in which their pictures are shown.

    That is assumed if all times differ, if no picture stored before a key frame is shown after it,
    and if at most `depth` of the pictures stored before another are shown after it, somewhere in
    the video at least one.
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
    """Number the frames in the order in which a decoder has output them.

    Args:
        shown: the packet of each frame, in the decoder's order.
        restarts: whether decoding may start at each of packets.keys.
    """
    points = [SeekPoint(0, 0)]
    if len(set(shown)) < len(shown):
        return Numbering(shown, points, counted=True)
    frames = Numbering(shown, points).numbers
    for key in packets.keys if restarts else ():
        if frames.get(key, 0) > points[-1].frame:
            points.append(SeekPoint(frames[key], key))
    return Numbering(shown, points)
