#!/usr/bin/env python
"""Compare the CPU time of measuring a video, as python -m videomae.curate does, with decoding it.

python scripts/bench_curate.py
python scripts/bench_curate.py --video phone.mp4 --times 5

Without --video it renders one as phones make them: 576 x 1024 at 30 frames a second, four scenes.
Prints seconds of CPU a minute of video for decoding every frame, for decoding it as scan does, and
for measuring; and the share of measuring in decoding. Exits 1 if measuring costs more than --most
times decoding.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from videomae.config import MAX_CLIP_BYTES, CutsConfig
from videomae.curate.measuring import Settings, measure_video
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, help="default: one is rendered")
    parser.add_argument("--seconds", type=int, default=20, help="of the rendered video (20)")
    parser.add_argument("--times", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--most", type=float, default=2.0, help="times the cost of decoding (2)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    cuts = CutsConfig()
    settings = Settings(False, cuts.threshold, cuts.min_frames, cuts.fixed_s)
    with tempfile.TemporaryDirectory() as folder:
        video = args.video or render(Path(folder) / "phone.mp4", args.seconds)
        source = sha256(video)
        seconds = inspect_video(video).duration_s
        if seconds is None:
            sys.exit(f"{video} is no video that can be decoded")
        kinds: dict[str, Callable[[], object]] = {
            "decode": lambda: decode(video),
            "scan": lambda: inspect_video(video),
            "measure": lambda: measure_video(video, source, settings, MAX_CLIP_BYTES),
        }
        spent: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.times):
            for name, run in kinds.items():  # in turn, as other work on the machine comes and goes
                began = time.process_time()
                run()
                spent[name].append((time.process_time() - began) * 60 / seconds)
    for name, each in spent.items():
        print(f"{name:<8} {statistics.median(each):6.2f} s of CPU a minute of video")
    ratio = statistics.median(
        measure / plain for measure, plain in zip(spent["measure"], spent["decode"], strict=True)
    )
    print(f"measuring costs {ratio:.2f} times decoding (at most {args.most:g})")
    sys.exit(ratio > args.most)


if __name__ == "__main__":
    main()
