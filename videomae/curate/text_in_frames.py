"""Stage text: how much of the picture text covers, by RapidOCR and the models that it ships.

Its detector alone takes faces, lawns and whole pictures for text. A box counts if characters are
read in it, at least two, with a score that text.score asks for, and if it is no taller than half of
the picture: of a whole picture without text, two characters are read now and then.
"""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from videomae.config import ConfigError, CurateConfig, TextConfig
from videomae.curate.clip_frames import read_frames, sampled_numbers
from videomae.curate.clip_models import ModelSpec, Span, plain
from videomae.curate.model_stage import (
    ModelStage,
    jobs_of,
    look_at_clips,
    record_of,
    write_columns,
)
from videomae.curate.picture import scaled
from videomae.run.files import sha256

STAGE = "text"
VERSION = 2
"""Version of the stage: results of other versions are computed again."""
COLUMNS = {"text_fraction": pa.float64()}
LONG_SIDE = 640
"""Long side of the frames that are looked at, in pixels."""
FEWEST = 2
"""Fewest characters of a box that counts."""
TALLEST = 0.5
"""Largest height of a line of text that counts, as a share of the picture's short side."""
MODELS = {
    "Det.model_path": "PP-OCRv6_det_small.onnx",
    "Rec.model_path": "PP-OCRv6_rec_small.onnx",
}
"""Settings of RapidOCR that name its models, and the files that it ships."""


def model_files() -> dict[str, Path]:
    """Return the files of the models by the setting that names each.

    Raises:
        ConfigError: RapidOCR is not installed, or is a version with other models.
    """
    if not all(importlib.util.find_spec(name) for name in ("rapidocr", "onnxruntime")):
        raise ConfigError(
            "stage=text needs rapidocr and onnxruntime: pip install 'videomae[curate-models]'"
        )
    found = importlib.util.find_spec("rapidocr")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "models"
    files = {key: folder / name for key, name in MODELS.items()}
    if missing := [file.name for file in files.values() if not file.is_file()]:
        raise ConfigError(
            f"stage=text: this rapidocr ({importlib.metadata.version('rapidocr')}) does not ship "
            f"{', '.join(missing)}: pip install 'videomae[curate-models]'"
        )
    return files


class TextModel:
    """RapidOCR, which finds and reads text in frames, in one thread."""

    def __init__(self, config: TextConfig) -> None:
        files = model_files()
        from rapidocr import RapidOCR

        threads = "EngineConfig.onnxruntime.{}_op_num_threads"
        self.config = config
        self.engine = RapidOCR(
            params={
                **{key: str(file) for key, file in files.items()},
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Global.text_score": config.score,
                "Det.limit_type": "max",
                "Det.limit_side_len": LONG_SIDE,
                threads.format("intra"): 1,
                threads.format("inter"): 1,
            }
        )

    def columns(self, path: Path, span: Span, given: Any, max_bytes: int) -> dict[str, Any]:
        """Return the median over frames of the share of the picture that text covers."""
        numbers = sampled_numbers(span[1] - span[0], self.config.frames)
        frames = read_frames(path, span, numbers, max_bytes)
        return {"text_fraction": round(float(np.median([self.covered(x) for x in frames])), 6)}

    def covered(self, frame: NDArray[np.uint8]) -> float:
        """Return the share of a frame, (H, W, 3) uint8 RGB, that text covers."""
        height, width = frame.shape[:2]
        size = scaled((width, height), LONG_SIDE)
        how = cv2.INTER_AREA if max(width, height) > LONG_SIDE else cv2.INTER_LINEAR
        found: Any = self.engine(cv2.resize(frame[..., ::-1], size, interpolation=how))
        mask = np.zeros(size[::-1], np.uint8)
        for box, text in zip(boxes_of(found), found.txts or (), strict=True):
            if len("".join(text.split())) >= FEWEST and height_of(box) <= TALLEST * min(size):
                cv2.fillPoly(mask, [np.round(box).astype(np.int32)], 1)
        return float(mask.mean())


def height_of(box: NDArray[np.float32]) -> float:
    """Return the shorter side of a box, (4, 2) corners in turn: the height of a line of text."""
    return float(np.linalg.norm(np.diff(box[:3], axis=0), axis=1).min())


def boxes_of(found: Any) -> Any:
    """Return the boxes of an answer of RapidOCR; none where nothing was read."""
    return () if found.boxes is None or found.txts is None else found.boxes


def find_text(config: CurateConfig, out: Path) -> None:
    """Measure the text in the clips that no rule has dropped, and write the column.

    Raises:
        ConfigError: RapidOCR is not installed.
    """
    files = model_files()
    settings = plain(config.text) | {
        "model": "rapidocr",
        "stage_version": VERSION,
        "files": {file.name: sha256(file) for file in files.values()},
    }
    spec = ModelSpec(STAGE, plain(config.text), "cpu")
    names = ("rapidocr", "onnxruntime")
    versions = {name: importlib.metadata.version(name) for name in names}
    stage = ModelStage(STAGE, spec, COLUMNS, settings, versions)
    table = look_at_clips(config, out, stage, jobs_of(config, out))
    write_columns(out, STAGE, table, list(COLUMNS), record_of(stage, table))
