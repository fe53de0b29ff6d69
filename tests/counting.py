"""A decoder that writes down which videos it opens: data.decoder=tests.counting:CountingVideo."""

import os
from pathlib import Path

from videomae.config import MAX_CLIP_BYTES
from videomae.run.files import append_text
from videomae.video.pyav import PyAVVideo

OPENED = "VIDEOMAE_TEST_OPENED"
"""Variable that names the file to which the names of the opened videos are appended."""


class CountingVideo(PyAVVideo):
    """A video that is read as PyAV reads it, in whatever process, and noted."""

    def __init__(self, path: Path, max_bytes: int = MAX_CLIP_BYTES) -> None:
        append_text(Path(os.environ[OPENED]), f"{path.name}\n")
        super().__init__(path, max_bytes)
