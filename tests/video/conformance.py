"""What a decoder, a scan and a pack make of a video file, held against the `ffmpeg` command.

Run as a program it answers requests, so that a decoder that crashes or hangs takes one file along
and nothing else. It then reads one JSON object a line, the fields of a Request, and answers each
with one line, the JSON object of a Verdict.
"""

import json
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import md5
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tests.video.oracle import OracleError, Shown, shown
from tests.video.recipes import RecipeError, make, recipes
from videomae.config import (
    AugmentConfig,
    ClipConfig,
    CropKind,
    DataConfig,
    MaskConfig,
    MaskKind,
    Sampling,
)
from videomae.data.dataset import EvaluationClips, Item, TrainingClips
from videomae.data.mask import Masking
from videomae.lists.formats import Clip
from videomae.run.worker_pool import end_with_parent
from videomae.video.inspection import inspect_video
from videomae.video.interface import DecodeError, Frames, Video
from videomae.video.opening import decoder
from videomae.video.packed import PackedVideo
from videomae.video.transcode import Encoding, transcode

OWN = "pyav"
"""The decoder that scan and pack use too, and of which every bit is judged."""
TOLERANCES = {
    "decord": {
        "yuv410p": 6.0,
        "yuv411p": 1.0,
        "yuv420p10le": 6.0,
        "yuv422p10le": 0.2,
        "yuva444p12le": 0.2,
    }
}
"""Mean differences, of 255, that are no fault: the largest that was measured, rounded up.

decord's own FFmpeg puts chroma between the samples of these formats by another rule. In all other
formats decord, and in every format torchcodec and PyAV, are to be equal bit for bit. Neighbouring
frames of the recipes differ by 50 and more. Frames that decord scales after a change of size are up
to 1 off, and count as faults.
"""
SAME = 4.0
"""Mean squared difference of two frames below which either may stand for the other in a pack."""
READS = 10
"""Single frames that are read in random order."""
TOGETHER = 150
"""Frames that are read at once; long videos would else need much memory."""
THUMBNAIL = 32
"""The side that frames are shrunk to before those of a pack are compared with all others."""
ENCODING = Encoding(short_side=320, stride=4, keyint=16, crf=10, preset="superfast")


