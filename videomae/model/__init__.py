"""The models. Needs torch, einops, timm and what timm needs (safetensors, PyYAML, NumPy)."""

from videomae.model.classifier import VideoClassifier
from videomae.model.load import load_model
from videomae.model.mae import VideoMAE
from videomae.model.presets import preset, preset_names

__all__ = ["VideoClassifier", "VideoMAE", "load_model", "preset", "preset_names"]
