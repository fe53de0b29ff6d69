"""What is done to video files byte by byte or packet by packet, where no ffmpeg command does it."""

import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av

VOP, USER_DATA = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2"
"""Start codes of MPEG-4 part 2: a picture, and words of the encoder."""
EMPTY_PICTURE = VOP + b"\x50\x4f"
"""A picture that is not coded, at 25 frames per second."""
MATRIX_AT = 44
"""Bytes from the name of an MP4 file's `tkhd` box to its display matrix."""
MATRICES = {
    "mirror": (-1, 0, 0, 1),
    "upside-down": (1, 0, 0, -1),
    "turn90": (0, 1, -1, 0),
    "turn180": (-1, 0, 0, -1),
    "turn270": (0, -1, 1, 0),
    "transpose": (0, 1, 1, 0),
    "antitranspose": (0, -1, -1, 0),
}
"""The upper left four numbers of the matrices that turn and mirror a picture."""


def set_matrix(sources: Sequence[Path], out: Path, name: str) -> None:
    """Rewrite the display matrix of an MP4 file's first track."""
    content = bytearray(sources[0].read_bytes())
    place = content.index(b"tkhd") + MATRIX_AT
    a, b, c, d = (number << 16 for number in MATRICES[name])
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    out.write_bytes(content)


def set_edit(sources: Sequence[Path], out: Path, start: str, length: str) -> None:
    """Rewrite the edit list of an MP4 file: show so many milliseconds, from so many ticks on.

    Trimming on a phone does this, and leaves all packets where they are.
    """
    content = bytearray(sources[0].read_bytes())
    place = content.index(b"elst") + 8
    (entries,) = struct.unpack_from(">I", content, place)
    if entries != 1:
        raise ValueError(f"{sources[0].name} has {entries} edits")
    (first,) = struct.unpack_from(">i", content, place + 8)
    struct.pack_into(">Ii", content, place + 4, int(length), first + int(start))
    out.write_bytes(content)


def set_two_edits(sources: Sequence[Path], out: Path, *numbers: str) -> None:
    """Give an MP4 file, whose index is at its end, two edits: start and length of each.

    Args:
        numbers: ticks from the first picture on, and milliseconds; twice.
    """
    content = bytearray(sources[0].read_bytes())
    place = content.index(b"elst")
    (first,) = struct.unpack_from(">i", content, place + 16)
    start, length, again, rest = map(int, numbers)
    edits = [(length, first + start, 1 << 16), (rest, first + again, 1 << 16)]
    entries = b"".join(struct.pack(">Iii", *edit) for edit in edits)
    content[place + 4 : place + 24] = bytes(4) + struct.pack(">I", len(edits)) + entries
    for name in (b"moov", b"trak", b"edts", b"elst"):
        at = content.rindex(name, 0, place + 4) - 4
        struct.pack_into(">I", content, at, struct.unpack_from(">I", content, at)[0] + 12)
    out.write_bytes(content)


def drop_avi_index(sources: Sequence[Path], out: Path) -> None:
    """Cut the `idx1` chunk off the end of an AVI file, as a recorder that lost power does."""
    content = bytearray(sources[0].read_bytes())
    del content[content.rindex(b"idx1") :]
    content[4:8] = struct.pack("<I", len(content) - 8)
    out.write_bytes(content)


def swap_bytes(sources: Sequence[Path], out: Path, old: str, new: str) -> None:
    """Put other bytes of the same number, in hex, in the place of some, wherever they stand."""
    before, after = bytes.fromhex(old), bytes.fromhex(new)
    content = sources[0].read_bytes()
    if before not in content or len(before) != len(after):
        raise ValueError(f"{sources[0].name} does not hold {before!r}")
    out.write_bytes(content.replace(before, after))


def pack_bframes(sources: Sequence[Path], out: Path) -> None:
    """Put each B-frame of an MPEG-4 AVI into the chunk of the frame before it, as DivX 5 did.

    An empty picture takes the chunk that this leaves over, so that the count of chunks stays.
    """
    with av.open(str(sources[0])) as given, av.open(str(out), "w", format="avi") as written:
        stream = given.streams.video[0]
        target = written.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        for number, content in enumerate(_packed_chunks([bytes(each) for each in packets])):
            packet = av.Packet(content)
            packet.stream, packet.time_base = target, stream.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = packets[number].is_keyframe
            written.mux(packet)


def _packed_chunks(pictures: Sequence[bytes]) -> Iterator[bytes]:
    """The chunks of a packed stream, from the pictures in their coded order."""
    for picture, following in zip(pictures, [*pictures[1:], b""], strict=True):
        moved = following if _is_b(following) else b""
        yield (moved or EMPTY_PICTURE) if _is_b(picture) else _with_marker(picture) + moved


