#!/usr/bin/env python
"""Time the views of test videos: decoded once for all, as evaluation does it, and once for each.

python scripts/bench_evaluation.py
python scripts/bench_evaluation.py --list val.txt --root videos --videos 20

Without --list, videos are made: 300 frames of 340 x 256 px, H.264, a photograph that moves. Data
path only, on one core; both ways take turns.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from skimage import data as photographs

from videomae.config import ClipConfig, DataConfig, UserError
from videomae.data import dataset as data_path
from videomae.data.clips import Clip, read_clips
from videomae.data.dataset import EvaluationClips

VIEWS = ((1, 1), (1, 3), (5, 1), (5, 3))
"""segments x crops"""


class OneView(EvaluationClips):
    """A single view of each video, by its number."""

    def __init__(self, clips: list[Clip], data: DataConfig, view: int) -> None:
        super().__init__(clips, data)
        self.segment, self.crop = divmod(view, data.crops)

    def view(self, index: int) -> torch.Tensor:
        """Decode what it needs, and nothing else: (T, H, W, 3) uint8."""
        video = data_path.open_clip(self.clips[index], self.data)
        views = self._views(video, [self._segments(video)[self.segment]])
        return views[self.crop]


def make_videos(folder: Path, count: int) -> list[Clip]:
    """Photographs that move, as the usual compressed copy of a data set would hold them."""
    photo = np.asarray(Image.fromarray(photographs.astronaut()).resize((900, 700)))
    for number in range(count):
        with av.open(str(folder / f"{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
            for t in range(300):
                top, left = (t + 7 * number) % 400, 2 * t % 500
                picture = np.ascontiguousarray(photo[top : top + 256, left : left + 340])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return [Clip(f"{number}.mp4", line=number + 1) for number in range(count)]


def measure(clips: list[Clip], data: DataConfig) -> tuple[float, float]:
    """Seconds a video: all views from one decode, and each from its own."""
    once = EvaluationClips(clips, data)
    singles = [OneView(clips, data, view) for view in range(data.segments * data.crops)]
    together, apart = 0.0, 0.0
    for index in range(len(clips)):
        start = time.perf_counter()
        example = once[index]
        together += time.perf_counter() - start
        if example.bad is not None:
            raise SystemExit(f"cannot be read: {example.bad.error}")
        start = time.perf_counter()
        views = [single.view(index) for single in singles]
        apart += time.perf_counter() - start
        assert torch.equal(torch.stack(views), example.clip)  # the same pixels either way
    return together / len(clips), apart / len(clips)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, help="clip list (default: videos that are made)")
    parser.add_argument("--root", type=Path, help="folder its paths start at")
    parser.add_argument("--videos", type=int, default=8, help="how many (default 8)")
    parser.add_argument("--frames", type=int, default=16, help="of a clip (default 16)")
    parser.add_argument("--stride", type=int, default=4, help="between them (default 4)")
    parser.add_argument("--size", type=int, default=224, help="of a view (default 224)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clip = ClipConfig(args.frames, args.stride, args.size)
    with tempfile.TemporaryDirectory() as folder:
        if args.list is None:
            clips = make_videos(Path(folder), args.videos)
            data = DataConfig(clip=clip, root=folder)
        else:
            data = DataConfig(clip=clip, root=str(args.root or "."))
            try:
                clips = read_clips(args.list, data, labelled=False)[: args.videos]
            except UserError as error:
                parser.error(str(error))
        EvaluationClips(clips, data)[0]  # loads the libraries
        print(f"{len(clips)} videos, clips of {clip}, stride {clip.stride}, one core")
        print("segments x crops   one decode   one for each view   ratio")
        for segments, crops in VIEWS:
            once, each = measure(clips, replace(data, segments=segments, crops=crops))
            print(
                f"{segments:8} x {crops:<5} {1e3 * once:9.0f} ms {1e3 * each:16.0f} ms "
                f"{each / once:10.2f}"
            )


if __name__ == "__main__":
    main()
