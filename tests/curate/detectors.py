"""Tiny detectors of random weights, made here: of torchvision, and of transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torchvision.models import get_model

CLASSES = ("background", "person", "face", "dog")
ARCHITECTURE = "ssdlite320_mobilenet_v3_large"
SCORE = 0.2


def torchvision_detector(classes: int = len(CLASSES)) -> torch.nn.Module:
    """A detector of torchvision that finds something in every frame."""
    torch.manual_seed(0)
    return get_model(ARCHITECTURE, weights=None, weights_backbone=None, num_classes=classes).eval()


def torchvision_weights(folder: Path) -> list[str]:
    """Write the weights of a detector of torchvision; return the settings that name it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(torchvision_detector().state_dict(), folder / "detector.safetensors")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return [
        f"persons.weights={folder}/detector.safetensors",
        f"persons.class_names={folder}/classes.txt",
        f"persons.score={SCORE}",
    ]


def transformers_directory(folder: Path, labels: tuple[str, ...] = CLASSES[1:]) -> Path:
    """Write a YOLOS of transformers."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[64, 96],
        patch_size=16,
        num_detection_tokens=8,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size={"height": 64, "width": 96}).save_pretrained(folder)
    return folder


def write_lines(file: Path, rows: list[Any]) -> Path:
    """Write detections as JSON lines; a row that is text is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("".join(line + "\n" for line in lines))
    return file
