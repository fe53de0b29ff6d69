"""Official checkpoints: every container and prefix they come in, and nothing that is executed."""

import argparse
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import GOLDEN
from tests.model import CLIP, CONFIG, random_clip, random_mask, randomise
from videomae.config import (
    ClipConfig,
    MaskConfig,
    MaskKind,
    ModelConfig,
    Positions,
    WeightsFormat,
)
from videomae.model import VideoClassifier, VideoMAE, preset
from videomae.model.positions import position_table
from videomae.run.directory import WEIGHTS
from videomae.weights.formats import DEEPSPEED, read_weights, write_weights
from videomae.weights.geometry import geometry
from videomae.weights.load import build_model, load_encoder, load_model
from videomae.weights.official import save_official
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, WeightsInfo

StateDict = dict[str, Tensor]
ARGS = {"num_frames": 4, "input_size": 12, "sampling_rate": 3}
HEADS = {"num_heads": CONFIG.heads, "decoder_num_heads": CONFIG.decoder_heads}


def model_of(kind: Kind, config: ModelConfig = CONFIG) -> VideoMAE | VideoClassifier:
    """A random model, in eval mode."""
    info = WeightsInfo(kind, "random", config, CLIP, classes=5)
    model = build_model(info)
    randomise(model)
    return model.eval()


def same(model: torch.nn.Module, state: StateDict) -> bool:
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


BESIDE = {  # what the official code keeps beside the weights
    "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2, 2)}}},
    "scaler": {"scale": 65536.0, "_growth_tracker": 5},
    "epoch": 799,
    "args": argparse.Namespace(
        **ARGS,
        model="pretrain_videomae_small_patch4_12",
        opt_betas=[0.9, 0.95],
        lr=np.float64(1.2e-3),
        window_size=(2, 3, 3),
        clip_grad=None,
        distributed=True,
    ),
    "max_accuracy": np.float32(0.5),
    "tensor_names": {"a", "b"},  # DeepSpeed keeps sets
    "param_shapes": OrderedDict(a=torch.Size([2, 3])),
}
CONTAINERS: dict[str, Callable[[StateDict], Any]] = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "model": lambda state: {"model": state, **BESIDE},
    "module": lambda state: {"module": state, **BESIDE, "optimizer": None},
    "state_dict": lambda state: {"state_dict": state},
    "model_before_module": lambda state: {"module": {"x": torch.ones(1)}, "model": state},
}


@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "old_format"])
def test_every_container_gives_the_same_model(
    tmp_path: Path, kind: Kind, container: str, old_format: bool
) -> None:
    model = model_of(kind)
    path = tmp_path / "checkpoint-799.pth"
    state = model.state_dict()
    torch.save(CONTAINERS[container](state), path, _use_new_zipfile_serialization=not old_format)
    says = "args" in CONTAINERS[container](state)
    overrides = {} if says else {"frames": 4, "size": 12, "position_grid": (2, 3, 3)}
    loaded = load_model(path, **HEADS, **overrides)
    assert same(loaded, state)
    assert not loaded.training
    assert loaded.clip == (CLIP if says else replace(CLIP, stride=4))
    masks = (random_mask(13),) if kind is Kind.pretrain else ()
    pairs = zip(model(random_clip(), *masks), loaded(random_clip(), *masks), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs)


@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "model.", "backbone.", "_orig_mod.module.", "module._orig_mod."],
)
def test_prefixes_of_wrappers_are_stripped(tmp_path: Path, kind: Kind, prefix: str) -> None:
    state = model_of(kind).state_dict()
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"model": wrapped, "args": ARGS}, tmp_path / "x.pth")
    assert same(load_model(tmp_path / "x.pth", **HEADS), state)


@pytest.mark.parametrize("prefix", ["encoder.", "_orig_mod.encoder.", "backbone."])
def test_a_classifier_under_the_prefix_of_an_encoder(tmp_path: Path, prefix: str) -> None:
    state = model_of(Kind.classifier).state_dict()
    head = ("head.", "fc_norm.")
    for bare in ((), head):
        wrapped = {n if n.startswith(bare or "-") else prefix + n: x for n, x in state.items()}
        torch.save({"module": wrapped, "args": ARGS}, tmp_path / "x.pth")
        assert same(load_model(tmp_path / "x.pth", **HEADS), state)


