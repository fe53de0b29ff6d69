"""The two models, VideoMAE and VideoClassifier, and their presets. Needs torch, einops, NumPy."""

from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.presets import preset, preset_names

__all__ = ["VideoClassifier", "VideoMAE", "preset", "preset_names"]