@dataclass(frozen=True)
class Request:
    """What to judge: a recipe by its name, made below `folder`, or an existing file."""

    decoder: str
    folder: str
    """Where files and ffmpeg's frames are kept."""
    recipe: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What is wrong. Nothing: the file is read, scanned and packed as ffmpeg shows it."""

    faults: list[str] = field(default_factory=list)
    unmade: str | None = None
    """Why there is nothing to judge."""
    complaints: list[str] = field(default_factory=list)
    """What ffmpeg itself says of the file."""


class Reading(NamedTuple):
    """Frames to read."""

    fresh: bool
    """Whether the video is opened anew."""
    what: str
    """What reads so."""
    numbers: list[int]


def judge(path: Path, decoder_name: str, cache: Path, *, scan: bool = True) -> list[str]:
    """The faults of a decoder at a healthy file, of the scan and the pack too if it is theirs.

    Args:
        cache: a folder for what ffmpeg shows.
        scan: whether to judge them.

    Raises:
        OracleError: ffmpeg shows nothing of the file.
    """
    expected = shown(path, cache)
    frames = expected.frames(cache)
    faults = list(_reading(path, decoder_name, expected, frames))
    if faults and decoder_name == OWN:  # the same frames, but for the rounding of FFmpeg 5.1?
        exact = shown(path, cache, bitexact=True)
        faults = list(_reading(path, decoder_name, exact, exact.frames(cache))) and faults
    if scan and decoder_name == OWN:
        faults += _scanning(path, expected)
        faults += _packing(path, frames)
    return faults


def judge_damage(path: Path, original: Path | None, cache: Path) -> Verdict:
    """What a scan makes of a damaged file.

    Args:
        original: the file before it was damaged, where ffmpeg may show the same of both; None: the
            damage is certain.
    """
    try:
        found = shown(path, cache)
        if original is not None and found.native == shown(original, cache).native:
            return Verdict(unmade="ffmpeg shows the frames of the undamaged file")
        complaints = found.complaints
    except OracleError as error:
        complaints = [str(error)]
    ok = inspect_video(path).ok
    return Verdict(["scan: ok, but the file is damaged"] if ok else [], complaints=complaints)


def _reading(
    path: Path, decoder_name: str, expected: Shown, frames: NDArray[np.uint8]
) -> Iterator[str]:
    """The faults of a decoder."""
    try:
        video = decoder(decoder_name)[1](path)
        if video.num_frames != len(expected):
            yield f"read: {video.num_frames} frames, ffmpeg shows {len(expected)}"
            return
        if hasattr(video, "decoded"):  # only PyAV gives frames as decoded
            yield from _decoded(video, expected)
        tolerance = TOLERANCES.get(decoder_name, {}).get(expected.pixels, 0.0)
        told = set()
        for fresh, what, numbers in (*_orders(len(expected)), *_windows(video)):
            reader = decoder(decoder_name)[1](path) if fresh else video
            fault = _differing(reader.read(numbers), frames, numbers, tolerance)
            if fault and what not in told:
                told.add(what)
                yield f"read {what}: {fault}"
    except DecodeError as error:
        yield f"read: {str(error).removeprefix(str(path)).lstrip(': ')}"


def _orders(total: int) -> Iterator[Reading]:
    """All frames in their order, then some in any order, all through one open video."""
    rng = random.Random(total)
    for first in range(0, total, TOGETHER):
        yield Reading(False, "all in order", list(range(first, min(first + TOGETHER, total))))
    for _ in range(READS):
        yield Reading(False, "at random", [rng.randrange(total)] * rng.randint(1, 2))
    numbers = [rng.randrange(total) for _ in range(READS)]
    yield Reading(False, "at random, with repeats", numbers)


def _windows(video: Video) -> Iterator[Reading]:
    """What training and evaluation read, each time through a video that they open for it."""
    clip, plain = Clip("any", 1), AugmentConfig(CropKind.multi_scale, antialias=True)
    masking = Masking(MaskConfig(MaskKind.tube, 0.9, 0), (8, 2, 2))
    for sampling, masks in (
        (Sampling.dense, masking),
        (Sampling.dense, None),
        (Sampling.segment, None),
    ):
        data = DataConfig(clip=ClipConfig(16, 4, 32), sampling=sampling, segments=3, crops=1)
        training = TrainingClips([clip], data, plain, masks, seed=0)
        what = "pre-training" if masks else f"{sampling.value} fine-tuning"
        for epoch in range(3):
            window = training._window(video, Item(epoch, 0), data.clip)
            yield Reading(True, f"a window of {what}", window)
        if masks is None:
            for segment in EvaluationClips([clip], data)._segments(video):
                yield Reading(True, f"a {sampling.value} test view", segment)


def _decoded(video: Any, expected: Shown) -> Iterator[str]:
    """The faults of frames as the decoder gave them, all of them and every third."""
    for numbers in (range(len(expected)), range(1, len(expected), 3)):
        digests: dict[int, str] = {}
        for place, frame in video.decoded(numbers):
            digests[place] = _digest(frame)
        given = list(digests.values())
        if given != [expected.native[number] for number in numbers]:
            wrong = sum(
                one != expected.native[number] for one, number in zip(given, numbers, strict=False)
            )
            what = "all" if numbers.step == 1 else "every third"
            yield f"decoded {what}: {len(given)} of {len(numbers)} frames, {wrong} wrong"


@cache
def _packer(width: int, height: int, pixels: str) -> av.VideoCodecContext:
    """An encoder to the bytes of a frame, plane after plane, without what is between its rows."""
    context = av.CodecContext.create("rawvideo", "w")
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = 1
    return context


def _digest(frame: av.VideoFrame) -> str:
    """The MD5 of a frame as the muxer framemd5 computes it."""
    (packet,) = _packer(frame.width, frame.height, frame.format.name).encode(frame)
    return md5(bytes(packet)).hexdigest()


def _differing(
    found: Frames, frames: NDArray[np.uint8], numbers: Sequence[int], tolerance: float
) -> str:
    """How the frames found differ from ffmpeg's of the same numbers; empty: they do not."""
    if found.shape[1:] != frames.shape[1:]:
        return f"shape {found.shape[1:]}, ffmpeg shows {frames.shape[1:]}"
    wrong = []
    for place, number in enumerate(numbers):
        mean = float(np.abs(found[place].astype(np.int16) - frames[number]).mean())
        if mean > tolerance:
            wrong.append((mean, number, place))
    if not wrong:
        return ""
    mean, number, place = max(wrong)
    errors = [np.square(found[place].astype(np.int32) - each).mean() for each in frames]
    nearest = int(np.argmin(errors))
    return (
        f"{len(wrong)} of {len(numbers)} frames differ, {number} by {mean:.2f} on average; "
        f"it is nearest to {nearest}"
    )


