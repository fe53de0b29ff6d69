"""What must stay the same when a run goes on."""

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from videomae.config import TrainConfig
from videomae.run.files import sha256
from videomae.video.opening import pack_at
from videomae.video.packs import MANIFEST
from videomae.weights.weights import WeightsInfo

FREE_DATA = (
    "prepared",
    "split",
    "train_list",
    "val_list",
    "test_list",
    "root",
    "num_train",
    "class_names",
    "decoder",
    "timeout_s",
    "max_clip_bytes",
    "max_bad_fraction",
    "segments",
    "crops",
)
"""Settings of `data` that do not change what is learned; the list itself is compared by hash."""


def hashes_of_inputs(config: TrainConfig, info: WeightsInfo) -> dict[str, str]:
    """SHA-256 of the training lists, packs and starting weights, by setting."""
    parts = config.data.parts().items()
    hashes = {f"{name}.train_list": sha256(Path(str(part.train_list))) for name, part in parts}
    for name, part in parts:  # a pack has pixels and starts of its own
        if pack := pack_at(Path(str(part.root))):
            hashes[f"{name}.root"] = sha256(pack.root / MANIFEST)
    if info.parents:
        hashes["weights"] = info.parents[-1].sha256
    return hashes


def run_identity(config: TrainConfig, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What must not change when a run goes on: dotted setting -> value.

    Args:
        hashes: of the files that must not change either, by setting.
    """
    sections = {key: value for key, value in asdict(config).items() if isinstance(value, dict)}
    for section in ("run", "probe"):  # they decide nothing that is learned
        sections.pop(section, None)
    for settings in (sections["data"], *sections["data"]["sources"].values()):
        for key in FREE_DATA:
            settings.pop(key, None)
    flat: dict[str, Any] = {f"sha256({key})": value for key, value in hashes.items()}
    flat["seed"] = config.seed
    if config.data.sources:
        flat["data.sources"] = list(config.data.sources)  # their order is that of the clips
    while sections:
        section, values = sections.popitem()
        for key, value in values.items():
            if isinstance(value, dict):
                sections[f"{section}.{key}"] = value
            else:
                flat[f"{section}.{key}"] = value.name if isinstance(value, Enum) else value
    return dict(sorted(flat.items()))
