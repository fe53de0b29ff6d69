"""Weights files: one safetensors file whose metadata say what the tensors are.

Nothing in such a file is executed when it is read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from videomae.config import ClipConfig, MaskConfig, MaskKind, ModelConfig, UserError
from videomae.files import replacing, sha256
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.presets import model_config
from videomae.pixels import MEAN, STD

FILE_NAME = "weights.safetensors"


class WeightsError(UserError):
    """A weights file that cannot be read, or does not fit what it is wanted for."""


class Kind(Enum):
    """Which model the tensors belong to."""

    pretrain = "pretrain"
    classifier = "classifier"


@dataclass(frozen=True)
class Link:
    """One link of the chain that led to some weights."""

    name: str
    """The run that made it."""
    sha256: str
    """Of its weights file."""


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says of itself."""

    kind: Kind
    name: str
    """The run that made it."""
    step: int
    """After how many optimiser steps."""
    model: ModelConfig
    clip: ClipConfig
    class_names: list[str] | None = None
    """Of a classifier: the name of each class, or its number as text."""
    mask: MaskConfig | None = None
    """Of a pre-training model: the masking it was trained with."""
    parents: tuple[Link, ...] = ()
    """What it was trained from, oldest first."""

    def metadata(self) -> dict[str, str]:
        """As safetensors wants it: text to text, every value a JSON document."""
        values = asdict(self)
        values["classes"] = values.pop("class_names")
        values["normalisation"] = {"mean": MEAN, "std": STD}
        return {"videomae": "1"} | {key: as_json(value) for key, value in values.items()}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "WeightsInfo":
        """The reverse of `metadata`."""
        values = {key: json.loads(value) for key, value in metadata.items()}
        mask = values["mask"]
        return cls(
            kind=Kind(values["kind"]),
            name=values["name"],
            step=values["step"],
            model=model_config(values["model"]),
            clip=ClipConfig(**values["clip"]),
            class_names=values["classes"],
            mask=mask and MaskConfig(**mask | {"kind": MaskKind(mask["kind"])}),
            parents=tuple(Link(**link) for link in values["parents"]),
        )


@dataclass(frozen=True)
class Weights:
    """A weights file that has been read."""

    path: Path
    info: WeightsInfo
    tensors: dict[str, Tensor]

    def chain(self) -> tuple[Link, ...]:
        """The parents of whatever is trained from these weights."""
        return (*self.info.parents, Link(self.info.name, sha256(self.path)))


def save_weights(path: Path, model: VideoMAE | VideoClassifier, info: WeightsInfo) -> None:
    """Write the parameters of `model`, atomically."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=info.metadata())


def weights_path(path: str | Path) -> Path:
    """The weights file that `path` means: itself, or the one in that directory.

    Raises:
        WeightsError: there is none.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    if not path.is_file():
        raise WeightsError(
            f"no weights at {path}: give weights= a {FILE_NAME} or the directory of a run that "
            "holds one"
        )
    return path


def read_weights(path: str | Path) -> Weights:
    """Read a weights file of this project.

    Raises:
        WeightsError: it is missing, damaged, or not one of this project's.
    """
    path = weights_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "videomae" not in metadata:
                raise WeightsError(f"{path} is a safetensors file, but not one of this project")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as a safetensors file ({error}); "
            "it is damaged, unfinished or of another kind"
        ) from error
    try:
        info = WeightsInfo.of(metadata)
        if info.kind is Kind.pretrain and info.mask is None:
            raise ValueError("pre-training weights without a mask")
        if info.kind is Kind.classifier and not info.class_names:
            raise ValueError("a classifier without class names")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path}: its metadata cannot be understood ({error!r})") from error
    return Weights(path, info, tensors)


def as_json(value: object) -> str:
    """A JSON document, enums by their values."""
    return json.dumps(value, default=lambda enum: enum.value)