def _scanning(path: Path, expected: Shown) -> Iterator[str]:
    """The faults of a scan."""
    found = inspect_video(path)
    if not found.ok:
        yield f"scan: {found.error}"
        return
    if found.num_frames != len(expected):
        yield f"scan: {found.num_frames} frames, ffmpeg shows {len(expected)}"
    if (found.width, found.height) != (expected.width, expected.height):
        yield f"scan: {found.width}x{found.height}, ffmpeg shows {expected.width}x{expected.height}"


def _packing(path: Path, frames: NDArray[np.uint8]) -> Iterator[str]:
    """The faults of a pack: every frame is to be nearest to ffmpeg's of the same number."""
    made, content = transcode(path, None, ENCODING)
    if not made.source.ok:
        yield f"pack: {made.source.error}"
        return
    count = made.source.num_frames
    if count != len(frames):
        yield f"pack: {count} frames, ffmpeg shows {len(frames)}"
        return
    try:
        video = PackedVideo(
            path, content, num_frames=count, stride=ENCODING.stride, keyint=ENCODING.keyint
        )
        packed, given = _thumbnails(video.read(range(count))), _thumbnails(frames)
    except DecodeError as error:
        yield f"pack: {error}"
        return
    far, apart = _distances(packed, given), _distances(given, given)
    nearest = far.argmin(1)
    wrong = [
        i for i in range(count) if far[i, nearest[i]] < far[i, i] and apart[i, nearest[i]] > SAME
    ]
    if wrong:
        yield (
            f"pack: {len(wrong)} of {count} frames are nearer to another, "
            f"{wrong[0]} to {nearest[wrong[0]]}"
        )


def _thumbnails(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(T, values) of small pictures."""
    shrinking = VideoReformatter()
    images = [av.VideoFrame.from_ndarray(np.ascontiguousarray(each), "rgb24") for each in frames]
    small = [
        shrinking.reformat(
            image, THUMBNAIL, THUMBNAIL, "rgb24", interpolation="AREA", threads=1
        ).to_ndarray()
        for image in images
    ]
    return np.stack(small).reshape(len(small), -1).astype(np.float32)


def _distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """(L, R) mean squared differences of all pairs.

    Not as a matrix product: two processes whose BLAS has two threads each can wait for each other.
    """
    return np.stack([np.square(right - row).mean(1) for row in left])


def answer(request: Request) -> Verdict:
    """Make the file, if it is one of a recipe, and judge it."""
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    oracle = folder / "ffmpeg"
    try:
        if request.path is not None:
            with TemporaryDirectory(dir=folder) as scratch:  # of a long video it takes gigabytes
                path, oracle = Path(request.path), Path(scratch)
                faults = judge(path, request.decoder, oracle)
                return Verdict(faults, complaints=shown(path, oracle).complaints)
        recipe = recipes()[request.recipe or ""]
        path = make(recipe, folder)
        if not recipe.healthy:
            original = recipe.sources[0].file(folder) if recipe.concealed else None
            return judge_damage(path, original, oracle)
        faults = judge(path, request.decoder, oracle, scan=not recipe.torn)
    except (RecipeError, OracleError) as error:
        return Verdict(unmade=f"{type(error).__name__}: {error}")
    return Verdict(faults, complaints=shown(path, oracle).complaints)


def main() -> None:
    """Answer requests until there are no more. Ctrl-C is for the process that asks."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        verdict = answer(Request(**json.loads(line)))
        print(json.dumps(asdict(verdict)), flush=True)


if __name__ == "__main__":
    main()
