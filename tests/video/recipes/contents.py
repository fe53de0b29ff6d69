"""Files that hold more, less or other than one plain track: sound, covers, odd sizes and times."""

from collections.abc import Iterator

from tests.video.recipes.base import Recipe, derive, ffmpeg
from tests.video.recipes.encodings import ENCODINGS, VP8, X264, encoded, pictures
from tests.video.recipes.handling import COPY, named

TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration={seconds}")
SMALL = ("-pix_fmt", "yuv420p", *X264, "-bf", "2", "-g", "12")


def contents() -> Iterator[Recipe]:
    """Everything that is in a file beside, or in place of, one plain track of pictures."""
    yield from sizes()
    yield from times()
    yield from sounds()
    yield from tracks()
    yield from covers()
    yield from colours()
    yield from changes()
    yield from metadata()


def sized(name: str, ending: str, size: str, frames: int = 30, rate: str = "25") -> Recipe:
    """An encoding with pictures of another size, number or rate."""
    way = ENCODINGS[name]
    form = () if "-pix_fmt" in way.arguments else ("-pix_fmt", "yuv420p")
    command = ffmpeg(*pictures(size, frames, rate), *form, *way.arguments)
    label = f"{name}_{ending}-{size}x{frames}at{rate.replace('/', 'by')}"
    return Recipe(label, ending, way.codec, command)


def sizes() -> Iterator[Recipe]:
    """Odd, tiny and long sizes, and videos of one to three frames."""
    for name, ending in (
        *(("mpeg4b", "avi"), ("mpeg4", "mp4"), ("vp8", "webm"), ("vp9", "webm"), ("mjpeg", "avi")),
        *(("ffv1", "mkv"), ("mpeg2b", "mpg"), ("theora", "ogg"), ("png", "mov"), ("av1", "mp4")),
        *(("flv1", "flv"), ("rawbgr", "avi")),
    ):
        yield sized(name, ending, "67x45")
    for name, ending in (("wmv2", "wmv"), ("huffyuv", "avi")):  # which have no odd widths
        yield sized(name, ending, "68x45")
    for size in ("67x46", "68x45"):
        for name, ending in (
            ("mpeg4b", "avi"),
            ("vp9", "webm"),
            ("mjpeg", "avi"),
            ("mpeg2", "mpg"),
        ):
            yield sized(name, ending, size)
    yield sized("h264p444", "mp4", "67x45")
    for size in ("66x50", "18x16", "130x34", "16x130"):
        yield sized("h264b", "mp4", size)
    yield sized("mpeg4", "avi", "18x16")
    yield sized("vp9", "webm", "13x11")
    yield sized("mjpeg", "mov", "9x7")
    for frames in (1, 2, 3):
        for name in ("h264b_mp4", "mpeg4b_avi", "vp9_webm", "mpeg2b_mpg", "h264b_ts"):
            encoding, _, ending = name.rpartition("_")
            yield sized(encoding, ending, "64x48", frames)


def times() -> Iterator[Recipe]:
    """Rates that change or are unusual, and times that repeat."""
    for rate in ("10", "15", "24000/1001", "30000/1001", "120"):
        yield sized("h264b", "mp4", "64x48", 40, rate)
        yield sized("vp9", "webm", "64x48", 40, rate)
    yield sized("mpeg4b", "avi", "64x48", 40, "30000/1001")
    for name in VARIABLE.split():
        source = named(name)
        way = ENCODINGS[name.rpartition("_")[0]]
        chosen = "select=not(eq(mod(n\\,7)\\,3))*not(between(n\\,30\\,44))"
        dropped = ("-vf", chosen, "-vsync", "vfr", "-pix_fmt", "yuv420p", *way.arguments)
        label = f"{name}-vfr"
        command = ffmpeg(*pictures(way.size), *dropped)
        yield Recipe(label, source.ending, source.codec, command)
    for name in ("vp9_webm", "h264_mp4", "mpeg4_avi"):
        shaken = ("-i", "{0}", *COPY, "-bsf:v", "setts=ts=TS+mod(N\\,2)*0.013/TB")
        yield derive(named(name), "shaken", *ffmpeg(*shaken))
    for name in ("mjpeg_mkv", "vp8_mkv", "mpeg4_mkv"):
        repeated = ("-i", "{0}", *COPY, "-bsf:v", "setts=ts=floor(N/2)*2*0.04/TB")
        yield derive(named(name), "repeated", *ffmpeg(*repeated))
    fine = ("-pix_fmt", "yuv420p", *X264, "-bf", "2", "-video_track_timescale", "10000000")
    yield Recipe("h264b_mp4-fine", "mp4", "h264", ffmpeg(*pictures(), *fine))
    gaps = ("-i", "{0}", *COPY, "-bsf:v", "setts=ts=TS+gte(N\\,40)*5/TB")
    for name in ("h264_mp4", "h264_ts", "mpeg4_mkv"):
        yield derive(named(name), "gap", *ffmpeg(*gaps))


