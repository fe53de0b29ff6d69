"""What people do to videos without encoding them again: they cut, remux, join, turn and stream."""

from collections.abc import Iterator
from dataclasses import replace

from tests.video.recipes.base import Recipe, derive, ffmpeg
from tests.video.recipes.edits import MATRICES
from tests.video.recipes.encodings import encoded

COPY = ("-map", "0", "-c", "copy")
CUT = (
    "h264_mp4 h264b_mp4 h264b_mkv h264b_ts h264pyr_mp4 h264open_mp4 h264refresh_mp4 h264onekey_mp4"
    " hevc_mp4 hevcb_mp4 hevcopen_mp4 hevcopen_mkv mpeg4_mp4 mpeg4b_mp4 mpeg4b_mkv mpeg4b_avi"
    " mpeg2b_mpg mpeg2b_ts vp8_webm vp9_mp4 vp9alt_webm av1_mp4 mjpeg_avi mjpeg_mp4 theora_ogg"
)
"""What is cut by `-c copy`."""
CUT_TIMES = ("0.37", "1.0", "1.53")
"""In seconds: within a group of pictures, near a key frame, and within a later group."""
REMUXED = {
    "h264b_mp4": "mkv ts flv avi mov nut h264",
    "h264open_mkv": "mp4 ts mov",
    "h264b_ts": "mp4 mkv flv",
    "h264b_avi": "mp4 mkv",
    "hevcopen_mp4": "mkv ts hevc",
    "hevcopen_ts": "mp4 mkv",
    "mpeg4b_mp4": "avi mkv m4v",
    "mpeg4b_avi": "mp4 mkv mov",
    "mpeg2b_mpg": "ts mkv mp4 m2v",
    "mpeg2b_ts": "mpg vob mkv",
    "mpeg2b_vob": "mkv",
    "mpeg1b_mpg": "mkv ts",
    "vp8alt_webm": "mkv ivf avi",
    "vp9alt_webm": "mp4 mkv ivf",
    "av1alt_mp4": "webm ivf",
    "mjpeg_avi": "mov mkv mp4",
    "wmv2_wmv": "mkv avi",
    "flv1_flv": "mkv avi",
    "theora_ogg": "mkv",
    "xvid_avi": "mkv",
}
JOINED = "h264b_mp4 h264open_mp4 hevcb_mp4 mpeg4b_mp4 h264b_mkv mpeg4b_avi vp9_webm h264_flv"
TORN = "h264open_mp4 mpeg4b_mp4 mpeg4b_avi"
"""Those whose tails begin with B-frames, which the join gives another reference."""
APPENDED = "h264b_ts mpeg2b_ts hevcopen_ts mpeg2b_mpg mpeg1b_mpg h264_h264 mpeg2b_m2v"
"""What is put one after the other by ffmpeg's list, and byte by byte."""
UNTIMED = ("avi", "mpg", "vob")
"""Containers that do not give the times of all frames, of which others need to be told."""
DELAYED = "h264b_mp4 h264b_mkv h264b_ts h264b_flv hevcopen_mp4 mpeg4b_mp4 mpeg2b_mpg vp9_webm"


def handled() -> Iterator[Recipe]:
    """Everything that is done without encoding again."""
    yield from cuts()
    yield from edits()
    yield from remuxes()
    yield from joins()
    yield from delays()
    yield from turns()
    yield from layouts()
    yield from borders()
    yield from drops()


def named(name: str) -> Recipe:
    """The recipe of an encoding and a container, by `ENCODING_ENDING`."""
    encoding, _, ending = name.rpartition("_")
    return encoded(encoding, ending)


def cuts() -> Iterator[Recipe]:
    """Beginnings and ends cut off at any time, with `-ss` before or after `-i`, and `-t`."""
    for name in CUT.split():
        source = named(name)
        for time in CUT_TIMES:
            yield derive(source, f"ss{time}", *ffmpeg("-ss", time, "-i", "{0}", *COPY))
        yield derive(source, "t1.3", *ffmpeg("-i", "{0}", "-t", "1.3", *COPY))
    for name in CUT.split()[:14]:
        source = named(name)
        if name != "h264onekey_mp4":  # there is no key frame any more
            yield derive(source, "out0.9", *ffmpeg("-i", "{0}", "-ss", "0.9", *COPY))
        middle = ("-ss", "0.7", "-i", "{0}", "-t", "1.1", *COPY)
        yield derive(source, "middle", *ffmpeg(*middle))
    for name in ("h264b_mp4", "hevcopen_mp4", "mpeg4b_mp4"):
        once = derive(named(name), "once", *ffmpeg("-ss", "0.5", "-i", "{0}", *COPY))
        yield derive(once, "twice", *ffmpeg("-ss", "0.4", "-i", "{0}", *COPY))
    fragments = ("-i", "{0}", *COPY, "-movflags", "+empty_moov+frag_keyframe")
    streamed = derive(named("h264b_mp4"), "streamed", *ffmpeg(*fragments))
    for time in CUT_TIMES:
        yield derive(streamed, f"ss{time}", *ffmpeg("-ss", time, "-i", "{0}", *COPY))


