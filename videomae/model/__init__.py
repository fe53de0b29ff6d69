"""The models. Needs torch, einops and NumPy; `load_model` also safetensors."""

from typing import TYPE_CHECKING, Any

from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.presets import preset, preset_names

if TYPE_CHECKING:
    from videomae.model.load import load_model

__all__ = ["VideoClassifier", "VideoMAE", "load_model", "preset", "preset_names"]


def __getattr__(name: str) -> Any:
    """Import what reads files when it is asked for."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from videomae.model.load import load_model

    return load_model
