"""Decoded frames to RGB pictures, with the pixels and the orientation that `ffmpeg` gives them.

The oracle is ffmpeg -i FILE -pix_fmt rgb24: it turns a frame as the display matrix says, scales it
bicubically to the size of the first one, and converts it.
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
"""Formats of which libswscale's direct conversion gives the pixels of the filter graph, where the
height is even."""
Size = tuple[int, int]
"""Width and height, in pixels."""
Signs = tuple[int, ...]
"""The entries (a, b, c, d) of a display matrix in units of their scale."""
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
"""The display matrices (a, b, c, d) in units of their scale: quarter turns of np.rot90, whether the
turned picture is then mirrored left to right, and FFmpeg's filters that do the same."""


QUARTERS = (IDENTITY, (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""The signs of so many quarter turns against the clock."""


def display_matrix(frame: av.VideoFrame) -> Signs:
    """The signs (a, b, c, d) of the frame's display matrix; a picture upright has (1, 0, 0, 1).

    Raises:
        DecodeError: it turns by an angle that is no quarter turn.
    """
    try:
        side_data = frame.side_data
    except ValueError:  # a kind that PyAV does not know lies beside it: mirrors cannot be told
        return QUARTERS[round(frame.rotation / 90) % 4]
    if not len(side_data):
        return IDENTITY
    found = side_data.get("DISPLAYMATRIX")
    if found is None:
        return IDENTITY
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, found)), np.int32)[:5].tolist()
    if not (any((a, b)) and any((c, d))):
        return IDENTITY  # means nothing, and ffmpeg leaves it
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
    """Whether PyAV's own conversion of the frame gives the pixels that `ffmpeg` does."""
    return frame.format.name in PLAIN and not frame.interlaced_frame and frame.height % 2 == 0


@lru_cache(maxsize=16)
def _graph(format_: str, size: Size, colours: tuple[int, int], filters: str) -> av.filter.Graph:
    """FFmpeg's filters for frames of one format, size, colour space and range."""
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
    """The frame after FFmpeg's filters, separated by commas, as its command would apply them."""
    colours = (int(frame.colorspace), int(frame.color_range))
    graph = _graph(frame.format.name, (frame.width, frame.height), colours, filters)
    graph.push(frame)
    return graph.pull()  # type: ignore[return-value]


def turned_size(size: Size, signs: Sequence[int]) -> Size:
    """A size after the turn of a display matrix."""
    return (size[1], size[0]) if signs[0] == 0 else size


class ToRGB:
    """Frames of one video to pictures of one size.

    Args:
        size: of the video's first frame, as decoded.
        signs: of that frame's display matrix, where not all frames have the same one.
    """

    def __init__(self, size: Size, signs: Signs | None = None) -> None:
        self.size = size
        self.signs = signs

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, turned as it is shown: a view of memory that the next frame may take.

        Raises:
            DecodeError: it is turned by an angle that is no quarter turn.
        """
        signs = display_matrix(frame)
        shown = turned_size(self.size, self.signs or signs)
        size, quick = (frame.width, frame.height), is_plain(frame)
        quick &= signs == IDENTITY or not (size[0] % 2 or size[1] % 2)
        if not quick or turned_size(size, signs) != shown:
            return _pixels(filtered(frame, _filters(frame, signs, shown)))
        quarters, mirrored, _ = TURNS[signs]
        image = np.rot90(_pixels(_to_rgb(frame)), quarters)
        return image[:, ::-1] if mirrored else image


def _to_rgb(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame in RGB, converted as its own colours ask, whatever was converted before."""
    colours = (frame.format.name, int(frame.colorspace), int(frame.color_range))
    return _reformatter(frame.width, frame.height, *colours).reformat(
        frame, format="rgb24", threads=1
    )


@lru_cache(maxsize=16)
def _reformatter(*_: int | str) -> VideoReformatter:
    """A converter for frames of one size, format, colour space and range."""
    return VideoReformatter()


def _filters(frame: av.VideoFrame, signs: Signs, shown: Size) -> str:
    """What ffmpeg's command puts between decoder and RGB.

    It turns 4:2:2 and the like, which no filter can, once they are RGB.
    """
    turn = TURNS[signs][2]
    late = signs[0] == 0 and frame.format.chroma_width(64) != frame.format.chroma_height(64)
    width, height = turned_size(shown, signs) if late else shown
    scale = f"scale={width}:{height}:flags=bicubic,format=rgb24"
    return ",".join(filter(None, (scale, turn) if late else (turn, scale)))


def shrunk(frame: av.VideoFrame, size: Size) -> av.VideoFrame:
    """The frame in 4:2:0 and in that size, scaled bicubically; not turned."""
    if is_plain(frame):
        bicubic = Interpolation.BICUBIC
        return VideoReformatter().reformat(
            frame, *size, "yuv420p", interpolation=bicubic, threads=1
        )
    return filtered(frame, f"scale={size[0]}:{size[1]}:flags=bicubic,format=yuv420p")


def _pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3): a view of a frame in RGB."""
    (plane,) = frame.planes
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height]
    return rows[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
