"""Models of Hugging Face transformers: what it computes, this project computes, and back again.

transformers itself is asked, offline, with small models whose parameters are all random.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.conftest import composed
from tests.model import randomise
from videomae.config import ClipConfig, ModelConfig, WeightsFormat
from videomae.convert import convert
from videomae.data.augment import evaluation_crops
from videomae.model.pixels import MEAN, STD, normalise
from videomae.weights.formats import read_weights, write_weights
from videomae.weights.load import build_model, load_model, model_of
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, Weights, WeightsInfo

SMALL = {
    "image_size": 16,
    "patch_size": 4,
    "num_frames": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 24,
}
VARIANTS = {
    "small": {},
    "eps_1e-5": {"layer_norm_eps": 1e-5},
    "eps_of_weight": {"layer_norm_eps": 0.05},  # one that no comparison could overlook
    "odd_heads": {"hidden_size": 42, "num_attention_heads": 3}
    | {"decoder_hidden_size": 20, "decoder_num_attention_heads": 5},
    "patch_14": {"patch_size": 14, "image_size": 28},
    "not_square": {"patch_size": 16, "image_size": [32, 48]},
    "other_frames": {"num_frames": 6},
    "tubelet_3": {"num_frames": 6, "tubelet_size": 3},
}
NAMES = ["run", "ü", "sit down, slowly"]


def their_mae(**settings: Any) -> transformers.VideoMAEForPreTraining:
    config = transformers.VideoMAEConfig(**SMALL | {"use_mean_pooling": False} | settings)
    model = transformers.VideoMAEForPreTraining(config)
    randomise(model)
    return model.eval()


def their_classifier(**settings: Any) -> transformers.VideoMAEForVideoClassification:
    model = transformers.VideoMAEForVideoClassification(
        transformers.VideoMAEConfig(**SMALL | {"num_labels": 3} | settings)
    )
    randomise(model)
    return model.eval()


def saved(directory: Path, model: transformers.PreTrainedModel, **how: Any) -> Path:
    model.save_pretrained(directory, **how)
    return directory


def clip_of(clip: ClipConfig) -> Tensor:
    """(2, 3, T, H, W)"""
    rng = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, clip.frames, *clip.frame, generator=rng)


def mask_of(model: nn.Module) -> Tensor:
    """(2, N) bool, three quarters True."""
    tokens = model.decoder_positions.shape[1]
    rng = torch.Generator().manual_seed(2)
    return torch.rand(2, tokens, generator=rng).argsort(1) < tokens * 3 // 4


def difference(ours: nn.Module, theirs: transformers.PreTrainedModel) -> float:
    """The largest one between what the two compute: loss and prediction, or logits."""
    clip = clip_of(ours.clip)
    frames = clip.transpose(1, 2)  # (B, T, C, H, W)
    with torch.no_grad():
        if isinstance(theirs, transformers.VideoMAEForVideoClassification):
            pairs = [(ours(clip), theirs(frames).logits)]
        else:
            mask = mask_of(ours)
            outcome, expected = ours(clip, mask), theirs(frames, bool_masked_pos=mask)
            pairs = [(outcome.loss, expected.loss), (outcome.prediction, expected.logits)]
    assert all(ours.shape == theirs.shape for ours, theirs in pairs)
    assert all(theirs.std() > 0.1 for _, theirs in pairs if theirs.ndim)  # not near 0 by itself
    return max((ours - theirs).abs().max().item() for ours, theirs in pairs)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_pre_training_model_of_transformers_computes_the_same_here(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    theirs = their_mae(**settings)
    ours = load_model(saved(tmp_path / "m", theirs), verbose=False)
    assert ours.clip.frames == theirs.config.num_frames
    assert ours.config.norm_eps == theirs.config.layer_norm_eps
    assert difference(ours, theirs) < 1e-5


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_classifier_of_transformers_computes_the_same_here(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    theirs = their_classifier(**settings)
    ours = load_model(saved(tmp_path / "m", theirs), verbose=False)
    assert (ours.classes, ours.config.norm_eps) == (3, theirs.config.layer_norm_eps)
    assert difference(ours, theirs) < 1e-5


@pytest.mark.parametrize("normalised", [True, False])
def test_the_target_is_that_of_transformers(tmp_path: Path, normalised: bool) -> None:
    """Of their target only its mean squared distance can be asked: to 0, and to our target."""
    theirs = their_mae(norm_pix_loss=normalised)
    ours = load_model(saved(tmp_path / "m", theirs), verbose=False)
    assert difference(ours, theirs) < 1e-5
    clip, mask = clip_of(ours.clip), mask_of(ours)
    target = ours(clip, mask).target
    theirs.decoder.head = nn.Identity()
    for prediction, loss in ((target, 0.0), (target + 1, 1.0)):
        theirs.decoder.forward = lambda *_, prediction=prediction: transformers.utils.ModelOutput(
            logits=prediction
        )
        outcome = theirs(clip.transpose(1, 2), bool_masked_pos=mask)
        assert outcome.loss.item() == pytest.approx(loss, abs=1e-5)


def test_the_encoder_alone_starts_a_fine_tuning_only(tmp_path: Path) -> None:
    theirs = their_mae()
    path = saved(tmp_path / "m", theirs.videomae)
    weights = read_weights(path)
    assert weights.info.kind is Kind.encoder
    with pytest.raises(WeightsError, match="m is an encoder alone"):
        load_model(path)
    whole = read_weights(saved(tmp_path / "whole", theirs)).tensors
    for name, tensor in weights.tensors.items():
        assert torch.equal(tensor, whole[f"encoder.{name}"]), name
    assert len(weights.tensors) == sum(name.startswith("encoder.") for name in whole)


def renamed(directory: Path, change: Callable[[str], list[str]]) -> None:
    """Give each tensor in a saved directory other names: none, one or several."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    metadata = {"format": "pt"}
    save_file(
        {new: tensor.clone() for old, tensor in tensors.items() for new in change(old)},
        path,
        metadata,
    )