def edits() -> Iterator[Recipe]:
    """Edit lists that show a part of the packets, as trimming on a phone writes them."""
    for name in ("h264b_mp4", "h264pyr_mp4", "hevcopen_mp4", "mpeg4b_mp4", "h264_mov", "vp9_mp4"):
        tick = 512  # of ffmpeg's time base for 25 frames per second
        for first, frames in ((0, 40), (7, 63), (18, 30), (33, 20)):
            numbers = (str(first * tick), str(frames * 40))
            yield derive(named(name), f"edit{first}-{frames}", "set_edit", *numbers)
        if name.endswith("mp4") and name != "hevcopen_mp4":  # ffmpeg loses frames there
            numbers = (str(5 * tick), "800", str(40 * tick), "600")
            yield derive(named(name), "twoedits", "set_two_edits", *numbers)


def remuxes() -> Iterator[Recipe]:
    """The same packets in another container."""
    for name, endings in REMUXED.items():
        for ending in endings.split():
            times = ("-fflags", "+genpts") if named(name).ending in UNTIMED else ()
            command = ffmpeg(*times, "-i", "{0}", *COPY)
            yield derive(named(name), f"to{ending}", *command, ending=ending)
    for name in ("h264b_mp4", "h264open_mp4", "hevcopen_mp4"):
        part = derive(named(name), "part", *ffmpeg("-ss", "0.7", "-i", "{0}", *COPY))
        for ending in ("mkv", "ts"):
            if (name, ending) == ("h264open_mp4", "ts"):
                continue  # ffmpeg writes the parameter sets at closed key frames only
            yield derive(part, f"to{ending}", *ffmpeg("-i", "{0}", *COPY), ending=ending)


def joins() -> Iterator[Recipe]:
    """Files one after the other: by ffmpeg's list, or byte by byte."""
    for name in JOINED.split():
        source = named(name)
        yield derive(source, "twice", "join_list", "-c", "copy", more=(source,))
        part = derive(source, "tail", *ffmpeg("-ss", "0.9", "-i", "{0}", *COPY))
        joined = derive(source, "andtail", "join_list", "-c", "copy", more=(part,))
        yield replace(joined, torn=name in TORN.split())
    for name in APPENDED.split():
        source = named(name)
        yield derive(source, "bytes", "join_bytes", more=(source,))
    vob = named("mpeg2b_vob")
    yield derive(vob, "protocol", *ffmpeg("-i", "concat:{0}|{1}", *COPY), more=(vob,))


def delays() -> Iterator[Recipe]:
    """Times that begin late, before zero, or at a rule of the muxer's."""
    for name in DELAYED.split():
        source = named(name)
        yield derive(source, "late", *ffmpeg("-itsoffset", "2.5", "-i", "{0}", *COPY))
        early = ffmpeg("-itsoffset", "-0.6", "-i", "{0}", *COPY)
        yield derive(source, "early", *early)
    for name in ("h264b_mp4", "h264b_mkv", "h264b_ts", "hevcopen_mp4"):
        source = named(name)
        for rule in ("make_zero", "make_non_negative", "disabled"):
            cut = ffmpeg("-ss", "0.5", "-i", "{0}", *COPY, "-avoid_negative_ts", rule)
            yield derive(source, rule.replace("_", ""), *cut)
        moved = ffmpeg("-i", "{0}", *COPY, "-output_ts_offset", "3.2")
        yield derive(source, "offset", *moved)
    for name in ("h264b_ts", "mpeg2b_ts"):
        wrapped = ffmpeg("-i", "{0}", *COPY, "-output_ts_offset", "95442.5")
        yield derive(named(name), "wraps", *wrapped)  # 33 bits of 90 kHz end there


def turns() -> Iterator[Recipe]:
    """Pictures to be turned or mirrored before they are shown."""
    for angle in ("0", "90", "180", "270"):
        tag = ("-i", "{0}", *COPY, "-metadata:s:v:0", f"rotate={angle}")
        for name in ("h264b_mp4", "hevcb_mov", "mpeg4_mp4"):
            yield derive(named(name), f"tag{angle}", *ffmpeg(*tag))
    for name in ("h264b_mp4", "h264_mov"):
        for matrix in MATRICES:
            yield derive(named(name), matrix, "set_matrix", matrix)
    cut = derive(named("h264b_mp4"), "halved", *ffmpeg("-ss", "0.5", "-i", "{0}", *COPY))
    yield derive(cut, "mirror", "set_matrix", "mirror")
    for words in ("rotate=90", "flip=horizontal", "rotate=180"):
        said = ("-i", "{0}", *COPY, "-bsf:v", f"h264_metadata={words}")
        for name in ("h264b_mp4", "h264_ts"):
            yield derive(named(name), words.replace("=", ""), *ffmpeg(*said))


