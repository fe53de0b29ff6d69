"""The models against numbers of the reference implementation, and mutants that must not pass."""

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.conftest import GOLDEN
from videomae.config import ClipConfig, ModelConfig
from videomae.model.classifier import VideoClassifier
from videomae.model.layers import Block
from videomae.model.mae import MaskIndices, VideoMAE
from videomae.weights.load import load_model

CASES = ("mae_a", "mae_b", "mae_c")
FORWARD = 1e-6
BACKWARD = 1e-5
Mutant = Callable[[nn.Module, pytest.MonkeyPatch], None]


@cache
def numbers(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "golden.json").read_text())[name]


@cache
def tensors(name: str, part: str = "") -> dict[str, Tensor]:
    """The tensors whose names start with `part`, by the rest of their names."""
    every = load_file(GOLDEN / f"{name}.safetensors")
    return {key.removeprefix(part): value for key, value in every.items() if key.startswith(part)}


def golden_mae(name: str) -> VideoMAE:
    geometry, state = numbers(name)["config"], tensors(name, "state/")
    config = ModelConfig(
        name=name,
        dim=geometry["encoder_embed_dim"],
        depth=geometry["encoder_depth"],
        heads=geometry["encoder_num_heads"],
        mlp_dim=len(state["encoder.blocks.0.mlp.fc1.bias"]),
        patch=geometry["patch_size"],
        tubelet=geometry["tubelet_size"],
        decoder_dim=geometry["decoder_embed_dim"],
        decoder_heads=geometry["decoder_num_heads"],
        decoder_mlp_dim=len(state["decoder.blocks.0.mlp.fc1.bias"]),
        decoder_depth=geometry["decoder_depth"],
    )
    model = VideoMAE(config, ClipConfig(geometry["num_frames"], 1, geometry["img_size"]))
    model.load_state_dict(state)
    return model


def golden_classifier() -> VideoClassifier:
    geometry, state = numbers("classifier")["config"], tensors("classifier", "state/")
    config = ModelConfig(
        name="classifier",
        dim=geometry["embed_dim"],
        depth=geometry["depth"],
        heads=geometry["num_heads"],
        mlp_dim=len(state["blocks.0.mlp.fc1.bias"]),
        patch=geometry["patch_size"],
        tubelet=geometry["tubelet_size"],
        decoder_dim=2,  # there is no decoder
        decoder_heads=1,
        decoder_mlp_dim=1,
    )
    clip = ClipConfig(geometry["num_frames"], 1, geometry["img_size"])
    model = VideoClassifier(config, clip, geometry["num_classes"])
    model.load_state_dict(state)
    return model


def loaded(path: Path, name: str, heads: str) -> VideoMAE | VideoClassifier:
    """The golden weights as a user has them: an official file, which says no sizes."""
    geometry = numbers(name)["config"]
    args = {"num_frames": geometry["num_frames"], "input_size": geometry["img_size"]}
    torch.save({"model": tensors(name, "state/"), "args": argparse.Namespace(**args)}, path)
    decoder_heads = geometry.get("decoder_num_heads")
    return load_model(path, num_heads=geometry[heads], decoder_num_heads=decoder_heads)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative L2."""
    assert ours.shape == theirs.shape
    difference = (ours.double() - theirs.double()).norm()
    return (difference / theirs.double().norm()).item()


def mae_differences(model: VideoMAE, name: str) -> dict[str, float]:
    """What differs from the reference by more than rounding, and by how much."""
    golden = tensors(name)
    out = model(golden["clip"], golden["encoder_mask"], golden["decoder_mask"])
    out.loss.backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    norms = numbers(name)["grad_norms"]
    assert gradients.keys() == norms.keys()
    differences = {
        "prediction": distance(out.prediction, golden["prediction"]) / FORWARD,
        "target": distance(out.target, golden["target"]) / FORWARD,
        "loss": distance(out.loss.view(1), golden["loss"]) / FORWARD,
    }
    for key, norm in norms.items():
        differences[f"norm of {key}"] = abs(gradients[key].norm().item() / norm - 1) / BACKWARD
    for key, gradient in tensors(name, "grad/").items():
        differences[f"gradient of {key}"] = distance(gradients[key], gradient) / BACKWARD
    return {key: value for key, value in differences.items() if not value <= 1}


def classifier_differences(model: VideoClassifier) -> dict[str, float]:
    golden = tensors("classifier")
    off = distance(model(golden["clip"]), golden["logits"]) / FORWARD
    return {} if off <= 1 else {"logits": off}


@pytest.mark.parametrize("name", CASES)
def test_mae_equals_the_reference(name: str) -> None:
    assert mae_differences(golden_mae(name), name) == {}


def test_classifier_equals_the_reference() -> None:
    assert classifier_differences(golden_classifier().eval()) == {}


@pytest.mark.parametrize("name", CASES)
def test_a_mae_read_from_an_official_file_equals_the_reference(tmp_path: Path, name: str) -> None:
    model = loaded(tmp_path / "x.pth", name, "encoder_num_heads")
    assert isinstance(model, VideoMAE)
    assert model.config.norm_eps == 1e-6
    assert mae_differences(model, name) == {}


def test_a_classifier_read_from_an_official_file_equals_the_reference(tmp_path: Path) -> None:
    model = loaded(tmp_path / "x.pth", "classifier", "num_heads")
    assert isinstance(model, VideoClassifier)
    assert classifier_differences(model) == {}


def test_the_golden_clips_score_unequal_numbers_of_tokens() -> None:
    """Else mae_c could not tell a mean over the batch from a mean of the clips' means."""
    golden = tensors("mae_c")
    scored = (golden["encoder_mask"] & ~golden["decoder_mask"]).sum(1)
    assert len(set(scored.tolist())) > 1