def older(name: str) -> str:
    return name.replace("query.bias", "q_bias").replace("value.bias", "v_bias")


def newer(name: str) -> str:
    return name.replace("q_bias", "query.bias").replace("v_bias", "value.bias")


@pytest.mark.parametrize("make", [their_mae, their_classifier])
def test_both_names_of_the_biases_are_understood(tmp_path: Path, make: Callable[[], Any]) -> None:
    theirs = make()
    for name in (older, newer):
        directory = saved(tmp_path / name.__name__, theirs)
        renamed(directory, lambda old, name=name: [name(old)])
        stored = load_file(directory / "model.safetensors").keys()
        assert any("q_bias" in key for key in stored) is (name is older)
        assert any("query.bias" in key for key in stored) is (name is newer)
        assert difference(load_model(directory, verbose=False), theirs) < 1e-5


@pytest.mark.parametrize("make", [their_mae, their_classifier])
def test_biases_are_there_once(tmp_path: Path, make: Callable[[], Any]) -> None:
    """Not twice, and not as zeros, as transformers once had them."""
    twice = saved(tmp_path / "twice", make())
    renamed(twice, lambda old: sorted({older(old), newer(old)}))
    with pytest.raises(WeightsError, match=r"twice holds .*bias twice, under its older and newer"):
        load_model(twice)
    for side in ("q", "v"):
        never = saved(tmp_path / f"never_{side}", make())
        renamed(never, lambda old, side=side: [] if f"{side}_bias" in older(old) else [old])
        with pytest.raises(WeightsError, match=rf"never_{side} .*missing: .*attn\.{side}_bias"):
            load_model(never)


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_a_part_of_the_attention_that_is_missing_is_refused(tmp_path: Path, part: str) -> None:
    directory = saved(tmp_path / "m", their_classifier())
    renamed(directory, lambda old: [] if f"layer.1.attention.attention.{part}.w" in old else [old])
    with pytest.raises(WeightsError, match=r"/m .*layer\.1\.|/m .*blocks\.1\.attn"):
        load_model(directory)