def layouts() -> Iterator[Recipe]:
    """One file's packets and index, laid out in other ways."""
    for flags in (
        *("+faststart", "+empty_moov+frag_keyframe", "+frag_keyframe", "+dash+delay_moov"),
        *("+negative_cts_offsets", "+frag_every_frame+empty_moov", "+empty_moov+default_base_moof"),
        *("+isml+frag_keyframe", "+empty_moov+frag_keyframe+delay_moov", "+rtphint"),
    ):
        for name in ("h264b_mp4", "hevcopen_mp4", "mpeg4b_mp4"):
            command = ffmpeg("-i", "{0}", *COPY, "-movflags", flags)
            yield derive(named(name), "flags" + flags.replace("+", "-"), *command)
    for name in ("h264b_mp4", "mpeg4b_mp4"):
        for option in ("-use_editlist 0", "-video_track_timescale 30000", "-brand isom"):
            command = ffmpeg("-i", "{0}", *COPY, *option.split())
            yield derive(named(name), option.split()[0][1:], *command)
    for name in ("h264_avi", "h264b_avi", "mpeg4b_avi", "mjpeg_avi", "xvid_avi"):
        yield derive(named(name), "noindex", "drop_avi_index")
    packed = derive(named("mpeg4b_avi"), "packed", "pack_bframes")
    yield packed
    yield derive(named("dx50_avi"), "packed", "pack_bframes")
    yield derive(packed, "ss0.6", *ffmpeg("-ss", "0.6", "-i", "{0}", *COPY))
    yield derive(packed, "tomkv", *ffmpeg("-fflags", "+genpts", "-i", "{0}", *COPY), ending="mkv")
    yield derive(packed, "tomp4", *ffmpeg("-fflags", "+genpts", "-i", "{0}", *COPY), ending="mp4")
    for source in (packed, named("xvid_avi")):
        unpacked = ffmpeg("-i", "{0}", *COPY, "-bsf:v", "mpeg4_unpack_bframes")
        yield derive(source, "unpacked", *unpacked)
    for name, form in {"mpeg4b_avi": "avi", "h264_flv": "flv", "h264b_mkv": "matroska"}.items():
        yield derive(named(name), "piped", "piped", *COPY, "-f", form)
    live = ("-i", "{0}", *COPY, "-f", "webm", "-live", "1")
    yield derive(named("vp9_webm"), "live", *ffmpeg(*live))
    small = ("-i", "{0}", *COPY, "-cluster_time_limit", "100", "-cues_to_front", "1")
    yield derive(named("h264b_mkv"), "cues", *ffmpeg(*small, "-reserve_index_space", "4096"))
    rated = ("-i", "{0}", *COPY, "-muxrate", "2000k")
    yield derive(named("h264b_ts"), "muxrate", *ffmpeg(*rated))


def borders() -> Iterator[Recipe]:
    """Files that end at a packet's border, and promise nothing beyond it."""
    for name, form in (("mpeg4b_avi", "avi"), ("h264_flv", "flv")):
        stream = derive(named(name), "stream", "piped", *COPY, "-f", form)
        yield derive(stream, "border", "cut_packet", "0.6", "0")
    for name in ("h264_h264", "mpeg2b_m2v", "mjpeg_mjpeg"):
        yield derive(named(name), "border", "cut_packet", "0.6", "0")
    for name, head in (("h264b_ts", 47 * 188), ("mpeg2b_ts", 47 * 188), ("mpeg2b_mpg", 9 * 2048)):
        late = derive(named(name), "tuned", "remove", "0", str(head))
        yield replace(late, torn=True)  # as a recording of a broadcast begins


def drops() -> Iterator[Recipe]:
    """Packets left out that no other frame needs."""
    intra = "mjpeg_avi mjpeg_mkv prores_mov h264intra_mp4 huffyuv_avi h264intra_avi jpeg2000_mov"
    for name in intra.split():
        thinned = ("-i", "{0}", *COPY, "-bsf:v", "noise=drop=not(mod(n\\,3))*gt(n\\,0)")
        yield derive(named(name), "thinned", *ffmpeg(*thinned))
    for name in ("h264_mp4", "mpeg4_mkv", "vp9_webm", "h264_ts"):
        ending = ("-i", "{0}", *COPY, "-bsf:v", "noise=drop=gte(n\\,41)")
        yield derive(named(name), "ends", *ffmpeg(*ending))
