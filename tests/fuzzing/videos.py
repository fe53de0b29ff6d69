"""Videos and playlists through every decoder that is here, and through the inspections."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.conftest import write_list
from tests.fuzzing.base import Attack, Change, Result, Target, mutate_one
from tests.fuzzing.decoding import (
    DATA,
    MAX_BYTES,
    neighbours_differ,
    read_list,
    through_loaders,
    through_program,
)
from tests.fuzzing.documents import Bait, mutate_lines
from tests.fuzzing.originals import LARGE, WAYS, write
from tests.miniatures import write_frames
from tests.video.test_refused import SCRIPTS
from videomae.config import ListFormat
from videomae.video.inspection import inspect
from videomae.video.opening import usable_decoders
from videomae.video.quick import look_into
from videomae.video.transcode import Encoding
from videomae.video.transcode import write as transcode

LIST, INTACT = Path("list.txt"), "videos/intact.mp4"
ENCODING = Encoding(short_side=32, stride=2, keyint=4, crf=30, preset="ultrafast")
SUFFIXES = (*WAYS, "gif")
FRAMES = "img_{:05}.jpg"


UNREAD = {"decord": ("gif",), "torchcodec": ("ts",)}
"""Endings of whole videos that a decoder does not read."""


def make(name: str) -> None:
    """A video of every kind, and an intact one that begins and ends every list."""
    for number, suffix in enumerate(SUFFIXES):
        write(Path("videos") / f"clip.{suffix}", seed=number)
    write(Path(INTACT), seed=99)
    read = [suffix for suffix in SUFFIXES if suffix not in UNREAD.get(name, ())]
    list_only(*(f"videos/clip.{suffix}" for suffix in read))


def make_intact() -> None:
    """The intact video alone."""
    write(Path(INTACT), seed=99)
    list_only()


def list_only(*paths: str) -> None:
    """A list of these videos between the intact one and itself."""
    write_list(LIST, [INTACT, *paths, INTACT])


def mutate(rng: random.Random, bait: Bait) -> Change:
    """Mutate a video, and list no other but the intact one."""
    change = mutate_one((f"videos/clip.{rng.choice(SUFFIXES)}",), rng, bait)
    list_only(*change.files)
    return change


def load(decoder: str) -> Result:
    """The listed videos through loaders with one decoder."""
    data = replace(DATA, decoder=decoder, root=".", list_format=ListFormat.video)
    return through_loaders(read_list(str(LIST), data), data)


def listed() -> list[str]:
    """The videos of the list, as the inspections get them."""
    return [str(Path(line).absolute()) for line in LIST.read_text().splitlines()]


def look(program: Callable[..., Any]) -> Result:
    """The listed videos through an inspection."""
    return through_program(program, [[path, None, None, MAX_BYTES] for path in listed()])


def repack() -> Result:
    """The listed videos through the program that shrinks them for a pack."""
    requests: list[list[object]] = [
        [path, None, None, str(Path(f"tmp{number}.mp4").absolute()), vars(ENCODING), MAX_BYTES]
        for number, path in enumerate(listed())
    ]
    return through_program(transcode, requests)


def intact_differs(facts: Any, expected: Any) -> str | None:
    """Whether the intact video was inspected otherwise. A crash takes those after it along."""
    wrong = [facts[place] for place in (0, -1) if facts[place] not in (expected[0], None)]
    return f"the intact video: {wrong[0]}, not {expected[0]}" if wrong else None


# Names and sizes made by hand


def name_video(name: Callable[[Bait], str], damaged: bool, bait: Bait) -> str:
    """A video of such a name, whole or damaged, below the working directory."""
    path = Path(name(bait))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(INTACT, path)
    if damaged:
        path.write_bytes(path.read_bytes()[:700])
    list_only(str(path))
    return str(path)


def list_line(line: Callable[[Bait], str], bait: Bait) -> str:
    """A list with such a line, which names no file."""
    list_only(line(bait))
    return line(bait)


def write_large(suffix: str, writer: Callable[[Path, int], None], side: int, _: Bait) -> None:
    """A video of large pictures."""
    path = Path("videos") / f"large.{suffix}"
    writer(path, side)
    list_only(str(path))


NAMES: dict[str, Callable[[Bait], str]] = {
    "address": lambda bait: f"http:/{bait.address}/x.mp4",
    "tcp": lambda bait: f"tcp:/{bait.address}.mp4",
    "concat": lambda bait: f"concat:{bait.outside}|x.mp4".replace("/", "_"),
    "file": lambda bait: f"file:{bait.outside}",
    "time": lambda _: "videos/12:30 clip.mp4",
    "escape": lambda _: "videos/\x1b]0;title\x07\x1b[2J.mp4",
    "direction": lambda _: "videos/\u202egpm.mp4",
    "percent": lambda _: "videos/x%03d.jpg",
    "star": lambda _: "videos/x*.png",
    "option": lambda _: "-i",
    "pipe": lambda _: "pipe:0",
    "script": lambda _: "videos/x.avs",
    "long": lambda _: "videos/" + "x" * 250 + ".mp4",
}
LINES: dict[str, Callable[[Bait], str]] = {
    "address": lambda bait: f"http://{bait.address}/x.mp4",
    "rtsp": lambda bait: f"rtsp://{bait.address}/x.mp4",
    "concat": lambda bait: f"concat:{INTACT}|http://{bait.address}/x",
    "too long": lambda _: "x" * 5000,
    "zero": lambda _: "videos/a\0b.mp4",
    "folder": lambda _: "videos",
    "device": lambda _: "/dev/zero",
    "descriptor": lambda _: "/proc/self/fd/0",
}
ATTACKS = (
    *(
        Attack(f"{'damaged ' * damaged}name {name}", partial(name_video, of, damaged))
        for name, of in NAMES.items()
        for damaged in (False, True)
    ),
    *(Attack(f"line {name}", partial(list_line, of)) for name, of in LINES.items()),
    *(
        Attack(
            f"large {writer.__name__} {side} as {suffix}",
            partial(write_large, suffix, writer, side),
        )
        for suffix, writer, side in LARGE
    ),
)


# Playlists


def asx(target: str) -> str:
    """A playlist of Windows Media."""
    return f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>\n'


def plain(target: str) -> str:
    """A list of addresses without a head."""
    return f"{target}\n"


def quicktime(target: str) -> str:
    """A link of QuickTime."""
    return f'<?quicktime type="application/x-quicktime-media-link"?><embed src="{target}"/>\n'


WRITERS = (*SCRIPTS, asx, plain, quicktime)
ENDINGS = ("mp4", "avi", "m3u8", "ffconcat", "mpd", "sdp", "mkv", "txt", "pls", "gif", "ts")
STARTS = ("", "", "\ufeff", "\n\n", "  ", "# x\n", "\0", "\r\n")


def script(rng: random.Random, bait: Bait) -> Change:
    """A playlist or script that leads elsewhere, under any name; two of three are mutated."""
    targets = (bait.outside, f"http://{bait.address}/x.mp4", f"tcp://{bait.address}", "intact.mp4")
    target = rng.choice((*targets, f"../{INTACT}", "/dev/zero"))
    writer = rng.choice(WRITERS)
    content, what = (rng.choice(STARTS) + writer(target)).encode(), "plain"
    if rng.random() < 0.1:
        content, what = content.decode().encode("utf-16"), "utf-16"
    if rng.random() < 0.66:
        content, what = mutate_lines(content, rng, bait)
    path = Path("videos") / f"list.{rng.choice(ENDINGS)}"
    path.write_bytes(content)
    list_only(str(path))
    return Change(f"{writer.__name__} to {target}, {what}", (str(path),))


def only_intact(facts: Any, expected: Any) -> str | None:
    """Whether anything but the intact video was read."""
    if isinstance(facts, dict):
        read = {name: [pixels for pixels in each[1:-1] if pixels] for name, each in facts.items()}
        return (
            "a playlist was read as a video"
            if any(read.values())
            else neighbours_differ(facts, expected)
        )
    return (
        "a playlist was read as a video"
        if facts[1] and facts[1]["ok"]
        else intact_differs(facts, expected)
    )


# Folders of frames


def make_frames() -> None:
    """A folder of JPEG files, and one that stays as it is."""
    for name in ("clip", "intact"):
        write_frames(Path("videos") / name, template=FRAMES)
    write_list(LIST, [f"videos/{name} 1 8" for name in ("intact", "clip", "intact")])


def load_frames() -> Result:
    """The folders through loaders."""
    given = {"list_format": ListFormat.frames_start_total, "frame_template": FRAMES}
    data = replace(DATA, root=".", **given)
    return through_loaders(read_list(str(LIST), data), data)


def inspect_frames() -> Result:
    """The folders through the inspection."""
    folders = [str(Path(f"videos/{name}").absolute()) for name in ("intact", "clip", "intact")]
    return through_program(inspect, [[path, [FRAMES, 1, 8], None, MAX_BYTES] for path in folders])


WAYS_THROUGH: dict[str, Callable[[], Result]] = {
    **{name: partial(load, name) for name in usable_decoders()},
    "scan": partial(look, inspect),
    "quick scan": partial(look, look_into),
    "pack": repack,
}
NAMED = ("videos/", "list.txt")


def target(kind: str, name: str, attempt: Callable[[], Result]) -> Target:
    """A target of this module."""
    differs = neighbours_differ if name in usable_decoders() else intact_differs
    if kind == "playlists":
        return Target(
            kind, name, make_intact, attempt, named=NAMED, mutate=script, differs=only_intact
        )
    return Target(
        kind,
        name,
        partial(make, name),
        attempt,
        named=NAMED,
        mutate=mutate,
        differs=differs,
        attacks=ATTACKS,
    )


def write_eps(number: int, _: Bait) -> str:
    """PostScript under the name of a picture, which Pillow would give to a program."""
    path = Path("videos/clip") / FRAMES.format(number)
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n%%EOF\n"
    path.write_text(text)
    return str(path)


def large_image(writer: Callable[[Path, int], None], side: int, _: Bait) -> str:
    """A picture that is large, or is said to be."""
    path = Path("videos/clip") / FRAMES.format(1)
    writer(path, side)
    return str(path)


FOLDER_ATTACKS = (
    *(Attack(f"EPS {number}", partial(write_eps, number)) for number in (1, 5)),
    *(
        Attack(f"{writer.__name__} {side} as a frame", partial(large_image, writer, side))
        for suffix, writer, side in LARGE
        if suffix in ("gif", "png", "bmp", "ppm")
    ),
)
FOLDER = ("videos/clip/*",)
TARGETS = (
    *(target("videos", name, attempt) for name, attempt in WAYS_THROUGH.items()),
    *(target("playlists", name, attempt) for name, attempt in WAYS_THROUGH.items()),
    Target(
        "videos",
        "frames",
        make_frames,
        load_frames,
        FOLDER,
        NAMED,
        FOLDER_ATTACKS,
        differs=neighbours_differ,
    ),
    Target(
        "videos",
        "frames scan",
        make_frames,
        inspect_frames,
        FOLDER,
        NAMED,
        FOLDER_ATTACKS,
        differs=intact_differs,
    ),
)