# Back to transformers


def written(directory: Path, weights: Weights) -> list[str]:
    """Write them as a directory of transformers; what the format cannot hold."""
    model, _ = model_of(weights)
    return write_weights(directory, WeightsFormat.huggingface, model.state_dict(), weights.info)


def loaded_by_transformers(directory: Path, kind: Kind) -> transformers.PreTrainedModel:
    """With no code of ours, and nothing made up or left over."""
    loader = {
        Kind.pretrain: transformers.VideoMAEForPreTraining,
        Kind.classifier: transformers.AutoModelForVideoClassification,
    }[kind]
    model, info = loader.from_pretrained(directory, output_loading_info=True, local_files_only=True)
    assert {key: list(value) for key, value in info.items() if value} == {}
    return model.eval()


OURS = ModelConfig(
    name="ours",
    dim=32,
    depth=2,
    heads=4,
    mlp_dim=48,
    patch=4,
    decoder_dim=24,
    decoder_heads=3,
    decoder_mlp_dim=40,
    decoder_depth=1,
)
CLIP = ClipConfig(frames=6, stride=3, size=16)
PRETRAINED = WeightsInfo(Kind.pretrain, "ours", OURS, CLIP)
CLASSIFIER = WeightsInfo(Kind.classifier, "ours", OURS, CLIP, classes=3, class_names=NAMES)


def random_weights(info: WeightsInfo) -> Weights:
    model = build_model(info)
    randomise(model)
    return Weights(Path("ours"), (), info, dict(model.state_dict()))


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("make", [their_mae, their_classifier])
def test_what_came_from_transformers_goes_back_as_it_was(
    tmp_path: Path, make: Callable[..., Any], settings: dict[str, Any]
) -> None:
    theirs = make(**settings)
    weights = read_weights(saved(tmp_path / "there", theirs))
    assert written(tmp_path / "back", weights) == []
    again = loaded_by_transformers(tmp_path / "back", weights.info.kind)
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name
    kept = {**SMALL, **settings, "norm_pix_loss": True, "tubelet_size": theirs.config.tubelet_size}
    for name in (*kept, "layer_norm_eps", "use_mean_pooling", "num_labels", "hidden_act"):
        if not name.startswith("decoder_") or weights.info.kind is Kind.pretrain:
            assert getattr(again.config, name) == getattr(theirs.config, name), name
    ours = load_model(tmp_path / "back", verbose=False)
    assert difference(ours, again) < 1e-5


@pytest.mark.parametrize("info", [PRETRAINED, CLASSIFIER], ids=lambda info: info.kind.name)
@pytest.mark.parametrize("normalised", [True, False])
def test_a_model_of_ours_differs_in_transformers_by_two_epsilons(
    tmp_path: Path, info: WeightsInfo, normalised: bool
) -> None:
    """It has one of 1e-5 before the last layer, and no setting for it: ours has 1e-6 there."""
    info = replace(info, model=replace(OURS, normalise_targets=normalised))
    weights = random_weights(info)
    for name, tensor in weights.tensors.items():  # a spread so small that epsilons show
        if name.endswith(("proj.weight", "proj.bias", "fc2.weight", "fc2.bias", "mask_token")):
            tensor.mul_(0.2)
    (lost,) = written(tmp_path / "m", weights)
    key = "decoder_norm_eps" if info.kind is Kind.pretrain else "fc_norm_eps"
    assert lost.startswith(f"{key}=1e-06: transformers has 1e-05 there")
    theirs = loaded_by_transformers(tmp_path / "m", info.kind)
    ours, _ = model_of(weights)
    assert 1e-5 < difference(ours, theirs) < 1e-4
    as_theirs = replace(weights, info=replace(info, model=replace(info.model, **{key: 1e-5})))
    ours, _ = model_of(as_theirs)
    assert difference(ours, theirs) < 1e-6
    assert written(tmp_path / "n", as_theirs) == []