def _is_b(picture: bytes) -> bool:
    """Whether a picture is a B-frame: the two bits after its start code say so."""
    place = picture.find(VOP)
    return place >= 0 and picture[place + 4] >> 6 == 2


def _with_marker(picture: bytes) -> bytes:
    """A picture whose header, if it has one, says that DivX packed the stream."""
    place = picture.index(VOP)
    marker = USER_DATA + b"DivX503b1393p\x00" if place else b""
    return picture[:place] + marker + picture[place:]


def write(sources: Sequence[Path], out: Path, text: str) -> None:
    """Write a text."""
    out.write_text(text)


def keep_start(sources: Sequence[Path], out: Path, box: str) -> None:
    """Keep what an MP4 file has before its first box of that name."""
    content = sources[0].read_bytes()
    out.write_bytes(content[: content.index(box.encode()) - 4])


def cut_bytes(sources: Sequence[Path], out: Path, share: str) -> None:
    """Keep a share of a file's bytes."""
    content = sources[0].read_bytes()
    out.write_bytes(content[: int(len(content) * float(share))])


def cut_packet(sources: Sequence[Path], out: Path, share: str, rest: str) -> None:
    """Cut a file off at the video packet that comes after a share of them.

    Args:
        rest: bytes of it that are kept, its header in the container counted; 0: the file ends at
            the border.
    """
    with av.open(str(sources[0])) as container:
        packets = container.demux(video=0)
        places = [packet.pos for packet in packets if packet.size and packet.pos is not None]
    end = places[int(len(places) * float(share))] + int(rest)
    out.write_bytes(sources[0].read_bytes()[:end])


def overwrite(sources: Sequence[Path], out: Path, share: str, count: str) -> None:
    """Write noise over some bytes, from a share of the file on."""
    content = bytearray(sources[0].read_bytes())
    place = int(len(content) * float(share))
    content[place : place + int(count)] = random.Random(share).randbytes(int(count))
    out.write_bytes(content)


def remove(sources: Sequence[Path], out: Path, share: str, count: str) -> None:
    """Take some bytes out, from a share of the file on."""
    content = bytearray(sources[0].read_bytes())
    place = int(len(content) * float(share))
    del content[place : place + int(count)]
    out.write_bytes(content)


def insert(sources: Sequence[Path], out: Path, share: str, count: str) -> None:
    """Put noise in, at a share of the file."""
    content = bytearray(sources[0].read_bytes())
    place = int(len(content) * float(share))
    content[place:place] = random.Random(share).randbytes(int(count))
    out.write_bytes(content)


def flip_bits(sources: Sequence[Path], out: Path, seed: str) -> None:
    """Flip one bit in each of three video packets, the first apart."""
    rng = random.Random(seed)
    content = bytearray(sources[0].read_bytes())
    with av.open(str(sources[0])) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size > 64]
    for packet in rng.sample(packets[1:], 3):
        place = -1
        while place < 0:  # else a header of the container lies within these bytes
            first = rng.randrange(32, len(packet) - 16)
            place = content.find(packet[first : first + 16])
        content[place] ^= 1 << rng.randrange(8)
    out.write_bytes(content)


def join_list(sources: Sequence[Path], out: Path, *arguments: str) -> None:
    """Join files by ffmpeg's list of them."""
    script = out.with_suffix(".txt")
    script.write_text("".join(f"file '{source.resolve()}'\n" for source in sources))
    line = ["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(script)]
    try:
        subprocess.run(
            [*line, *arguments, str(out)], check=True, capture_output=True, stdin=subprocess.DEVNULL
        )
    finally:
        script.unlink()


def join_bytes(sources: Sequence[Path], out: Path) -> None:
    """Put the bytes of files one after the other."""
    out.write_bytes(b"".join(source.read_bytes() for source in sources))


def piped(sources: Sequence[Path], out: Path, *arguments: str) -> None:
    """Have ffmpeg write to a pipe, where it cannot go back to fill in lengths and an index."""
    line = ["ffmpeg", "-v", "error", "-i", str(sources[0]), *arguments, "-"]
    with out.open("wb") as file:
        subprocess.run(
            line, check=True, stdout=file, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )


EDITS: dict[str, Callable[..., None]] = {
    edit.__name__: edit
    for edit in (
        write,
        set_matrix,
        set_edit,
        set_two_edits,
        drop_avi_index,
        swap_bytes,
        pack_bframes,
        keep_start,
        cut_bytes,
        cut_packet,
        overwrite,
        remove,
        insert,
        flip_bits,
        join_list,
        join_bytes,
        piped,
    )
}
"""The edits by the names that recipes call them."""
