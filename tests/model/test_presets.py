"""Model sizes: parameters counted, named and shaped as the released checkpoints are."""

import subprocess
import sys
from math import prod

import pytest
import torch
from torch import nn

from videomae.config import ClipConfig, ConfigError, ModelConfig, Positions
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.presets import preset, preset_names

CLIP = ClipConfig(frames=16, stride=4, size=224)
CLASSES = (51, 101, 174, 400, 710)
PRETRAIN_PARAMETERS = {
    "vit_small": 24_029_376,
    "vit_base": 94_210_944,
    "vit_large": 317_782_016,
    "vit_huge": 645_659_392,
    "vit_giant": 1_026_306_560,
}
CLASSIFIER_PARAMETERS = {
    "vit_small": (21_899_571, 21_918_821, 21_946_926, 22_033_936, 22_153_286),
    "vit_base": (86_266_419, 86_304_869, 86_361_006, 86_534_800, 86_773_190),
    "vit_large": (303_913_011, 303_964_261, 304_039_086, 304_270_736, 304_588_486),
    "vit_huge": (631_672_371, 631_736_421, 631_829_934, 632_119_440, 632_516_550),
    "vit_giant": (1_011_682_611, 1_011_753_061, 1_011_855_918, 1_012_174_352, 1_012_611_142),
}
Shapes = dict[str, tuple[int, ...]]


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def block_shapes(prefix: str, dim: int, mlp_dim: int) -> Shapes:
    """One block of the official checkpoints."""
    own = {
        "norm1.weight": (dim,),
        "norm1.bias": (dim,),
        "attn.q_bias": (dim,),
        "attn.v_bias": (dim,),
        "attn.qkv.weight": (3 * dim, dim),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "norm2.weight": (dim,),
        "norm2.bias": (dim,),
        "mlp.fc1.weight": (mlp_dim, dim),
        "mlp.fc1.bias": (mlp_dim,),
        "mlp.fc2.weight": (dim, mlp_dim),
        "mlp.fc2.bias": (dim,),
    }
    return {prefix + name: shape for name, shape in own.items()}


def encoder_shapes(prefix: str, dim: int, depth: int, mlp_dim: int, patch: int) -> Shapes:
    expected = {
        f"{prefix}patch_embed.proj.weight": (dim, 3, 2, patch, patch),
        f"{prefix}patch_embed.proj.bias": (dim,),
    }
    for i in range(depth):
        expected |= block_shapes(f"{prefix}blocks.{i}.", dim, mlp_dim)
    return expected


@pytest.mark.parametrize("name", PRETRAIN_PARAMETERS)
def test_pre_training_models_have_the_released_sizes(name: str) -> None:
    with torch.device("meta"):
        model = VideoMAE(preset(name), CLIP)
    assert num_parameters(model) == PRETRAIN_PARAMETERS[name]


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", CLASSIFIER_PARAMETERS)
def test_classifiers_have_the_released_sizes(name: str, classes: int) -> None:
    with torch.device("meta"):
        model = VideoClassifier(preset(name), CLIP, classes)
    expected = dict(zip(CLASSES, CLASSIFIER_PARAMETERS[name], strict=True))
    assert num_parameters(model) == expected[classes]


def test_patch_16_would_not_be_the_released_giant() -> None:
    """Its folder says patch 16; the file's size says 14 (506,880 parameters more)."""
    giant = preset("vit_giant")
    with torch.device("meta"):
        other = VideoMAE(ModelConfig(**vars(giant) | {"patch": 16}), CLIP)
    encoder = num_parameters(other.encoder) - num_parameters_of_giants_encoder()
    assert encoder == 506_880


def num_parameters_of_giants_encoder() -> int:
    expected = encoder_shapes("", 1408, 40, 6144, 14) | {
        "norm.weight": (1408,),
        "norm.bias": (1408,),
    }
    return sum(prod(shape) for shape in expected.values())


