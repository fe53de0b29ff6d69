"""Convert decoded frames to RGB pictures, with the pixels and orientation of the ffmpeg command.

The reference is ffmpeg -i FILE -pix_fmt rgb24: it rotates a frame as the display matrix says,
scales it bicubically to the size of the first frame, and converts it.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from videomae.video.interface import DecodeError

PLAIN = ("yuv420p", "yuvj420p")
"""Pixel formats whose direct conversion by libswscale gives the same pixels as the filter graph, if
the height is even."""
Size = tuple[int, int]
"""Width and height, in pixels."""
Signs = tuple[int, ...]
"""Entries (a, b, c, d) of a display matrix in units of their scale: each -1, 0 or 1."""
IDENTITY = (1, 0, 0, 1)
TURNS: dict[Signs, tuple[int, bool, str]] = {
    IDENTITY: (0, False, ""),
    (0, 1, -1, 0): (3, False, "transpose=clock"),
    (-1, 0, 0, -1): (2, False, "hflip,vflip"),
    (0, -1, 1, 0): (1, False, "transpose=cclock"),
    (-1, 0, 0, 1): (0, True, "hflip"),
    (1, 0, 0, -1): (2, True, "vflip"),
    (0, 1, 1, 0): (3, True, "transpose=cclock_flip"),
    (0, -1, -1, 0): (1, True, "transpose=clock_flip"),
}
"""Rotation by the signs of the display matrix: quarter turns of np.rot90, whether the rotated
picture is then mirrored left to right, and FFmpeg's filters for both."""


QUARTERS = (IDENTITY, (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""Signs of the display matrix for 0, 1, 2 and 3 quarter turns counter-clockwise."""


def display_matrix(frame: av.VideoFrame) -> Signs:
    """Return the signs (a, b, c, d) of a frame's display matrix; (1, 0, 0, 1) means upright.

    Raises:
        DecodeError: the matrix rotates by an angle that is no quarter turn.
    """
    try:
        side_data = frame.side_data
    except ValueError:  # PyAV does not know another side data's kind: mirroring stays unknown
        return QUARTERS[round(frame.rotation / 90) % 4]
    if not len(side_data):
        return IDENTITY
    found = side_data.get("DISPLAYMATRIX")
    if found is None:
        return IDENTITY
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, found)), np.int32)[:5].tolist()
    if not (any((a, b)) and any((c, d))):
        return IDENTITY  # a matrix without meaning, which ffmpeg ignores
    rows = [
        [value / max(abs(pair[0]), abs(pair[1])) for value in pair] for pair in ((a, b), (c, d))
    ]
    signs = tuple(round(value) for row in rows for value in row)
    slant = max(min(map(abs, row)) for row in rows)
    if signs not in TURNS or slant > 1 / 57:  # a degree, as ffmpeg allows
        matrix = ", ".join(f"{value / 65536:g}" for value in (a, b, c, d))
        raise DecodeError(
            f"its display matrix ({matrix}) is no quarter turn and no mirror: encode it upright"
        )
    return signs


def is_plain(frame: av.VideoFrame) -> bool:
    """Tell whether PyAV's own conversion of a frame gives the same pixels as the ffmpeg command."""
    return frame.format.name in PLAIN and not frame.interlaced_frame and frame.height % 2 == 0


@lru_cache(maxsize=16)
def _graph(format_: str, size: Size, colours: tuple[int, int], filters: str) -> av.filter.Graph:
    """Make a graph of FFmpeg filters for frames of one format, size, colour space and range."""
    graph = av.filter.Graph()
    graph.threads = 1  # loaders run one process per core
    kind, unit = av.VideoFormat(format_), Fraction(1, av.time_base)
    nodes = [graph.add_buffer(width=size[0], height=size[1], format=kind, time_base=unit)]
    for each in filters.split(","):
        name, _, options = each.partition("=")
        nodes.append(graph.add(name, options or None))
    nodes.append(graph.add("buffersink"))
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    return graph


def filtered(frame: av.VideoFrame, filters: str) -> av.VideoFrame:
    """Apply FFmpeg filters, separated by commas, to a frame, as the ffmpeg command does."""
    colours = (int(frame.colorspace), int(frame.color_range))
    graph = _graph(frame.format.name, (frame.width, frame.height), colours, filters)
    graph.push(frame)
    return graph.pull()  # type: ignore[return-value]


def turned_size(size: Size, signs: Sequence[int]) -> Size:
    """Return a size after the rotation by a display matrix."""
    return (size[1], size[0]) if signs[0] == 0 else size


class ToRGB:
    """Converter of one video's frames to RGB pictures of one size.

    Args:
        size: size of the video's first frame, as decoded.
        signs: signs of the first frame's display matrix, if the frames' matrices differ.
    """

    def __init__(self, size: Size, signs: Signs | None = None) -> None:
        self.size = size
        self.signs = signs

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Convert a frame to RGB, rotated as it is shown: (H, W, 3) uint8.

        The result is a view of memory that the next call may overwrite.

        Raises:
            DecodeError: the frame is rotated by an angle that is no quarter turn.
        """
        signs = display_matrix(frame)
        shown = turned_size(self.size, self.signs or signs)
        size, quick = (frame.width, frame.height), is_plain(frame)
        quick &= signs == IDENTITY or not (size[0] % 2 or size[1] % 2)
        if not quick or turned_size(size, signs) != shown:
            return pixels(filtered(frame, _filters(frame, signs, shown)))
        quarters, mirrored, _ = TURNS[signs]
        image = np.rot90(pixels(_to_rgb(frame)), quarters)
        return image[:, ::-1] if mirrored else image


def _to_rgb(frame: av.VideoFrame) -> av.VideoFrame:
    """Convert a frame to RGB by its own colour space, independent of earlier frames."""
    colours = (frame.format.name, int(frame.colorspace), int(frame.color_range))
    return _reformatter(frame.width, frame.height, *colours).reformat(
        frame, format="rgb24", threads=1
    )


@lru_cache(maxsize=16)
def _reformatter(*_: int | str) -> VideoReformatter:
    """Return the converter for frames of one size, format, colour space and range."""
    return VideoReformatter()


def _filters(frame: av.VideoFrame, signs: Signs, shown: Size) -> str:
    """Return the filters that the ffmpeg command puts between decoder and RGB.

    Formats such as 4:2:2, which no filter can rotate, are rotated after the conversion to RGB.
    """
    turn = TURNS[signs][2]
    late = signs[0] == 0 and frame.format.chroma_width(64) != frame.format.chroma_height(64)
    width, height = turned_size(shown, signs) if late else shown
    scale = f"scale={width}:{height}:flags=bicubic,format=rgb24"
    return ",".join(filter(None, (scale, turn) if late else (turn, scale)))


def shrunk(frame: av.VideoFrame, size: Size) -> av.VideoFrame:
    """Scale a frame bicubically to that size, and convert it to 4:2:0, without rotation."""
    if is_plain(frame):
        bicubic = Interpolation.BICUBIC
        return VideoReformatter().reformat(
            frame, *size, "yuv420p", interpolation=bicubic, threads=1
        )
    return filtered(frame, f"scale={size[0]}:{size[1]}:flags=bicubic,format=yuv420p")


def pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return a view of an RGB frame's pixels: (H, W, 3) uint8."""
    (plane,) = frame.planes
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height]
    return rows[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
