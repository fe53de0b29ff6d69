"""Files that are really damaged: their frames are lost or changed, and a scan has to say so."""

from collections.abc import Iterator

from tests.video.recipes.base import Recipe, damaged, derive, ffmpeg
from tests.video.recipes.handling import COPY, named

KEY = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
KEY_ID = ("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
HARMED = "h264b_mp4 h264b_mkv h264b_ts mpeg4b_avi mpeg2b_mpg vp9_webm hevcopen_mp4 theora_ogg"

WITHIN = "h264_h264 mjpeg_mjpeg vp8_ivf mpeg4b_avi h264_flv h264b_mkv vp9_webm wmv2_wmv mpeg2b_ts"
"""What is cut off within a packet."""


def damages() -> Iterator[Recipe]:
    """Every kind of damage."""
    for name in HARMED.split():
        source = named(name)
        yield damaged(derive(source, "half", "cut_bytes", "0.5"), concealed=True)
        yield damaged(derive(source, "almost", "cut_bytes", "0.93"), concealed=True)
        for edit in ("overwrite", "remove", "insert"):
            yield damaged(derive(source, edit, edit, "0.5", "40"), concealed=True)
        for seed in ("1", "2"):
            yield damaged(derive(source, f"flip{seed}", "flip_bits", seed), concealed=True)
    for name in WITHIN.split():
        yield damaged(derive(named(name), "within", "cut_packet", "0.6", "40"), concealed=True)
    for name in ("vp9_ivf", "mpeg4b_avi", "h264_flv"):  # their headers promise more
        yield damaged(derive(named(name), "short", "cut_packet", "0.6", "0"), concealed=True)
    front = ("-i", "{0}", *COPY, "-movflags", "+faststart")
    ahead = derive(named("h264b_mp4"), "front", *ffmpeg(*front))
    yield damaged(derive(ahead, "part", "cut_bytes", "0.7"), concealed=True)
    for name in ("h264_mp4", "hevc_mp4", "mpeg4_avi", "vp9_webm", "h264_ts"):
        lost = ("-i", "{0}", *COPY, "-bsf:v", "noise=drop=eq(n\\,40)")  # others are built on it
        yield damaged(derive(named(name), "lost", *ffmpeg(*lost)), concealed=True)
    yield from unreadable()


def unreadable() -> Iterator[Recipe]:
    """Files without one frame that can be shown."""
    scheme = ("-encryption_scheme", "cenc-aes-ctr", *KEY, *KEY_ID)
    for name in ("h264_mp4", "hevcb_mp4"):
        yield damaged(derive(named(name), "secret", *ffmpeg("-i", "{0}", *COPY, *scheme)))
    fragments = ("-i", "{0}", *COPY, "-movflags", "+empty_moov+frag_keyframe")
    whole = derive(named("h264_mp4"), "fragments", *ffmpeg(*fragments))
    yield damaged(derive(whole, "start", "keep_start", "moof"))
    yield damaged(derive(named("h264_mp4"), "nomoov", "keep_start", "moov"))
    yield damaged(derive(named("h264b_mkv"), "stub", "cut_bytes", "0.02"))