@pytest.mark.parametrize("info", [PRETRAINED, CLASSIFIER], ids=lambda info: info.kind.name)
def test_the_command_makes_a_directory_of_an_official_checkpoint(
    tmp_path: Path, info: WeightsInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "official.pth"
    write_weights(path, WeightsFormat.official, random_weights(info).tensors, info)
    heads = ["num_heads=4", "decoder_num_heads=3"]
    target = tmp_path / "there"
    convert(
        composed("convert", f"weights={path}", f"target={target}", "format=huggingface", *heads)
    )
    printed = capsys.readouterr().out
    assert "equal bit by bit" in printed
    assert "_norm_eps=1e-06: transformers has 1e-05 there" in printed
    theirs = loaded_by_transformers(target, info.kind)
    ours = load_model(path, num_heads=4, decoder_num_heads=3, verbose=False)
    assert difference(ours, theirs) < 1e-4


@pytest.mark.parametrize("sides", [(16, 16), (32, 48), (48, 32)], ids=str)
def test_transformers_prepares_frames_as_this_project_does(
    tmp_path: Path, sides: tuple[int, int]
) -> None:
    height, width = sides
    clip = replace(CLIP, size=height, width=width)
    written(tmp_path / "m", random_weights(replace(CLASSIFIER, clip=clip)))
    rng = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (clip.frames, *sides, 3), dtype=torch.uint8, generator=rng)
    expected = normalise(frames[None]).transpose(1, 2)
    pictures = frames.permute(0, 3, 1, 2)
    for auto, given in (
        (transformers.AutoVideoProcessor, pictures),
        (transformers.AutoImageProcessor, list(pictures)),
    ):
        processor = auto.from_pretrained(tmp_path / "m", local_files_only=True)
        assert "VideoMAE" in type(processor).__name__
        assert (tuple(processor.image_mean), tuple(processor.image_std)) == (MEAN, STD)
        prepared = processor(given, return_tensors="pt").pixel_values
        torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sides", [(240, 320), (320, 240), (256, 340)], ids=str)
def test_no_other_filter_of_transformers_comes_nearer_to_the_evaluation(
    tmp_path: Path, sides: tuple[int, int]
) -> None:
    """In the sizes of the benchmarks; it averages where the evaluation does not."""
    clip = replace(CLIP, size=224)
    written(tmp_path / "m", random_weights(replace(CLASSIFIER, clip=clip)))
    rng = torch.Generator().manual_seed(4)
    rough = torch.rand(1, 3, sides[0] // 3, sides[1] // 3, generator=rng)  # edges of 3 pixels
    pixels = nn.functional.interpolate(rough, sides, mode="bilinear", antialias=True)
    frames = (255 * pixels).byte().permute(0, 2, 3, 1).contiguous()
    (expected,) = evaluation_crops(frames, clip.frame, 1)
    processor = transformers.AutoVideoProcessor.from_pretrained(
        tmp_path / "m", local_files_only=True
    )
    differences = {}
    for resample in (0, 2, 3):  # the nearest pixel, bilinear, bicubic
        unscaled = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        found = processor(frames.permute(0, 3, 1, 2), resample=resample, **unscaled)
        pixels = found.pixel_values[0].permute(0, 2, 3, 1)
        differences[resample] = (pixels.float() - expected.float()).abs().mean().item()
    assert processor.resample == min(differences, key=lambda each: differences[each]) == 2
    assert differences[2] < 2  # of 255


def test_models_without_biases_are_refused(tmp_path: Path) -> None:
    """Zeros would compute the same; but no released model is so."""
    directory = saved(tmp_path / "m", their_classifier(qv_bias=False))
    with pytest.raises(WeightsError, match=r"m does not fit the model: .*missing: .*q_bias"):
        load_model(directory)