def tone(seconds: str) -> tuple[str, ...]:
    """Input arguments: a tone."""
    return tuple(part.format(seconds=seconds) for part in TONE)


VARIABLE = (
    "h264b_mp4 h264b_mkv h264b_flv h264b_ts mpeg4b_mp4 mpeg4b_avi mjpeg_avi vp9_webm hevcb_mp4"
    " wmv2_wmv msmpeg4v3_avi"
)
"""What is written with times between its frames that differ."""
SOUND = {
    "mp4": "aac",
    "mov": "pcm_s16le",
    "mkv": "libvorbis",
    "webm": "libopus",
    "avi": "libmp3lame",
    "flv": "libmp3lame",
    "wmv": "wmav2",
    "mpg": "mp2",
    "vob": "ac3",
    "ts": "aac",
    "ogg": "libvorbis",
}
"""The usual sound of a container."""
SOUNDING = (
    "h264b_mp4 h264b_mov h264b_mkv vp9_webm mpeg4b_avi h264_flv wmv2_wmv mpeg2b_mpg mpeg2b_vob"
    " h264b_ts theora_ogg xvid_avi msmpeg4v3_avi h264b_avi"
)
"""What gets a track of sound."""


def sounds() -> Iterator[Recipe]:
    """Sound before, beside and long after the pictures."""
    for name in SOUNDING.split():
        source = named(name)
        audio = ("-c:v", "copy", "-c:a", SOUND[source.ending], "-ar", "48000")
        behind = ("-i", "{0}", *tone("2.8"), "-map", "0:v", "-map", "1:a", *audio)
        yield derive(source, "sound", *ffmpeg(*behind))
        first = (*tone("9"), "-i", "{0}", "-map", "0:a", "-map", "1:v", *audio)
        yield derive(source, "longsound", *ffmpeg(*first))
    for name in ("h264b_mp4", "mpeg4b_avi"):
        source = named(name)
        audio = ("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", SOUND[source.ending])
        sounding = derive(source, "sounding", *ffmpeg("-i", "{0}", *tone("2.8"), *audio))
        for time in ("0.4", "1.2"):
            yield derive(sounding, f"ss{time}", *ffmpeg("-ss", time, "-i", "{0}", *COPY))
        late = ("-itsoffset", "1.2", "-i", "{0}", *tone("4"), *audio)
        yield derive(source, "latepicture", *ffmpeg(*late))
        short = ("-i", "{0}", *tone("0.5"), *audio)
        yield derive(source, "shortsound", *ffmpeg(*short))


def tracks() -> Iterator[Recipe]:
    """Several tracks of pictures, subtitles and time codes."""
    second = sized("h264b", "mp4", "96x64", 40)
    for name in ("h264b_mp4", "h264b_mkv", "h264b_ts", "h264b_mov"):
        source = named(name)
        both = ("-i", "{0}", "-i", "{1}", "-map", "0:v", "-map", "1:v", "-c", "copy")
        yield derive(source, "two", *ffmpeg(*both), more=(second,))
        chosen = ("-disposition:v:0", "0", "-disposition:v:1", "default")
        yield derive(source, "twosecond", *ffmpeg(*both, *chosen), more=(second,))
    still = sized("mjpeg", "mov", "160x120", 1)
    for name in ("h264b_mp4", "h264b_mov", "h264b_mkv"):
        both = ("-i", "{0}", "-i", "{1}", "-map", "0:v", "-map", "1:v", "-c", "copy")
        yield derive(named(name), "thumbnail", *ffmpeg(*both), more=(still,))
    for name, form in (("h264b_mp4", "mov_text"), ("h264b_mkv", "srt")):
        texts = ("-i", "{0}", "-i", "{1}", "-map", "0", "-map", "1", "-c:v", "copy", "-c:s", form)
        subtitles = Recipe("words", "srt", "", ("write", "1\n00:00:00,500 --> 00:00:08,000\nA\n"))
        yield derive(named(name), "subtitles", *ffmpeg(*texts), more=(subtitles,))
    for name in ("h264b_mov", "prores_mov", "mpeg2b_mxf"):
        command = ffmpeg("-i", "{0}", *COPY, "-timecode", "01:00:00:00")
        yield derive(named(name), "timecode", *command)


