"""The identity of a run: settings and files that must stay the same when it resumes."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from videomae.config import TrainConfig
from videomae.config.settings import rules_of
from videomae.run.files import sha256
from videomae.video.opening import pack_of
from videomae.video.packs import MANIFEST
from videomae.weights.weights import WeightsInfo


def hashes_of_inputs(config: TrainConfig, info: WeightsInfo) -> dict[str, str]:
    """Return the SHA-256 of the training lists, packs and starting weights, by setting."""
    parts = config.data.parts().items()
    hashes = {f"{name}.train_list": sha256(Path(str(part.train_list))) for name, part in parts}
    for name, part in parts:  # a pack has pixels and starts of its own
        if pack := pack_of(part):
            hashes[f"{name}.root"] = sha256(pack.root / MANIFEST)
    if info.parents:
        hashes["weights"] = info.parents[-1].sha256
    return hashes


def run_identity(config: TrainConfig, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return the identity of a run: value by dotted setting, and hashes of files.

    Args:
        hashes: SHA-256 of the files that must not change either, by setting.
    """
    settings = dict(_fixed(config))
    if config.data.sources:
        settings["data.sources"] = list(config.data.sources)  # their order is that of the clips
    hashed = {f"sha256({key})": value for key, value in hashes.items()}
    return dict(sorted((settings | hashed).items()))


def _fixed(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of each setting that may not change when a run resumes."""
    for each in fields(config):
        rules, value, key = rules_of(each), getattr(config, each.name), f"{prefix}{each.name}"
        if rules.may_change or (rules.new and value == each.default):
            continue
        if is_dataclass(value):
            yield from _fixed(value, f"{key}.")
        elif isinstance(value, dict):
            for name, entry in value.items():
                yield from _fixed(entry, f"{key}.{name}.")
        else:
            yield key, value.name if isinstance(value, Enum) else value