def tanh_gelu(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    for module in model.modules():
        if isinstance(module, nn.GELU):
            module.approximate = "tanh"


def no_q_bias(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    for module in model.modules():
        if isinstance(module, Block):
            module.attn.q_bias.data.zero_()


def no_encoder_positions(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    (model.encoder if isinstance(model, VideoMAE) else model).pos_embed.zero_()


def no_decoder_positions(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    model.decoder_positions.zero_()


def coarser_norms(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def space_major_tokens(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    def cut(clip: Tensor, p: int, u: int) -> Tensor:
        return rearrange(clip, "b c (t u) (h p) (w q) -> b (h w t) (u p q) c", u=u, p=p, q=p)

    patch.setattr("videomae.model.mae.cut_tubelets", cut)
    patch.setattr("videomae.model.classifier.cut_tubelets", cut)


def biased_variance(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(2, keepdim=True), x.var(2, keepdim=True, correction=0).sqrt() + 1e-6

    patch.setattr("videomae.model.loss.tubelet_statistics", statistics)


def epsilon_under_the_root(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(2, keepdim=True), (x.var(2, keepdim=True) + 1e-6).sqrt()

    patch.setattr("videomae.model.loss.tubelet_statistics", statistics)


def target_of_normalised_pixels(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("videomae.model.mae.unnormalise", lambda pixels: pixels)


def _scoring(patch: pytest.MonkeyPatch, scored: Callable[[Tensor], Tensor]) -> None:
    original = MaskIndices.of

    def of(encoder_mask: Tensor, decoder_mask: Tensor | None = None) -> MaskIndices:
        masks = original(encoder_mask, decoder_mask)
        return masks._replace(scored=scored(masks.scored))

    patch.setattr(MaskIndices, "of", of)


def visible_tokens_scored(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    _scoring(patch, torch.ones_like)


def mean_of_the_clips_means(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    _scoring(patch, lambda scored: scored / scored.sum(1, keepdim=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("mutate", "what_breaks"),
    [
        (tanh_gelu, {"prediction", "loss"}),
        (no_q_bias, {"prediction", "loss"}),
        (no_encoder_positions, {"prediction", "loss"}),
        (no_decoder_positions, {"prediction", "loss"}),
        (coarser_norms, {"prediction"}),
        (space_major_tokens, {"prediction", "target", "loss"}),
        (biased_variance, {"target", "loss"}),
        (epsilon_under_the_root, {"target", "loss"}),
        (target_of_normalised_pixels, {"target", "loss"}),
        (visible_tokens_scored, {"loss"}),
    ],
)
def test_mutants_of_mae_are_caught(
    name: str, mutate: Mutant, what_breaks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = golden_mae(name)
    mutate(model, monkeypatch)
    assert what_breaks <= mae_differences(model, name).keys()


def test_a_mean_of_the_clips_means_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_mae("mae_c")
    mean_of_the_clips_means(model, monkeypatch)
    assert "loss" in mae_differences(model, "mae_c")


@pytest.mark.parametrize(
    "mutate", [tanh_gelu, no_q_bias, no_encoder_positions, space_major_tokens]
)  # the logits of these weights hardly depend on the norms' epsilon: see the next test
def test_mutants_of_the_classifier_are_caught(
    mutate: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = golden_classifier().eval()
    mutate(model, monkeypatch)
    assert "logits" in classifier_differences(model)


def test_every_layer_norm_has_the_epsilon_of_the_released_models() -> None:
    mae, classifier = golden_mae("mae_a"), golden_classifier()
    for model, blocks, others in ((mae, 3 + 2, 2), (classifier, 3, 1)):
        norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
        assert len(norms) == 2 * blocks + others
        assert {norm.eps for norm in norms} == {1e-6}
