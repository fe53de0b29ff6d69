"""One video opened as training opens it, and its first, middle and last frames read.

videomae.prepare scan=quick runs this module as a program, so that a decoder that crashes or hangs
takes one video along and nothing else. It reads and answers as videomae.video.inspection does: one
JSON array [path, frames] a line in, one JSON object of an Inspection a line out. Damage elsewhere
in a video is not found; videomae.video.inspection finds it.
"""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from videomae.video.folder import FrameFolder
from videomae.video.inspection import Inspection
from videomae.video.interface import DecodeError, Video
from videomae.video.opening import AUTO, decoder
from videomae.video.programs import end_with_parent


def look_into(path: Path, frames: tuple[str, int, int] | None = None) -> Inspection:
    """Say whether three frames of a video can be read, by the default decoder.

    Args:
        frames: of a folder of frames: template, first number, how many. None: a file.
    """
    try:
        video: Video = FrameFolder(path, *frames) if frames else decoder(AUTO)[1](path)
        last = video.num_frames - 1
        video.read([0, last // 2, last])
    except DecodeError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
        return Inspection(ok=False, error=f"cannot be read ({reason})")
    return Inspection(ok=True, num_frames=video.num_frames, fps=video.fps)


def main() -> None:
    """Answer requests until there are no more. Ctrl-C is for the process that asks."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        path, frames = json.loads(line)
        print(json.dumps(asdict(look_into(Path(path), frames))), flush=True)


if __name__ == "__main__":
    main()
