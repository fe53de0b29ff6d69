"""Weights in memory with their description, and this project's own file format.

A file of this project is one safetensors file, whose metadata describe the tensors. Weights of all
formats are converted to the same form: tensors under the official names, float32, on the CPU, in
memory of their own.
"""

import hashlib
import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from videomae.config import CLASS, ClipConfig, MaskConfig, MaskKind, ModelConfig, Sampling
from videomae.config.typed import check_types
from videomae.model.pixels import MEAN, STD
from videomae.model.positions import check_positions
from videomae.model.presets import model_config
from videomae.run.files import parse_json, replacing
from videomae.weights.geometry import Shapes, geometry
from videomae.weights.tensors import WeightsError, copied, open_safetensors

MARK = "videomae"
"""Metadata key that marks this project's files."""
SIZES = ("dim", "depth", "mlp_dim", "patch", "tubelet")
"""Settings of an encoder that the shapes of its tensors also determine."""
DECODER_SIZES = ("decoder_dim", "decoder_depth", "decoder_mlp_dim")
"""Settings of a decoder that the shapes of its tensors also determine."""
ASSUMABLE = ("frames", "stride", "size")
"""Settings of a clip that a file of others may leave out; the width goes with the size."""


class Kind(Enum):
    """Kind of the model that the tensors belong to."""

    pretrain = "pretrain"
    classifier = "classifier"
    encoder = "encoder"
    """An encoder alone, as in some releases, from which fine-tuning can start."""


@dataclass(frozen=True)
class Link:
    """One training run in the chain of runs that led to some weights."""

    name: str
    """Name of the run."""
    sha256: str
    """SHA-256 of the run's weights file, in hexadecimal."""


@dataclass(frozen=True)
class WeightsInfo:
    """Description of weights: their model, how they were trained, and from which parents."""

    kind: Kind
    name: str
    """Name of the run that made the weights; for files of others, the file's name."""
    model: ModelConfig
    """Sizes of the model."""
    clip: ClipConfig
    """Clips that the model was trained on."""
    assumed: tuple[str, ...] = ()
    """Settings of clip that nobody has said, so that those of released models stand there: any of
    ASSUMABLE."""
    step: int | None = None
    """Number of optimiser steps that made the weights; null: not known."""
    classes: int | None = None
    """Number of classes of a classifier; null: no classifier."""
    class_names: list[str] | None = None
    """Name of each class of a classifier, or its number as text; null: not known."""
    target: str = CLASS
    """Target that a classifier was fine-tuned for, as data.target had it. A name of code is never
    imported because it stands here."""
    head: dict[str, Any] = field(default_factory=dict)
    """Facts of the training list that a classifier's head needs; see videomae.evaluation.head."""
    sampling: Sampling | None = None
    """Frame sampling of a classifier's training clips; null: not known."""
    drop_path: float = 0.0
    """Drop-path rate that a classifier was trained with."""
    head_drop: float = 0.0
    """Dropout rate before the head that a classifier was trained with."""
    mask: MaskConfig | None = None
    """Masking that a pre-training model was trained with; null: not known."""
    parents: tuple[Link, ...] = ()
    """Runs whose weights the training started from, the oldest first."""

    def metadata(self) -> dict[str, str]:
        """Return the description as safetensors metadata: one key with one JSON document.

        It is one key, as safetensors writes several in any order, and equal weights should be equal
        files.
        """
        values = asdict(self) | {"normalisation": {"mean": MEAN, "std": STD}}
        if self.target == CLASS:  # as weights have always been
            del values["target"], values["head"]
        if not self.assumed:
            del values["assumed"]
        return {MARK: as_json(values)}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "WeightsInfo":
        """Parse a description from safetensors metadata, as `metadata` returns it.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the metadata have another form.
        """
        values = parse_json(metadata[MARK])
        normalised = values.pop("normalisation")
        if normalised != {"mean": list(MEAN), "std": list(STD)}:
            raise ValueError(f"normalisation={reprlib.repr(normalised)} is none of VideoMAE's")
        mask, parents = values["mask"], values["parents"]
        if not all(map(is_link, parents)):
            raise ValueError(f"parents={reprlib.repr(parents)}")
        assumed = values.get("assumed", [])
        if not is_assumed(assumed):
            raise ValueError(f"assumed={reprlib.repr(assumed)}")
        info = cls(
            **values
            | {
                "kind": Kind(values["kind"]),
                "model": model_config(values["model"]),
                "clip": ClipConfig(**values["clip"]),
                "assumed": tuple(assumed),
                "sampling": values["sampling"] and Sampling(values["sampling"]),
                "mask": mask and MaskConfig(**mask | {"kind": MaskKind(mask["kind"])}),
                "parents": tuple(Link(**link) for link in parents),
            }
        )
        for part in (info, info.model, info.clip, info.mask):
            if part is not None:
                check_types(part)
        return info


