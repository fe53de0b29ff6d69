"""Weights and what they are, whichever format they come in; and this project's own format.

That is one safetensors file, whose metadata say what the tensors are. All formats meet here:
tensors under the official names, float32, in memory of their own.
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
"""The metadata key that tells this project's files from others."""
SIZES = ("dim", "depth", "mlp_dim", "patch", "tubelet")
DECODER_SIZES = ("decoder_dim", "decoder_depth", "decoder_mlp_dim")
"""Settings of a model that its tensors show, too."""


class Kind(Enum):
    """Which model the tensors belong to."""

    pretrain = "pretrain"
    classifier = "classifier"
    encoder = "encoder"
    """An encoder alone, as some releases are: a start for fine-tuning."""


@dataclass(frozen=True)
class Link:
    """One link of the chain that led to some weights."""

    name: str
    """The run that made it."""
    sha256: str
    """Of its weights file."""


@dataclass(frozen=True)
class WeightsInfo:
    """What is known of some weights."""

    kind: Kind
    name: str
    """The run that made them; of files of others, their file's name."""
    model: ModelConfig
    clip: ClipConfig
    step: int | None = None
    """After how many optimiser steps; null: not known."""
    classes: int | None = None
    """Of a classifier."""
    class_names: list[str] | None = None
    """Of a classifier: the name of each class, or its number as text; null: not known."""
    target: str = CLASS
    """Of a classifier: what it was fine-tuned for, as data.target had it. A name of code is never
    imported because it stands here."""
    head: dict[str, Any] = field(default_factory=dict)
    """Of a classifier: what its head remembers of its training list; see evaluation.head."""
    sampling: Sampling | None = None
    """Of a classifier: how the frames of its clips were chosen; null: not known."""
    drop_path: float = 0.0
    """Of a classifier: as it was trained."""
    head_drop: float = 0.0
    """Likewise."""
    mask: MaskConfig | None = None
    """Of a pre-training model: the masking it was trained with; null: not known."""
    parents: tuple[Link, ...] = ()
    """What it was trained from, oldest first."""

    def metadata(self) -> dict[str, str]:
        """As safetensors wants it, text to text: one JSON document.

        One, for safetensors writes several in any order, and equal weights are to be equal files.
        """
        values = asdict(self) | {"normalisation": {"mean": MEAN, "std": STD}}
        if self.target == CLASS:  # as weights have always been
            del values["target"], values["head"]
        return {MARK: as_json(values)}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "WeightsInfo":
        """The reverse of `metadata`.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: they are not what it wrote.
        """
        values = parse_json(metadata[MARK])
        normalised = values.pop("normalisation")
        if normalised != {"mean": list(MEAN), "std": list(STD)}:
            raise ValueError(f"normalisation={reprlib.repr(normalised)} is none of VideoMAE's")
        mask, parents = values["mask"], values["parents"]
        if not all(map(is_link, parents)):
            raise ValueError(f"parents={reprlib.repr(parents)}")
        info = cls(
            **values
            | {
                "kind": Kind(values["kind"]),
                "model": model_config(values["model"]),
                "clip": ClipConfig(**values["clip"]),
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
    """Weights that have been read."""

    path: Path
    """What the user named."""
    files: tuple[Path, ...]
    """Where the tensors were."""
    info: WeightsInfo
    tensors: dict[str, Tensor]
    """Under the official names."""
    notes: tuple[str, ...] = ()
    """What had to be assumed, or could not be taken over, in words."""

    def sha256(self) -> str:
        """Of the files' bytes, one after the other, in hexadecimal."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def chain(self) -> tuple[Link, ...]:
        """The parents of whatever is trained from these weights."""
        return (*self.info.parents, Link(self.info.name, self.sha256()))


def save_weights(path: Path, tensors: Mapping[str, Tensor], info: WeightsInfo) -> None:
    """Write tensors, a model's state dict, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata=info.metadata())


def read_own(path: Path) -> Weights:
    """Read a weights file of this project.

    Raises:
        WeightsError: it is damaged, or its metadata make no sense or are of other tensors.
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
    del tensors  # which `copied` maps piece by piece
    return Weights(path, (path,), info, copied([path], lambda: open_safetensors(path)[1]))


def as_json(value: object) -> str:
    """A JSON document, enums by their values."""
    return json.dumps(value, default=lambda enum: enum.value)


def is_link(value: object) -> bool:
    """Whether that is what a JSON document says of a Link."""
    keys = ("name", "sha256")
    return isinstance(value, dict) and value.keys() == set(keys) and all_text(value.values())


def all_text(values: Iterable[object]) -> bool:
    """Whether all of them are text."""
    return all(isinstance(value, str) for value in values)


def check_info(info: WeightsInfo, shapes: Shapes, path: Path) -> None:
    """Check that metadata are of the tensors that they lie beside, whose sizes are real.

    Args:
        path: of the tensors, for messages.

    Raises:
        ValueError: they are of others, or no memory holds the model's positions.
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
