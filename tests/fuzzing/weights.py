"""Weights of every format, through videomae.load_model."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import TINY, composed
from tests.fuzzing import sizes
from tests.fuzzing.attacks import torch_attacks, weights_index_attacks
from tests.fuzzing.base import REFUSED, RIGHT, Result, Target
from tests.model import randomise
from videomae.config import ClipConfig, ModelConfig, Positions, WeightsFormat
from videomae.run.directory import WEIGHTS
from videomae.weights.formats import DEEPSPEED, write_weights
from videomae.weights.load import build_model, load_model
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, WeightsInfo, save_weights

ARGS = argparse.Namespace(num_frames=4, input_size=32, sampling_rate=2, drop_path=0.1)
HEADS = {"num_heads": 2, "decoder_num_heads": 3}
CLASSES = ["run", "sit", "jump"]


@cache
def tiny() -> ModelConfig:
    """A model whose files are small."""
    model: ModelConfig = composed("pretrain", *TINY).model
    return replace(model, positions=Positions.sincos_1d, decoder_dim=24, decoder_heads=3)


@cache
def made(kind: Kind) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Random weights and what they are."""
    classifier = kind is Kind.classifier
    info = WeightsInfo(
        kind,
        "theirs",
        tiny(),
        ClipConfig(4, 2, 32),
        classes=len(CLASSES) if classifier else None,
        class_names=CLASSES if classifier else None,
    )
    model = build_model(info)
    randomise(model)
    return model.state_dict(), info


def make_own(kind: Kind) -> None:
    """A run directory with weights of this project."""
    Path("weights").mkdir()
    save_weights(Path("weights") / WEIGHTS, *made(kind))


def make_official(kind: Kind, *, zipped: bool = True) -> None:
    """An official checkpoint, with an optimiser's state beside the model."""
    state, _ = made(kind)
    key = "module" if kind is Kind.classifier else "model"
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(64)}}, "param_groups": []}
    content = {key: state, "args": ARGS, "epoch": 3, "optimizer": optimizer}
    torch.save(content, "weights.pth", _use_new_zipfile_serialization=zipped)


def make_deepspeed() -> None:
    """A directory as DeepSpeed leaves it."""
    Path("weights").mkdir()
    state, _ = made(Kind.classifier)
    torch.save({"module": state, "args": ARGS}, Path("weights") / DEEPSPEED)


def make_huggingface(kind: Kind) -> None:
    """A directory of transformers with one safetensors file."""
    state, info = made(kind)
    info = replace(info, model=replace(info.model, fc_norm_eps=1e-5))
    write_weights(Path("weights"), WeightsFormat.huggingface, state, info)


def make_shards() -> None:
    """A directory of transformers with three safetensors files and their index."""
    make_huggingface(Kind.classifier)
    folder = Path("weights")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{part}-of-00003.safetensors" for part in (1, 2, 3)]
    place = {key: names[number % 3] for number, key in enumerate(sorted(tensors))}
    for name in names:
        part = {key: tensors[key] for key in tensors if place[key] == name}
        save_file(part, folder / name, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def make_bin() -> None:
    """A directory of transformers with a file of torch.save."""
    make_huggingface(Kind.pretrain)
    folder = Path("weights")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def load(path: str, **heads: int) -> Result:
    """Load a model; facts: its kind and the sizes of its parameters."""
    try:
        model = load_model(path, **heads, verbose=True)
    except WeightsError as error:
        return Result(REFUSED, said=str(error))
    tensors = model.state_dict()
    assert all(tensor.device.type == "cpu" for tensor in tensors.values())
    sizes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    try_out(model)
    return Result(RIGHT, {"kind": type(model).__name__, "sizes": sizes})


def try_out(model: Any) -> None:
    """One clip through a model that takes as small ones as the originals do."""
    clip: ClipConfig = model.clip
    if clip.frames * clip.frame[0] * clip.frame[1] <= 16 * 224 * 224:
        with torch.no_grad():
            model.features(torch.zeros(1, 3, clip.frames, *clip.frame))


def larger(facts: Any, expected: Any) -> str | None:
    """Whether a model has many times the numbers of the original one."""
    ours, theirs = (
        sum(torch.Size(shape).numel() for shape in each["sizes"].values())
        for each in (facts, expected)
    )
    return f"{ours} numbers of a file with {theirs}" if ours > 2 * theirs else None


def target(
    name: str, make: Callable[[], None], path: str, attacks: Any = (), **heads: int
) -> Target:
    """A target of this module."""
    return Target(
        "weights",
        name,
        make,
        partial(load, path, **heads),
        named=(path,),
        attacks=attacks,
        absurd=larger,
    )


TARGETS = (
    target("own pretraining", partial(make_own, Kind.pretrain), "weights"),
    target(
        "own classifier",
        partial(make_own, Kind.classifier),
        f"weights/{WEIGHTS}",
        [sizes.attack(f"weights/{WEIGHTS}", "many tensors", sizes.many_tensors)],
    ),
    target(
        "official pretraining",
        partial(make_official, Kind.pretrain),
        "weights.pth",
        [
            *torch_attacks("weights.pth"),
            sizes.attack("weights.pth", "many values", sizes.many_values),
        ],
        **HEADS,
    ),
    target(
        "official classifier", partial(make_official, Kind.classifier), "weights.pth", num_heads=2
    ),
    target(
        "official of old torch",
        partial(make_official, Kind.classifier, zipped=False),
        "weights.pth",
        num_heads=2,
    ),
    target("DeepSpeed", make_deepspeed, "weights", num_heads=2),
    target("Hugging Face pretraining", partial(make_huggingface, Kind.pretrain), "weights"),
    target("Hugging Face classifier", partial(make_huggingface, Kind.classifier), "weights"),
    target(
        "Hugging Face shards",
        make_shards,
        "weights",
        [
            *weights_index_attacks(),
            *sizes.json_attacks("weights/config.json"),
            *sizes.json_attacks("weights/model.safetensors.index.json"),
        ],
    ),
    target("Hugging Face bin", make_bin, "weights", torch_attacks("weights/pytorch_model.bin")),
)