def test_the_same_tensor_under_two_prefixes_is_refused(tmp_path: Path) -> None:
    state = model_of(Kind.classifier).state_dict()
    state["backbone.head.bias"] = torch.zeros(5)
    torch.save({"model": state, "args": ARGS}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth holds head\.bias twice"):
        load_model(tmp_path / "x.pth", **HEADS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_come_out_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    """DeepSpeed's are float16; the values are those of the file."""
    state = {
        name: tensor.to(dtype) for name, tensor in model_of(Kind.classifier).state_dict().items()
    }
    directory = tmp_path / "checkpoint-29"
    directory.mkdir()
    torch.save({"module": state, **BESIDE}, directory / DEEPSPEED)
    for path in (directory, directory / DEEPSPEED):
        loaded = load_model(path, **HEADS)
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert same(loaded, {name: tensor.float() for name, tensor in state.items()})


def test_safetensors_under_official_names(tmp_path: Path) -> None:
    state = model_of(Kind.classifier).state_dict()
    path = tmp_path / "x.safetensors"
    save_file(state, path)
    loaded = load_model(path, **HEADS, frames=4, size=12, position_grid=(2, 3, 3))
    assert same(loaded, state)


def test_an_encoder_alone_is_a_start_for_fine_tuning_and_no_model(tmp_path: Path) -> None:
    state = model_of(Kind.pretrain).state_dict()
    alone = {name: x for name, x in state.items() if name.startswith("encoder.")}
    torch.save({"model": alone, "args": ARGS}, tmp_path / "x.pth")
    weights = read_weights(tmp_path / "x.pth", num_heads=2)
    assert weights.info.kind is Kind.encoder
    model = VideoClassifier(CONFIG, CLIP, classes=5)
    report = load_encoder(model, weights, list("abcde"))
    assert report.missing == ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]
    assert report.unexpected == []
    assert list(report.left_out) == ["last norm"]
    assert torch.equal(model.blocks[1].mlp.fc1.bias, state["encoder.blocks.1.mlp.fc1.bias"])
    with pytest.raises(WeightsError, match=r"is an encoder alone.*fine-tune these weights first"):
        load_model(tmp_path / "x.pth", num_heads=2)


# What tensors and settings say


@pytest.mark.parametrize("name", ["vit_small", "vit_base", "vit_large", "vit_huge", "vit_giant"])
@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
def test_sizes_come_from_the_tensors_and_heads_from_the_preset(name: str, kind: Kind) -> None:
    """At depth 2, so that only the depth and the name differ from the preset."""
    config = replace(preset(name), depth=2, decoder_depth=2)
    clip = ClipConfig(frames=16, stride=4, size=224)
    with torch.device("meta"):
        model = build_model(WeightsInfo(kind, "x", config, clip, classes=3))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = geometry(shapes, Path("x"), decoder=kind is Kind.pretrain)
    expected = replace(config, name=f"vit_{config.dim}x2")
    if kind is Kind.classifier:
        expected = replace(expected, decoder_depth=4)
    assert found == expected


def test_a_whole_preset_is_recognised() -> None:
    with torch.device("meta"):
        state = VideoMAE(preset("vit_base"), ClipConfig(16, 4, 224)).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert geometry(shapes, Path("x"), decoder=True) == preset("vit_base")


def test_the_wider_decoder_of_the_first_huge_model() -> None:
    """640 wide with 8 heads in V1, 512 in V2."""
    config = replace(preset("vit_huge"), depth=1, decoder_dim=640, decoder_mlp_dim=2560)
    with torch.device("meta"):
        state = VideoMAE(config, ClipConfig(16, 4, 224)).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    found = geometry(shapes, Path("x"), decoder=True)
    assert (found.decoder_dim, found.decoder_heads, found.decoder_mlp_dim) == (640, 8, 2560)


def test_heads_that_nothing_says_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"model": model_of(Kind.pretrain).state_dict(), "args": ARGS}, path)
    with pytest.raises(WeightsError, match=r"x\.pth is 16 wide.*give num_heads="):
        load_model(path)
    with pytest.raises(WeightsError, match=r"decoder of .* is 8 wide.*give decoder_num_heads="):
        load_model(path, num_heads=2)
    assert read_weights(path, like=CONFIG).info.model.heads == 2
    assert read_weights(path, like=CONFIG).info.model.decoder_heads == 4


