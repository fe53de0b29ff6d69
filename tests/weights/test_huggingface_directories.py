"""Directories of transformers: how they may hold their tensors, and which ones are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.weights.test_huggingface import (
    CLASSIFIER,
    NAMES,
    OURS,
    PRETRAINED,
    random_weights,
    saved,
    their_classifier,
    their_mae,
    written,
)
from videomae.config import Positions, Sampling, UserError
from videomae.weights.formats import read_weights
from videomae.weights.load import load_model, model_of
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import WeightsInfo

INDEX = "model.safetensors.index.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return saved(tmp_path / "a model", their_classifier())


def configured(directory: Path, **settings: Any) -> Path:
    """The directory with other settings in its config.json."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return directory


def as_torch(directory: Path, names: list[str] | None = None, **how: Any) -> Path:
    """The directory with its tensors as torch.save writes them, in one file or several."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    if names is None:
        torch.save(tensors, directory / "pytorch_model.bin", **how)
        return directory
    place = {key: names[i % len(names)] for i, key in enumerate(tensors)}
    for name in names:
        part = {key: tensors[key] for key in tensors if place[key] == name}
        torch.save(part, directory / name, **how)
    index = {"metadata": {"total_size": 1}, "weight_map": place}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return directory


def sharded(directory: Path) -> Path:
    """Another directory of the same model, in many safetensors files."""
    there = directory.parent / "sharded"
    saved(there, their_classifier(), max_shard_size="10KB")
    assert len(list(there.glob("*.safetensors"))) > 2
    return there


def same_tensors(one: Path, other: Path) -> bool:
    ours, theirs = read_weights(one).tensors, read_weights(other).tensors
    same = (torch.equal(ours[name], theirs[name]) for name in ours)
    return ours.keys() == theirs.keys() and all(same)


@pytest.mark.parametrize(
    "change",
    [
        sharded,
        as_torch,
        lambda path: as_torch(path, _use_new_zipfile_serialization=False),
        lambda path: as_torch(path, [f"pytorch_model-{i}-of-3.bin" for i in (1, 2, 3)]),
        lambda path: as_torch(path, ["a.bin", "b.bin"], _use_new_zipfile_serialization=False),
    ],
    ids=["shards", "bin", "old_bin", "bin_shards", "old_bin_shards"],
)
def test_the_tensors_may_lie_in_files_of_every_kind(
    directory: Path, change: Callable[[Path], Path]
) -> None:
    whole = saved(directory.parent / "whole", their_classifier())
    changed = change(directory)
    assert same_tensors(changed, whole)
    read = read_weights(changed)
    assert all(file.parent == changed for file in read.files)
    assert read.sha256() != read_weights(whole).sha256()


@pytest.mark.parametrize("change", [lambda path: path, as_torch], ids=["safetensors", "bin"])
def test_the_file_of_the_tensors_may_be_named_itself(
    directory: Path, change: Callable[[Path], Path]
) -> None:
    path = change(directory)
    (file,) = [*path.glob("*.safetensors"), *path.glob("*.bin")]
    assert same_tensors(file, path)
    assert load_model(file, verbose=False).config == load_model(path, verbose=False).config


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    theirs = their_classifier().to(dtype)
    weights = read_weights(saved(tmp_path / "m", theirs))
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.float32}
    assert torch.equal(weights.tensors["head.weight"], theirs.classifier.weight.float())


def test_names_of_classes_come_and_go(tmp_path: Path) -> None:
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {x: i for i, x in enumerate(NAMES)}}
    there = saved(tmp_path / "there", their_classifier(**labels))
    weights = read_weights(there)
    assert weights.info.class_names == NAMES
    written(tmp_path / "back", weights)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "back", local_files_only=True)
    assert (config.id2label, config.label2id) == (labels["id2label"], labels["label2id"])


@pytest.mark.parametrize("info", [PRETRAINED, CLASSIFIER], ids=lambda info: info.kind.name)
def test_the_stride_comes_and_goes(tmp_path: Path, info: WeightsInfo) -> None:
    """transformers keeps it, too, though it makes no use of it."""
    assert info.clip.stride == 3
    written(tmp_path / "m", random_weights(info))
    weights = read_weights(tmp_path / "m")
    assert weights.info.clip == info.clip
    assert weights.info.assumed == ()
    config = transformers.AutoConfig.from_pretrained(tmp_path / "m", local_files_only=True)
    assert config.frame_sampling_rate == 3
    config.save_pretrained(tmp_path / "m")
    assert read_weights(tmp_path / "m").info.clip == info.clip


@pytest.mark.parametrize("sampling", [None, *Sampling])
def test_the_sampling_comes_and_goes(tmp_path: Path, sampling: Sampling | None) -> None:
    info = replace(CLASSIFIER, sampling=sampling)
    written(tmp_path / "m", random_weights(info))
    assert read_weights(tmp_path / "m").info.sampling is sampling
    config = transformers.AutoConfig.from_pretrained(tmp_path / "m", local_files_only=True)
    assert getattr(config, "frame_sampling", None) == (sampling and sampling.value)
    config.save_pretrained(tmp_path / "m")
    assert read_weights(tmp_path / "m").info.sampling is sampling


def test_a_stride_that_nobody_tells_is_assumed(directory: Path) -> None:
    weights = read_weights(directory)
    assert weights.info.clip.stride == 4
    assert weights.info.assumed == ("stride",)
    assert str(model_of(weights)[1]).endswith("the file does not say, so assumed: stride=4")


def test_more_than_ten_names_keep_their_order(tmp_path: Path) -> None:
    """As text "10" comes before "2"."""
    names = [f"class of {i}" for i in range(12)]
    model = their_classifier(num_labels=12, id2label=dict(enumerate(names)))
    directory = saved(tmp_path / "m", model)
    config = json.loads((directory / "config.json").read_text())
    shuffled = dict(sorted(config["id2label"].items()))
    assert list(shuffled)[:3] == ["0", "1", "10"]
    configured(directory, id2label=shuffled)
    assert read_weights(directory).info.class_names == names


def test_names_that_transformers_made_up_are_none(directory: Path, tmp_path: Path) -> None:
    assert json.loads((directory / "config.json").read_text())["id2label"]["1"] == "LABEL_1"
    weights = read_weights(directory)
    assert (weights.info.classes, weights.info.class_names) == (3, None)
    written(tmp_path / "back", weights)
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert back["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}


@pytest.mark.parametrize(
    "id2label",
    [
        {"0": "run", "1": "sit"},
        {"0": "run", "1": "sit", "2": "jump", "3": "fly"},
        {"0": "run", "1": "sit", "7": "jump"},
        {"a": "run", "b": "sit", "c": "jump"},
        {"0": "run", "1": None, "2": "jump"},
        {"0": "run", "1": "run", "2": "jump"},
        ["run", "sit", "jump"],
        None,
    ],
    ids=str,
)
def test_names_that_do_not_fit_the_head_are_no_names(directory: Path, id2label: object) -> None:
    configured(directory, id2label=id2label)
    info = read_weights(directory).info
    assert (info.classes, info.class_names) == (3, None)


def without(*names: str) -> Callable[[Path], None]:
    def remove(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return remove


def config_of(**settings: Any) -> Callable[[Path], None]:
    return lambda directory: void(configured(directory, **settings))


def text_of(text: str, name: str = "config.json") -> Callable[[Path], None]:
    return lambda directory: void((directory / name).write_text(text))


def void(_: object) -> None:
    """So that a lambda may change a directory."""


def cut(name: str, to: float) -> Callable[[Path], None]:
    def shorten(directory: Path) -> None:
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: int(to * len(content))])

    return shorten


def shards_without_the_second(directory: Path) -> None:
    there = sharded(directory)
    (directory / "model.safetensors").unlink()
    for path in there.iterdir():
        path.rename(directory / path.name)
    sorted(directory.glob("model-0*"))[1].unlink()


def index_of(content: object) -> Callable[[Path], None]:
    def replace_tensors(directory: Path) -> None:
        (directory / "model.safetensors").unlink()
        (directory / INDEX).write_text(json.dumps(content))

    return replace_tensors


def key_of_another_shape(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    name = next(name for name in tensors if name.endswith("attention.key.weight"))
    save_file(tensors | {name: torch.zeros(1, 7)}, directory / "model.safetensors")


REFUSED = {
    "key_of_another_shape": (key_of_another_shape, r"query\.weight and others of .*\[1, 7\]"),
    "no_tensors": (without("model.safetensors"), "but no tensors: expected model.safetensors or"),
    "lost_shard": (shards_without_the_second, "index.json names model-00002-of-.*, which is not"),
    "empty_index": (index_of({}), "index.json"),
    "list_index": (index_of([]), "index.json cannot be read"),
    "index_of_a_list": (index_of({"weight_map": ["x"]}), "index.json"),
    "index_of_numbers": (index_of({"weight_map": {"x": 1}}), "index.json"),
    "cut_off_early": (cut("model.safetensors", 0.02), r"model\.safetensors is cut off"),
    "cut_off_late": (cut("model.safetensors", 0.9), r"model\.safetensors cannot be read"),
    "empty_tensors": (cut("model.safetensors", 0), r"model\.safetensors is no checkpoint"),
    "no_json": (text_of("{'model_type': 'videomae'"), r"config\.json cannot be read"),
    "json_list": (text_of("[]"), r"config\.json cannot be read \(not an object\)"),
    "deep_json": (text_of("[" * 100_000), r"config\.json cannot be read"),
    "vit": (
        config_of(model_type="vit", architectures=["ViTForImageClassification"]),
        r"holds a ViTForImageClassification \(model_type vit\); expected one of VideoMAEFor",
    ),
    "no_architecture": (config_of(architectures=None), "holds a model without a name"),
    "text_architectures": (config_of(architectures="VideoMAEModel"), "expected one of VideoMAEFor"),
    "number_architectures": (config_of(architectures=5), "expected one of VideoMAEFor"),
    "nested_architectures": (config_of(architectures=[["x"]]), "expected one of VideoMAEFor"),
    "first_token": (config_of(use_mean_pooling=False), "classifies its first token"),
    "gelu_new": (config_of(hidden_act="gelu_new"), "hidden_act=gelu_new, num_channels=3"),
    "grey": (config_of(num_channels=1), "num_channels=1; expected gelu and 3"),
    "wrong_architecture": (
        config_of(architectures=["VideoMAEForPreTraining"]),
        r"layernorm|encoder_to_decoder",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_videomae_is_refused_by_name(
    directory: Path, change: Callable[[Path], None], message: str
) -> None:
    load_model(directory, verbose=False)
    change(directory)
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(directory)
    assert str(directory) in str(caught.value)


def test_a_patch_may_have_two_equal_sides(directory: Path) -> None:
    before = load_model(directory, verbose=False).config
    assert load_model(configured(directory, patch_size=[4, 4]), verbose=False).config == before


def test_a_pre_training_without_the_encoders_norm_is_refused(tmp_path: Path) -> None:
    directory = saved(tmp_path / "m", their_mae(use_mean_pooling=True))
    with pytest.raises(WeightsError, match=r"m has no videomae\.layernorm.*use_mean_pooling=True"):
        load_model(directory)


@pytest.mark.parametrize(
    "settings",
    [
        {name: value}
        for name, values in {
            "num_attention_heads": ("many", None, 0, -2, 3, 2.0, [2], {}, True, 10**30),
            "decoder_num_attention_heads": ("many", None, 0, 3, 2.5),
            "layer_norm_eps": ("small", None, 0, -1e-6, [1], float("nan"), float("inf")),
            "image_size": ("big", None, 0, -16, 15, 16.0, [16], [16, 16, 16], ["a", "b"], {}, "16"),
            "num_frames": ("all", None, 0, -4, 5, 4.0, [4], True),
            "frame_sampling_rate": ("all", 0, -4, 4.0, [4], True),
            "norm_pix_loss": ("yes", None, 1),
            "patch_size": (8, "x", [4, 8]),
            "tubelet_size": (1, None),
            "num_hidden_layers": (1, 3),
            "decoder_intermediate_size": (12,),
        }.items()
        for value in values
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused_by_name(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    directory = configured(saved(tmp_path / "m", their_mae()), **settings)
    ((name, value),) = settings.items()
    with pytest.raises(UserError) as caught:
        load_model(directory)
    assert str(directory) in str(caught.value)
    assert name in str(caught.value) or str(value) in str(caught.value)


@pytest.mark.parametrize("info", [PRETRAINED, CLASSIFIER], ids=lambda info: info.kind.name)
@pytest.mark.parametrize(
    "change",
    [
        {"positions": Positions.sincos_3d},
        {"positions": Positions.learned},
        {"position_grid": [3, 2, 2]},
    ],
    ids=str,
)
def test_what_transformers_would_compute_otherwise_is_not_written(
    tmp_path: Path, info: WeightsInfo, change: dict[str, Any]
) -> None:
    weights = random_weights(replace(info, model=replace(OURS, **change)))
    refused = "only fixed sincos_1d positions .*format=videomae holds"
    with pytest.raises(WeightsError, match=refused):
        written(tmp_path / "m", weights)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("mean", [[0.5, 0.5, 0.5], [0.5], "none"])
def test_a_processor_that_normalises_otherwise_is_refused(tmp_path: Path, mean: object) -> None:
    directory = saved(tmp_path / "theirs", their_classifier())
    path = directory / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.485, 0.456, 0.406]}))
    read_weights(directory)
    path.write_text(json.dumps({"image_mean": mean}))
    with pytest.raises(WeightsError, match=r"preprocessor_config.json: image_mean="):
        read_weights(directory)