@dataclass(frozen=True)
class Weights:
    """Weights in memory, with their description and the files that they were read from."""

    path: Path
    """Path that the user named."""
    files: tuple[Path, ...]
    """Files that the tensors were read from."""
    info: WeightsInfo
    tensors: dict[str, Tensor]
    """Tensors by official name, float32 on the CPU."""
    notes: tuple[str, ...] = ()
    """Lines of text on what was changed, or could not be read."""

    def sha256(self) -> str:
        """Return the SHA-256 of the files' bytes, one after the other, in hexadecimal."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def chain(self) -> tuple[Link, ...]:
        """Return the parents of a run that starts from these weights."""
        return (*self.info.parents, Link(self.info.name, self.sha256()))


def save_weights(path: Path, tensors: Mapping[str, Tensor], info: WeightsInfo) -> None:
    """Write a model's state dict and its description to a weights file, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata=info.metadata())


def read_own(path: Path) -> Weights:
    """Read a weights file of this project.

    Raises:
        WeightsError: the file is damaged, or its metadata are invalid or do not fit the tensors.
    """
    metadata, tensors = open_safetensors(path)
    try:
        info = WeightsInfo.of(metadata)
        check_info(info, {name: tuple(x.shape) for name, x in tensors.items()}, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path}: its metadata cannot be understood ({error!r}); get the file again from where "
            "it was written"
        ) from error
    del tensors  # `copied` maps them piece by piece
    return Weights(path, (path,), info, copied([path], lambda: open_safetensors(path)[1]))


def as_json(value: object) -> str:
    """Return a value as a JSON document, in which enums are written as their values."""
    return json.dumps(value, default=lambda enum: enum.value)


def is_link(value: object) -> bool:
    """Tell whether a parsed JSON value has the form of a Link."""
    keys = ("name", "sha256")
    return isinstance(value, dict) and value.keys() == set(keys) and all_text(value.values())


def is_assumed(value: object) -> bool:
    """Tell whether a parsed JSON value lists settings of a clip that may be assumed."""
    return isinstance(value, list) and all(name in ASSUMABLE for name in value)


def all_text(values: Iterable[object]) -> bool:
    """Tell whether all values are text."""
    return all(isinstance(value, str) for value in values)


def check_info(info: WeightsInfo, shapes: Shapes, path: Path) -> None:
    """Check that a description fits the shapes of the tensors in the same file.

    Args:
        path: path of the tensors, for messages.

    Raises:
        ValueError: the two differ, or the model's position tables are too large.
    """
    model, is_mae = info.model, info.kind is Kind.pretrain
    if info.kind is Kind.classifier and not info.classes:
        raise ValueError("a classifier without classes")
    if info.class_names is not None and len(info.class_names) != info.classes:
        raise ValueError(f"{len(info.class_names)} names of {info.classes} classes")
    shown = vars(
        geometry(
            shapes,
            path,
            decoder=is_mae,
            num_heads=model.heads,
            decoder_num_heads=model.decoder_heads,
        )
    )
    sizes = {name: vars(model)[name] for name in (*SIZES, *(DECODER_SIZES if is_mae else ()))}
    if "head.weight" in shapes and not is_mae:
        sizes["classes"], shown["classes"] = info.classes, shapes["head.weight"][0]
    wrong = [f"{x}={sizes[x]} but its tensors {shown[x]}" for x in sizes if sizes[x] != shown[x]]
    if wrong:
        raise ValueError(f"it says {', '.join(wrong)}")
    if not (0 <= info.drop_path <= 1 and 0 <= info.head_drop <= 1):
        raise ValueError(f"drop rates of {info.drop_path} and {info.head_drop}")
    check_positions(model, info.clip)
