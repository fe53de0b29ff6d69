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
"""Formats of which libswscale's direct conversion gives the pixels of the filter graph."""
IDENTITY = (1, 0, 0, 1)
TURNS: dict[tuple[int, ...], tuple[int, bool, str]] = {
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
Size = tuple[int, int]
"""Width and height, in pixels."""


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...]:
    """The signs (a, b, c, d) of the frame's display matrix; a picture upright has (1, 0, 0, 1).

    Raises:
        DecodeError: it turns by an angle that is no quarter turn.
    """
    side_data = frame.side_data
    if not len(side_data):
        return IDENTITY
    found = side_data.get("DISPLAYMATRIX")
    if found is None:
        return IDENTITY
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, found)), np.int32)[:5].astype(float)
    scale = max(map(abs, (a, b, c, d)))
    signs = tuple(round(value / scale) for value in (a, b, c, d)) if scale else ()
    slant = max(min(abs(a), abs(b)), min(abs(c), abs(d)))
    if signs not in TURNS or slant > scale / 57:  # a degree, as ffmpeg allows
        raise DecodeError(
            f"its display matrix {[a / 65536, b / 65536, c / 65536, d / 65536]} is no quarter turn "
            "and no mirror: encode it again upright"
        )
    return signs


def is_plain(frame: av.VideoFrame) -> bool:
    """Whether PyAV's own conversion of the frame gives the pixels that `ffmpeg` does."""
    return frame.format.name in PLAIN and not frame.interlaced_frame


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
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, turned as it is shown: a view of memory that the next frame may take.

        Raises:
            DecodeError: it is turned by an angle that is no quarter turn.
        """
        signs = display_matrix(frame)
        quarters, mirrored, filters = TURNS[signs]
        size = (frame.width, frame.height)
        even = signs == IDENTITY or not (size[0] % 2 or size[1] % 2)
        if size != self.size or not even or not is_plain(frame):
            return _pixels(filtered(frame, self._filters(frame, signs, filters)))
        image = np.rot90(
            _pixels(self.reformatter.reformat(frame, format="rgb24", threads=1)), quarters
        )
        return image[:, ::-1] if mirrored else image

    def _filters(self, frame: av.VideoFrame, signs: Sequence[int], turn: str) -> str:
        """What ffmpeg's command puts between decoder and RGB. It turns 4:2:2 and the like, which
        no filter can, once they are RGB."""
        lying = signs[0] == 0
        even = frame.format.chroma_width(64) == frame.format.chroma_height(64)
        first, last = ("", turn) if lying and not even else (turn, "")
        width, height = self.size if last else turned_size(self.size, signs)
        return ",".join(
            filter(None, (first, f"scale={width}:{height}:flags=bicubic,format=rgb24", last))
        )


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