def test_what_the_settings_say(tmp_path: Path) -> None:
    args = ARGS | {"mask_type": "tube", "mask_ratio": 0.75, "decoder_mask_ratio": 0.5}
    path = tmp_path / "some.pth"
    torch.save(
        {
            "model": model_of(Kind.pretrain).state_dict(),
            "args": argparse.Namespace(**args, normlize_target=False),
        },
        path,
    )
    weights = read_weights(path, **HEADS)
    assert weights.info.name == "some"
    assert weights.info.clip == CLIP
    assert weights.info.mask == MaskConfig(MaskKind.tube, 0.75, 0.5)
    assert not weights.info.model.normalise_targets
    assert weights.notes == ()
    args = ARGS | {"drop_path": 0.2, "head_drop_rate": 0.5}
    torch.save({"module": model_of(Kind.classifier).state_dict(), "args": args}, path)
    info = read_weights(path, **HEADS).info
    assert (info.drop_path, info.head_drop, info.classes, info.class_names) == (0.2, 0.5, 5, None)
    model = load_model(path, **HEADS).train()
    assert model.blocks[-1].drop_path.drop_prob == 0.2
    assert model.head_drop.p == 0.5


def test_what_is_assumed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pth"
    torch.save(model_of(Kind.classifier).state_dict(), path)
    model = load_model(path, **HEADS)
    assert model.clip == ClipConfig(frames=16, stride=4, size=224)
    said = capsys.readouterr().err
    assert "so assumed: frames=16, size=224, stride=4" in said
    assert "missing: none; unexpected: none" in said
    torch.save({"model": model.state_dict(), "args": {"num_frames": 8}}, path)
    assert load_model(path, **HEADS).clip.frames == 8
    assert "so assumed: size=224, stride=4" in capsys.readouterr().err
    load_model(path, **HEADS, verbose=False)
    assert capsys.readouterr().err == ""


def test_other_clips_than_assumed_see_interpolated_positions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(model_of(Kind.classifier).state_dict(), tmp_path / "x.pth")
    model = load_model(tmp_path / "x.pth", **HEADS, frames=4, size=12)
    assert model.config.position_grid == [8, 56, 56]
    assert "positions of 8 x 56 x 56 tokens interpolated to 2 x 3 x 3" in capsys.readouterr().err


# Positions in the file


@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
def test_stored_positions_that_are_the_fixed_ones_are_left_out(tmp_path: Path, kind: Kind) -> None:
    model = model_of(kind)
    state = model.state_dict()
    table = position_table(Positions.sincos_1d, (2, 3, 3), 16)
    stored = dict(state)
    if kind is Kind.pretrain:
        stored["encoder.pos_embed"] = table
        stored["pos_embed"] = position_table(Positions.sincos_1d, (2, 3, 3), 8)
    else:
        stored["pos_embed"] = table.half()
    torch.save({"model": stored, "args": ARGS}, tmp_path / "x.pth")
    loaded = load_model(tmp_path / "x.pth", **HEADS)
    assert loaded.config.positions is Positions.sincos_1d
    assert same(loaded, state)


@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
def test_learned_positions_stay_parameters(tmp_path: Path, kind: Kind) -> None:
    model = model_of(kind, replace(CONFIG, positions=Positions.learned))
    state = model.state_dict()
    assert ("encoder.pos_embed" if kind is Kind.pretrain else "pos_embed") in state
    torch.save({"model": state, "args": ARGS}, tmp_path / "x.pth")
    loaded = load_model(tmp_path / "x.pth", **HEADS)
    assert loaded.config.positions is Positions.learned
    assert same(loaded, state)
    assert torch.equal(loaded.features(random_clip()), model.features(random_clip()))


def test_stored_positions_tell_the_size(tmp_path: Path) -> None:
    config = replace(CONFIG, positions=Positions.learned)
    model = VideoClassifier(config, ClipConfig(16, 4, 20), classes=5)  # 8 x 5 x 5 tokens
    torch.save(model.state_dict(), tmp_path / "x.pth")
    assert load_model(tmp_path / "x.pth", **HEADS).clip == ClipConfig(16, 4, 20)


