"""Stage persons: in how many frames of a clip a person is seen, how tall, and how many faces.

A detector looks at frames of each clip, or a file says what one has found. Where faces are known,
thumbnails are made anew with faces blurred.
"""

import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from videomae.config import ConfigError, CurateConfig, PersonsConfig
from videomae.curate.clip_frames import read_frames, sampled_numbers
from videomae.curate.clip_models import ModelSpec, Span, encoded, plain
from videomae.curate.detections import (
    COLUMNS,
    THUMBNAIL,
    Detector,
    blurred_thumbnail,
    middle_of,
    scores_of,
)
from videomae.curate.exported_detections import ExportedDetections
from videomae.curate.model_stage import (
    ClipJob,
    ModelStage,
    jobs_of,
    look_at_clips,
    record_of,
    write_columns,
)
from videomae.curate.shards import Shards
from videomae.curate.table import stage_file
from videomae.run.files import sha256

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

VERSION = 1
"""Version of the stage: results of other versions are computed again."""
STAGE, FACES = "persons", "faces"
"""Names of the stage, and of the thumbnails that are made of exported detections."""
FILES = ("weights", "detector", "detections", "class_names")
"""Settings that name files, which are recorded by their names and hashes."""


def detector_of(config: PersonsConfig, device: "torch.device") -> Detector:
    """Load the detector that the settings name.

    Raises:
        UserError: it cannot be used.
    """
    if config.weights is not None:
        from videomae.curate.torchvision_detectors import TorchvisionDetector

        return TorchvisionDetector(config, device)
    from videomae.curate.transformers_detectors import TransformersDetector

    return TransformersDetector(config, device)


def finds_faces(config: PersonsConfig, labels: Mapping[str, int] | list[str]) -> bool:
    """Return whether a detector knows faces, after a check that it knows persons.

    Args:
        labels: the names of its classes.

    Raises:
        ConfigError: there is no such class.
    """
    if config.label not in labels:
        some = ", ".join(map(str, list(labels)[:30]))
        raise ConfigError(
            f"persons.label={config.label} is none of the detector's {len(labels)} classes: {some}"
        )
    if config.blur_faces and config.face_label not in labels:
        raise ConfigError(
            f"persons.blur_faces=true, but the detector has no class "
            f"persons.face_label={config.face_label}: it cannot find faces"
        )
    return config.face_label in labels


class PersonsModel:
    """A detector, which looks at frames of a clip."""

    def __init__(self, config: PersonsConfig, device: "torch.device") -> None:
        self.config = config
        self.detector = detector_of(config, device)
        self.faces = finds_faces(config, self.detector.labels)

    def columns(self, path: Path, span: Span, given: Any, max_bytes: int) -> dict[str, Any]:
        """Return the columns of a clip, and its thumbnail where faces are to be blurred."""
        length = span[1] - span[0]
        numbers = sampled_numbers(length, self.config.frames)
        frames = read_frames(path, span, numbers, max_bytes)
        found = self.detector.detect(frames)
        row = scores_of(found, self.config, faces=self.faces)
        if self.faces and self.config.blur_faces is not False:
            middle = middle_of(numbers, length)
            boxes = found[middle].of(self.config.face_label)
            row[THUMBNAIL] = encoded(blurred_thumbnail(frames[middle], boxes))
        return row


class FaceThumbnails:
    """Thumbnails of frames whose faces are known."""

    def columns(self, path: Path, span: Span, given: Any, max_bytes: int) -> dict[str, Any]:
        """Return the thumbnail of a clip; given are the number of a frame and its faces' boxes."""
        number, boxes = given
        (frame,) = read_frames(path, span, [number], max_bytes)
        faces = np.array(boxes, np.float64).reshape(-1, 4)
        return {THUMBNAIL: encoded(blurred_thumbnail(frame, faces))}