@pytest.mark.parametrize(
    ("name", "dim", "depth", "mlp_dim", "patch", "decoder_dim", "decoder_mlp", "pixels", "number"),
    [
        ("vit_base", 768, 12, 3072, 16, 384, 1536, 1536, 218),
        ("vit_giant", 1408, 40, 6144, 14, 512, 2234, 1176, 582),
    ],
)
def test_pre_training_tensors_are_named_and_shaped_as_released(
    name: str,
    dim: int,
    depth: int,
    mlp_dim: int,
    patch: int,
    decoder_dim: int,
    decoder_mlp: int,
    pixels: int,
    number: int,
) -> None:
    with torch.device("meta"):
        ours = shapes(VideoMAE(preset(name), CLIP))
    expected = {"mask_token": (1, 1, decoder_dim)}
    expected |= encoder_shapes("encoder.", dim, depth, mlp_dim, patch)
    expected |= {"encoder.norm.weight": (dim,), "encoder.norm.bias": (dim,)}
    expected |= {"encoder_to_decoder.weight": (decoder_dim, dim)}
    for j in range(4):
        expected |= block_shapes(f"decoder.blocks.{j}.", decoder_dim, decoder_mlp)
    expected |= {"decoder.norm.weight": (decoder_dim,), "decoder.norm.bias": (decoder_dim,)}
    expected |= {"decoder.head.weight": (pixels, decoder_dim), "decoder.head.bias": (pixels,)}
    assert ours == expected
    assert len(ours) == number


@pytest.mark.parametrize(
    ("name", "dim", "depth", "mlp_dim", "patch", "number"),
    [("vit_base", 768, 12, 3072, 16, 162), ("vit_giant", 1408, 40, 6144, 14, 526)],
)
def test_classifier_tensors_are_named_and_shaped_as_released(
    name: str, dim: int, depth: int, mlp_dim: int, patch: int, number: int
) -> None:
    with torch.device("meta"):
        ours = shapes(VideoClassifier(preset(name), CLIP, 400))
    expected = encoder_shapes("", dim, depth, mlp_dim, patch)
    expected |= {"fc_norm.weight": (dim,), "fc_norm.bias": (dim,)}
    expected |= {"head.weight": (400, dim), "head.bias": (400,)}
    assert ours == expected
    assert len(ours) == number


@pytest.mark.parametrize(
    ("name", "heads", "decoder_heads"),
    [
        ("vit_small", 6, 3),
        ("vit_base", 12, 6),
        ("vit_large", 16, 8),
        ("vit_huge", 16, 8),
        ("vit_giant", 16, 8),
    ],
)
def test_heads_which_no_shape_shows(name: str, heads: int, decoder_heads: int) -> None:
    assert (preset(name).heads, preset(name).decoder_heads) == (heads, decoder_heads)


def test_the_model_for_cpus() -> None:
    assert preset("vit_tiny") == ModelConfig(
        name="vit_tiny",
        dim=128,
        depth=4,
        heads=4,
        mlp_dim=4 * 128,
        patch=8,
        decoder_dim=64,
        decoder_heads=2,
        decoder_mlp_dim=4 * 64,
        decoder_depth=1,
        positions=Positions.sincos_3d,
    )


def test_every_preset_has_its_files_name() -> None:
    assert set(preset_names()) == PRETRAIN_PARAMETERS.keys() | {"vit_tiny"}
    for name in preset_names():
        assert preset(name).name == name


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"vit_bas'.*vit_base, vit_giant, .*vit_tiny"):
        preset("vit_bas")


@pytest.mark.long
def test_the_models_need_neither_hydra_nor_a_decoder() -> None:
    """For benchmarks on bare machines: import, build, run."""
    absent = ["hydra", "omegaconf", "decord", "av", "tensorboard", "matplotlib", "rich"]
    program = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))  # importing them raises ImportError
import torch, videomae
from videomae.config import ClipConfig
from videomae.model import VideoMAE, preset
model = VideoMAE(preset("vit_tiny"), ClipConfig(2, 1, 16))
assert model.features(torch.zeros(1, 3, 2, 16, 16)).shape == (1, 4, 128)
try:
    import hydra
except ImportError:
    print("done")
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert finished.stdout == "done\n", finished.stderr
