"""The program of stages persons, text and embed, which computes one clip after another.

The engine of these stages runs this module as a program, with the JSON object of a ModelSpec as its
argument, so that a decoder that crashes or hangs affects one clip only. It reads one JSON array
[path, source_sha256, start_frame, end_frame, given, max_clip_bytes, max_bytes] a line, and answers
each with one line, the JSON object of a ClipAnswer. One clip is computed at a time, by one thread:
its result does not depend on other clips, nor on the number of processes.
"""

import base64
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from videomae.config import Device, EmbedConfig, PersonsConfig, TextConfig
from videomae.run.files import sha256
from videomae.run.worker_pool import serve
from videomae.video.interface import DecodeError

Span = tuple[int, int]
"""First frame of a clip in its video, and the one after its last."""


@dataclass(frozen=True)
class ModelSpec:
    """A stage and its settings, as the program takes them."""

    stage: str
    settings: dict[str, Any]
    device: str

    def text(self) -> str:
        """Return the JSON object of the stage and its settings."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class ClipAnswer:
    """Answer of the program to one request."""

    columns: dict[str, Any] | None = None
    """Values of the clip by the names of their columns; bytes are in base64."""
    error: str | None = None
    """Reason why there are none."""
    changed: bool = False
    """Whether the file is not the one that stage sources saw."""
    total_s: float = 0.0
    """Seconds that the clip took."""


class ClipModel(Protocol):
    """A model that computes columns of a clip."""

    def columns(self, path: Path, span: Span, given: Any, max_bytes: int) -> dict[str, Any]:
        """Return the values of a clip by the names of their columns.

        Args:
            given: what the request holds besides the clip.
            max_bytes: bytes of memory that decoding may take.

        Raises:
            DecodeError: the clip cannot be decoded.
        """


def plain(config: Any) -> dict[str, Any]:
    """Return the settings of a section of the config as they can be written as JSON."""
    return {each.name: _plain(getattr(config, each.name)) for each in fields(config)}


def _plain(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value


def model_of(spec: ModelSpec) -> ClipModel:
    """Load the model of a stage.

    Raises:
        UserError: the model cannot be used.
    """
    if spec.stage == "text":
        from videomae.curate.text_in_frames import TextModel

        return TextModel(TextConfig(**spec.settings))
    if spec.stage == "faces":
        from videomae.curate.persons import FaceThumbnails

        return FaceThumbnails()
    import torch

    from videomae.run.devices import find_device

    device = find_device(Device(spec.device), 0)
    torch.set_num_threads(1)
    if spec.stage == "persons":
        from videomae.curate.persons import PersonsModel

        return PersonsModel(PersonsConfig(**spec.settings), device)
    from videomae.curate.embedding import EmbedModel

    return EmbedModel(EmbedConfig(**spec.settings), device)


def encoded(content: bytes) -> str:
    """Return bytes as a text that JSON can hold."""
    return base64.b64encode(content).decode()


def answering(model: ClipModel) -> Callable[..., ClipAnswer]:
    """Return the function that answers requests with a model."""

    @lru_cache(maxsize=4)
    def hash_of(path: Path) -> str:
        return sha256(path)

    def answer(
        path: str, source_sha256: str, start: int, end: int, given: Any, *limits: int
    ) -> ClipAnswer:
        began = time.perf_counter()
        try:
            if hash_of(Path(path)) != source_sha256:
                return ClipAnswer(changed=True, error="it is not the file that stage=sources saw")
        except OSError as error:
            return ClipAnswer(changed=True, error=f"it cannot be read any more ({error.strerror})")
        try:
            columns = model.columns(Path(path), (start, end), given, limits[0])
        except DecodeError as error:
            return ClipAnswer(error=str(error), total_s=time.perf_counter() - began)
        return ClipAnswer(columns, total_s=time.perf_counter() - began)

    return answer


def main() -> None:
    """Answer requests about the stage that the argument names."""
    import cv2

    cv2.setNumThreads(1)
    spec = ModelSpec(**json.loads(sys.argv[1]))
    serve(answering(model_of(spec)))


if __name__ == "__main__":
    main()