def test_stored_positions_of_another_size_are_refused(tmp_path: Path) -> None:
    state = model_of(Kind.classifier).state_dict() | {"pos_embed": torch.randn(1, 7, 16)}
    torch.save({"model": state, "args": ARGS}, tmp_path / "x.pth")
    with pytest.raises(
        WeightsError, match=r"positions of \(1, 7, 16\), but 4 frames of 12 x 12 px"
    ):
        load_model(tmp_path / "x.pth", **HEADS)


# Files that are none, or of others


def test_numpy_scalars_under_their_module_of_before_numpy_2(tmp_path: Path) -> None:
    state = model_of(Kind.classifier).state_dict()
    torch.save({"model": state, **BESIDE}, tmp_path / "new.pth")
    assert rewritten(tmp_path / "new.pth", tmp_path / "old.pth") > 0
    assert same(load_model(tmp_path / "old.pth", **HEADS), state)


def rewritten(new: Path, old: Path) -> int:
    """The file as NumPy 1 would have pickled it; how many names were changed."""
    changed = 0
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                changed = content.count(b"cnumpy._core.multiarray\n")
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            target.writestr(name, content)
    return changed


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("place", ["args", "model", "beside", "namespace"])
@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "old_format"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, place: str, old_format: bool
) -> None:
    trap = Trap(tmp_path / "trace")
    content: dict[str, Any] = {"model": model_of(Kind.classifier).state_dict(), "args": {}}
    match place:
        case "args":
            content["args"] = {"lr": trap}
        case "model":
            content["model"]["head.bias"] = trap
        case "beside":
            content["hook"] = trap
        case "namespace":
            content["args"] = argparse.Namespace(hook=trap)
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(WeightsError, match=r"x\.pth is refused: .* posix\.mkdir"):
        load_model(path, **HEADS)
    assert not (tmp_path / "trace").exists()


