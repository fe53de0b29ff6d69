#!/usr/bin/env python
"""Time the views of test videos: decoded once for all, as evaluation does it, and once for each.

python scripts/bench_evaluation.py
python scripts/bench_evaluation.py --list val.txt --root videos --videos 20

Without --list, videos are made: 300 frames of 340 x 256 px, H.264, a photograph that moves. Data
path only, on one core; both ways take turns. Frames are those asked for of the decoder, which works
through those between them too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch
from PIL import Image
from skimage import data as photographs

from videomae.config import ClipConfig, DataConfig, UserError
from videomae.data import dataset as data_path
from videomae.data.dataset import EvaluationClips, read_crops
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.video.interface import Part, Video

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
        wanted, places = np.unique(self._segments(video)[self.segment], return_inverse=True)
        crops = read_crops(video, wanted.tolist(), self.data.clip.frame, self.data.crops)
        return crops[self.crop][torch.from_numpy(places)]


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


@dataclass
class Cost:
    """What one way took, of all videos."""

    seconds: list[float] = field(default_factory=list)
    """Of each video."""
    opens: int = 0
    frames: int = 0

    def __str__(self) -> str:
        videos = len(self.seconds)
        milliseconds = 1e3 * statistics.median(self.seconds)
        return f"{milliseconds:7.0f} ms {self.opens / videos:4.0f} {self.frames / videos:6.0f}"


class CountedVideo:
    """A video, and how many of its frames are asked for."""

    def __init__(self, video: Video, cost: Cost) -> None:
        self.video, self.cost = video, cost
        self.num_frames, self.fps = video.num_frames, video.fps

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        self.cost.frames += len(numbers)
        return self.video.parts(numbers)


@contextmanager
def spent(cost: Cost) -> Iterator[None]:
    """Add to the cost what the block takes, which is one video."""
    original = data_path.open_clip

    def counting(clip: Clip, data: DataConfig) -> Video:
        cost.opens += 1
        return CountedVideo(original(clip, data), cost)

    with mock.patch.object(data_path, "open_clip", counting):
        start = time.perf_counter()
        yield
        cost.seconds.append(time.perf_counter() - start)


def measure(clips: list[Clip], data: DataConfig) -> tuple[Cost, Cost]:
    """All views from one decode, and each from its own."""
    once = EvaluationClips(clips, data)
    singles = [OneView(clips, data, view) for view in range(data.segments * data.crops)]
    together, apart = Cost(), Cost()
    for index in range(len(clips)):
        with spent(together):
            example = once[index]
        if example.bad is not None:
            raise SystemExit(f"cannot be read: {example.bad.error}")
        with spent(apart):
            views = [single.view(index) for single in singles]
        assert torch.equal(torch.stack(views), example.clip)  # the same pixels either way
    return together, apart


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
        print("medians a video           one decode           one for each view")
        print("segments x crops      time open frames        time open frames   ratio")
        for segments, crops in VIEWS:
            once, each = measure(clips, replace(data, segments=segments, crops=crops))
            ratio = statistics.median(each.seconds) / statistics.median(once.seconds)
            print(f"{segments:8} x {crops:<5} {once}  {each} {ratio:7.2f}")


if __name__ == "__main__":
    main()
