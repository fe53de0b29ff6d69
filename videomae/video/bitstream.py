"""Parse the first bits of a video packet, to learn about its picture without decoding it.

Sources: ITU-T H.264 7.3 and D.1.8, H.265 7.3, ISO 11172-2, 13818-2 and 14496-2 6.2, RFC 6386 9.1,
VP9 bitstream 6.2, AV1 5.9, Theora 7.1, RFC 9043 4.4.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

Buffer = memoryview | bytes
START = b"\0\0\1"
"""Start code of a unit in H.264, H.265, MPEG-1, MPEG-2 and MPEG-4 streams."""
PICTURE, VOP = START + b"\0", START + b"\xb6"
"""Start codes of a picture, in MPEG-1 and MPEG-2, and in MPEG-4."""
RECOVERY, ORIENTATION = 6, 47
"""Types of supplemental messages (SEI): recovery point and display orientation."""
AV1_UNITS = (*range(1, 9), 15)
"""Types of units (OBU) that AV1 defines."""
HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles of H.264 whose sequence parameter sets have additional fields on colours."""
MOST_HEADER = 512
"""Bytes of a parameter set that are parsed, at most."""
SMALL_VOP = 16
"""Bytes of an MPEG-4 packet below which it may hold only the flag "not coded"."""


class PacketInfo(NamedTuple):
    """Facts about a packet's picture, parsed from its first bits."""

    pictures: int | None = 1
    """Number of pictures that the packet shows; None: only decoding tells."""
    clean: bool = False
    """Whether it is a random access point: pictures shown after it need none coded before it."""
    headers: tuple[bytes, ...] = ()
    """Parameter sets in the packet."""
    closed: bool = True
    """Whether the group of pictures is closed: none after a clean packet refers to one before."""
    oriented: bool = False
    """Whether the picture carries its own orientation."""
    early: bool = False
    """Whether it is a B picture, shown before one that is stored before it."""


ORDINARY = PacketInfo()
"""Facts about a packet with one shown picture that depends on others and is not reordered."""


def packet_parser(codec: str, extradata: bytes) -> Callable[[Buffer, bool], PacketInfo] | None:
    """Return the function that parses packets of a codec; None: the codec is not parsed here.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the stream's headers, as the container holds them.

    Returns:
        a function of a packet's bytes and of whether the container calls it a key frame.
    """
    if codec in ("h264", "hevc"):
        length = _length_bytes(codec, extradata)
        units = _h264 if codec == "h264" else _hevc
        return lambda data, key: units(_units(data, length)) if key else ORDINARY
    return PARSERS.get(codec)


def disposable(codec: str, extradata: bytes) -> Callable[[Buffer], bool] | None:
    """Return the function that tells whether a packet is disposable: no other depends on it.

    None means that the codec is not parsed for it.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the stream's headers, as the container holds them.
    """
    if codec == "h264":
        length = _length_bytes(codec, extradata)
        return lambda data: _is_no_reference(_units(data, length))
    return (lambda data: _mpeg4_kind(bytes(data)) == 2) if codec == "mpeg4" else None


def pictureless(codec: str, extradata: bytes) -> Callable[[Buffer], bool]:
    """Return the function that tells whether a whole packet holds no part of a picture.

    FFmpeg's decoder refuses such packets, though they are not damaged.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the stream's headers, as the container holds them.
    """
    if codec not in ("h264", "hevc"):
        return lambda data: False
    length = _length_bytes(codec, extradata)

    def tells(data: Buffer) -> bool:
        units = list(_units(data, length))
        whole = not length or sum(length + len(unit) for unit in units) == len(data)
        first = [unit[0] for unit in units if unit]
        if not whole or not first or any(byte >= 128 for byte in first):
            return False  # a first bit of 1 is forbidden
        if codec == "h264":
            return all(6 <= byte & 31 <= 23 for byte in first)
        return all(byte >> 1 & 63 >= 32 for byte in first)

    return tells


def _is_no_reference(units: Iterator[bytes]) -> bool:
    """Tell whether the nal_ref_idc of a packet's first slice is 0: no reference picture."""
    slices = (unit[0] for unit in units if unit and unit[0] & 31 in (1, 2, 5))
    return next(slices, 0xFF) >> 5 & 3 == 0


def _length_bytes(codec: str, extradata: bytes) -> int:
    """Return the bytes of the length before each unit, as in MP4; 0: start codes separate units."""
    if len(extradata) < 23 or extradata[0] != 1:
        return 4 if codec == "hevc" and extradata[:1] == b"\1" else 0
    return (extradata[4 if codec == "h264" else 21] & 3) + 1


def _units(data: Buffer, length: int) -> Iterator[bytes]:
    """Split a packet into its units, without lengths and start codes."""
    data = bytes(data)
    if length:
        place = 0
        while place + length < len(data):
            end = place + length + int.from_bytes(data[place : place + length], "big")
            yield data[place + length : end]
            place = end
        return
    place = data.find(START)
    while place >= 0:
        following = data.find(START, place + 3)
        end = following if following >= 0 else len(data)
        yield data[place + 3 : end].rstrip(b"\0")
        place = following


