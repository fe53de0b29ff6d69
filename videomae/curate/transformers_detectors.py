"""Detectors of Hugging Face transformers in a local directory: a check of it, and its boxes.

Nothing is downloaded, no code of the directory is run, and only safetensors are read.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from videomae.config import ConfigError, PersonsConfig
from videomae.curate.detections import FrameDetections
from videomae.run.files import inside, read_json
from videomae.video.interface import Frames
from videomae.weights.report import some_names
from videomae.weights.tensors import WeightsError, open_safetensors

CONFIG, TENSORS = "config.json", "model.safetensors"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class TransformersDetector:
    """A detector of transformers.

    Raises:
        WeightsError: the directory is damaged, or holds something else.
        ConfigError: transformers is not installed.
    """

    def __init__(self, config: PersonsConfig, device: torch.device) -> None:
        directory = Path(str(config.detector))
        os.environ.update(OFFLINE)
        try:
            from transformers import AutoConfig, AutoImageProcessor
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ConfigError(
                "persons.detector needs transformers: pip install 'videomae[curate-models]'"
            ) from error
        disable_progress_bar()
        files = tensor_files(directory)
        try:
            settings = AutoConfig.from_pretrained(directory, local_files_only=True)
            self.processor = AutoImageProcessor.from_pretrained(directory, local_files_only=True)
            self.model = _loaded(directory, settings, files).eval().to(device)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            if isinstance(error, WeightsError):
                raise
            reason = " ".join(str(error).split())[:500]
            raise WeightsError(f"persons.detector={directory} cannot be used ({reason})") from error
        self.architecture = type(self.model).__name__
        names: dict[int, str] = self.model.config.id2label
        self.labels = [names[number] for number in sorted(names)]
        self.names, self.score, self.device = names, config.score, device

    @torch.inference_mode()
    def detect(self, frames: Frames) -> list[FrameDetections]:
        """Return what is found in each frame, (T, H, W, 3) uint8 RGB, with a score that counts."""
        found = []
        for frame in frames:
            height, width = frame.shape[:2]
            given = self.processor(images=[Image.fromarray(frame)], return_tensors="pt")
            answer = self.model(**given.to(self.device))
            (boxes,) = self.processor.post_process_object_detection(
                answer, threshold=self.score, target_sizes=[(height, width)]
            )
            labels = [self.names[number] for number in boxes["labels"].tolist()]
            corners = boxes["boxes"].double().cpu().numpy()
            found.append(
                FrameDetections(corners / np.array([width, height, width, height]), labels)
            )
        return found


def tensor_files(directory: Path) -> list[Path]:
    """Return the files with the tensors of a detector's directory, after a check of the directory.

    Raises:
        WeightsError: it holds no detector, or none in safetensors.
    """
    named = f"persons.detector={directory}"
    try:
        settings = read_json(directory / CONFIG)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{named}: {CONFIG} cannot be read ({error}): give a directory of transformers"
        ) from error
    kinds = settings.get("architectures") if isinstance(settings, dict) else None
    if not isinstance(kinds, list) or not any("ObjectDetection" in str(kind) for kind in kinds):
        raise WeightsError(
            f"{named} holds {', '.join(map(str, kinds or ['no architecture']))[:200]}, which is no "
            "ObjectDetection model of transformers"
        )
    index = directory / f"{TENSORS}.index.json"
    if (directory / TENSORS).is_file():
        return [directory / TENSORS]
    if not index.is_file():
        others = [file.name for file in sorted(directory.glob("*.bin"))]
        raise WeightsError(
            f"{named} has no {TENSORS}"
            + (f": {others[0]} is a pickle, which is not read" if others else "")
            + "; save_pretrained of transformers writes one"
        )
    try:
        places = read_json(index)["weight_map"].values()
        return [inside(directory, name) for name in sorted(set(places))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} does not say which files the tensors are in") from error


def _loaded(directory: Path, settings: Any, files: list[Path]) -> Any:
    """Return the model, after a check that its weights are all in the files.

    Raises:
        WeightsError: they are not, or the config asks for more memory than the files hold.
    """
    from transformers import AutoModelForObjectDetection

    if getattr(settings, "use_pretrained_backbone", False):
        settings.use_pretrained_backbone = False  # it would be downloaded
    held = sum(tensor.numel() for file in files for tensor in open_safetensors(file)[1].values())
    with torch.device("meta"):
        empty = AutoModelForObjectDetection.from_config(settings)
    needed = sum(each.numel() for each in empty.parameters())
    if needed > 2 * held:
        raise WeightsError(
            f"persons.detector={directory}: {CONFIG} is of a model of {needed:,} weights, its "
            f"files hold {held:,}"
        )
    model, report = AutoModelForObjectDetection.from_pretrained(
        directory,
        config=settings,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    odd = [str(name) for key in ("missing_keys", "mismatched_keys") for name in report[key]]
    if odd:
        raise WeightsError(
            f"persons.detector={directory}: its files have no weights for {some_names(odd)}"
        )
    return model
