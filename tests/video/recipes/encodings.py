"""Every codec that ffmpeg writes here, in the containers that it is met in."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.video.recipes.base import Recipe, ffmpeg

X264 = (
    *("-c:v", "libx264", "-preset", "veryfast", "-threads", "1"),
    *("-sc_threshold", "0", "-b_strategy", "0"),
)
X265 = ("-c:v", "libx265", "-preset", "veryfast")
MPEG4 = ("-c:v", "mpeg4", "-g", "12", "-q:v", "3")
MPEG2 = ("-c:v", "mpeg2video", "-g", "12", "-q:v", "3")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "20")
VP8 = ("-c:v", "libvpx", "-deadline", "good", "-cpu-used", "5", "-g", "20")
AOM = (
    "-c:v",
    "libaom-av1",
    "-crf",
    "25",
    "-b:v",
    "0",
    "-cpu-used",
    "8",
    "-g",
    "20",
    "-row-mt",
    "0",
)


@dataclass(frozen=True)
class Encoding:
    """One way to encode pictures, and the containers to put them in."""

    codec: str
    arguments: tuple[str, ...]
    endings: str
    """The endings of the containers, with blanks between."""
    size: str = "64x48"
    frames: int = 70
    rate: str = "25"


def x265(parameters: str, *more: str) -> tuple[str, ...]:
    """Arguments for x265, in one thread."""
    return (*X265, "-x265-params", f"log-level=none:pools=1:frame-threads=1:{parameters}", *more)


INTERLACED = ("-vf", "tinterlace=interleave_top,fieldorder=tff", "-flags", "+ildct+ilme")
ENCODINGS = {
    "h264": Encoding(
        "h264", (*X264, "-bf", "0", "-g", "15"), "mp4 mov mkv avi flv ts 3gp f4v h264"
    ),
    "h264b": Encoding(
        "h264", (*X264, "-bf", "3", "-g", "20"), "mp4 mov mkv avi flv ts m2ts mxf nut"
    ),
    "h264pyr": Encoding(
        "h264",
        (*X264, "-bf", "4", "-g", "25", "-x264-params", "b-pyramid=normal:ref=4"),
        "mp4 mkv ts h264",
    ),
    "h264open": Encoding(
        "h264",
        (*X264, "-bf", "3", "-g", "15", "-x264-params", "open-gop=1"),
        "mp4 mkv ts flv",
    ),
    "h264refresh": Encoding(
        "h264", (*X264, "-g", "15", "-x264-params", "intra-refresh=1:bframes=0"), "mp4 mkv ts"
    ),
    "h264onekey": Encoding("h264", (*X264, "-bf", "2", "-g", "1000"), "mp4 mkv avi"),
    "h264intra": Encoding("h264", (*X264, "-g", "1"), "mp4 mov avi"),
    "h264mbaff": Encoding("h264", (*X264, "-bf", "2", "-g", "12", *INTERLACED), "mp4 ts", "64x64"),
    "h264fake": Encoding(
        "h264", (*X264, "-bf", "2", "-g", "12", "-x264-params", "fake-interlaced=1"), "mp4", "64x64"
    ),
    "h264ten": Encoding("h264", (*X264, "-pix_fmt", "yuv420p10le", "-g", "15"), "mp4 mkv"),
    "h264p422": Encoding("h264", (*X264, "-pix_fmt", "yuv422p", "-g", "15"), "mp4 mkv mov"),
    "h264p444": Encoding("h264", (*X264, "-pix_fmt", "yuv444p", "-g", "15"), "mp4 mkv"),
    "h264rgb": Encoding("h264", ("-c:v", "libx264rgb", "-crf", "5", "-g", "15"), "mkv mp4"),
    "h264gray": Encoding("h264", (*X264, "-pix_fmt", "gray", "-g", "15"), "mp4"),
    "h264lossless": Encoding("h264", (*X264, "-qp", "0", "-g", "15"), "mp4"),
    "hevc": Encoding("hevc", x265("keyint=15:bframes=0"), "mp4 mkv ts hevc", "64x64"),
    "hevcb": Encoding(
        "hevc", x265("keyint=20:bframes=4:open-gop=0", "-tag:v", "hvc1"), "mp4 mov", "64x64"
    ),
    "hevcopen": Encoding(
        "hevc", x265("keyint=15:bframes=3:open-gop=1:b-adapt=0:scenecut=0"), "mp4 mkv ts", "64x64"
    ),
    "hevcten": Encoding("hevc", x265("keyint=15", "-pix_fmt", "yuv420p10le"), "mp4", "64x64"),
    "hevc422": Encoding("hevc", x265("keyint=15", "-pix_fmt", "yuv422p10le"), "mkv", "64x64"),
    "mpeg4": Encoding("mpeg4", (*MPEG4, "-bf", "0"), "mp4 avi mkv 3gp mov nut m4v"),
    "mpeg4b": Encoding("mpeg4", (*MPEG4, "-bf", "2"), "mp4 avi mkv m4v ts"),
    "mpeg4qpel": Encoding(
        "mpeg4", (*MPEG4, "-bf", "1", "-flags", "+qpel+mv4", "-mbd", "rd"), "avi mp4"
    ),
    "mpeg4field": Encoding("mpeg4", (*MPEG4, "-bf", "1", "-flags", "+ildct+ilme"), "avi mp4"),
    "dx50": Encoding("mpeg4", (*MPEG4, "-bf", "1", "-tag:v", "DX50"), "avi"),
    "divx": Encoding("mpeg4", (*MPEG4, "-bf", "0", "-tag:v", "DIVX"), "avi"),
    "xvidtag": Encoding("mpeg4", (*MPEG4, "-bf", "2", "-tag:v", "XVID"), "avi"),
    "xvid": Encoding("mpeg4", ("-c:v", "libxvid", "-bf", "2", "-g", "15", "-q:v", "3"), "avi mp4"),
    "xvid1": Encoding("mpeg4", ("-c:v", "libxvid", "-bf", "1", "-g", "15", "-q:v", "3"), "avi mkv"),
    "msmpeg4v2": Encoding("msmpeg4v2", ("-c:v", "msmpeg4v2", "-g", "12"), "avi asf"),
    "msmpeg4v3": Encoding("msmpeg4v3", ("-c:v", "msmpeg4", "-g", "12"), "avi mkv asf"),
    "h261": Encoding("h261", ("-c:v", "h261"), "mkv avi", "176x144", 30),
    "h263": Encoding("h263", ("-c:v", "h263", "-g", "12"), "3gp avi mov", "128x96"),
    "h263p": Encoding("h263", ("-c:v", "h263p", "-g", "12"), "avi mkv"),
    "flv1": Encoding("flv1", ("-c:v", "flv", "-g", "12"), "flv swf avi"),
    "mpeg1": Encoding("mpeg1video", ("-c:v", "mpeg1video", "-g", "12", "-bf", "0"), "mpg avi mkv"),
    "mpeg1b": Encoding(
        "mpeg1video", ("-c:v", "mpeg1video", "-g", "12", "-bf", "2"), "mpg ts m1v mkv"
    ),
    "mpeg2": Encoding("mpeg2video", (*MPEG2, "-bf", "0"), "mpg ts mkv avi"),
    "mpeg2b": Encoding("mpeg2video", (*MPEG2, "-bf", "2"), "mpg vob ts m2ts mkv m2v mp4 mxf"),
    "mpeg2closed": Encoding(
        "mpeg2video",
        (*MPEG2, "-bf", "2", "-flags", "+cgop", "-sc_threshold", "1000000000"),
        "mpg ts",
    ),
    "mpeg2field": Encoding(
        "mpeg2video", (*MPEG2, "-bf", "2", "-flags", "+ildct+ilme", "-top", "1"), "mpg ts mxf"
    ),
    "mpeg2p422": Encoding("mpeg2video", (*MPEG2, "-pix_fmt", "yuv422p"), "ts mov"),
    "mjpeg": Encoding("mjpeg", ("-c:v", "mjpeg", "-q:v", "3"), "avi mov mkv mp4 mjpeg nut"),
    "mjpeg422": Encoding("mjpeg", ("-c:v", "mjpeg", "-pix_fmt", "yuvj422p"), "avi mov"),
    "ljpeg": Encoding("ljpeg", ("-c:v", "ljpeg", "-strict", "-1"), "avi mkv", frames=20),
    "jpegls": Encoding("jpegls", ("-c:v", "jpegls"), "avi mov", frames=20),
    "vp8": Encoding("vp8", VP8, "webm mkv ivf avi"),
    "vp8alt": Encoding(
        "vp8", (*VP8, "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "100k"), "webm mkv ivf"
    ),
    "vp9": Encoding("vp9", VP9, "webm mkv mp4 ivf"),
    "vp9alt": Encoding(
        "vp9",
        (
            *("-c:v", "libvpx-vp9", "-cpu-used", "5", "-g", "30", "-auto-alt-ref", "1"),
            *("-lag-in-frames", "20", "-b:v", "100k"),
        ),
        "webm mp4 ivf",
    ),
    "vp9p444": Encoding("vp9", (*VP9, "-pix_fmt", "yuv444p"), "webm"),
    "av1": Encoding("av1", (*AOM, "-usage", "realtime"), "mp4 webm mkv ivf", frames=40),
    "av1alt": Encoding("av1", (*AOM, "-lag-in-frames", "19"), "mp4 mkv obu", frames=40),
    "svtav1": Encoding(
        "av1", ("-c:v", "libsvtav1", "-preset", "12", "-g", "20"), "mp4 webm", "64x64", 40
    ),
    "theora": Encoding("theora", ("-c:v", "libtheora", "-g", "12", "-q:v", "7"), "ogg ogv mkv"),
    "wmv1": Encoding("wmv1", ("-c:v", "wmv1", "-g", "12"), "wmv asf avi"),
    "wmv2": Encoding("wmv2", ("-c:v", "wmv2", "-g", "12"), "wmv asf mkv"),
    "prores": Encoding("prores", ("-c:v", "prores_ks"), "mov mkv", frames=20),
    "prores4444": Encoding(
        "prores",
        ("-c:v", "prores_ks", "-profile:v", "4", "-pix_fmt", "yuva444p10le"),
        "mov",
        frames=20,
    ),
    "dnxhd": Encoding(
        "dnxhd", ("-c:v", "dnxhd", "-profile:v", "dnxhr_sq"), "mov mxf mkv", "256x120", 10
    ),
    "ffv1": Encoding("ffv1", ("-c:v", "ffv1", "-level", "3", "-g", "5"), "mkv avi mov", frames=30),
    "ffv1rgb": Encoding("ffv1", ("-c:v", "ffv1", "-pix_fmt", "bgr0"), "mkv avi", frames=20),
    "huffyuv": Encoding("huffyuv", ("-c:v", "huffyuv"), "avi mkv", frames=20),
    "ffvhuff": Encoding("ffvhuff", ("-c:v", "ffvhuff"), "avi", frames=20),
    "utvideo": Encoding("utvideo", ("-c:v", "utvideo"), "avi mkv mov", frames=20),
    "magicyuv": Encoding("magicyuv", ("-c:v", "magicyuv", "-pix_fmt", "gbrp"), "avi", frames=20),
    "png": Encoding("png", ("-c:v", "png"), "mov avi mkv", frames=20),
    "apng": Encoding("apng", ("-c:v", "apng", "-f", "apng"), "apng", frames=20),
    "gif": Encoding("gif", ("-c:v", "gif"), "gif mov", frames=30),
    "rawvideo": Encoding("rawvideo", ("-c:v", "rawvideo"), "avi mkv nut", frames=20),
    "yuv4mpeg": Encoding("rawvideo", (), "y4m", frames=20),
    "rawbgr": Encoding("rawvideo", ("-c:v", "rawvideo", "-pix_fmt", "bgr24"), "avi nut", frames=20),
    "rawuyvy": Encoding(
        "rawvideo", ("-c:v", "rawvideo", "-pix_fmt", "uyvy422"), "avi mov", frames=20
    ),
    "v210": Encoding("v210", ("-c:v", "v210"), "mov avi", "96x48", 10),
    "dv": Encoding(
        "dvvideo", ("-c:v", "dvvideo", "-pix_fmt", "yuv420p"), "dv avi mov", "720x576", 6
    ),
    "dvntsc": Encoding(
        "dvvideo", ("-c:v", "dvvideo", "-pix_fmt", "yuv411p"), "dv", "720x480", 6, "30000/1001"
    ),
    "cinepak": Encoding("cinepak", ("-c:v", "cinepak", "-g", "6"), "avi mov", frames=20),
    "svq1": Encoding("svq1", ("-c:v", "svq1", "-g", "8"), "mov avi", frames=30),
    "qtrle": Encoding("qtrle", ("-c:v", "qtrle", "-g", "8"), "mov", frames=30),
    "rpza": Encoding("rpza", ("-c:v", "rpza"), "mov", frames=30),
    "msvideo1": Encoding("msvideo1", ("-c:v", "msvideo1"), "avi", frames=30),
    "snow": Encoding("snow", ("-c:v", "snow", "-strict", "-2", "-g", "8"), "avi mkv", frames=30),
    "jpeg2000": Encoding("jpeg2000", ("-c:v", "jpeg2000"), "mov mkv avi mxf", frames=20),
    "zmbv": Encoding("zmbv", ("-c:v", "zmbv", "-g", "8"), "avi", frames=30),
    "flashsv": Encoding("flashsv", ("-c:v", "flashsv", "-g", "8"), "flv", frames=30),
    "asv1": Encoding("asv1", ("-c:v", "asv1"), "avi", frames=20),
    "rv10": Encoding("rv10", ("-c:v", "rv10", "-g", "12"), "rm", "64x64"),
    "rv20": Encoding("rv20", ("-c:v", "rv20", "-g", "12"), "rm", "64x64"),
    "cfhd": Encoding("cfhd", ("-c:v", "cfhd"), "mov", "96x64", 10),
    "dirac": Encoding("dirac", ("-c:v", "vc2"), "mkv", frames=10),
    "speedhq": Encoding("speedhq", ("-c:v", "speedhq"), "avi mov", "64x64", 10),
}
"""Every way to encode, by the name that recipes begin with."""

FREE = "h264 hevc mpeg4 mpeg1video mpeg2video vp8 vp9 av1 theora rawvideo"
"""Codecs that take many pixel formats, and get the usual one where none is asked for."""


def pictures(size: str = "64x48", frames: int = 70, rate: str = "25") -> tuple[str, ...]:
    """Input arguments: moving pictures that all differ."""
    source = f"testsrc2=size={size}:rate={rate},scroll=h=0.11:v=0.07,noise=alls=8:all_seed=7"
    if any(int(side) % 2 for side in size.split("x")):
        source += f",scale={size.replace('x', ':')}"  # testsrc2 gives even sizes only
    return ("-f", "lavfi", "-i", f"{source},trim=end_frame={frames},setpts=N/({rate})/TB")


def encoded(name: str, ending: str) -> Recipe:
    """The recipe that puts an encoding into a container."""
    way = ENCODINGS[name]
    usual = (
        way.codec in FREE.split()
        and "-pix_fmt" not in way.arguments
        and "libx264rgb" not in way.arguments
    )
    needed = ("-pix_fmt", "yuv420p") if usual else ()
    command = ffmpeg(*pictures(way.size, way.frames, way.rate), *needed, *way.arguments)
    return Recipe(f"{name}_{ending}", ending, way.codec, command)


def encodings() -> Iterator[Recipe]:
    """Every encoding in every one of its containers."""
    for name, way in ENCODINGS.items():
        for ending in way.endings.split():
            yield encoded(name, ending)