def test_a_pickled_module_is_refused_with_what_to_ask_for(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn.*Linear.*Ask for a file that holds a state"):
        load_model(tmp_path / "x.pth")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Damage in the middle of the pickled part."""
    content = bytearray(path.read_bytes())
    at = content.index(b"data.pkl") + 200
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"), [(cut, "is cut off: .* get it again"), (flipped, "cannot be read")]
)
def test_damaged_checkpoints(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "x.pth"
    torch.save({"model": model_of(Kind.classifier).state_dict()}, path)
    damage(path)
    with pytest.raises(WeightsError, match=rf"x\.pth {message}"):
        load_model(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "a dict of nothing; expected a state dict"),
        ({"epoch": 3, "loss": 0.5}, "a dict of epoch, loss; expected"),
        ({"model": {}}, "a dict of nothing; expected"),
        ([torch.ones(1)], "a list; expected a state dict"),
        (torch.ones(1), "a Tensor; expected"),
        ({"fc.weight": torch.ones(2, 2)}, "holds no encoder.patch_embed.proj.weight, so it is no"),
        (
            {"patch_embed.proj.weight": torch.ones(768, 3, 16, 16)},
            r"is a model of images: its patch embedding \(768, 3, 16, 16\) is 2-D. Expected",
        ),
        (
            {"patch_embed.proj.weight": torch.ones(8, 4, 2, 4, 4)},
            r"is \(8, 4, 2, 4, 4\); expected \(width, 3, tubelet, patch, patch\)",
        ),
        ({"patch_embed.proj.weight": torch.ones(8, 3, 2, 4, 4)}, "no blocks.0.mlp.fc1.weight"),
        ({"videomae.layernorm.bias": torch.ones(8)}, "a Hugging Face directory: give the whole"),
    ],
    ids=str,
)
def test_files_of_torch_that_are_no_video_model(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path / "x.pth")


def test_a_pointer_that_git_left_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    with pytest.raises(WeightsError, match=r"is a Git LFS pointer.*git lfs pull"):
        load_model(path)


@pytest.mark.parametrize("name", ["blocks.0.gamma_1", "blocks.1.attn.scale", "norm.weight"])
def test_tensors_of_variants_that_are_not_supported_are_refused(tmp_path: Path, name: str) -> None:
    state = model_of(Kind.classifier).state_dict() | {name: torch.ones(16)}
    torch.save({"model": state, "args": ARGS}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=f"unexpected: {name}"):
        load_model(tmp_path / "x.pth", **HEADS)


# Writing


@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
def test_what_is_written_has_the_official_names_shapes_and_types(
    tmp_path: Path, kind: Kind
) -> None:
    """The golden files hold the reference implementation's own state dicts."""
    golden = load_file(GOLDEN / f"{'mae_a' if kind is Kind.pretrain else 'classifier'}.safetensors")
    official = {n.removeprefix("state/"): x for n, x in golden.items() if n.startswith("state/")}
    official = {n: x for n, x in official.items() if "pos_embed" not in n}
    torch.save(official, tmp_path / "golden.pth")
    weights = read_weights(tmp_path / "golden.pth", num_heads=2, decoder_num_heads=2)
    save_official(tmp_path / "written.pth", weights.tensors, weights.info)
    written = torch.load(tmp_path / "written.pth", weights_only=True)["model"]
    assert {n: (x.shape, x.dtype) for n, x in written.items()} == {
        n: (x.shape, torch.float32) for n, x in official.items()
    }
    assert all(torch.equal(written[name], official[name]) for name in official)


def test_what_is_written_comes_back_with_its_settings(tmp_path: Path) -> None:
    for kind in (Kind.pretrain, Kind.classifier):
        info = WeightsInfo(
            kind,
            "x",
            model=replace(CONFIG, name="vit_16x3"),
            clip=CLIP,
            classes=5 if kind is Kind.classifier else None,
            drop_path=0.2 if kind is Kind.classifier else 0.0,
            head_drop=0.5 if kind is Kind.classifier else 0.0,
            mask=MaskConfig(MaskKind.tube, 0.75, 0.5) if kind is Kind.pretrain else None,
        )
        lost = save_official(tmp_path / "x.pth", model_of(kind).state_dict(), info)
        assert lost == ["the number of heads: read it with num_heads=2"]
        found = read_weights(tmp_path / "x.pth", **HEADS).info
        same_decoder = kind is Kind.pretrain
        model = found.model if same_decoder else replace(CONFIG, name="vit_16x3")
        assert replace(found, model=model) == info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"model": replace(CONFIG, positions=Positions.sincos_3d)},
            "has sincos_3d ones.*format=videomae holds",
        ),
        ({"model": replace(CONFIG, position_grid=[1, 3, 3])}, r"made for \[1, 3, 3\] tokens"),
        (
            {"clip": replace(CLIP, width=16)},
            "of square frames, this model sees 4 frames of 12",
        ),
    ],
)
def test_what_the_official_format_cannot_hold_is_refused(
    tmp_path: Path, info: dict[str, Any], message: str
) -> None:
    known = replace(WeightsInfo(Kind.pretrain, "x", CONFIG, CLIP), **info)
    with pytest.raises(WeightsError, match=message):
        save_official(tmp_path / "x.pth", {}, known)
    assert not (tmp_path / "x.pth").exists()


def test_a_directory_of_deepspeed_beside_other_things(tmp_path: Path) -> None:
    state = model_of(Kind.classifier).state_dict()
    (tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"not looked at")
    torch.save({"module": state, "args": ARGS}, tmp_path / DEEPSPEED)
    assert same(load_model(tmp_path, **HEADS), state)


def test_a_run_over_splits_names_the_weights_of_each(tmp_path: Path) -> None:
    info = WeightsInfo(Kind.classifier, "x", CONFIG, CLIP, classes=5)
    tensors = build_model(info).state_dict()
    for split in ("split1", "split2"):
        write_weights(tmp_path / split / WEIGHTS, WeightsFormat.videomae, tensors, info)
    (tmp_path / "split3").mkdir()  # not trained yet
    message = f"name one of {tmp_path / 'split1'}, {tmp_path / 'split2'}$"
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path)


def test_a_directory_of_checkpoints_names_those_to_choose_from(tmp_path: Path) -> None:
    for name in ("checkpoint-99.pth", "checkpoint-best.pth", "log.txt"):
        (tmp_path / name).write_bytes(b"")
    message = "but in it: name one of checkpoint-99.pth, checkpoint-best.pth$"
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path)