def find_persons(config: CurateConfig, out: Path) -> None:
    """Look for persons in the clips that no rule has dropped, and write the columns.

    Raises:
        ConfigError: no detector is given, or it cannot be used.
    """
    persons = config.persons
    if not persons.is_given:
        raise ConfigError(
            "stage=persons needs a detector: give persons.weights=FILE (torchvision), "
            "persons.detector=DIR (transformers) or persons.detections=FILE (JSON lines of yours)"
        )
    if persons.detections is not None:
        _take_exported(config, out)
        return
    import torch

    from videomae.run.devices import find_device

    device = find_device(config.device, 0)
    detector = detector_of(persons, torch.device("cpu"))
    faces = finds_faces(persons, detector.labels)
    libraries = ["torch", "torchvision"] if persons.weights else ["torch", "transformers"]
    stage = ModelStage(
        STAGE,
        ModelSpec(STAGE, plain(persons), device.type),
        {**COLUMNS, THUMBNAIL: pa.binary()},
        _settings(persons, faces=faces) | {"architecture": detector.architecture},
        {name: importlib.metadata.version(name) for name in libraries},
    )
    table = look_at_clips(config, out, stage, jobs_of(config, out))
    write_columns(out, STAGE, table, list(COLUMNS), record_of(stage, table))
    tell_blurred(out, blur(out, table) if faces else 0)


def _settings(config: PersonsConfig, *, faces: bool) -> dict[str, Any]:
    """Return what the results depend on, with files by their names and hashes."""
    found = plain(config) | {"stage_version": VERSION}
    found["blur_faces"] = faces and config.blur_faces is not False
    for name in FILES:
        found[name] = hashes_of(getattr(config, name))
    return found


def hashes_of(place: str | None) -> dict[str, str] | None:
    """Return the SHA-256 of a file, or of the files in a directory, by their names."""
    if place is None:
        return None
    path = Path(place)
    files = (
        [path] if path.is_file() else [each for each in sorted(path.iterdir()) if each.is_file()]
    )
    return {file.name: sha256(file) for file in files if not file.name.startswith(".")}


def _take_exported(config: CurateConfig, out: Path) -> None:
    """Write the columns that follow from exported detections, and the thumbnails."""
    persons = config.persons
    jobs = jobs_of(config, out)
    found = ExportedDetections.read(persons, out, {job.clip_id for job in jobs})
    faces = finds_faces(persons, found.labels)
    settings = _settings(persons, faces=faces)
    rows = [
        {"clip_id": clip, **scores_of(list(frames.values()), persons, faces=faces)}
        for clip, frames in found.clips.items()
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema({"clip_id": pa.string(), **COLUMNS}))
    write_columns(out, STAGE, table, list(COLUMNS), settings)
    made = 0
    if settings["blur_faces"]:
        made = _blur_exported(
            config, out, found, [job for job in jobs if job.clip_id in found.clips]
        )
    tell_blurred(out, made)


def _blur_exported(
    config: CurateConfig, out: Path, found: ExportedDetections, jobs: list[ClipJob]
) -> int:
    """Make thumbnails of the frames whose faces are known; return their number."""
    given = {}
    for job in jobs:
        frames = found.clips[job.clip_id]
        number = list(frames)[middle_of(list(frames), job.end - job.start)]
        given[job.clip_id] = [number, frames[number].of(config.persons.face_label).tolist()]
    stage = ModelStage(
        FACES,
        ModelSpec(FACES, {}, "cpu"),
        {THUMBNAIL: pa.binary()},
        _settings(config.persons, faces=True),
        {"opencv": importlib.metadata.version("opencv-python-headless")},
        given,
    )
    return blur(out, look_at_clips(config, out, stage, jobs))


def blur(out: Path, table: Any) -> int:
    """Put thumbnails with blurred faces in the place of those of stage measure.

    Args:
        table: clip_id and thumbnail; null where faces were not to be blurred.

    Returns:
        the number of clips whose thumbnails are blurred.
    """
    new = table.select(["clip_id", THUMBNAIL]).filter(pc.is_valid(table[THUMBNAIL]))
    Shards(out).replace_side(new, THUMBNAIL)
    return int(new.num_rows)


def tell_blurred(out: Path, blurred: int) -> None:
    """Say of how many thumbnails faces are blurred, and of how many not."""
    import pyarrow.parquet as pq

    total = pq.read_metadata(stage_file(out, "measure")).num_rows
    if blurred:
        logger.info(f"faces are blurred in the thumbnails of {blurred:,} of {total:,} clips")
    else:
        logger.info("faces in thumbnails are not blurred: no detector has looked for faces")
