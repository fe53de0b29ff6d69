"""Detectors of torchvision whose weights a file holds: which one fits, and its boxes.

The file may come from anybody: it is never unpickled, and its tensors are compared with those of
the detector before memory is taken for the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from videomae.config import ConfigError, PersonsConfig
from videomae.config.curate_models import ARCHITECTURES, AUTO
from videomae.curate.detections import FrameDetections
from videomae.lists.text_files import NotTextError, text_lines
from videomae.video.interface import Frames
from videomae.weights.official import state_dict_of
from videomae.weights.report import some_names
from videomae.weights.tensors import WeightsError, copied, open_content

CLASSES = {
    "fasterrcnn": ("roi_heads.box_predictor.cls_score.weight", 1),
    "maskrcnn": ("roi_heads.box_predictor.cls_score.weight", 1),
    "keypointrcnn": ("roi_heads.box_predictor.cls_score.weight", 1),
    "retinanet": ("head.classification_head.cls_logits.weight", 9),
    "fcos": ("head.classification_head.cls_logits.weight", 1),
    "ssd300": ("head.classification_head.module_list.0.weight", 4),
    "ssdlite320": ("head.classification_head.module_list.0.1.weight", 6),
}
"""By the first word of a detector's name: a tensor with rows for each class, and how many."""
COUNTERS = ".num_batches_tracked"
"""End of the names of tensors that a frozen norm does not have, and that boxes do not depend on."""
NO_EPSILON = tuple(f"{kind}_resnet50_fpn" for kind in ("fasterrcnn", "maskrcnn", "keypointrcnn"))
NO_EPSILON = (*NO_EPSILON, "retinanet_resnet50_fpn")
"""Detectors whose released weights torchvision uses with frozen norms without an epsilon."""
EPSILON = 1e-5
"""Epsilon of the frozen norms of other detectors."""
MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Misfit:
    """The tensors that keep a state dict from being that of a detector."""

    architecture: str
    missing: list[str]
    unexpected: list[str]
    other_shape: list[str]
    """Name, shape in the file and shape in the detector of each tensor of another shape."""

    @property
    def size(self) -> int:
        """Number of tensors that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.other_shape)

    def __str__(self) -> str:
        parts = {
            "missing": self.missing,
            "of another shape": self.other_shape,
            "not of it": self.unexpected,
        }
        return "; ".join(f"{name}: {some_names(each)}" for name, each in parts.items() if each)


class TorchvisionDetector:
    """A detector of torchvision with the weights of a file.

    Raises:
        WeightsError: the file cannot be read, or is not of such a detector.
        ConfigError: the names of its classes are not known.
    """

    def __init__(self, config: PersonsConfig, device: torch.device) -> None:
        file = Path(str(config.weights))
        tensors = copied([file], lambda: state_dict_of(open_content(file), file))
        self.architecture, num_classes = chosen(config, file, tensors)
        self.labels = class_names(config, self.architecture, num_classes)
        self.score, self.device = config.score, device
        if odd := [name for name, value in tensors.items() if not value.isfinite().all()]:
            raise WeightsError(f"{file} holds values that are not finite: {some_names(odd)}")
        model = built(self.architecture, num_classes)
        model.load_state_dict(tensors, strict=False)  # all but the counters was compared
        if not any(name.endswith(COUNTERS) for name in tensors):
            freeze_norms(model, 0.0 if self.architecture in NO_EPSILON else EPSILON)
        self.model = model.eval().to(device)

    @torch.inference_mode()
    def detect(self, frames: Frames) -> list[FrameDetections]:
        """Return what is found in each frame, (T, H, W, 3) uint8 RGB, with a score that counts."""
        found = []
        for frame in frames:
            height, width = frame.shape[:2]
            pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device)
            (answer,) = self.model([pixels.permute(2, 0, 1).float() / 255])
            counts = (answer["scores"] >= self.score).cpu()
            boxes = answer["boxes"].double().cpu()[counts].numpy()
            numbers = answer["labels"].cpu()[counts].tolist()
            labels = [self.labels[number] for number in numbers]
            found.append(FrameDetections(boxes / [width, height, width, height], labels))
        return found


def built(architecture: str, num_classes: int) -> nn.Module:
    """Return a detector of torchvision with new weights; nothing is downloaded."""
    return get_model(architecture, weights=None, weights_backbone=None, num_classes=num_classes)


def chosen(config: PersonsConfig, file: Path, tensors: Mapping[str, Tensor]) -> tuple[str, int]:
    """Return the detector that tensors are of, and its number of classes.

    Raises:
        WeightsError: they are of none, or not of persons.architecture.
    """
    names: Sequence[str] = (config.architecture,)
    if config.architecture == AUTO:  # two have the same tensors: the file's name says which
        named = [name for name in ARCHITECTURES if name in file.name]
        names = [*sorted(named, key=len, reverse=True), *ARCHITECTURES]
    nearest: Misfit | None = None
    for name in names:
        num_classes = _num_classes(name, tensors)
        found = _misfit(name, num_classes or 2, tensors)
        if not found.size and num_classes:
            return name, num_classes
        if nearest is None or found.size < nearest.size:
            nearest = found
    assert nearest is not None
    which = "nearest is" if config.architecture == AUTO else "persons.architecture is"
    raise WeightsError(
        f"persons.weights={file} is of no detector of torchvision known here; {which} "
        f"{nearest.architecture}: {nearest}. Give weights of one of {', '.join(ARCHITECTURES)}, "
        "persons.detector=DIR of transformers, or persons.detections=FILE of any other"
    )


def _num_classes(architecture: str, tensors: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes that tensors of a detector show; None: they show none."""
    name, rows = CLASSES[architecture.partition("_")[0]]
    if name not in tensors or not tensors[name].ndim:
        return None
    count, rest = divmod(len(tensors[name]), rows)
    return count if not rest and 2 <= count <= MOST_CLASSES else None