def covers() -> Iterator[Recipe]:
    """Pictures of a cover beside the video, and in place of it."""
    for ending, coding in (("jpg", "mjpeg"), ("png", "png")):
        still = Recipe(
            f"cover-{ending}",
            ending,
            coding,
            ffmpeg(*pictures("96x96", 1), "-frames:v", "1", "-update", "1"),
        )
        both = ("-i", "{0}", "-i", "{1}", "-map", "0:v", "-map", "1:v", "-c", "copy")
        attached = ("-disposition:v:1", "attached_pic")
        yield derive(named("h264b_mp4"), f"cover{ending}", *ffmpeg(*both, *attached), more=(still,))
        front = ("-i", "{1}", "-i", "{0}", "-map", "0:v", "-map", "1:v", "-c", "copy")
        first = ffmpeg(*front, "-disposition:v:0", "attached_pic")
        yield derive(named("h264b_mp4"), f"coverfirst{ending}", *first, more=(still,))
        only = (
            "-i",
            "{0}",
            *tone("2"),
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c:v",
            "copy",
            "-c:a",
            "aac",
        )
        alone = ffmpeg(*only, "-disposition:v:0", "attached_pic")
        yield derive(still, "only", *alone, ending="m4a")
        song = (*only[:-1], "libmp3lame", "-id3v2_version", "3")
        yield derive(still, "song", *ffmpeg(*song), ending="mp3")
        attachment = (
            "-i",
            "{0}",
            *COPY,
            "-attach",
            "{1}",
            "-metadata:s:t",
            f"mimetype=image/{ending}",
        )
        yield derive(named("h264b_mkv"), f"cover{ending}", *ffmpeg(*attachment), more=(still,))


def colours() -> Iterator[Recipe]:
    """Matrices and ranges of colours, said or not."""
    for space in ("bt709", "bt470bg", "smpte170m", "bt2020nc", "smpte240m"):
        said = ("-colorspace", space)
        command = ffmpeg(*pictures(), *SMALL, *said)
        yield Recipe(f"h264b_mp4-{space}", "mp4", "h264", command)
    for span in ("pc", "tv"):
        converted = ("-vf", f"scale=out_range={span}", "-color_range", span)
        for ending in ("mp4", "mkv"):
            command = ffmpeg(*pictures(), *SMALL, *converted, "-colorspace", "bt709")
            yield Recipe(f"h264b_{ending}-range{span}", ending, "h264", command)
    for name, form in (
        *(
            ("gray_avi", "gray"),
            ("yuv410p_avi", "yuv410p"),
            ("rgb24_mov", "rgb24"),
            ("rgba_mov", "rgba"),
        ),
        *(("yuva420p_nut", "yuva420p"), ("gray16le_nut", "gray16le"), ("pal8_nut", "pal8")),
        *(("pal8_avi", "pal8"), ("pal8_mov", "pal8"), ("gray_mov", "gray"), ("monob_avi", "monob")),
        *(("monow_nut", "monow"), ("nv12_nut", "nv12"), ("p010le_nut", "p010le")),
        *(("yuv440p_nut", "yuv440p"), ("gbrp_nut", "gbrp"), ("rgb565le_nut", "rgb565le")),
    ):
        ending = name.rpartition("_")[2]
        command = ffmpeg(*pictures(frames=10), "-c:v", "rawvideo", "-pix_fmt", form)
        yield Recipe(f"raw_{name}", ending, "rawvideo", command)
    own = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"
    for ending in ("avi", "mov"):  # each picture has a palette of its own
        command = ffmpeg(*pictures(frames=10), "-lavfi", own, "-c:v", "rawvideo")
        yield Recipe(f"raw_palettes_{ending}", ending, "rawvideo", command)
    alpha = (*VP8, "-pix_fmt", "yuva420p", "-auto-alt-ref", "0")
    yield Recipe("vp8_webm-alpha", "webm", "vp8", ffmpeg(*pictures(), *alpha))


def changes() -> Iterator[Recipe]:
    """Pictures whose size changes on the way."""
    for name in ("h264b_ts", "h264_h264", "vp8_webm", "vp9_webm", "mpeg2b_m2v", "h264_mp4"):
        encoding, _, ending = name.rpartition("_")
        other = sized(encoding, ending, "96x64")
        yield derive(named(name), "resized", *join(ending), more=(other,))
    anamorphic = ("-vf", "setsar=4/3", *SMALL)
    yield Recipe("h264b_mp4-anamorphic", "mp4", "h264", ffmpeg(*pictures(), *anamorphic))


def join(ending: str) -> tuple[str, ...]:
    """The edit that puts two files of one kind one after the other."""
    return ("join_list", "-c", "copy") if ending in ("webm", "mp4") else ("join_bytes",)


def metadata() -> Iterator[Recipe]:
    """Words in a file that are not UTF-8, and chapters."""
    for name in ("h264_mp4", "mpeg4b_avi", "h264_mkv", "h264_flv", "vp9_webm"):
        encoding, _, ending = name.rpartition("_")
        plain = encoded(encoding, ending)
        titled = derive(plain, "titled", *ffmpeg("-i", "{0}", *COPY, "-metadata", "title=Qxyzxq"))
        yield derive(titled, "latin", "swap_bytes", b"Qxyzxq".hex(), b"Qx\xe9\xff\xfcq".hex())