def _h264(units: Iterator[bytes]) -> PacketInfo:
    """Parse an H.264 packet; clean are an IDR picture and a recovery_frame_cnt of 0."""
    headers: tuple[bytes, ...] = ()
    messages: dict[int, bytes] = {}
    for unit in filter(None, units):
        kind = unit[0] & 31
        if kind in (7, 8):
            headers += (unit,)
        elif kind == 6:
            messages |= _messages(unit[1:])
        elif kind in (1, 2, 5):
            recovers = messages.get(RECOVERY, b"\0")[:1] >= b"\x80"  # recovery_frame_cnt is 0
            turned = ORIENTATION in messages
            return PacketInfo(1, kind == 5 or recovers, headers, kind == 5, turned)
    return PacketInfo(None, False, headers)


def whole_pictures(extradata: bytes, headers: Iterable[bytes]) -> bool:
    """Tell whether the parameter sets of an H.264 stream allow whole pictures only, no fields.

    Args:
        extradata: the stream's headers, as the container holds them.
        headers: parameter sets that were found in packets.
    """
    found = [unit for unit in (*_stored_headers(extradata), *headers) if unit[0] & 31 == 7]
    return bool(found) and all(_frame_mbs_only(unit) for unit in found)


def _stored_headers(extradata: bytes) -> Iterator[bytes]:
    """Yield the sequence parameter sets in an avcC box or before a raw stream."""
    if extradata[:1] != b"\1":
        yield from filter(None, _units(extradata, 0))
        return
    place = 6
    for _ in range(extradata[5] & 31 if len(extradata) > 5 else 0):
        end = place + 2 + int.from_bytes(extradata[place : place + 2], "big")
        yield extradata[place + 2 : end] or b"\0"
        place = end


def _frame_mbs_only(unit: bytes) -> bool:
    """Return frame_mbs_only_flag of a sequence parameter set; False if it cannot be parsed."""
    try:
        bits = Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
        profile = bits.number(8)
        bits.number(16)  # constraints and level
        bits.golomb()  # which set this is
        if profile in HIGH_PROFILES:
            _skip_high(bits)
        bits.golomb()  # bits of a frame's number
        kind = bits.golomb()  # of picture order
        if kind == 0:
            bits.golomb()
        elif kind == 1:
            bits.number(1)
            bits.golomb(2)
            bits.golomb(bits.golomb())
        bits.golomb()  # reference frames
        bits.number(1)  # whether numbers may be left out
        bits.golomb(2)  # width and height
        return bits.number(1) == 1
    except ValueError:
        return False


def _skip_high(bits: "Bits") -> None:
    """Skip the fields that only the sequence parameter sets of high profiles have."""
    colours = bits.golomb()
    if colours == 3:
        bits.number(1)
    bits.golomb(2)  # depths
    bits.number(1)
    if not bits.number(1):
        return
    for size in (16,) * 6 + (64,) * (6 if colours == 3 else 2):
        last = following = 8
        if bits.number(1):
            for _ in range(size):
                if following:
                    code = bits.golomb()
                    following = (last + (code + 1 >> 1) * (1 if code & 1 else -1)) % 256
                last = following or last


class Bits:
    """Reader of a header's bits, one number after the other.

    Raises:
        ValueError: there are no more bits, or a number is too large.
    """

    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data[:MOST_HEADER])
        self.place = 0

    def number(self, count: int) -> int:
        """Read the unsigned number in the next `count` bits."""
        self.place += count
        return int(self.text[self.place - count : self.place], 2)

    def golomb(self, times: int = 1) -> int:
        """Read the next Exp-Golomb codes, and return the last one."""
        value = 0
        for _ in range(times):
            zeros = self.text.index("1", self.place) - self.place
            self.place += zeros
            value = self.number(zeros + 1) - 1
        return value


def _hevc(units: Iterator[bytes]) -> PacketInfo:
    """Parse an H.265 packet; clean is any random-access picture (IRAP)."""
    headers: tuple[bytes, ...] = ()
    messages: dict[int, bytes] = {}
    for unit in filter(None, units):
        kind = unit[0] >> 1 & 63
        if 32 <= kind <= 34:
            headers += (unit,)
        elif kind == 39:
            messages |= _messages(unit[2:])
        elif kind < 32:
            clean, turned = 16 <= kind <= 21, ORIENTATION in messages
            return PacketInfo(1, clean, headers, kind in (19, 20), turned)
    return PacketInfo(None, False, headers)


