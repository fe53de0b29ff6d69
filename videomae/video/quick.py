"""Quick check of one video: open it as training does, and read its first, middle and last frame.

videomae.prepare scan=quick runs this module as a program, so that a decoder that crashes or hangs
affects one video only. As in videomae.video.inspection, it reads one JSON array [path, frames,
span, max_bytes] a line, and answers each with one line, the JSON object of an Inspection. Damage
between the three frames is not found; videomae.video.inspection finds it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videomae.run.worker_pool import serve
from videomae.video.folder import FrameFolder
from videomae.video.inspection import Inspection
from videomae.video.interface import DecodeError, Video, within_memory
from videomae.video.opening import AUTO, decoder
from videomae.video.ranges import VideoRange


def look_into(
    name: str, frames: Sequence[Any] | None, span: Sequence[Any] | None, max_bytes: int
) -> Inspection:
    """Check that three frames of a video can be read by the default decoder.

    Args:
        name: path of a video file or of a folder of frames.
        frames: template, first number and count of a folder of frames; None: a video file.
        span: range of the file's frames; None: all of them.
        max_bytes: bytes of memory that reading the video may take.
    """
    path = Path(name)
    try:
        with within_memory(name):
            video: Video
            if frames:
                template, start, total = frames
                video = FrameFolder(path, template, start, total, max_bytes)
            else:
                video = decoder(AUTO)[1](path, max_bytes)
                video = VideoRange(path, video, (span[0], span[1])) if span else video
            last = video.num_frames - 1
            video.read([0, last // 2, last])
    except DecodeError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        return Inspection(ok=False, error=f"cannot be read ({reason})")
    return Inspection(ok=True, num_frames=video.num_frames, fps=video.fps)


if __name__ == "__main__":
    serve(look_into)