def _misfit(architecture: str, num_classes: int, tensors: Mapping[str, Tensor]) -> Misfit:
    with torch.device("meta"):  # no memory
        own = built(architecture, num_classes).state_dict()
    expected = {name: tuple(each.shape) for name, each in own.items() if COUNTERS not in name}
    given = {name: tuple(each.shape) for name, each in tensors.items() if COUNTERS not in name}
    return Misfit(
        architecture,
        [name for name in expected if name not in given],
        [name for name in given if name not in expected],
        [
            f"{name} is {given[name]}, not {shape}"
            for name, shape in expected.items()
            if name in given and given[name] != shape
        ],
    )


def freeze_norms(model: nn.Module, eps: float) -> None:
    """Replace the norms of a detector by frozen ones, as the detectors have that were released."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(module.num_features, eps)
            frozen.load_state_dict(module.state_dict(), strict=False)  # but for its counter
            place, _, last = name.rpartition(".")
            setattr(model.get_submodule(place), last, frozen)


def class_names(config: PersonsConfig, architecture: str, num_classes: int) -> list[str]:
    """Return the names of a detector's classes, the background first.

    Raises:
        ConfigError: they are not known, or not as many.
    """
    if config.class_names is not None:
        try:
            names = [line.strip() for line in text_lines(Path(config.class_names))]
        except (OSError, NotTextError) as error:
            raise ConfigError(
                f"persons.class_names={config.class_names} cannot be read ({error})"
            ) from error
        if len(names) != num_classes:
            raise ConfigError(
                f"persons.class_names={config.class_names} has {len(names)} lines, "
                f"persons.weights={config.weights} {num_classes} classes, the background included"
            )
        return names
    for weights in get_model_weights(architecture):
        known: list[str] = weights.meta["categories"]
        if len(known) == num_classes:
            return known
    raise ConfigError(
        f"persons.weights={config.weights} has {num_classes} classes, which are not those of COCO: "
        "give persons.class_names=FILE, a name a line, the background first"
    )
