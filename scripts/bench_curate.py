#!/usr/bin/env python
"""Compare the CPU time of measuring a video, as python -m videomae.curate does, with decoding it.

python scripts/bench_curate.py
python scripts/bench_curate.py --video phone.mp4 --times 5
python scripts/bench_curate.py --engines --videos 16 --seconds 15
python scripts/bench_curate.py --rules 1000000

Without --video it renders one as phones make them: 576 x 1024 at 30 frames a second, four scenes.
Prints seconds of CPU a minute of video for decoding every frame, for decoding it as scan does, and
for measuring; and the share of measuring in decoding. Exits 1 if measuring costs more than --most
times decoding.

--transnetv2 measures with TransNetV2's cuts, too. --rules N times stage select over N rows.

--engines measures copies of that video with both engines, one and two at once, and prints videos a
second: since the first answers, and with the start of the engine.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL

import av
import cv2
import numpy as np

from videomae.config import MAX_CLIP_BYTES, CutsConfig
from videomae.curate.measuring import Settings, measure_video
from videomae.curate.transnet import network
from videomae.run.files import sha256
from videomae.video.inspection import inspect_video

WIDTH, HEIGHT, FPS = 576, 1024, 30
SCENES = 4


def render(path: Path, seconds: int) -> Path:
    """A hand-held camera over textured scenes, with the noise of a small sensor."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 4, (HEIGHT, WIDTH, 3)).astype(np.float32) for _ in range(8)]
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "23"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(SCENES):
            coarse = rng.uniform(20, 235, (40, 30, 3)).astype(np.float32)
            scene = cv2.resize(coarse, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
            place = np.array([HEIGHT / 2, WIDTH / 2])
            for number in range(seconds * FPS // SCENES):
                place = (place + rng.normal(0, 2, 2)).clip(0, (HEIGHT - 1, WIDTH - 1))
                top, left = place.astype(int)
                frame = scene[top : top + HEIGHT, left : left + WIDTH] + noise[number % len(noise)]
                image = av.VideoFrame.from_ndarray(frame.clip(0, 255).astype(np.uint8), "rgb24")
                container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def decode(path: Path) -> None:
    """Decode every frame in one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def variant(video: Path, target: Path) -> None:
    """Write the same pictures in a file with another hash."""
    with av.open(str(video)) as source, av.open(str(target), "w") as container:
        container.metadata["title"] = target.stem
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


def compare_engines(video: Path, videos: int, folder: Path) -> None:
    """Print the throughput of both engines, with one video at once and with two."""
    (folder / "raw").mkdir()
    for number in range(videos):
        variant(video, folder / "raw" / f"{number}.mp4")
    for engine in ("local", "ray"):
        for workers in (1, 2):
            out = f"out={folder / f'{engine}{workers}'}"
            given = [f"engine.name={engine}", f"engine.workers={workers}", out]
            curate = [sys.executable, "-m", "videomae.curate", *given]
            subprocess.run(
                [*curate, "stage=sources", f"source={folder / 'raw'}"], check=True, stderr=DEVNULL
            )
            began = time.monotonic()
            done = subprocess.run(
                [*curate, "stage=measure"], check=True, capture_output=True, text=True
            )
            took = time.monotonic() - began
            said = re.search(r"([\d.]+) videos/s, \d+% decoding", done.stderr + done.stdout)
            print(
                f"{engine:<5} {workers} at once: {said and said[0]}; {videos / took:.2f} videos/s "
                f"with the start, {took:.0f} s in all",
                flush=True,
            )


def time_rules(rows: int, folder: Path) -> None:
    """Print the CPU time that stage select takes for a table of so many clips."""
    sys.path.insert(
        0, str(Path(__file__).resolve().parent.parent)
    )  # such a table is among the tests
    from tests.conftest import composed
    from tests.curate.tables import many
    from videomae.curate.selection import select_clips

    out = many(folder, rows)
    began = time.process_time()
    select_clips(composed("curate", f"out={out}", "rules=tiktok", "rules.sharpness_min=5%"), out)
    print(f"rules over {rows:,} rows: {time.process_time() - began:.1f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, help="default: one is rendered")
    parser.add_argument("--seconds", type=int, default=20, help="of the rendered video (20)")
    parser.add_argument("--times", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--most", type=float, default=2.0, help="times the cost of decoding (2)")
    parser.add_argument("--engines", action="store_true", help="compare the engines")
    parser.add_argument("--videos", type=int, default=16, help="of --engines (16)")
    parser.add_argument("--transnetv2", action="store_true", help="measure with its cuts, too")
    parser.add_argument("--rules", type=int, metavar="N", help="time the rules over N rows")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    cuts = CutsConfig()
    settings = Settings(False, cuts.threshold, cuts.min_frames, cuts.fixed_s)
    with tempfile.TemporaryDirectory() as folder:
        if args.rules:
            time_rules(args.rules, Path(folder))
            return
        video = args.video or render(Path(folder) / "phone.mp4", args.seconds)
        if args.engines:
            compare_engines(video, args.videos, Path(folder))
            return
        source = sha256(video)
        seconds = inspect_video(video).duration_s
        if seconds is None:
            sys.exit(f"{video} is no video that can be decoded")
        kinds: dict[str, Callable[[], object]] = {
            "decode": lambda: decode(video),
            "scan": lambda: inspect_video(video),
            "measure": lambda: measure_video(video, source, settings, MAX_CLIP_BYTES),
        }
        if args.transnetv2:
            network()
            soft = replace(settings, probability=0.5)
            kinds["TransNetV2"] = lambda: measure_video(video, source, soft, MAX_CLIP_BYTES)
        spent: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.times):
            for name, run in kinds.items():  # in turn, as other work on the machine comes and goes
                began = time.process_time()
                run()
                spent[name].append((time.process_time() - began) * 60 / seconds)
    for name, each in spent.items():
        print(f"{name:<10} {statistics.median(each):6.2f} s of CPU a minute of video")
    ratio = statistics.median(
        measure / plain for measure, plain in zip(spent["measure"], spent["decode"], strict=True)
    )
    print(f"measuring costs {ratio:.2f} times decoding (at most {args.most:g})")
    sys.exit(ratio > args.most)


if __name__ == "__main__":
    main()