def _messages(unit: bytes) -> dict[int, bytes]:
    """Parse the supplemental messages of a unit, given without its header, by their type."""
    data, place = unit.replace(b"\0\0\3", b"\0\0"), 0
    found: dict[int, bytes] = {}
    while place + 2 < len(data):
        values = []
        for _ in range(2):  # type and size of the message
            value = 0
            while place < len(data) and data[place] == 255:
                value, place = value + 255, place + 1
            if place >= len(data):
                return found
            values.append(value + data[place])
            place += 1
        found[values[0]] = data[place : place + values[1]]
        place += values[1]
    return found


def _mpeg4(data: Buffer, key: bool) -> PacketInfo:
    """Parse an MPEG-4 packet; in packed streams, with two pictures in one, only decoding tells."""
    content = bytes(data)
    place = content.find(VOP)
    if content.rfind(VOP) != place or not len(content) - max(place, 0) >= SMALL_VOP:
        return PacketInfo(None)
    kind = _mpeg4_kind(content)
    if kind is None:
        return PacketInfo(None)
    return ORDINARY if kind == 1 else PacketInfo(1, key and kind == 0, early=kind == 2)


def _mpeg4_kind(content: bytes) -> int | None:
    """Return the type of an MPEG-4 picture: 0 intra, 1 predicted, 2 B, 3 sprite; None: none."""
    place = content.find(VOP)
    return content[place + 4] >> 6 if 0 <= place < len(content) - 4 else None


def _mpeg2(data: Buffer, key: bool) -> PacketInfo:
    """Parse an MPEG-1 or MPEG-2 packet: one picture, or the two fields of one."""
    content = bytes(data)
    place = content.find(PICTURE)
    if not 0 <= place < len(content) - 5 or content.count(PICTURE) > 2:
        return PacketInfo(None)
    kind = content[place + 5] >> 3 & 7
    return PacketInfo(1, key and kind == 1, early=kind == 3)


def _vp8(data: Buffer, key: bool) -> PacketInfo:
    """Parse a VP8 packet, whose bit 0 is 0 in a key frame and whose bit 4 says "shown"."""
    if not len(data):
        return PacketInfo(None)
    return PacketInfo(data[0] >> 4 & 1, key and not data[0] & 1)


def _vp9(data: Buffer, key: bool) -> PacketInfo:
    """Parse a VP9 packet; a superframe, with an index at its end, shows one picture."""
    if not len(data):
        return PacketInfo(None)
    first, last = data[0], data[-1]
    if last & 0xE0 == 0xC0:
        return PacketInfo(1, key)
    at = 4 + (first >> 4 & 3 == 3)  # profile 3 has one bit more
    if first >> 7 - at & 1:  # show_existing_frame
        return PacketInfo(1, False)
    return PacketInfo(first >> 5 - at & 1, key and not first >> 6 - at & 1)


def _av1(data: Buffer, key: bool) -> PacketInfo:
    """Parse an AV1 packet: a temporal unit, which shows one frame, or a single frame of one."""
    content, place, frames, shown, keys = bytes(data), 0, 0, 0, 0
    while place < len(content):
        header = content[place]
        kind = header >> 3 & 15
        place += 1 + (header >> 2 & 1)
        size = len(content) - place
        if header & 2:
            size, place = _leb128(content, place)
        if header & 128 or kind not in AV1_UNITS or place + size > len(content):
            return PacketInfo(None)  # no unit, or an incomplete one
        if kind in (3, 6) and size > 0:  # a frame's header, or a frame
            first = content[place]
            frames += 1
            shown += first >> 7 or first >> 4 & 1
            keys += first >> 4 & 15 == 1  # a key frame that is shown
        place += size
    return PacketInfo(shown if shown < 2 and frames else None, key and keys == 1)


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """Decode a LEB128 number (groups of seven bits); return it and the place after it."""
    value = 0
    for shift in range(0, 56, 7):
        if place >= len(data):
            break
        byte = data[place]
        value, place = value | (byte & 127) << shift, place + 1
        if byte < 128:
            break
    return value, place


def _first_byte(is_key: Callable[[int], bool]) -> Callable[[Buffer, bool], PacketInfo]:
    """Return the parser of a codec whose packets mark key frames in their first byte."""
    return lambda data, key: PacketInfo(1, key and len(data) > 0 and is_key(data[0]))


PARSERS: dict[str, Callable[[Buffer, bool], PacketInfo]] = {
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "mpeg4": _mpeg4,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "libdav1d": _av1,
    "theora": _first_byte(lambda byte: not byte & 0x40),
    "msmpeg4v2": _first_byte(lambda byte: byte >> 6 == 0),
    "msmpeg4": _first_byte(lambda byte: byte >> 6 == 0),
    "wmv1": _first_byte(lambda byte: byte >> 6 == 0),
    "wmv2": _first_byte(lambda byte: byte >> 7 == 0),
    "ffv1": _first_byte(lambda byte: byte >= 0x80),  # the first bit of its range coder, nearly
}
"""Packet parsers of codecs, by FFmpeg's name, that do not need the stream's headers."""
