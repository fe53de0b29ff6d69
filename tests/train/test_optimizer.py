"""Which parameters are decayed, and at what share of the rate they learn."""

import json
from collections import Counter
from typing import Any

import pytest
import torch

from tests.conftest import GOLDEN
from videomae.config import ClipConfig, ModelConfig, OptimConfig
from videomae.model import VideoClassifier, VideoMAE
from videomae.train.optimizer import adamw, parameter_groups

MODEL = ModelConfig(
    name="golden",
    dim=48,
    depth=3,
    heads=4,
    mlp_dim=192,
    patch=8,
    decoder_dim=32,
    decoder_heads=4,
    decoder_mlp_dim=128,
    decoder_depth=2,
)
CLIP = ClipConfig(frames=8, stride=1, size=32)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "golden.json").read_text())["layer_decay"]


@pytest.fixture(scope="module", params=["pretrain", "classifier"])
def model(request: pytest.FixtureRequest) -> VideoMAE | VideoClassifier:
    return VideoMAE(MODEL, CLIP) if request.param == "pretrain" else VideoClassifier(MODEL, CLIP, 7)


def settings(model: torch.nn.Module, layer_decay: float) -> dict[str, dict[str, float]]:
    """weight_decay and lr_scale of each parameter, by name."""
    groups = parameter_groups(
        model.named_parameters(), MODEL.depth, weight_decay=0.05, layer_decay=layer_decay
    )
    of = {
        parameter: {key: group[key] for key in ("lr_scale", "weight_decay")}
        for group in groups
        for parameter in group["params"]
    }
    return {name: of[parameter] for name, parameter in model.named_parameters()}


def test_every_parameter_of_the_classifier_as_in_the_reference(golden: dict[str, Any]) -> None:
    assert (golden["depth"], golden["weight_decay"]) == (MODEL.depth, 0.05)
    ours = settings(VideoClassifier(MODEL, CLIP, 7), golden["layer_decay"])
    assert ours == golden["parameters"]


def test_the_encoder_of_the_pretrained_model_as_in_the_reference(golden: dict[str, Any]) -> None:
    ours = settings(VideoMAE(MODEL, CLIP), golden["layer_decay"])
    shared = [name for name in golden["parameters"] if name.startswith(("patch_embed", "blocks"))]
    assert len(shared) == 2 + 13 * MODEL.depth
    for name in shared:
        assert ours[f"encoder.{name}"] == golden["parameters"][name], name


def test_what_follows_the_encoder_learns_at_the_full_rate() -> None:
    ours = settings(VideoMAE(MODEL, CLIP), 0.5)
    after = [n for n in ours if n.startswith(("decoder.", "encoder.norm", "encoder_to_decoder"))]
    assert len(after) == 2 + 1 + 2 * 13 + 4
    assert {ours[name]["lr_scale"] for name in after} == {1.0}


def test_vectors_biases_and_the_mask_token_are_not_decayed(
    model: VideoMAE | VideoClassifier,
) -> None:
    ours = settings(model, 1.0)
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    for name, setting in ours.items():
        kept = shapes[name] == 1 or name == "mask_token"
        assert setting["weight_decay"] == (0.0 if kept else 0.05), name
    assert {setting["lr_scale"] for setting in ours.values()} == {1.0}
    assert {setting["weight_decay"] for setting in ours.values()} == {0.0, 0.05}


@pytest.mark.parametrize("layer_decay", [1.0, 0.75])
def test_every_parameter_is_optimised_exactly_once(
    model: VideoMAE | VideoClassifier, layer_decay: float
) -> None:
    config = OptimConfig(
        global_batch=4,
        base_lr=1e-3,
        min_lr=0.0,
        betas=[0.8, 0.9],
        epochs=1,
        warmup_epochs=0,
        layer_decay=layer_decay,
    )
    optimizer = adamw(model, MODEL.depth, config)
    times = Counter(id(p) for group in optimizer.param_groups for p in group["params"])
    assert times == Counter(id(parameter) for parameter in model.parameters())
    keys = [(group["lr_scale"], group["weight_decay"]) for group in optimizer.param_groups]
    assert len(keys) == len(set(keys))
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}
    assert optimizer.defaults["fused"]
