"""One video opened as training opens it, and its first, middle and last frames read.

videomae.prepare scan=quick runs this module as a program, so that a decoder that crashes or hangs
takes one video along and nothing else. It reads and answers as videomae.video.inspection does: one
JSON array [path, frames, max_bytes] a line in, one JSON object of an Inspection a line out. Damage
elsewhere in a video is not found; videomae.video.inspection finds it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videomae.run.programs import serve
from videomae.video.folder import FrameFolder
from videomae.video.inspection import Inspection
from videomae.video.interface import DecodeError, Video, within_memory
from videomae.video.opening import AUTO, decoder


def look_into(name: str, frames: Sequence[Any] | None, max_bytes: int) -> Inspection:
    """Say whether three frames of a video can be read, by the default decoder.

    Args:
        name: the path of a file or folder.
        frames: of a folder of frames: template, first number, how many. None: a file.
        max_bytes: of memory that reading it may take.
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
            last = video.num_frames - 1
            video.read([0, last // 2, last])
    except DecodeError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        return Inspection(ok=False, error=f"cannot be read ({reason})")
    return Inspection(ok=True, num_frames=video.num_frames, fps=video.fps)


if __name__ == "__main__":
    serve(look_into)
