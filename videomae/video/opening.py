"""Open the video of a clip-list line: by a decoder, from a pack, or from a folder of frames."""

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

from videomae.config import ConfigError, DataConfig
from videomae.lists.formats import Clip
from videomae.run.addresses import is_address
from videomae.run.extensions import FORM, extension, is_extension
from videomae.run.worker_pool import memory_limited
from videomae.video.folder import FrameFolder
from videomae.video.interface import DecodeError, Video, check_count, within_memory
from videomae.video.packs import PACK_INDEX, Pack
from videomae.video.ranges import VideoRange

AUTO = "auto"
DECODERS = {
    "pyav": "videomae.video.pyav:PyAVVideo",
    "decord": "videomae.video.decord:DecordVideo",
    "torchcodec": "videomae.video.torchcodec:TorchCodecVideo",
}
"""Decoders that data.decoder may name besides code of the user's own, and their classes, which are
imported when needed; `auto` takes the first whose library can be imported."""


@cache
def decoder(name: str) -> tuple[str, type]:
    """Return the decoder that data.decoder=name means, and its class.

    Raises:
        ConfigError: no decoder has that name, or its library cannot be imported.
    """
    if is_extension(name):
        return name, extension("data.decoder", name)
    if name not in (AUTO, *DECODERS):
        known = ", ".join((AUTO, *DECODERS))
        raise ConfigError(f"no decoder {name!r}; data.decoder is one of {known}, or {FORM}")
    reasons = []
    for candidate in DECODERS if name == AUTO else [name]:
        module, _, kind = DECODERS[candidate].partition(":")
        try:
            return candidate, getattr(importlib.import_module(module), kind)
        except (ImportError, OSError, RuntimeError) as error:  # it or its libraries are absent
            reasons.append(f"{candidate}: {str(error).splitlines()[0]}")
    raise ConfigError(
        f"data.decoder={name} cannot be used ({'; '.join(reasons)}); python -m videomae.doctor "
        "says what is there"
    )


def check_decoder(name: str) -> str:
    """Return the name of the decoder that data.decoder=name means.

    Raises:
        ConfigError: the decoder cannot be used.
    """
    return decoder(name)[0]


def usable_decoders() -> list[str]:
    """List the decoders whose libraries can be imported."""

    def usable(name: str) -> bool:
        try:
            return check_decoder(name) == name
        except ConfigError:
            return False

    return [name for name in DECODERS if usable(name)]


@lru_cache(maxsize=64)
def pack_at(
    root: str | Path, cache_dir: str | None = None, cache_gb: float | None = None
) -> Pack | None:
    """Open the pack at an address or in a directory; None: the directory is a folder of videos.

    Args:
        cache_dir, cache_gb: see DataConfig.

    Raises:
        PackError: the pack cannot be read.
        AddressError: there is no pack at the address, or it cannot be reached.
    """
    if is_address(root):
        return Pack.at(str(root), cache_dir, cache_gb)
    if not os.path.exists(Path(root) / PACK_INDEX):
        return None
    return Pack(Path(root))


def pack_of(data: DataConfig) -> Pack | None:
    """Open the pack that data.root names; None: it is a folder of videos.

    Raises:
        PackError, AddressError: as pack_at.
    """
    return pack_at(data.root or "", data.cache_dir, data.cache_gb)


def ask_for(clips: Iterable[Clip], data: DataConfig) -> None:
    """Have what the videos of clips are read from fetched, if data.root is an address."""
    if is_address(data.root) and (pack := pack_of(data)):
        pack.ask(clips)


def wait_for(clip: Clip, data: DataConfig) -> None:
    """Wait until the video of a clip can be read, if data.root is an address.

    Call it before a time limit begins: a connection may take its time.

    Raises:
        AddressError: the connection is lost, or the cache's disk is full.
    """
    if is_address(data.root) and (pack := pack_of(data)):
        pack.wait(clip)


@contextmanager
def reading_here(what: str, max_clip_bytes: int) -> Iterator[None]:
    """Limit the memory of a block that reads videos in this process to `max_clip_bytes`.

    Raises:
        DecodeError: the memory does not suffice.
    """
    with within_memory(what), memory_limited(max_clip_bytes):
        yield


def open_clip(clip: Clip, data: DataConfig) -> Video:
    """Open the video of one line of a clip list.

    Raises:
        DecodeError: the video cannot be opened.
    """
    if pack := pack_of(data):
        return pack.open(clip, data.max_clip_bytes)
    path = Path(data.root or "") / clip.path
    if clip.start is not None:
        assert data.frame_template is not None  # read_clips has checked it
        template = data.frame_template
        return FrameFolder(path, template, clip.start, clip.total, data.max_clip_bytes)
    video = _open_file(path, data)
    return video if clip.span is None else VideoRange(path, video, clip.span)


def _open_file(path: Path, data: DataConfig) -> Video:
    """Open a video file by the decoder that data.decoder means.

    Raises:
        DecodeError: the video cannot be opened.
        DecoderError: the decoder is the user's own, and says that it has no frames.
    """
    kind = decoder(data.decoder)[1]
    if not is_extension(data.decoder):
        video: Video = kind(path, data.max_clip_bytes)
        return video
    try:
        video = kind(path, data.max_clip_bytes)
    except OSError as error:
        raise DecodeError(f"{data.decoder} cannot open it ({error})") from error
    check_count(video)
    return video
