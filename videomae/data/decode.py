"""Videos to frames, by whichever library is there: the interface, and the choice.

A decoder is opened where it is used, and never crosses to another process.
"""

import importlib
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from videomae.config import ConfigError, DataConfig
from videomae.data.clips import Clip

if TYPE_CHECKING:
    from videomae.data.packs import Pack

Frames = NDArray[np.uint8]
"""(T, H, W, 3), RGB, turned as the file says."""
AUTO = "auto"
DECODERS = {
    "pyav": "videomae.data.decoders.pyav:PyAVVideo",
    "decord": "videomae.data.decoders.decord:DecordVideo",
    "torchcodec": "videomae.data.decoders.torchcodec:TorchCodecVideo",
}
"""What data.decoder may name, and the class that does it, imported when it is needed; auto takes
the first that can be."""
PACK_INDEX = "index.arrow"
"""The file that makes a root a pack."""


class DecodeError(Exception):
    """A video that cannot be read: missing, damaged, or not a video."""


class Video(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """How many frames it has; at least 1."""

    @property
    def fps(self) -> float | None:
        """Frames per second; None: not known."""

    @property
    def reference_stride(self) -> int:
        """Frames whose number is a multiple of it need none of those between them; 1: unknown."""

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of those numbers, 0-based, in any order and as often as asked.

        Raises:
            DecodeError: they cannot be decoded.
        """


def check_file(path: Path) -> None:
    """Raise DecodeError unless there is a file with something in it."""
    try:
        if path.is_dir():
            raise DecodeError(f"{path} is a directory, not a video file")
        if path.stat().st_size == 0:
            raise DecodeError(f"{path} is empty (0 bytes)")
    except (OSError, ValueError) as error:
        raise DecodeError(f"{path}: {error}") from error


@cache
def decoder(name: str) -> tuple[str, type]:
    """The decoder that data.decoder=name means, and its class.

    Raises:
        ConfigError: there is none of that name, or its library cannot be imported.
    """
    if name not in (AUTO, *DECODERS):
        known = ", ".join((AUTO, *DECODERS))
        raise ConfigError(f"no decoder {name!r}; data.decoder is one of {known}")
    reasons = []
    for candidate in DECODERS if name == AUTO else [name]:
        module, _, kind = DECODERS[candidate].partition(":")
        try:
            return candidate, getattr(importlib.import_module(module), kind)
        except (ImportError, OSError, RuntimeError) as error:  # absent, or its libraries are
            reasons.append(f"{candidate}: {str(error).splitlines()[0]}")
    raise ConfigError(
        f"data.decoder={name} cannot be used ({'; '.join(reasons)}); python -m videomae.doctor "
        "says what is there"
    )


def check_decoder(name: str) -> str:
    """The decoder that data.decoder=name means.

    Raises:
        ConfigError: it cannot be used.
    """
    return decoder(name)[0]


def usable_decoders() -> list[str]:
    """The decoders whose library can be imported here."""

    def usable(name: str) -> bool:
        try:
            return check_decoder(name) == name
        except ConfigError:
            return False

    return [name for name in DECODERS if usable(name)]


@lru_cache(maxsize=64)
def pack_at(root: Path) -> "Pack | None":
    """The pack that lies there; None: `root` is a folder of videos.

    Raises:
        PackError: it cannot be read.
    """
    if not (root / PACK_INDEX).exists():
        return None
    from videomae.data.packs import Pack

    return Pack(root)


def open_clip(clip: Clip, data: DataConfig) -> Video:
    """The video of one line of a clip list.

    Raises:
        DecodeError: it cannot be opened.
    """
    root = Path(data.root or "")
    if pack := pack_at(root):
        return pack.open(clip)
    path = root / clip.path
    if clip.total is None:
        video: Video = decoder(data.decoder)[1](path)
        return video
    from videomae.data.decoders.folder import FrameFolder

    assert data.frame_template is not None  # read_clips has checked it
    assert clip.start is not None
    return FrameFolder(path, data.frame_template, clip.start, clip.total)
