"""One video decoded to its end, strictly: what it is, and whether it is damaged.

videomae.scan runs this module as a program, so that a decoder that crashes or hangs takes one video
along and nothing else. It then reads one JSON array [path, frames] a line and answers each with one
line, the JSON object of an Inspection. Without torch, so that it starts at once.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from videomae.video.programs import end_with_parent

STRICT = {"err_detect": "explode"}
"""The decoder's option to fail where it would conceal damage."""
Each = Callable[[av.VideoFrame], None]
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Inspection:
    """What a video is. Nothing but `ok`, `error` and what was seen so far of a damaged one."""

    ok: bool
    error: str | None = None
    """What is wrong, and details in parentheses."""
    duration_s: float | None = None
    """Until the end of the last frame; of a folder of frames: unknown."""
    num_frames: int = 0
    """Frames that were decoded, whatever the file says of itself."""
    fps: float | None = None
    """Frames per second, on average."""
    width: int | None = None
    """In pixels, as shown: after rotation."""
    height: int | None = None
    codec: str | None = None
    bytes: int | None = None
    """Of a file."""


class DamageError(Exception):
    """What is wrong with a video."""


def inspect_video(path: Path, each: Each | None = None) -> Inspection:
    """Decode a video file; `each` is called with every frame."""
    if not path.exists():
        return Inspection(ok=False, error="missing")
    if path.is_dir():
        return Inspection(ok=False, error="a directory, not a video file")
    size = path.stat().st_size
    if size == 0:
        return Inspection(ok=False, error="empty", bytes=0)
    facts: dict[str, Any] = {"bytes": size}
    try:
        with av.open(str(path)) as container:
            _decode(container, facts, each)
    except (av.FFmpegError, OSError, ValueError) as error:
        seen = facts.get("num_frames")
        what = "cannot be opened" if seen is None else "damaged"
        after = "" if seen is None else f", after {seen} frames"
        reason = getattr(error, "strerror", None) or str(error)
        return Inspection(ok=False, error=f"{what} ({reason}{after})", **facts)
    except DamageError as damage:
        return Inspection(ok=False, error=str(damage), **facts)
    return Inspection(ok=True, **facts)


def _decode(
    container: av.container.InputContainer, facts: dict[str, Any], each: Each | None
) -> None:
    """Decode the video stream, and fill in `facts` on the way.

    Raises:
        DamageError: it has none, no frames, frames that the decoder marks or gives in an order that
            is not that of their times (so that none can be found by its time), or ends early.
        av.FFmpegError: its data are invalid.
    """
    if not container.streams.video:
        raise DamageError("no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DamageError("no codec for its video stream")
    stream.codec_context.options = STRICT
    stream.codec_context.thread_count = 1
    rate = float(stream.average_rate or 0)
    facts |= {"codec": stream.codec_context.name, "num_frames": 0, "fps": rate or None}
    end, start, shown = 0.0, None, None
    for count, frame in enumerate(_frames(container, stream), start=1):
        if start is None:
            turned = frame.rotation % 180 != 0
            size = (frame.height, frame.width) if turned else (frame.width, frame.height)
            facts |= {"width": size[0], "height": size[1]}
        time = (count - 1) / (rate or 1) if frame.time is None else frame.time
        if frame.pts is not None:
            if shown is not None and frame.pts < shown:
                raise DamageError(f"damaged (frames out of order, after {count - 1} frames)")
            shown = frame.pts
        start = time if start is None else min(start, time)
        end = max(end, time)
        facts |= {"num_frames": count}
        if each:
            each(frame)
    if start is None:
        raise DamageError("no frame")
    step = 1 / rate if rate else 0.0
    facts |= {"duration_s": round(end + step - start, 6)}
    promised = _promised_s(container, stream)
    if promised - (end + step) > max(0.1 * promised, 2 / rate if rate else 1):
        raise DamageError(f"ends early (at {end + step:.2f} of {promised:.2f} s)")


def _frames(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[av.VideoFrame]:
    """The frames, none of them damaged.

    In a part cut out of a longer video the first pictures may refer to some that are gone. Those
    shown before the first key frame do not count; and what the decoder says before its first frame
    counts only if it loses one. Where all pictures have a time, each must be shown, and the file's
    own index must lead to the key frames.
    """
    key, pictures, count, early = None, 0, 0, None
    seen: set[tuple[int | None, int]] = set()  # times and sizes of packets
    keys: list[int | None] = []
    times: set[int | None] = set()
    shown: set[int | None] = set()
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise DamageError(f"damaged (a packet is marked corrupt, after {count} frames)")
        key = packet.pts if key is None else key
        seen.add((packet.pts, packet.size))
        keys += [packet.pts] * packet.is_keyframe
        if packet.size > 0 and not packet.is_discard and not _before(packet.pts, key):
            pictures += 1
            times.add(packet.pts)
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            if count > 0:
                raise
            early = early or error
            continue
        for frame in frames:
            if _before(frame.pts, key):
                continue
            if frame.is_corrupt:
                raise DamageError(f"damaged (frame {count} is marked corrupt)")
            count += 1
            shown.add(frame.pts)
            yield frame
    if early is not None and count < pictures:
        raise early
    if None in times:
        return
    if lost := times - shown:
        raise DamageError(f"damaged (frames are lost: {len(lost)} of {len(times)})")
    for time in filter(None, keys):
        container.seek(time, stream=stream)
        packets: Any = container.demux(stream)
        with closing(packets):
            found = next(packets)
        if (found.pts, found.size) not in seen:
            raise DamageError("damaged (its index leads to other frames)")


def _before(time: int | None, key: int | None) -> bool:
    return time is not None and key is not None and time < key


def _promised_s(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> float:
    """Where a file that a broken download would shorten unseen says it ends; 0: it does not say.

    An MP4 cut off is found otherwise, and its edit lists shorten it rightfully.
    """
    if "mp4" in container.format.name:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return 0.0


def inspect_frames(
    path: Path, template: str, start: int, total: int, each: Each | None = None
) -> Inspection:
    """Decode a folder of extracted frames: numbers `start` to start + total - 1."""
    if not path.is_dir():
        return Inspection(ok=False, error="missing")
    width = height = None
    for count in range(total):
        file = path / template.format(start + count)
        try:
            with Image.open(file) as image:
                image.load()
                width, height = width or image.width, height or image.height
                if each:
                    each(av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB"))))
        except BROKEN_IMAGE as error:
            what = "damaged" if file.exists() else "frames missing"
            reason = f"{what} ({file.name}: {type(error).__name__})"
            return Inspection(False, reason, num_frames=count, width=width, height=height)
    return Inspection(True, num_frames=total, width=width, height=height)


def main() -> None:
    """Answer requests until there are no more. Ctrl-C is for the process that asks."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        path, frames = json.loads(line)
        found = inspect_frames(Path(path), *frames) if frames else inspect_video(Path(path))
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
