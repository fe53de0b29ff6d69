"""Open video files safely through PyAV: the allowed formats, and the stream that is read.

All code that opens untrusted video files through PyAV uses this module, so that no file makes
FFmpeg open another file or a network connection.
"""

import os
import re
from collections.abc import Mapping
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from videomae.config import MAX_CLIP_BYTES
from videomae.video.interface import PIXEL_BYTES, DecodeError

FORMATS = (
    # containers
    "mov,mp4,matroska,webm,avi,flv,live_flv,kux,asf,asf_o,mpeg,mpegts,ogg,nut,mxf,gxf,lxf,rm,ivr,"
    "wtv,ty,pva,pmp,nsv,nuv,dhav,swf,dv,mtv,vivo,xmv,gif,apng,yuv4mpegpipe,ivf,obu,"
    # bare streams
    "h261,h263,h264,hevc,vvc,evc,m4v,mpegvideo,av1,vc1,vc1test,dirac,dnxhd,cavsvideo,avs2,avs3,"
    "mjpeg,mjpeg_2000,mpjpeg,smjpeg,"
    # films of games, and old ones
    "4xm,anm,bethsoftvid,bfi,bink,c93,cdxl,cine,dfa,dsicin,dxa,ea,ea_cdata,film_cpk,filmstrip,"
    "flic,idcin,ifv,ipmovie,jv,mm,moflex,mods,mv,mvi,msnwctcp,paf,psxstr,rl2,roq,rpl,sga,siff,smk,"
    "smush,thp,tiertexseq,tmv,usm,vmd,wc3movie,wsvqa,yop,"
    # sound, which may have a cover, and single pictures
    "mp3,flac,aiff,ape,caf,dsf,tta,w64,wav,wv,"
    "bmp_pipe,dpx_pipe,exr_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,pam_pipe,"
    "png_pipe,ppm_pipe,qoi_pipe,tiff_pipe,webp_pipe"
)
"""Demuxers that may open a file: those that read only this one file."""
VideoPacket: TypeAlias = "Packet[VideoStream]"
ANY_TEXT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""Arguments of av.open with which titles and comments that are not UTF-8 do not prevent reading;
PyAV 19 always reads such files."""
SAFE = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
"""Options of FFmpeg that restrict a container to FORMATS and to local files."""
FASTEST = 1000
"""Largest plausible mean frame rate, in frames per second."""
GENPTS = 1
"""Container flag AVFMT_FLAG_GENPTS, which PyAV sets: with it FFmpeg invents missing times, in
coding order."""
LEADING = (
    (b"ffconcat", "a concat script"),
    (b"#EXTM3U", "an HLS playlist"),
    (b"v=0", "an SDP file"),
    (b"[playlist]", "a playlist"),
)
ANYWHERE = ((b"<MPD", "a DASH manifest"), (b"#EXTM3U", "an HLS playlist"))
NAMED = {".avs": "an AviSynth script", ".vpy": "a VapourSynth script"}
"""Scripts that some builds of FFmpeg recognise only by the ending of their name."""
PATTERN = re.compile(
    r"%(\d*d|[*?\[\]{}]).*\.(bmp|dpx|exr|gif|jp2|jpe?g|pgm|png|ppm|tga|tiff?|webp|xpm)$", re.I
)
"""File names that FFmpeg may take for a pattern of several pictures."""
INT_MAX = 2**31 - 1
LOOKED_AT = 1 << 12
"""Bytes at the start of a file that are searched for a script."""


def script_kind(path: Path) -> str | None:
    """Name the kind of a file that makes FFmpeg open others, as "an HLS playlist"; None: none.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(LOOKED_AT)
    if kind := NAMED.get(path.suffix.lower()):
        return kind
    if PATTERN.search(path.name):
        return "a pattern of picture names"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, kind in LEADING:
        if text.startswith(start):
            return kind
    if b"\0" in head[:64]:  # a binary file may hold any words
        return None
    return next((kind for word, kind in ANYWHERE if word in head), None)


def check_file(path: Path) -> Path:
    """Check that a path is a file that is not empty and no script; return its absolute path.

    Raises:
        DecodeError: the file is missing, a directory, empty, or a script or playlist.
    """
    try:
        if path.is_dir():
            raise DecodeError(f"{path} is a directory, not a video file")
        if path.stat().st_size == 0:
            raise DecodeError(f"{path} is empty (0 bytes)")
        kind = script_kind(path)
    except (OSError, ValueError) as error:
        raise DecodeError(f"{path}: {error}") from error
    if kind:
        raise DecodeError(f"{path} is {kind}, no video: it is refused, as it leads to other files")
    return Path(os.path.abspath(path))


def open_container(source: Path | BytesIO, name: Path) -> InputContainer:
    """Open a video file, or one in memory, for demuxing.

    Args:
        source: an absolute path as check_file returns it, or the content of an MP4 file.
        name: name of the file in error messages.

    Raises:
        DecodeError: the file is in none of FORMATS.
        av.FFmpegError, OSError, ValueError: the file cannot be opened.
    """
    try:
        if isinstance(source, BytesIO):
            source.seek(0)
            # Without this option FFmpeg would decode the first frame to probe the stream.
            container = av.open(source, "r", format="mp4", options={"skip_frame": "all"})
        else:
            container = av.open(str(source), "r", options=SAFE, **ANY_TEXT)
    except av.ArgumentError as error:
        raise DecodeError(f"{name}: it is of no video format that is read here") from error
    container.flags &= ~GENPTS
    return container


def best_stream(
    container: InputContainer,
    name: Path,
    max_bytes: int = MAX_CLIP_BYTES,
    options: Mapping[str, str] = MappingProxyType({}),
) -> VideoStream:
    """Return the video stream that av_find_best_stream selects, set up to decode in one thread.

    Args:
        name: name of the file in error messages.
        max_bytes: bytes of memory that reading may take: larger pictures are not decoded.
        options: options of the decoder.

    Raises:
        DecodeError: there is no video stream, or its codec is unknown.
    """
    stream = container.streams.best("video")
    if stream is None:
        raise DecodeError(f"{name} holds no video stream")
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:
        raise DecodeError(f"{name}: its video stream is of no codec that is known here")
    stream.codec_context.thread_count = 1  # loaders run one process per core
    most = {"max_pixels": str(min(max_bytes // PIXEL_BYTES, INT_MAX))}
    stream.codec_context.options = {**most, **options}
    return stream


def picture_size(source: Path, name: Path) -> tuple[int, int]:
    """Return the coded width and height of a file's pictures, in pixels, without decoding.

    Args:
        source: an absolute path as check_file returns it.
        name: name of the file in error messages.

    Raises:
        DecodeError: the file cannot be opened, or holds no video.
    """
    try:
        with open_container(source, name) as container:
            context = best_stream(container, name).codec_context
            return context.width, context.height
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(f"{name}: {str(error).splitlines()[0]}") from error


def mean_rate(path: Path) -> float | None:
    """Return the mean frames per second of a video file; None: not known, or no video."""
    try:
        with open_container(check_file(path), path) as container:
            rate = frame_rate(best_stream(container, path))
    except (av.FFmpegError, OSError, ValueError, DecodeError):
        return None
    return float(rate) if rate else None


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Return the mean frames per second; if unknown or above FASTEST, FFmpeg's guess, or None."""
    average, guessed = stream.average_rate, stream.guessed_rate
    if average and (average <= FASTEST or not guessed):
        return average
    return guessed or None
